"""QuickGELU's own gradient: that of the formula, in both dtypes and at the ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tpr_jax.models.layers import mlp

X = np.concatenate([np.linspace(-12, 12, 401), [-300.0, 0.0, 300.0, -1e30, 1e30]])


def slope(x):
  """d x sigmoid(1.702 x) / dx in float64, without overflow."""
  s = np.exp(-np.logaddexp(0.0, -1.702 * x))
  return s + 1.702 * x * s * np.exp(-np.logaddexp(0.0, 1.702 * x))


def test_gradient_is_that_of_the_formula():
  found = jax.vmap(jax.grad(mlp.quick_gelu))(jnp.float32(X))
  np.testing.assert_allclose(found, slope(X), rtol=1e-5, atol=1e-6)


def test_gradient_in_bfloat16_is_the_rounded_one():
  x = jnp.asarray(X, jnp.bfloat16)
  out, back = jax.vjp(mlp.quick_gelu, x)
  (found,) = back(jnp.ones_like(out))
  assert out.dtype == found.dtype == jnp.bfloat16
  expected = jnp.asarray(slope(np.asarray(x, np.float64)), jnp.bfloat16)
  np.testing.assert_allclose(
    found.astype(jnp.float32), expected.astype(jnp.float32), rtol=1e-2, atol=1e-6
  )


@pytest.mark.parametrize("x", [-3.0, -0.7, 0.0, 0.4, 2.5])
def test_gradient_of_the_gradient(x):
  """By differences: penalties on gradients are of some users' losses."""
  step = 1e-2
  found = jax.grad(jax.grad(mlp.quick_gelu))(x)
  by_differences = (slope(np.float64(x + step)) - slope(np.float64(x - step))) / (
    2 * step
  )
  assert found == pytest.approx(by_differences, abs=1e-3)


def test_infinities_and_nan_are_not_hidden():
  x = jnp.float32([np.inf, np.nan])
  assert np.isnan(jax.vmap(jax.grad(mlp.quick_gelu))(x)[1])
  assert mlp.quick_gelu(x)[0] == np.inf
