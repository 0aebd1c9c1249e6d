"""Parts of a model whose insides are computed again on the way back, and not kept.

`nn.remat` alone saves nothing on a CPU: XLA drops the barriers that keep the second
computation apart, finds it equal to the first, and keeps what that made. There the
second one reads inputs that the compiler cannot know to be equal: to each row is added
min(|g|, 0) of an entry g of the row's gradient, which is 0 (and NaN where the gradient
has no value anyway); to a vector of parameters, that of the first row. So it can also
not begin before the way back has come to it. Compilers of accelerators keep the
barriers, and need no such help.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

SOWN = "intermediates"  # Flax's name of the collection


def later(x: jax.Array, gradient: jax.Array) -> jax.Array:
  """x, which a CPU's compiler takes for another array, that needs `gradient` first.

  Both have the same rows, [..., any width], or the gradient is [1]. On other devices:
  x."""

  def on_cpu(x, g):
    return x + jnp.minimum(jnp.abs(g), 0).astype(x.dtype)

  return lax.platform_dependent(
    x, gradient[..., :1], cpu=on_cpu, default=lambda x, _: x
  )


def first(gradient: jax.Array) -> jax.Array:
  """[...] -> [1]: its first entry, for `later`."""
  return gradient[(slice(1),) * gradient.ndim].reshape(1)


def recomputed(
  fn: Callable[..., jax.Array], always: bool = True
) -> Callable[..., jax.Array]:
  """(module, *inputs) -> [..., D] of `fn`, which keeps its inputs alone.

  Args:
    fn: of a Flax module and arrays (or None). An input that as many rows belong to as
      to the result, [..., any width], is what the second computation waits for: at
      least one should be.
    always: False: on accelerators the compiler may keep what it likes.

  The gradient is that of `fn`, but for rounding: the second computation may be fused
  otherwise.
  """

  def kept(module: nn.Module, *inputs: Any) -> tuple[jax.Array, Any]:
    return nn.vjp(nn.remat(fn, prevent_cse=always), module, *inputs)

  def back(way: Any, cotangent: jax.Array) -> tuple[Any, ...]:
    def late(x: Any) -> Any:
      if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
      if x.shape[:-1] == cotangent.shape[:-1]:
        return later(x, cotangent)
      if x.ndim == 1:  # XLA's CPU compiler spreads it over all rows, as early as it can
        return later(x, first(cotangent))
      return x

    return jax.tree.map(late, way)(cotangent)

  lifted = nn.custom_vjp(fn, kept, back)

  def run(module: nn.Module, *inputs: Any) -> jax.Array:
    # While parameters are made there is nothing to go back to; and what is sown within
    # may be read, or differentiated by, which a custom gradient would not see.
    watched = module.is_initializing() or module.is_mutable_collection(SOWN)
    return (fn if watched else lifted)(module, *inputs)

  return run
