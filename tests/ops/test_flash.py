"""Where cuDNN's attention is asked for; what it computes is tried in tests/gpu."""

import jax.numpy as jnp
import pytest

from tpr_jax.ops import flash, masks


def arrays(dtype="bfloat16", queries=4, keys=4, width=8):
  return [jnp.zeros((2, n, 3, width), dtype) for n in (queries, keys, keys)]


@pytest.mark.parametrize(
  ("given", "mask", "expected"),
  [
    ({}, None, True),
    (dict(dtype="float16"), None, True),
    (dict(dtype="float32"), None, False),
    (dict(width=12), None, False),
    (dict(width=136), None, False),
    (dict(queries=5, keys=7), None, True),
    (dict(queries=5, keys=7), masks.First(3, 7), True),
    (dict(queries=5, keys=5), masks.Causal(5), True),
    (dict(queries=1, keys=5), masks.Causal(5), False),
    ({}, jnp.ones((2, 1, 1, 4), bool), True),
    (dict(keys=5), jnp.ones((2, 1, 1, 5), bool), False),
    ({}, jnp.zeros((1, 3, 4, 4)), False),
  ],
)
def test_what_it_has_kernels_for(given, mask, expected):
  assert flash.fits(*arrays(**given), mask) is expected


def test_programs_that_leave_do_without(monkeypatch):
  monkeypatch.setattr(flash, "_found", lambda: True)
  assert flash.available()
  with flash.unused():
    assert not flash.available()
  assert flash.available()


def test_a_cpu_has_none():
  assert not flash.available()
