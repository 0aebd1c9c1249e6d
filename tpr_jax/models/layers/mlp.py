"""The two-layer perceptron of a transformer block, and its activations."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.models.layers.dense import Dense, total
from tpr_jax.models.layers.recompute import recomputed


@jax.custom_vjp
def quick_gelu(x: jax.Array) -> jax.Array:
  """x sigmoid(1.702 x): what OpenAI's CLIP was trained with.

  The way back computes the sigmoid anew: kept, it would be a third array of the hidden
  width. By another formula, or XLA would find the two alike and keep it all the same.
  """
  x = jnp.asarray(x)
  wide = x.astype(jnp.float32)
  return (wide * jax.nn.sigmoid(1.702 * wide)).astype(x.dtype)


def _quick_gelu_forward(x):
  return quick_gelu(x), x


def _quick_gelu_backward(x, cotangent):
  z = 1.702 * x.astype(jnp.float32)
  small = jnp.exp(-jnp.abs(z))
  sigmoid = jnp.where(z < 0, small, 1.0) / (1.0 + small)
  rest = jnp.where(z < 0, 1.0, small) / (1.0 + small)  # 1 - sigmoid, to all its digits
  slope = sigmoid * (1.0 + z * rest)
  return ((cotangent * slope).astype(x.dtype),)


quick_gelu.defvjp(_quick_gelu_forward, _quick_gelu_backward)


def exact_gelu(x: jax.Array) -> jax.Array:
  """x Phi(x) with the error function, as OpenCLIP's own models use it."""
  x = jnp.asarray(x)
  return jax.nn.gelu(x.astype(jnp.float32), approximate=False).astype(x.dtype)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "quick_gelu": quick_gelu,
  "gelu": exact_gelu,
}


class Mlp(nn.Module):
  """Dense(ratio x width), activation, Dense(width).

  In training each of the two is followed by dropout, if any; rng "dropout". Without it
  what the activation makes is computed again on the way back. The result is float32
  and as `dense.total` has it: it is added to something."""

  ratio: int = 4
  activation: str = "quick_gelu"
  out_std: float | None = None
  dtype: str = "float32"
  hidden_std: float | None = None  # None: (2 width) ** -0.5, as in CLIP
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """[..., D] -> float32 [..., D]."""
    width = x.shape[-1]
    activate = ACTIVATIONS[self.activation]
    std = (2 * width) ** -0.5 if self.hidden_std is None else self.hidden_std
    fc = Dense(self.ratio * width, std=std, dtype=self.dtype, name="fc")
    proj = Dense(width, std=self.out_std, dtype=self.dtype, name="proj")

    def hidden(product: jax.Array, bias: jax.Array) -> jax.Array:
      return activate(total(product, bias)).astype(self.dtype)

    if self.dropout and train:
      x = nn.Dropout(self.dropout, deterministic=False)(hidden(*fc(x, apart=True)))
      x = total(*proj(x, apart=True))
      return nn.Dropout(self.dropout, deterministic=False)(x)

    def rest(proj: Dense, product: jax.Array, bias: jax.Array) -> jax.Array:
      return total(*proj(hidden(product, bias), apart=True))

    return recomputed(rest, always=False)(proj, *fc(x, apart=True))
