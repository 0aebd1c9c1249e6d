"""A batch in equal pieces and back, so that no row moves between devices."""

import jax


def split(x: jax.Array, count: int, field: str) -> jax.Array:
  """[B, ...] -> [count, B / count, ...]: every count-th row.

  So each part takes its rows from all devices alike, and none moves between them.

  Args:
    field: of the config that asks for `count`, for the error.

  Raises:
    ValueError: B is not a multiple of `count`.
  """
  if x.shape[0] % count:
    raise ValueError(
      f"a batch of {x.shape[0]} cannot be split evenly into {field}={count}"
    )
  return x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)


def join(x: jax.Array) -> jax.Array:
  """The inverse of `split`."""
  return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])
