"""IRRA's implicit relation reasoning: words masked in a text, read off the image.

Jiang & Ye, arXiv:2303.12501, Section 3.2, and the released code where the paper is
silent: one cross-attention from the masked text to its image without a residual, a few
pre-LN blocks over the text, a LayerNorm, and a two-layer head over the vocabulary. As
in that code padding is not masked: every position sees every other.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.models.layers.attention import CrossAttention
from tpr_jax.models.layers.block import Blocks, residual_std
from tpr_jax.models.layers.dense import Dense
from tpr_jax.models.layers.mlp import quick_gelu
from tpr_jax.models.layers.norm import LayerNorm


class WordHead(nn.Module):
  """Dense, QuickGELU, LayerNorm, Dense to the vocabulary."""

  vocab_size: int
  layers: int  # of the blocks before it: their scale of initial values
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, L, D] -> float32 [B, L, V]."""
    width = x.shape[-1]
    x = Dense(width, std=(2 * width) ** -0.5, dtype=self.dtype, name="dense")(x)
    x = LayerNorm(dtype=self.dtype, name="ln")(quick_gelu(x))
    std = residual_std(width, self.layers)
    x = Dense(self.vocab_size, std=std, dtype=self.dtype, name="words")(x)
    return x.astype(jnp.float32)


class MaskedLanguage(nn.Module):
  """Tokens of a masked text and of its image -> logits of the words."""

  vocab_size: int
  layers: int = 4
  heads: int = 8
  dtype: str = "float32"
  stream: str = "float32"  # dtype of what the blocks add to

  @nn.compact
  def __call__(self, text_tokens: jax.Array, image_tokens: jax.Array) -> jax.Array:
    """[B, L, D], [B, T, D] -> float32 [B, L, V]."""
    queries = LayerNorm(dtype=self.dtype, name="ln_text")(text_tokens)
    keys = LayerNorm(dtype=self.dtype, name="ln_image")(image_tokens)
    std = residual_std(text_tokens.shape[-1], self.layers)
    attention = CrossAttention(self.heads, std, self.dtype, name="cross_attn")
    x = attention(queries, keys).astype(self.stream)
    x = Blocks(self.layers, self.heads, dtype=self.dtype, name="blocks")(x)
    x = LayerNorm(dtype=self.dtype, name="ln_post")(x)
    return WordHead(self.vocab_size, self.layers, self.dtype, name="head")(x)
