"""Low-rank changes of a kernel, and the norms that some of them divide by.

LoRA (Hu et al., arXiv:2106.09685), DoRA (Liu et al., arXiv:2402.09353) and WoRA
(Filtering-WoRA, arXiv:2404.10292) are one formula. Of a frozen kernel K [in, out]

  V = beta K + alpha A B         A [in, r], B [r, out]
  W = V                          LoRA
  W = m V / n                    n: norms of V, one per input (its rows) or per output

`merged` computes W as it stands there. `product` computes x W without making V: the
gain m / n is one number per input or per output, so it goes to x or to the result, and

  n_i^2 = beta^2 |K_i|^2 + 2 alpha beta <A_i, (K B')_i> + alpha^2 A_i (B B') A_i'

per input (per output with the parts of A and B exchanged). Norms are float32 always.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tpr_jax.core import numerics

# Of a squared norm: a zero column gives 0 and a zero gradient, and not NaN.
_TINY = 1e-24


class Factors(NamedTuple):
  """What changes a kernel; all float32.

  Attributes:
    a, b: [in, r], [r, out].
    alpha, beta: [] or plain numbers; the scale of AB, and of the kernel.
    magnitude: m, [in, 1] or [1, out] as `per` says; None: nothing is divided (LoRA).
  """

  a: jax.Array
  b: jax.Array
  alpha: jax.Array | float
  beta: jax.Array | float
  magnitude: jax.Array | None = None


def norms(kernel: jax.Array, per: str) -> jax.Array:
  """[in, out] -> float32 lengths, per "input" [in, 1] or per "output" [1, out]."""
  square = jnp.square(kernel.astype(jnp.float32))
  return jnp.sqrt(jnp.maximum(_total(square, per), _TINY))


def merged(kernel: jax.Array, factors: Factors, per: str = "") -> jax.Array:
  """The one kernel W [in, out], float32, that does what kernel and factors do."""
  low = jnp.matmul(factors.a, factors.b, precision=numerics.FULL)
  whole = factors.beta * kernel.astype(jnp.float32) + factors.alpha * low
  if factors.magnitude is None:
    return whole
  return whole * (factors.magnitude / norms(whole, per))


def squared_norms(kernel: jax.Array, factors: Factors, per: str) -> jax.Array:
  """`norms` of V, squared, without V: float32 [in, 1] or [1, out]."""
  kernel, (a, b, alpha, beta, _) = kernel.astype(jnp.float32), factors
  full = dict(precision=numerics.FULL)  # the sum can cancel
  if per == "input":
    mixed = a * jnp.matmul(kernel, b.T, **full)
    low = a * jnp.matmul(a, jnp.matmul(b, b.T, **full), **full)
  else:
    mixed = b * jnp.matmul(a.T, kernel, **full)
    low = b * jnp.matmul(jnp.matmul(a.T, a, **full), b, **full)
  of_kernel = _total(jnp.square(kernel), per)
  mixed, low = _total(mixed, per), _total(low, per)
  return beta**2 * of_kernel + 2 * alpha * beta * mixed + alpha**2 * low


def product(
  x: jax.Array,
  kernel: jax.Array,
  factors: Factors,
  *,
  per: str = "",
  detach: bool = False,
  dtype: str = "float32",
  low_x: jax.Array | None = None,
) -> jax.Array:
  """x W with W of `merged`, and V never made.

  Args:
    x: [..., in].
    kernel: [in, out].
    per: "input" or "output": what has one norm each; unused without a magnitude.
    detach: norms are constants in the backward pass (DoRA, Section 4.3).
    dtype: of the products of rows; their sums are float32.
    low_x: what A multiplies instead of x, such as x after dropout.

  Returns:
    float32 [..., out].
  """
  low_x, gain = x if low_x is None else low_x, None
  if factors.magnitude is not None:
    square = jnp.maximum(squared_norms(kernel, factors, per), _TINY)
    square = jax.lax.stop_gradient(square) if detach else square
    gain = factors.magnitude * jax.lax.rsqrt(square)
    if per == "input":
      x, low_x, gain = x * gain[:, 0], low_x * gain[:, 0], None
  low = numerics.rows_times(low_x, factors.a, dtype)
  low = numerics.rows_times(low, factors.b, dtype)
  y = factors.beta * numerics.rows_times(x, kernel, dtype)
  y = y + factors.alpha * low
  return y if gain is None else y * gain


def _total(x: jax.Array, per: str) -> jax.Array:
  """Sums of [in, out] or a part of it: over the outputs of each input, or inputs."""
  return jnp.sum(x, axis=1 if per == "input" else 0, keepdims=True)
