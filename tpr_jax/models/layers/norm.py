"""LayerNorm that always computes in float32."""

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
    x = x.astype(jnp.float32)
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(x * x, axis=-1, keepdims=True)
    y = x * jax.lax.rsqrt(variance + self.epsilon) * scale + bias
    return y.astype(self.dtype)
