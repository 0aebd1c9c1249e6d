"""Compilation ahead of need: the same results, known shapes compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tpr_jax.ahead import CompiledAhead


def shapes(length):
  return dict(text=jax.ShapeDtypeStruct((2, length), jnp.int32))


def batch(length):
  return dict(text=np.arange(2 * length, dtype=np.int32).reshape(2, length))


@pytest.fixture
def traced():
  """(jitted step, lengths it was traced for so far)."""
  lengths = []

  @jax.jit
  def step(state, batch, key):
    lengths.append(batch["text"].shape[1])
    return state + batch["text"].sum() + jax.random.uniform(key)

  return step, lengths


def test_known_shapes_are_compiled_before_they_come(traced):
  step, lengths = traced
  key, state = jax.random.key(1), jnp.float32(0.5)
  made = CompiledAhead(step, state, [shapes(3), shapes(5)], key)
  found = [float(made(state, batch(n), key)) for n in (5, 3, 5)]
  assert lengths == [3, 5]  # in the order given, and never again
  expected = [float(step(state, batch(n), key)) for n in (5, 3, 5)]
  assert found == expected
  made.close()


def test_another_shape_is_compiled_when_it_comes(traced):
  step, lengths = traced
  key, state = jax.random.key(1), jnp.float32(0.5)
  made = CompiledAhead(step, state, [], key)
  assert float(made(state, batch(4), key)) > 28
  assert lengths == [4]
  made.close()


def test_an_error_of_the_step_is_raised_where_the_step_is_called():
  @jax.jit
  def step(state, batch, key):
    raise ValueError("text of 3 tokens")

  key, state = jax.random.key(1), jnp.float32(0.5)
  made = CompiledAhead(step, state, [shapes(3)], key)
  with pytest.raises(ValueError, match="text of 3 tokens"):
    made(state, batch(3), key)
  made.close()
