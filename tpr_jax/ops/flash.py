"""Attention that never writes its weights: cuDNN's kernels, on NVIDIA's GPUs.

  Dao, "FlashAttention-2", arXiv:2307.08691.
`attention.attend` has its own formula, for other devices and where cuDNN has no kernel:
float32, additive masks, dropout of the weights, weights that are asked for. Shapes as
there.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from tpr_jax.ops import masks

_LEAST = (8, 0)  # compute capability: Ampere, the first that cuDNN's kernels run on
_DTYPES = ("bfloat16", "float16")
_UNUSED = contextvars.ContextVar("flash_unused", default=False)


@contextlib.contextmanager
def unused() -> Iterator[None]:
  """What is traced here has no kernel of cuDNN: for programs that are exported."""
  before = _UNUSED.set(True)
  try:
    yield
  finally:
    _UNUSED.reset(before)


def available() -> bool:
  """Whether JAX has a GPU here that cuDNN's kernels are for."""
  return not _UNUSED.get() and _found()


@functools.cache
def _found() -> bool:
  if jax.default_backend() != "gpu":
    return False
  device = jax.local_devices()[0]
  capability = getattr(device, "compute_capability", "")
  if "cuda" not in device.client.platform_version or not capability:
    return False
  return tuple(map(int, capability.split("."))) >= _LEAST


def fits(q: jax.Array, k: jax.Array, v: jax.Array, mask: masks.Mask) -> bool:
  """Whether cuDNN has a kernel, with its gradient, for such arrays."""
  width, lengths = q.shape[-1], (q.shape[1], k.shape[1])
  if str(q.dtype) not in _DTYPES or not q.dtype == k.dtype == v.dtype:
    return False
  if width % 8 or width > 128:
    return False
  if isinstance(mask, masks.Causal):
    return lengths[0] == lengths[1]
  if mask is None or isinstance(mask, masks.First):
    return True
  # An array is added to the logits, which are to have even lengths then.
  return mask.dtype == bool and not any(map(_odd, lengths))


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: masks.Mask) -> jax.Array:
  """[B, Lq, H, Dh], [B, Lk, H, Dh] x 2 -> [B, Lq, H, Dh]."""
  lengths = q.shape[1], k.shape[1]
  how = {}
  if isinstance(mask, masks.Causal):
    how["is_causal"] = True
  elif mask is None or isinstance(mask, masks.First):
    seen = lengths[1] if mask is None else mask.count
    if seen < lengths[1] + _odd(lengths[1]):
      how["key_value_seq_lengths"] = jnp.full(q.shape[0], seen, jnp.int32)
  else:  # it must have all rows and columns
    how["mask"] = jnp.broadcast_to(mask, (*mask.shape[:2], *lengths))
  q, k, v = (
    jnp.pad(x, ((0, 0), (0, _odd(x.shape[1])), (0, 0), (0, 0))) for x in (q, k, v)
  )
  out = jax.nn.dot_product_attention(q, k, v, implementation="cudnn", **how)
  return out[:, : lengths[0]]


def spare(length: int, dtype: str) -> int:
  """How many tokens that nobody sees a tower should have, so that no attention of its
  has to pad what it is given."""
  return _odd(length) if dtype in _DTYPES and available() else 0


def _odd(length: int) -> int:
  """1 or 0. JAX asks for even lengths where there is a gradient."""
  return length % 2
