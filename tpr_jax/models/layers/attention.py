"""Multi-head attention layers over `ops.attention`."""

import flax.linen as nn
import jax

from tpr_jax.models.layers.dense import Dense
from tpr_jax.ops import attention as attention_ops


def _split(x: jax.Array, heads: int, count: int) -> list[jax.Array]:
  """[B, L, count * D] -> `count` arrays [B, L, H, D / H]."""
  batch, length, width = x.shape
  x = x.reshape(batch, length, count, heads, width // (count * heads))
  return [x[:, :, i] for i in range(count)]


def _check_heads(width: int, heads: int) -> None:
  if width % heads:
    raise ValueError(
      f"attention: width {width} is not a multiple of {heads} heads; change one of them"
    )


class SelfAttention(nn.Module):
  """Self-attention; `qkv` holds q, k, v side by side, as CLIP's `in_proj` does."""

  heads: int
  out_std: float | None = None
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """[B, L, D] -> [B, L, D]; mask as in `ops.attention.attend`."""
    width = x.shape[-1]
    _check_heads(width, self.heads)
    q, k, v = _split(Dense(3 * width, dtype=self.dtype, name="qkv")(x), self.heads, 3)
    y = attention_ops.attend(q, k, v, mask).reshape(x.shape)
    return Dense(width, std=self.out_std, dtype=self.dtype, name="out")(y)


class CrossAttention(nn.Module):
  """Queries `x` attend to `tokens`; `kv` holds k and v side by side."""

  heads: int
  out_std: float | None = None
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, x: jax.Array, tokens: jax.Array, mask: jax.Array | None = None
  ) -> jax.Array:
    """[B, K, D], [B, L, E] -> [B, K, D]; mask as in `ops.attention.attend`."""
    width = x.shape[-1]
    _check_heads(width, self.heads)
    (q,) = _split(Dense(width, dtype=self.dtype, name="q")(x), self.heads, 1)
    k, v = _split(Dense(2 * width, dtype=self.dtype, name="kv")(tokens), self.heads, 2)
    y = attention_ops.attend(q, k, v, mask).reshape(x.shape)
    return Dense(width, std=self.out_std, dtype=self.dtype, name="out")(y)
