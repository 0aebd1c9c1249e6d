"""CLIP's two towers, and the heads with which CFAM and IRRA train them.

At test time the towers alone remain: cosine of the two global features. Heads that are
None have no parameters, so that an ablation row carries nothing it does not use.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.core import numerics
from tpr_jax.core.types import Outputs
from tpr_jax.models import clip_text, clip_vision
from tpr_jax.models.clip_text import TextTower
from tpr_jax.models.clip_vision import VisionTower
from tpr_jax.models.granularity import GranularityDecoder
from tpr_jax.models.identity import FusedIdentity, SharedIdentity
from tpr_jax.models.layers.adapter import Adaptable, Rules
from tpr_jax.models.matcher import Matcher
from tpr_jax.models.mlm import MaskedLanguage
from tpr_jax.models.watch import Watch

MAX_SCALE = 100.0  # CLIP's limit of a learnt logit scale


class DualEncoder(Adaptable, nn.Module):
  """Two towers, and any of the heads (parameter collections carry the field names)."""

  visual: VisionTower
  text: TextTower
  granularity: GranularityDecoder | None = None
  matcher: Matcher | None = None
  identity_fused: FusedIdentity | None = None
  identity_shared: SharedIdentity | None = None
  mlm: MaskedLanguage | None = None
  initial_scale: float | None = None  # a learnt temperature that starts here
  adapters: Rules = ()  # of any dense layer, by its name

  def setup(self):
    if self.initial_scale is not None:
      start = nn.initializers.constant(math.log(self.initial_scale))
      self.logit_scale = self.param("logit_scale", start, (), jnp.float32)

  def encode_image(self, image: jax.Array, train: bool = False) -> Outputs:
    """[B, H, W, 3] (uint8, or float32 normalised) -> image [B, D], image_tokens.

    Also `image_feature`, float32 [B, D]: `image` before it was made a unit row.
    """
    tokens = self.visual(image, train)
    rows, feature = clip_vision.class_feature(tokens)
    return dict(image=rows, image_feature=feature, image_tokens=tokens)

  def encode_text(self, text: jax.Array, train: bool = False) -> Outputs:
    """int [B, L] -> text [B, D], text_tokens [B, L, D], text_mask bool [B, L].

    Also `text_feature`, float32 [B, D]: `text` before it was made a unit row.
    """
    tokens = self.text(text, train)
    rows, feature = clip_text.end_feature(tokens, text)
    mask = clip_text.real_tokens(text)
    return dict(text=rows, text_feature=feature, text_tokens=tokens, text_mask=mask)

  def image_rows(self, image: jax.Array) -> jax.Array:
    """`image` of `encode_image` alone, for less work."""
    return clip_vision.class_feature(self.visual(image, class_only=True))[0]

  def text_rows(self, text: jax.Array) -> jax.Array:
    """`text` of `encode_text` alone, for less work."""
    return numerics.unit(self.text(text, end_only=True)[:, 0])

  def watched_text(self, text: jax.Array, watch: Watch) -> jax.Array:
    """int [B, L] -> float32 [B, D]: `text` of `encode_text`, for the watch to see."""
    return numerics.unit(self.text(text, False, watch)[:, 0])

  def parts(self, tokens: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """[B, L, D], bool [B, L] or None -> float32 [B, K, W]; either modality's tokens."""
    return self._head("granularity", "parts")(tokens, mask)

  def match(self, image_parts: jax.Array, text_parts: jax.Array) -> jax.Array:
    """[P, K, W], [P, K, W] -> float32 [P] logits of "one person"."""
    return self._head("matcher", "matcher")(image_parts, text_parts)

  def classify_pairs(self, image: jax.Array, text: jax.Array) -> jax.Array:
    """[P, D], [P, D] -> float32 [P, N + 1]; class N: not one person."""
    return self._head("identity_fused", "identity_fused")(image, text)

  def classify(self, features: jax.Array) -> jax.Array:
    """[B, D] of either modality -> float32 [B, N]."""
    return self._head("identity_shared", "identity_shared")(features)

  def words(self, text_tokens: jax.Array, image_tokens: jax.Array) -> jax.Array:
    """[B, L, D] of masked texts, [B, T, D] -> float32 [B, L, V] logits of the words."""
    return self._head("mlm", "mlm")(text_tokens, image_tokens)

  def scale(self) -> jax.Array:
    """float32 []: the learnt logit scale (1 / temperature), at most 100 as in CLIP."""
    if self.initial_scale is None:
      raise ValueError("this model has no learnt temperature: set learn_scale=True")
    return jnp.minimum(jnp.exp(self.logit_scale), MAX_SCALE)

  def __call__(self, image: jax.Array, text: jax.Array, train: bool = False) -> Outputs:
    """Everything there is, pair i being image i with text i: for `init` and tests."""
    out = {**self.encode_image(image, train), **self.encode_text(text, train)}
    if self.granularity is not None:
      out["image_parts"] = self.parts(out["image_tokens"])
      out["text_parts"] = self.parts(out["text_tokens"], out["text_mask"])
    if self.matcher is not None:
      out["pair_logits"] = self.match(out["image_parts"], out["text_parts"])
    if self.identity_fused is not None:
      out["pair_classes"] = self.classify_pairs(
        out["image_feature"], out["text_feature"]
      )
    if self.identity_shared is not None:
      out["image_classes"] = self.classify(out["image_feature"])
      out["text_classes"] = self.classify(out["text_feature"])
    if self.mlm is not None:
      out["words"] = self.words(out["text_tokens"], out["image_tokens"])
    return out

  def _head(self, field: str, name: str) -> nn.Module:
    head = getattr(self, field)
    if head is None:
      raise ValueError(
        f"this model was built without the head {name!r}: add it to heads"
      )
    return head
