"""Multi-head attention layers over `ops.attention`."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.core import sharding
from tpr_jax.models.layers import adapter
from tpr_jax.models.layers.dense import Dense, total
from tpr_jax.models.watch import Watch
from tpr_jax.ops import attention as attention_ops
from tpr_jax.ops import masks


def _check_heads(width: int, heads: int) -> None:
  if width % heads:
    raise ValueError(
      f"attention: width {width} is not a multiple of {heads} heads; change one of them"
    )


def at(x: jax.Array, positions: jax.Array) -> jax.Array:
  """[B, L, ...], int [B] -> [B, 1, ...]: one position of each row."""
  index = positions.reshape(-1, *(1,) * (x.ndim - 1))
  return jnp.take_along_axis(x, index, axis=1)


def _parts(y: jax.Array, axis: int, count: int) -> list[jax.Array]:
  """Its `count` entries along an axis. Their gradients are put side by side; those of
  single indices would be padded with zeros, each to the size of all, and added."""
  return [part.squeeze(axis) for part in jnp.split(y, count, axis)]


class Heads(nn.Module):
  """`Dense` to `count` arrays of heads: q, k and v side by side, or some of them.

  W [in, count * D] and b [count * D] have the names, shapes and initial values of
  `Dense`. Over tensor devices each computes its own heads, all `count` of them, which
  are not neighbouring columns of W: so W is rearranged, and not the far larger result.
  """

  count: int
  width: int
  heads: int
  dtype: str = "float32"
  std: float | None = None  # as in `Dense`

  @nn.compact
  def __call__(self, x: jax.Array) -> list[jax.Array]:
    """[B, L, in] -> `count` arrays [B, L, H, D / H] in `dtype`."""
    size, features = x.shape[-1], self.count * self.width
    normal = nn.initializers.normal(size**-0.5 if self.std is None else self.std)
    kernel = self.param("kernel", normal, (size, features), jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, (features,), jnp.float32)
    by_part = (self.count, self.heads, self.width // self.heads)
    by_head = sharding.divides("tensor", self.heads)

    def arrange(columns):  # [count, H, D / H] -> [H, count, D / H]
      if not by_head:
        return columns
      columns = columns.reshape(-1, *by_part).swapaxes(1, 2)
      return sharding.split(columns, None, "tensor").reshape(-1, features)

    shape = by_part
    if by_head:
      bias = bias.reshape(by_part).swapaxes(0, 1).reshape(features)
      shape = (self.heads, self.count, self.width // self.heads)
    y = total(adapter.product(self, x, kernel, self.dtype, arrange, narrow=True), bias)
    y = y.astype(self.dtype).reshape(*x.shape[:-1], *shape)
    if not by_head:
      return _parts(y, 2, self.count)
    y = sharding.split(y, "batch", None, "tensor")
    return _parts(y, 3, self.count)


class SelfAttention(nn.Module):
  """Self-attention; `qkv` holds q, k, v side by side, as CLIP's `in_proj` does.

  The result is to be added to something, and float32, as `dense.total` has it; with
  `narrow` it is in `dtype`."""

  heads: int
  out_std: float | None = None
  dtype: str = "float32"
  std: float | None = None  # of `qkv`, as in `Dense`
  narrow: bool = False

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    mask: masks.Mask = None,
    watch: Watch | None = None,
    only: jax.Array | None = None,
  ) -> jax.Array:
    """[B, L, D] -> [B, L, D], or what the watch lets through of it; mask as in
    ops/masks.py. With `only`, int [B], of these positions: [B, 1, D]."""
    width = x.shape[-1]
    _check_heads(width, self.heads)
    q, k, v = Heads(3, width, self.heads, self.dtype, self.std, name="qkv")(x)
    if only is not None:
      q = at(q, only)
      mask = masks.array(mask)
      if mask is not None and mask.shape[2] > 1:  # [1 or B, 1, L, L]
        mask = jnp.broadcast_to(mask, (x.shape[0], *mask.shape[1:]))
        mask = at(mask.swapaxes(1, 2), only).swapaxes(1, 2)
    if watch is None:
      y = attention_ops.attend(q, k, v, mask)
      y = y.reshape(*y.shape[:2], width)
    else:
      y, weights = attention_ops.attend(q, k, v, mask, return_weights=True)
      y = watch.attention(q, k, v, weights, y.reshape(x.shape))
    out = Dense(width, std=self.out_std, dtype=self.dtype, name="out")
    return out(y) if self.narrow else total(*out(y, apart=True))


class CrossAttention(nn.Module):
  """Queries `x` attend to `tokens`; `kv` holds k and v side by side.

  The result is float32, as that of `SelfAttention`."""

  heads: int
  out_std: float | None = None
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, x: jax.Array, tokens: jax.Array, mask: masks.Mask = None
  ) -> jax.Array:
    """[B, K, D], [B, L, E] -> [B, K, D]; mask as in ops/masks.py."""
    width = x.shape[-1]
    _check_heads(width, self.heads)
    (q,) = Heads(1, width, self.heads, self.dtype, name="q")(x)
    k, v = Heads(2, width, self.heads, self.dtype, name="kv")(tokens)
    y = attention_ops.attend(q, k, v, mask).reshape(x.shape)
    out = Dense(width, std=self.out_std, dtype=self.dtype, name="out")
    return total(*out(y, apart=True))
