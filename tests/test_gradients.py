"""Gradient caching: in micro-batches or at once, the gradient is the same."""

import functools

import jax
import numpy as np
import pytest

from tests import tiny
from tpr_jax import gradients, objectives
from tpr_jax.core import tree

SHARED = dict(tiny.OBJECTIVE, identity="shared")
CASES = {
  "CFAM": (tiny.LOSSES, tiny.OBJECTIVE),
  "CFAM, global negatives of any pair": (
    tiny.LOSSES,
    dict(tiny.OBJECTIVE, negatives="global", exclude="pair"),
  ),
  "IRRA": (dict(sdm=1.0, identity=1.0, mlm=1.0), SHARED),
  "IRRA, soft labels, masked in place": (
    dict(sdm=1.0, identity=1.0, mlm=1.0),
    dict(SHARED, soft_labels=True, mlm_in_place=True),
  ),
  "InfoNCE, learnt temperature": (
    dict(infonce=1.0),
    dict(SHARED, learn_temperature=True),
  ),
}


@functools.cache
def objective_and_params(case):
  losses, choices = CASES[case]
  made = tiny.model(losses, choices)
  _, params = tiny.loss_and_params(losses, choices)
  return objectives.make_objective(made, losses, choices, masking=tiny.MASKING), params


@functools.cache
def whole(case, rows):
  objective, params = objective_and_params(case)
  run = jax.jit(gradients.make_grad_fn(objective))
  return jax.device_get(run(params, tiny.batch(rows), jax.random.key(1)))


TELLING = [
  ("CFAM", 4),
  ("IRRA", 2),
  ("IRRA, soft labels, masked in place", 4),
  ("InfoNCE, learnt temperature", 4),
]
# What differs here is all behind what an example is encoded to, or in the count.
OTHERS = [("CFAM, global negatives of any pair", 4), ("CFAM", 12), ("IRRA", 4)]


@pytest.mark.parametrize(
  ("case", "count"),
  [*TELLING, *(pytest.param(*case, marks=pytest.mark.proof) for case in OTHERS)],
)
def test_micro_batches_give_the_gradient_of_the_whole_batch(case, count):
  objective, params = objective_and_params(case)
  run = jax.jit(gradients.make_grad_fn(objective, micro_batches=count))
  (loss, terms), grads = run(params, tiny.batch(12), jax.random.key(1))
  (whole_loss, whole_terms), whole_grads = whole(case, 12)
  assert float(loss) == pytest.approx(float(whole_loss), rel=1e-5)
  assert set(terms) == set(whole_terms)
  for name, value in whole_terms.items():
    assert float(terms[name]) == pytest.approx(float(value), rel=1e-5), name
  # The largest entry of all gradients is the unit of rounding: a sum of many products.
  unit = max(np.abs(leaf).max() for leaf in jax.tree.leaves(whole_grads))
  for name, found, expected in zip(
    tree.names(grads),
    jax.tree.leaves(grads),
    jax.tree.leaves(whole_grads),
    strict=True,
  ):
    np.testing.assert_allclose(found, expected, atol=1e-5 * unit, err_msg=name)


def test_the_hardest_negative_may_be_in_another_micro_batch():
  """Losses of parts alone would differ: this is no mean over micro-batches."""
  objective, params = objective_and_params("CFAM")
  run = jax.jit(gradients.loss_fn(objective))
  batch, key = tiny.batch(12), jax.random.key(1)
  halves = [{k: v[i::2] for k, v in batch.items()} for i in range(2)]
  apart = np.mean([float(run(params, half, key)[0]) for half in halves])
  assert abs(apart - float(whole("CFAM", 12)[0][0])) > 0.1


@pytest.mark.parametrize(
  ("count", "message"), [(0, "expected 1 or more"), (5, "of 12")]
)
def test_impossible_micro_batches_are_errors(count, message):
  objective, params = objective_and_params("InfoNCE, learnt temperature")
  with pytest.raises(ValueError, match=message):
    grad_fn = gradients.make_grad_fn(objective, micro_batches=count)
    grad_fn(params, tiny.batch(12), jax.random.key(0))
