"""Rows of a table: their values and gradient, and what the gradient holds meanwhile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tpr_jax.models.layers.lookup import lookup

TABLE = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
IDS = np.array([[2, 0, 2], [6, 2, 5]], np.int32)


def plain(table, ids):
  return jnp.take(table, ids, axis=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_values_and_gradient_are_those_of_indexing(dtype):
  table = jnp.asarray(TABLE, dtype)
  weight = jnp.asarray(np.random.default_rng(1).standard_normal((2, 3, 3)), dtype)

  def loss(fn):
    return lambda table: (jnp.sin(fn(table, IDS)) * weight).sum()

  np.testing.assert_array_equal(lookup(table, IDS), plain(table, IDS))
  ours = jax.jit(jax.grad(loss(lookup)))(table)
  wanted = jax.jit(jax.grad(loss(plain)))(table)
  assert ours.dtype == wanted.dtype
  np.testing.assert_array_equal(ours, wanted)


def test_a_gradient_without_a_value_has_none_here():
  grad = jax.grad(lambda table: (lookup(table, IDS) * jnp.nan).sum())(TABLE)
  assert np.isnan(grad[IDS.reshape(-1)]).all()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a CPU's own way")
def test_zeros_of_the_gradient_are_made_when_they_are_needed():
  table, kernel = jnp.ones((16384, 64)), jnp.ones((64, 65536))
  ids = jnp.arange(16)

  def held(fn):
    def loss(table, ids):  # holds [16, 65536], as large as the table, before the end
      return (jnp.tanh(fn(table, ids) @ kernel) ** 2).sum()

    def length(table, ids):  # of the gradient, which is no output and has no room there
      return (jax.grad(loss)(table, ids) ** 2).sum()

    compiled = jax.jit(length).lower(table, ids).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert held(lookup) < held(plain) - table.nbytes / 2
