"""The granularity decoder of CFAM, shared by both modalities: UFineBench (CVPR 2024).

K learnt queries gather K part features from the tokens of an image or of a text; part k
of the one is later compared with part k of the other only. The paper gives 16 queries,
2 layers, width 512 and 8 heads; the layer is ours: pre-LN self-attention over the
queries, pre-LN cross-attention with layer-normed keys and values, pre-LN MLP, a final
LayerNorm, and a linear map in where the tokens have another width.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.models.layers.attention import CrossAttention, SelfAttention
from tpr_jax.models.layers.block import residual_std
from tpr_jax.models.layers.dense import Dense
from tpr_jax.models.layers.mlp import Mlp
from tpr_jax.models.layers.norm import LayerNorm
from tpr_jax.ops import masks


class DecoderLayer(nn.Module):
  """Self-attention, cross-attention, MLP; each pre-LN with a residual."""

  heads: int
  out_std: float
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: jax.Array, tokens: jax.Array, mask: jax.Array | None):
    """[B, K, W], [B, L, W] -> [B, K, W]."""
    kwargs = dict(out_std=self.out_std, dtype=self.dtype)
    y = LayerNorm(dtype=self.dtype, name="ln_self")(x)
    x = (x + SelfAttention(self.heads, name="self_attn", **kwargs)(y)).astype(x.dtype)
    y = LayerNorm(dtype=self.dtype, name="ln_cross")(x)
    keys = LayerNorm(dtype=self.dtype, name="ln_tokens")(tokens)
    y = CrossAttention(self.heads, name="cross_attn", **kwargs)(y, keys, mask)
    x = (x + y).astype(x.dtype)
    y = LayerNorm(dtype=self.dtype, name="ln_mlp")(x)
    return (x + Mlp(name="mlp", **kwargs)(y)).astype(x.dtype)


class GranularityDecoder(nn.Module):
  """Tokens of either modality -> parts."""

  queries: int = 16
  width: int = 512
  heads: int = 8
  layers: int = 2
  dtype: str = "float32"
  stream: str = "float32"  # dtype of what the blocks add to

  @nn.compact
  def __call__(self, tokens: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """[B, L, D], bool [B, L] or None (all real) -> float32 [B, K, W]."""
    if tokens.shape[-1] != self.width:
      tokens = Dense(self.width, dtype=self.dtype, name="tokens_in")(tokens)
    # Unit variance, as learnt queries are in DETR (arXiv:2005.12872). With a small one
    # the content that all inputs share outweighs the queries: every part starts out
    # alike, and from scratch the local loss had not moved after 120 steps (27.8, with
    # unit variance 21.6).
    queries = self.param(
      "queries",
      nn.initializers.normal(1.0),
      (self.queries, self.width),
      jnp.float32,
    )
    shape = (tokens.shape[0], self.queries, self.width)
    x = jnp.broadcast_to(queries.astype(self.stream), shape)
    keys = None if mask is None else masks.keys_only(mask)
    std = residual_std(self.width, self.layers)
    for i in range(self.layers):
      x = DecoderLayer(self.heads, std, self.dtype, name=f"layer_{i}")(x, tokens, keys)
    return LayerNorm(name="ln_final")(x)
