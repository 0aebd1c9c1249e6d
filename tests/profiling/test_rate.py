"""The rate of matrix products, of the sizes that are asked for."""

import types

import jax.numpy as jnp
import pytest

from tpr_jax.profiling import rate


@pytest.mark.parametrize("dtype", ["float32", jnp.bfloat16])
def test_the_best_round_counts(dtype, monkeypatch):
  # A clock that ticks a second at each look, but for one round that is quick.
  ticks = iter([0, 1, 10, 10.5, 20, 21, 30, 31, 40, 41])
  clock = types.SimpleNamespace(perf_counter=lambda: next(ticks))
  monkeypatch.setattr(rate, "time", clock)  # JAX looks at its own
  found, size = rate.measure(dtype, size=16, products=4)
  assert size == 16
  assert found == pytest.approx(2 * 16**3 * 4 / 0.5)
