"""The rate of matrix products that a device reaches, by trying."""

import time

import jax
import jax.numpy as jnp

_SIZE = {"cpu": 2048}  # rows and columns; too small for an accelerator to be busy
_OTHERS, _ROUNDS, _TIMES = 8192, 5, 3


def measure(dtype: str) -> tuple[float, int]:
  """(FLOP/s of one device, rows of the square matrices): the best of some rounds."""
  size = _SIZE.get(jax.devices()[0].platform, _OTHERS)
  product = jax.jit(lambda a, b: a @ b)
  a = jnp.ones((size, size), dtype)
  product(a, a).block_until_ready()
  best = float("inf")
  for _ in range(_ROUNDS):
    began = time.perf_counter()
    for _ in range(_TIMES):
      out = product(a, a)
    out.block_until_ready()
    best = min(best, (time.perf_counter() - began) / _TIMES)
  return 2 * size**3 / best, size
