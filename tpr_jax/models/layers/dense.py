"""A dense layer: float32 parameters, computed in `dtype`, summed in float32."""

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
  def __call__(self, x: jax.Array) -> jax.Array:
    """[..., in] -> [..., features] in `dtype`."""
    width = x.shape[-1]
    std = width**-0.5 if self.std is None else self.std
    kernel = self.param(
      "kernel", nn.initializers.normal(std), (width, self.features), jnp.float32
    )
    y = adapter.product(self, x, kernel, self.dtype)
    if self.use_bias:
      y = y + self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
    return y.astype(self.dtype)
