"""BERT cut in two: a text encoder, and a fusion encoder that also looks at an image.

Devlin et al., arXiv:1810.04805, with ALBEF's division (arXiv:2107.07651) as APTM
(arXiv:2306.02898) and MRA (arXiv:2507.10195) use it: layers 0 .. fusion_layer - 1 read
the text, and the others have a cross-attention to image tokens between self-attention
and MLP:

  text      ids -> states              the first layers: features
  fusion    states, image -> states    the other layers: matching (ITM); masked words
                                       (MLM), of a text that was read masked

There is no pooler, and every token is of segment 0. Departure from PyTorch's modules:
the embedding of the padding learns as any other word's does (`padding_idx` freezes it).
Shapes: B texts, P pairs, L tokens of a text, T of an image, D widths.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.models.layers import post_norm
from tpr_jax.models.layers.lookup import lookup
from tpr_jax.models.layers.norm import LayerNorm
from tpr_jax.models.layers.recompute import recomputed
from tpr_jax.ops import masks

PAD = 0  # BERT's [PAD]


def real_tokens(ids: jax.Array) -> jax.Array:
  """int [B, L] -> bool [B, L]: all that is no padding (id 0)."""
  return ids != PAD


class BertTower(nn.Module):
  """Embeddings and post-LN layers; see the top of this file."""

  vocab_size: int
  length: int  # of the position table: the longest text
  width: int
  layers: int
  heads: int
  hidden: int  # width of the MLPs
  fusion_layer: int  # the first layer that looks at the image
  image_width: int  # of the image tokens
  dropout: float = 0.1
  epsilon: float = 1e-12
  remat: bool = False  # recompute each layer in the backward pass
  dtype: str = "float32"
  stream: str = "float32"  # dtype of what the blocks add to

  def setup(self):
    if not 0 < self.fusion_layer <= self.layers:
      raise ValueError(
        f"bert: fusion_layer={self.fusion_layer} of {self.layers} layers; expected 1 to"
        f" {self.layers} (BERT-base: 6 of 12; the number of layers: no fusion)"
      )
    if self.width % self.heads:
      raise ValueError(
        f"bert: width {self.width} is not a multiple of {self.heads} heads; change one"
      )
    table = lambda name, rows: self.param(
      name, nn.initializers.normal(post_norm.STD), (rows, self.width), jnp.float32
    )
    self.token_embedding = table("token_embedding", self.vocab_size)
    self.position_embedding = table("position_embedding", self.length)
    self.segment_embedding = table("segment_embedding", 2)
    self.ln_embedding = LayerNorm(self.epsilon, self.stream)
    self.drop = nn.Dropout(self.dropout)
    self.layer = [
      post_norm.PostNormLayer(
        width=self.width,
        hidden=self.hidden,
        heads=self.heads,
        cross=i >= self.fusion_layer,
        dropout=self.dropout,
        epsilon=self.epsilon,
        dtype=self.dtype,
        stream=self.stream,
      )
      for i in range(self.layers)
    ]

  def __call__(
    self, ids: jax.Array, image_tokens: jax.Array, train: bool = False
  ) -> jax.Array:
    """int [B, L], B images -> [B, L, D] behind all layers: every parameter is used."""
    states = self.text(ids, train)
    return self.fusion(states, real_tokens(ids), image_tokens, None, train)

  def words(self) -> jax.Array:
    """float32 [V, D]: the token table, for heads that are tied to it."""
    return self.token_embedding

  def text(
    self, ids: jax.Array, train: bool = False, mask: jax.Array | None = None
  ) -> jax.Array:
    """int [B, L] -> states [B, L, D] behind the layers before `fusion_layer`.

    Args:
      ids: start, words, end, then padding (id 0), which no token looks at.
      mask: bool [B, L], other tokens that are looked at: those of a text before words
        were masked in it.

    Raises:
      ValueError: L > length.
    """
    length = ids.shape[1]
    if length > self.length:
      raise ValueError(
        f"texts have {length} tokens; the position table holds {self.length}"
        " (length of the text tower)"
      )
    x = lookup(self.token_embedding, ids)
    x = x + self.position_embedding[:length] + self.segment_embedding[0]
    x = self.drop(self.ln_embedding(x), deterministic=not train)
    mask = _over_keys(real_tokens(ids) if mask is None else mask)
    for layer in self.layer[: self.fusion_layer]:
      x = self._through(layer, x, mask, None, None, train=train)
    return x.astype(self.dtype)

  def fusion(
    self,
    states: jax.Array,
    text_mask: jax.Array,
    image_tokens: jax.Array | None = None,
    image_mask: jax.Array | None = None,
    train: bool = False,
    *,
    keys: jax.Array | None = None,
  ) -> jax.Array:
    """States of P texts, and P images -> [P, L, D] behind the last layer.

    Args:
      states: [P, L, D] of `text`.
      text_mask: bool [P, L], True: a real token.
      image_tokens: [P, T, D_v], or None with `keys`.
      image_mask: bool [P, T], True: may be looked at; None: all.
      keys: [P, fusion layers, T, 2 D] of `image_keys`, instead of `image_tokens`.

    Raises:
      ValueError: no fusion layers, both or neither of tokens and keys, or a shape that
        is not the model's.
    """
    self._check_image(image_tokens, keys)
    states = states.astype(self.stream)
    mask, image_mask = _over_keys(text_mask), _over_keys(image_mask)
    for i, layer in enumerate(self._fusion_layers()):
      image = image_tokens if keys is None else post_norm.part(keys[:, i], self.heads)
      inputs = (states, mask, image, image_mask)
      states = self._through(layer, *inputs, train=train)
    return states.astype(self.dtype)

  def image_keys(self, image_tokens: jax.Array) -> jax.Array:
    """[B, T, D_v] -> [B, fusion layers, T, 2 D]: all that `fusion` needs of an image.

    Keys, then values, of each layer's cross-attention, in `dtype`. For images that many
    texts are compared with: what is left per pair is attention alone.
    """
    self._check_image(image_tokens, None)
    layers = self._fusion_layers()
    return jnp.stack([post_norm.join(x.keys(image_tokens)) for x in layers], axis=1)

  def _through(self, layer: nn.Module, *inputs: Any, train: bool) -> jax.Array:
    """inputs: x, mask, image and image_mask of the layer."""
    run = lambda layer, *inputs: layer(*inputs, train)
    return (recomputed(run) if self.remat else run)(layer, *inputs)

  def _fusion_layers(self) -> Sequence[nn.Module]:
    return self.layer[self.fusion_layer :]

  def _check_image(self, tokens: jax.Array | None, keys: jax.Array | None) -> None:
    if self.fusion_layer == self.layers:
      raise ValueError(
        f"bert: fusion_layer={self.fusion_layer} leaves none of {self.layers} layers to"
        " look at images; set it lower"
      )
    if (tokens is None) == (keys is None):
      given = "neither" if tokens is None else "both"
      raise ValueError(f"fusion takes image_tokens or keys, found {given}")
    if tokens is not None and tokens.shape[-1] != self.image_width:
      raise ValueError(
        f"image tokens have width {tokens.shape[-1]}; this tower was built for"
        f" {self.image_width} (image_width)"
      )
    count, size = self.layers - self.fusion_layer, 2 * self.width
    if keys is not None and (keys.ndim, *keys.shape[1::2]) != (4, count, size):
      raise ValueError(
        f"keys have shape {keys.shape}; expected [pairs, {count}, tokens, {size}] as"
        " image_keys returns"
      )


def _over_keys(mask: jax.Array | None) -> jax.Array | None:
  return None if mask is None else masks.keys_only(mask)
