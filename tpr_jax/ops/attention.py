"""Scaled dot-product attention, as a pure function.

  softmax(q k^T / sqrt(Dh) + bias) v     Vaswani et al., arXiv:1706.03762, Eq. 1.
Shapes: B batch, Lq queries, Lk keys, H heads, Dh head width.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tpr_jax.core import numerics, sharding
from tpr_jax.ops import flash, masks


def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  mask: masks.Mask = None,
  *,
  drop: Callable[[jax.Array], jax.Array] | None = None,
  return_weights: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
  """[B, Lq, H, Dh], [B, Lk, H, Dh] x 2 -> [B, Lq, H, Dh] in q's dtype.

  Args:
    mask: as in masks.py. A query that may see nothing gets the plain mean of all values
      (and never NaN): callers mask it later.
    drop: dropout of the weights, [B, H, Lq, Lk] -> the same; None: no dropout.
    return_weights: also return the float32 weights [B, H, Lq, Lk], after `drop`.

  The softmax is float32 whatever the dtype of q.
  """
  plain = masks.array(mask)
  dtype = str(q.dtype)
  if drop is not None or return_weights:
    logits, v = _logits(q, k, v, plain)
    if drop is not None:
      weights = drop(jax.nn.softmax(logits, axis=-1))
      out = _shares(weights, v, dtype)
    else:
      out, weights = _sums(logits, v, dtype)
    out = _heads_first(out).astype(dtype)
    return (out, weights) if return_weights else out
  fused = {}
  if flash.available() and flash.fits(q, k, v, mask) and not sharding.partly_by_hand():
    fused["cuda"] = lambda q, k, v: flash.attend(q, k, v, mask)
  return jax.lax.platform_dependent(
    q,
    k,
    v,
    cpu=lambda *qkv: _attend_on_cpu(*qkv, plain),
    default=lambda *qkv: _attend(*qkv, plain),
    **fused,
  )


def _attend(q, k, v, mask):
  logits, v = _logits(q, k, v, mask)
  out = _shares(jax.nn.softmax(logits, axis=-1), v, str(q.dtype))
  return _heads_first(out).astype(q.dtype)


def _attend_on_cpu(q, k, v, mask):
  """Heads come before rows, and values are summed before they are divided by the total
  of a row's weights: of a product with anything divided or transposed XLA's compiler
  makes one thread's slow loop there. Accelerators would keep a float32 array more."""
  logits, v = _logits(q, k, v, mask)
  return _heads_first(_sums(logits, v, str(q.dtype))[0]).astype(q.dtype)


def _logits(q, k, v, mask) -> tuple[jax.Array, jax.Array]:
  """(float32 logits [B, H, Lq, Lk], v with its heads first)."""
  dtype = str(q.dtype)
  scaled = q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
  q, k, v = (_heads_first(x) for x in (scaled, k, v))
  logits = numerics.contract("bhqd,bhkd->bhqk", q, k, dtype)
  if mask is not None:
    if mask.dtype == jnp.bool_:
      logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    else:
      logits = logits + mask.astype(jnp.float32)
  return logits, v


def _shares(weights: jax.Array, v: jax.Array, dtype: str) -> jax.Array:
  return numerics.contract("bhqk,bhkd->bhqd", weights, v, dtype)


def _sums(logits: jax.Array, v: jax.Array, dtype: str) -> tuple[jax.Array, jax.Array]:
  """(result, weights): values are summed before they are divided."""
  highest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
  weights = jnp.exp(logits - highest)
  share = 1.0 / jnp.sum(weights, axis=-1, keepdims=True)
  return _shares(weights, v, dtype) * share, weights * share


def _heads_first(x: jax.Array) -> jax.Array:
  """[B, L, H, Dh] -> [B, H, L, Dh], and back."""
  return jnp.swapaxes(x, 1, 2)
