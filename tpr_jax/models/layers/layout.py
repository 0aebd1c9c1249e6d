"""The order in which a GPU's memory holds an array."""

import jax
from jax.experimental import layout


@jax.custom_vjp
def row_major(x: jax.Array) -> jax.Array:
  """x; where there is a gradient, their last axis changes fastest in a GPU's memory.

  XLA's compiler there gives the input of a sum over the batch, as a gradient has them,
  an order in which the batch changes fastest, and with it all that is added up to a
  residual stream: every LayerNorm and product would turn it round again."""
  return x


def _ordered(x: jax.Array) -> jax.Array:
  def on_gpu(x):
    order = layout.Layout(major_to_minor=tuple(range(x.ndim)))
    return layout.with_layout_constraint(x, order)

  return jax.lax.platform_dependent(x, cuda=on_gpu, rocm=on_gpu, default=lambda x: x)


row_major.defvjp(
  lambda x: (_ordered(x), None), lambda _, cotangent: (_ordered(cotangent),)
)
