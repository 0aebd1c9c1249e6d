"""Compilation ahead of need: the same results, known shapes compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tpr_jax.ahead import CompiledAhead
from tpr_jax.meter import Meter


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
  made = CompiledAhead(step, state, [shapes(3), shapes(5)], key, Meter(2))
  found = [float(made(state, batch(n), key)) for n in (5, 3, 5)]
  assert lengths == [3, 5]  # in the order given, and never again
  expected = [float(step(state, batch(n), key)) for n in (5, 3, 5)]
  assert found == expected
  made.close()


def test_the_second_length_is_left_until_the_first_step_was_taken(traced):
  step, lengths = traced
  key, state = jax.random.key(1), jnp.float32(0.5)
  made = CompiledAhead(step, state, [shapes(3), shapes(5)], key, Meter(2))
  made.program(batch(3))
  assert lengths == [3]
  made(state, batch(3), key)
  made.wait()
  assert lengths == [3, 5]
  made.close()


def test_a_run_that_begins_with_the_second_length_waits_for_both(traced):
  step, lengths = traced
  key = jax.random.key(1)
  made = CompiledAhead(step, jnp.float32(0.5), [shapes(3), shapes(5)], key, Meter(2))
  made.program(batch(5))
  assert lengths == [3, 5]
  made.close()


def test_another_shape_is_compiled_when_it_comes(traced):
  step, lengths = traced
  key, state = jax.random.key(1), jnp.float32(0.5)
  made = CompiledAhead(step, state, [], key, Meter(2))
  assert float(made(state, batch(4), key)) > 28
  assert lengths == [4]
  made.close()


def test_the_meter_learns_of_the_work_and_not_of_the_compilation():
  @jax.jit
  def step(state, batch, key):
    return state @ state + batch["text"].sum()

  state, key, meter = jnp.ones((4, 4)), jax.random.key(0), Meter(2)
  made = CompiledAhead(step, state, [shapes(3)], key, meter)
  made(state, batch(3), key)
  found = meter.read(1)
  assert found["tflops"] * 1e12 * 2 == pytest.approx(
    2 * 4**3 * found["examples_per_second"]
  )
  made(state, batch(7), key)  # a shape that was not announced: its work is not known
  assert "tflops" not in meter.read(1)
  made.close()


def test_an_error_of_the_step_is_raised_where_the_step_is_called():
  @jax.jit
  def step(state, batch, key):
    raise ValueError("text of 3 tokens")

  key, state = jax.random.key(1), jnp.float32(0.5)
  made = CompiledAhead(step, state, [shapes(3)], key, Meter(2))
  with pytest.raises(ValueError, match="text of 3 tokens"):
    made(state, batch(3), key)
  made.close()


def test_traced_is_told_when_there_is_nothing_or_it_fails():
  def step(state, batch, key):
    del batch, key
    raise ValueError(f"no step for {state}")

  state, key = {"w": jnp.zeros(3)}, jax.random.key(0)
  nothing = CompiledAhead(jax.jit(step), state, [], key, Meter(2))
  nothing.traced()  # returns
  failing = CompiledAhead(jax.jit(step), state, [shapes(3)], key, Meter(2))
  failing.traced()  # returns
  with pytest.raises(ValueError, match="no step"):
    failing.program(batch(3))
  nothing.close()
  failing.close()
