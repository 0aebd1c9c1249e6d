"""LayerNorm that always computes in float32."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp


class LayerNorm(nn.Module):
  """Layer normalisation over the last axis; float32 inside, `dtype` outside.

  The two-pass variance: pretrained CLIP towers have activations of size 100 in a few
  channels, where E[x^2] - E[x]^2 loses the digits that the parity tests check."""

  epsilon: float = 1e-5
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[..., D] -> [..., D]."""
    width = x.shape[-1]
    scale = self.param("scale", nn.initializers.ones, (width,), jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, (width,), jnp.float32)
    return normalised(self.epsilon, x, scale, bias).astype(self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def normalised(
  epsilon: float, x: jax.Array, scale: jax.Array, bias: jax.Array
) -> jax.Array:
  """(x - mean) / sqrt(variance + epsilon) * scale + bias, float32 [..., D].

  Its gradient is written out: the way back needs x, which lives anyway, and two numbers
  a row; derived, it would also keep x - mean, an array as large as x.
  """
  return _forward(epsilon, x, scale, bias)[0]


def _forward(epsilon, x, scale, bias):
  wide = x.astype(jnp.float32)
  mean = jnp.mean(wide, axis=-1, keepdims=True)
  centred = wide - mean
  variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
  inverse = jax.lax.rsqrt(variance + epsilon)
  return centred * inverse * scale + bias, (x, mean, inverse, scale)


def _backward(epsilon, kept, cotangent):
  del epsilon
  x, mean, inverse, scale = kept
  # Minus the normalised rows: in the other order XLA would keep those of the way there.
  rows = (mean - x.astype(jnp.float32)) * inverse
  of_rows = cotangent * scale
  along = jnp.mean(of_rows * rows, axis=-1, keepdims=True)
  dx = inverse * (of_rows - jnp.mean(of_rows, axis=-1, keepdims=True) - rows * along)
  examples = tuple(range(x.ndim - 1))
  dscale = -jnp.sum(cotangent * rows, axis=examples)
  return dx.astype(x.dtype), dscale, jnp.sum(cotangent, axis=examples)


normalised.defvjp(_forward, _backward)
