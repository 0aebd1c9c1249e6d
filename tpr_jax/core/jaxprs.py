"""Looking into traced programs."""

from collections.abc import Callable, Iterator
from typing import Any

import jax

_BITS = ("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform")


def inner(equation: Any) -> Iterator[Any]:
  """Jaxprs among the parameters of an equation."""
  for value in equation.params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      item = getattr(item, "jaxpr", item)
      if hasattr(item, "eqns"):
        yield item


def draws(fn: Callable[..., Any], *args: Any) -> bool:
  """Whether fn(*args) makes random bits; arguments may be shapes."""

  def found(jaxpr):
    return any(
      equation.primitive.name in _BITS or any(map(found, inner(equation)))
      for equation in jaxpr.eqns
    )

  return found(jax.make_jaxpr(fn)(*args).jaxpr)
