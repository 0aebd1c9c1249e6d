"""The order of an array in memory: asked of GPUs alone, and no number changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tpr_jax.models.layers import layout


def value(x):
  return jnp.sum(layout.row_major(x * 2.0) ** 2)


def test_nothing_changes():
  x = jnp.arange(24.0).reshape(2, 3, 4)
  np.testing.assert_array_equal(layout.row_major(x), x)
  np.testing.assert_array_equal(jax.grad(value)(x), 8.0 * x)


@pytest.mark.parametrize(("platform", "times"), [("cpu", 0), ("tpu", 0), ("cuda", 2)])
def test_gpus_are_asked_for_the_value_and_its_gradient(platform, times):
  traced = jax.jit(jax.value_and_grad(value)).trace(jnp.zeros((2, 3, 4)))
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert text.count("@LayoutConstraint(") == times


def test_without_a_gradient_nothing_is_asked():
  """A program that is exported may hold no such request."""
  traced = jax.jit(value).trace(jnp.zeros((2, 3, 4)))
  assert "LayoutConstraint" not in traced.lower(lowering_platforms=("cuda",)).as_text()
