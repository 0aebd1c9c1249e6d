"""Scaled dot-product attention and its masks, as pure functions.

  softmax(q k^T / sqrt(Dh) + bias) v     Vaswani et al., arXiv:1706.03762, Eq. 1.
Shapes: B batch, Lq queries, Lk keys, H heads, Dh head width.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tpr_jax.core import numerics


def causal(length: int) -> jax.Array:
  """bool [1, 1, L, L]: position i sees positions 0..i."""
  return jnp.tril(jnp.ones((length, length), bool))[None, None]


def keys_only(valid: jax.Array) -> jax.Array:
  """bool [B, Lk] (True: a real token) -> bool [B, 1, 1, Lk] for `attend`."""
  return valid[:, None, None, :]


def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  mask: jax.Array | None = None,
  *,
  drop: Callable[[jax.Array], jax.Array] | None = None,
  return_weights: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
  """[B, Lq, H, Dh], [B, Lk, H, Dh] x 2 -> [B, Lq, H, Dh] in q's dtype.

  Args:
    mask: broadcasts to [B, H, Lq, Lk]. Boolean: True may be seen. Floating point: added
      to the logits. A query that may see nothing gets the plain mean of all values (and
      never NaN): callers mask it later.
    drop: dropout of the weights, [B, H, Lq, Lk] -> the same; None: no dropout.
    return_weights: also return the float32 weights [B, H, Lq, Lk], after `drop`.

  The softmax is float32 whatever the dtype of q. Heads come before rows, and on a CPU
  values are summed before they are divided by the total of a row's weights: of a
  product with anything divided or transposed XLA's compiler there makes one thread's
  slow loop. Accelerators would keep a float32 array more for that.
  """
  dtype = str(q.dtype)
  q, k, v = (
    _heads_first(x) for x in (q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype), k, v)
  )
  logits = numerics.contract("bhqd,bhkd->bhqk", q, k, dtype)
  if mask is not None:
    if mask.dtype == jnp.bool_:
      logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    else:
      logits = logits + mask.astype(jnp.float32)
  if drop is not None:
    weights = drop(jax.nn.softmax(logits, axis=-1))
    out = _shares(weights, v, dtype)
  elif return_weights:
    out, weights = _sums(logits, v, dtype)
  else:
    out = jax.lax.platform_dependent(
      logits,
      v,
      cpu=lambda logits, v: _sums(logits, v, dtype)[0],
      default=lambda logits, v: _shares(jax.nn.softmax(logits, axis=-1), v, dtype),
    )
  out = _heads_first(out).astype(q.dtype)
  return (out, weights) if return_weights else out


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
