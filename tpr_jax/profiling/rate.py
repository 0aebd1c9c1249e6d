"""The rate of matrix products that a device reaches, by trying."""

import time
from typing import Any

import jax
import jax.numpy as jnp

# Rows and columns, and products of a round: platform -> enough to keep it busy.
_SIZES, _OTHERS = {"cpu": (2048, 2)}, (8192, 50)
_ROUNDS = 5


def measure(dtype: Any, size: int = 0, products: int = 0) -> tuple[float, int]:
  """The best of some rounds of products of random square matrices, each of the last.

  Args:
    size: rows and columns; 0: as many as the device needs. products: of a round.

  Returns:
    (FLOP/s of one device, size).
  """
  own = _SIZES.get(jax.default_backend(), _OTHERS)
  size, products = size or own[0], products or own[1]
  a, b = (jax.random.normal(jax.random.key(k), (size, size), dtype) for k in (0, 1))
  # Scaled, or the numbers would grow without end.
  multiply = jax.jit(lambda a, b: (a @ b) * jnp.asarray(size**-0.5, a.dtype))
  jax.block_until_ready(multiply(a, b))
  best = float("inf")
  for _ in range(_ROUNDS):
    x, began = a, time.perf_counter()
    for _ in range(products):
      x = multiply(x, b)
    jax.block_until_ready(x)
    best = min(best, (time.perf_counter() - began) / products)
  return 2 * size**3 / best, size
