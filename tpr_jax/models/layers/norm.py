"""LayerNorm that always computes in float32."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.models.layers.recompute import later


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

  Its gradient is written out: the way back needs x, which lives anyway, and computes
  the rest anew; derived, it would keep up to three more arrays as large as x.
  """
  rows, _ = _rows(epsilon, x.astype(jnp.float32))
  return rows * scale + bias


def _rows(epsilon: float, x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """(x normalised, 1 / its deviation [..., 1])."""
  centred = x - jnp.mean(x, axis=-1, keepdims=True)
  variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
  inverse = jax.lax.rsqrt(variance + epsilon)
  return centred * inverse, inverse


def _mean(x: jax.Array, scale: jax.Array) -> jax.Array:
  """Mean of x * scale over the last axis, [..., 1].

  On a CPU a product with a vector: for the sum XLA's compiler there spreads the scale
  over an array as large as x, at the very start of a step."""
  return jax.lax.platform_dependent(
    x,
    scale,
    cpu=lambda x, scale: jnp.matmul(x, scale)[..., None] / x.shape[-1],
    default=lambda x, scale: jnp.mean(x * scale, axis=-1, keepdims=True),
  )


def _forward(epsilon, x, scale, bias):
  return normalised(epsilon, x, scale, bias), (x, scale)


def _backward(epsilon, kept, cotangent):
  x, scale = kept
  return jax.lax.platform_dependent(
    *(x, scale, cotangent),
    cuda=functools.partial(_backward_on_gpu, epsilon),
    rocm=functools.partial(_backward_on_gpu, epsilon),
    default=functools.partial(_backward_of_rows, epsilon),
  )


def _backward_of_rows(epsilon, x, scale, cotangent):
  rows, inverse = _rows(epsilon, later(x.astype(jnp.float32), cotangent))
  of_scale = cotangent * rows
  mean, along = _mean(cotangent, scale), _mean(of_scale, scale)
  dx = inverse * (cotangent * scale - mean - rows * along)
  examples = tuple(range(x.ndim - 1))
  dscale, dbias = jnp.sum(of_scale, axis=examples), jnp.sum(cotangent, axis=examples)
  return dx.astype(x.dtype), dscale, dbias


def _backward_on_gpu(epsilon, x, scale, cotangent):
  """The same in two kernels: XLA's compiler makes one of means that follow each other
  (rows have none, so that `along` may be that of what the first one left), and another
  of both sums over the rows of a matrix."""
  shape = x.shape
  x, cotangent = (y.reshape(-1, shape[-1]) for y in (x, cotangent))
  rows, inverse = _rows(epsilon, x.astype(jnp.float32))
  dx = cotangent * scale
  dx = dx - jnp.mean(dx, axis=-1, keepdims=True)
  dx = inverse * (dx - rows * jnp.mean(dx * rows, axis=-1, keepdims=True))
  none = jnp.zeros((), jnp.float32)
  dscale, dbias = jax.lax.reduce(
    (cotangent * rows, cotangent),
    (none, none),
    lambda some, more: (some[0] + more[0], some[1] + more[1]),
    (0,),
  )
  return dx.astype(x.dtype).reshape(shape), dscale, dbias


normalised.defvjp(_forward, _backward)
