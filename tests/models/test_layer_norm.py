"""LayerNorm and its own gradient: against float64, and rows far from zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tpr_jax.models.layers import norm

EPSILON = 1e-5


def slow(x, scale, bias, cotangent):
  """(result, gradients by x, scale and bias) in float64, by the Jacobian of a row."""
  flat, width = x.reshape(-1, x.shape[-1]), x.shape[-1]
  flat_ct = cotangent.reshape(-1, width)
  out, dx = np.zeros_like(flat), np.zeros_like(flat)
  dscale, dbias = np.zeros(width), np.zeros(width)
  for i, row in enumerate(flat):
    deviation = np.sqrt(row.var() + EPSILON)
    z = (row - row.mean()) / deviation
    out[i] = z * scale + bias
    # dz_a / dx_b = (1[a = b] - 1 / D - z_a z_b / D) / deviation
    jacobian = (np.eye(width) - 1 / width - np.outer(z, z) / width) / deviation
    dx[i] = jacobian.T @ (scale * flat_ct[i])
    dscale += z * flat_ct[i]
    dbias += flat_ct[i]
  return out.reshape(x.shape), dx.reshape(x.shape), dscale, dbias


def drawn(shape, offset=0.0):
  rng = np.random.default_rng(0)
  x = rng.normal(size=shape)
  x[..., 0] += offset  # one channel far from the others, as in pretrained CLIP
  return (
    x,
    1 + 0.1 * rng.normal(size=shape[-1]),
    rng.normal(size=shape[-1]),
    rng.normal(size=shape),
  )


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("shape", [(7,), (3, 8), (2, 4, 16)])
def test_result_and_gradients(shape, offset):
  x, scale, bias, cotangent = drawn(shape, offset)
  out, back = jax.vjp(
    lambda *a: norm.normalised(EPSILON, *a), *map(jnp.float32, (x, scale, bias))
  )
  expected = slow(x, scale, bias, cotangent)
  for found, true in zip((out, *back(jnp.float32(cotangent))), expected, strict=True):
    np.testing.assert_allclose(found, true, rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("shape", [(7,), (3, 8), (2, 4, 16)])
def test_the_gradient_of_gpus(shape, offset):
  """Written otherwise, the same numbers."""
  x, scale, bias, cotangent = drawn(shape, offset)
  given = map(jnp.float32, (x, scale, cotangent))
  found = jax.jit(norm._backward_on_gpu, static_argnums=0)(EPSILON, *given)
  expected = slow(x, scale, bias, cotangent)[1:]
  for part, true in zip(found, expected, strict=True):
    np.testing.assert_allclose(part, true, rtol=2e-5, atol=5e-6)


def test_rows_of_equal_numbers_have_finite_gradients():
  x, scale, bias, cotangent = drawn((2, 8))
  x[0] = 3.0
  _, back = jax.vjp(
    lambda *a: norm.normalised(EPSILON, *a), *map(jnp.float32, (x, scale, bias))
  )
  expected = slow(x, scale, bias, cotangent)[1:]
  for found, true in zip(back(jnp.float32(cotangent)), expected, strict=True):
    np.testing.assert_allclose(found, true, rtol=2e-5, atol=2e-5 * np.abs(true).max())


def test_bfloat16_in_and_out_is_float32_inside():
  x, scale, bias, cotangent = drawn((4, 32))
  half = jnp.asarray(x, jnp.bfloat16)
  layer = norm.LayerNorm(EPSILON, "bfloat16")
  params = dict(scale=jnp.float32(scale), bias=jnp.float32(bias))
  out, back = jax.vjp(lambda p, x: layer.apply({"params": p}, x), params, half)
  assert out.dtype == jnp.bfloat16
  half_ct = jnp.asarray(cotangent, jnp.bfloat16)
  dparams, dx = back(half_ct)
  assert dx.dtype == jnp.bfloat16 and dparams["scale"].dtype == jnp.float32
  wide = [np.asarray(a, np.float64) for a in (half, half_ct)]
  _, true_dx, true_scale, true_bias = slow(wide[0], scale, bias, wide[1])
  np.testing.assert_allclose(dx.astype(jnp.float32), true_dx, rtol=1e-2, atol=1e-2)
  np.testing.assert_allclose(dparams["scale"], true_scale, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(dparams["bias"], true_bias, rtol=1e-4, atol=1e-4)
