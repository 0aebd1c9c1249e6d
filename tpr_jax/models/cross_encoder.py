"""Swin and BERT towers with a cross-modal encoder behind them: APTM and MRA.

arXiv:2306.02898 and arXiv:2507.10195. The first layers of BERT read a text alone, the
others read it together with the tokens of an image. Retrieval compares the projected
features of the two towers by cosine (ITC); a pair may then be scored by the fused first
token (ITM). Heads that are None have no parameters.
Shapes: B images or texts, P pairs, T = 1 + N image tokens of width D_v, of which the
first is the mean of the others, L text tokens of width D_t, E the joint dimension.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.core import numerics
from tpr_jax.core.types import Outputs
from tpr_jax.models import bert
from tpr_jax.models.bert import BertTower
from tpr_jax.models.itm import Itm
from tpr_jax.models.layers.adapter import Adaptable, Rules
from tpr_jax.models.swin import SwinTower
from tpr_jax.models.tied_words import TiedWords


class View(NamedTuple):
  """What `CrossEncoder.project` makes features of.

  Attributes:
    side: "image" or "text".
    tokens: [B, T, D_v] or [B, L, D_t].
    mask: bool [B, T or L], the tokens that count; None: all.
  """

  side: str
  tokens: jax.Array
  mask: jax.Array | None = None


class CrossEncoder(Adaptable, nn.Module):
  """Two towers, their projections, and heads (collections carry the field names).

  text_bins: "text": padding is in no bin of a text's feature; "all": as released.
  """

  visual: SwinTower
  text: BertTower
  image_projection: nn.Module
  text_projection: nn.Module
  itm: Itm | None = None
  words: TiedWords | None = None
  initial_temperature: float = 0.07
  text_bins: str = "all"
  adapters: Rules = ()  # of any dense layer, by its name

  def setup(self):
    start = nn.initializers.constant(self.initial_temperature)
    self.temperature = self.param("temperature", start, (), jnp.float32)

  def encode_image(self, image: jax.Array, train: bool = False) -> Outputs:
    """[B, H, W, 3] (uint8, or float32 normalised) -> image [B, E], image_tokens.

    Also `image_feature`, float32 [B, E]: `image` before it was made a unit row.
    """
    tokens = self.image_tokens(image, train)
    (feature,) = self.project([View("image", tokens)], train)
    return dict(
      image=numerics.unit(feature), image_feature=feature, image_tokens=tokens
    )

  def encode_text(self, text: jax.Array, train: bool = False) -> Outputs:
    """int [B, L] -> text [B, E], text_tokens [B, L, D_t], text_mask bool [B, L].

    Also `text_feature`, float32 [B, E]: `text` before it was made a unit row.
    """
    tokens, mask = self.text_tokens(text, train), bert.real_tokens(text)
    (feature,) = self.project([View("text", tokens, mask)], train)
    return dict(
      text=numerics.unit(feature),
      text_feature=feature,
      text_tokens=tokens,
      text_mask=mask,
    )

  def image_rows(self, image: jax.Array) -> jax.Array:
    """`image` of `encode_image`."""
    return self.encode_image(image)["image"]

  def text_rows(self, text: jax.Array) -> jax.Array:
    """`text` of `encode_text`."""
    return self.encode_text(text)["text"]

  def image_tokens(self, image: jax.Array, train: bool = False) -> jax.Array:
    """[B, H, W, 3] -> [B, T, D_v]: the tower alone."""
    return self.visual(image, train)

  def text_tokens(
    self, text: jax.Array, train: bool = False, mask: jax.Array | None = None
  ) -> jax.Array:
    """int [B, L] -> [B, L, D_t]: the layers that read texts alone.

    mask: bool [B, L], the tokens that count; None: all but padding.
    """
    return self.text.text(text, train, mask)

  def project(self, views: Sequence[View], train: bool = False) -> list[jax.Array]:
    """float32 [B, E] of each view, no unit rows; batch statistics in this order."""
    return [self._projected(view, train) for view in views]

  def _projected(self, view: View, train: bool) -> jax.Array:
    if view.side == "image":
      return self.image_projection(view.tokens, view.mask, train)
    mask = view.mask if self.text_bins == "text" else None
    return self.text_projection(view.tokens, mask, train)

  def image_keys(self, image_tokens: jax.Array) -> jax.Array:
    """[B, T, D_v] -> [B, fusion layers, T, 2 D_t]: what pairs need of an image."""
    return self.text.image_keys(image_tokens)

  def pair_logits(
    self,
    text_tokens: jax.Array,
    text_mask: jax.Array,
    image_tokens: jax.Array | None = None,
    image_mask: jax.Array | None = None,
    image_keys: jax.Array | None = None,
    train: bool = False,
  ) -> jax.Array:
    """P texts and images -> float32 [P, 2] logits of "no pair" and "pair".

    Args:
      text_tokens, text_mask: of `encode_text`.
      image_tokens: [P, T, D_v], or None with `image_keys`.
      image_mask: bool [P, T], the tokens that may be looked at; None: all.
    """
    states = self.text.fusion(
      text_tokens, text_mask, image_tokens, image_mask, train, keys=image_keys
    )
    return self._head("itm")(states[:, 0])

  def masked_words(
    self,
    text_tokens: jax.Array,
    text_mask: jax.Array,
    image_tokens: jax.Array,
    positions: jax.Array,
    train: bool = False,
  ) -> jax.Array:
    """Masked captions of B images -> float32 [B, M, V] logits at M positions of each.

    Args:
      text_tokens: [B, L, D_t] of `text_tokens`, of texts with words masked.
      text_mask: bool [B, L], the tokens before that.
      positions: int [B, M].
    """
    states = self.text.fusion(text_tokens, text_mask, image_tokens, None, train)
    chosen = jnp.take_along_axis(states, positions[..., None], axis=1)
    return self._head("words")(chosen, self.text.words())

  def temp(self) -> jax.Array:
    """float32 []: cosines are divided by it; learnt, and not clamped."""
    return self.temperature

  def __call__(self, image: jax.Array, text: jax.Array, train: bool = False) -> Outputs:
    """Everything there is, pair i being image i with text i: for `init` and tests."""
    out = {**self.encode_image(image, train), **self.encode_text(text, train)}
    if self.itm is not None:
      out["pair_logits"] = self.pair_logits(
        out["text_tokens"], out["text_mask"], out["image_tokens"], train=train
      )
    if self.words is not None:
      first = jnp.ones((text.shape[0], 1), jnp.int32)
      states, image = out["text_tokens"], out["image_tokens"]
      out["words"] = self.masked_words(states, out["text_mask"], image, first, train)
    return out

  def _head(self, name: str) -> Any:
    head = getattr(self, name)
    if head is None:
      raise ValueError(
        f"this model was built without the head {name!r}: add it to heads"
      )
    return head
