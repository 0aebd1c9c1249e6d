"""A dense layer: float32 parameters, computed in `dtype`, summed in float32."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.models.layers import adapter


class Dense(nn.Module):
  """y = x W + b on the last axis; W [in, out] and b [out] are float32 parameters.

  W may have an adapter (layers/adapter.py)."""

  features: int
  use_bias: bool = True
  std: float | None = None  # of the normal initial kernel; None: in ** -0.5
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, x: jax.Array, apart: bool = False
  ) -> jax.Array | tuple[jax.Array, jax.Array]:
    """[..., in] -> [..., features] in `dtype`.

    With `apart` (x W in `dtype`, b), for callers that go on with `total` of them: as
    often rounded, and written by the fastest products that GPUs have, which know of no
    float32 beside bfloat16."""
    width = x.shape[-1]
    std = width**-0.5 if self.std is None else self.std
    kernel = self.param(
      "kernel", nn.initializers.normal(std), (width, self.features), jnp.float32
    )
    y = adapter.product(self, x, kernel, self.dtype, narrow=apart)
    if not self.use_bias:
      if apart:
        raise ValueError("Dense: without a bias there is nothing to keep apart")
      return y.astype(self.dtype)
    bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
    return (y, bias) if apart else (y + bias).astype(self.dtype)


def total(product: jax.Array, bias: jax.Array) -> jax.Array:
  """x W + b, float32 [..., features], of what `Dense` gave apart.

  The gradient is rounded to the dtype of the product before it is summed for b, as if
  the sum had been rounded: no kernel has to write it in float32."""
  return _total(str(product.dtype), product, bias)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _total(dtype: str, product: jax.Array, bias: jax.Array) -> jax.Array:
  del dtype
  return product.astype(jnp.float32) + bias


def _total_forward(dtype, product, bias):
  return _total(dtype, product, bias), None


def _total_backward(dtype, _, cotangent):
  narrow = cotangent.astype(dtype)
  rows = tuple(range(narrow.ndim - 1))
  return narrow, jnp.sum(narrow.astype(jnp.float32), axis=rows)


_total.defvjp(_total_forward, _total_backward)
