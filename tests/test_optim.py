"""The optimizer against a slow transcription of torch's Adam, groups and schedules."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tpr_jax import optim

SCHEDULE = dict(kind="cosine", per="step", warmup_epochs=2.0, warmup_from=0.1)
CONFIG = dict(
  name="adam",
  lr=1e-2,
  b1=0.9,
  b2=0.999,
  eps=1e-3,
  weight_decay=0.05,
  decay="l2",
  clip=0.0,
  muon="",
  groups=(("^head/", 5.0, 1.0), ("bias$", 2.0, 0.0)),
  schedule=dict(SCHEDULE, kind="constant", warmup_epochs=0.0),
)


def params(seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return {
    "visual": {"kernel": draw(3, 4), "bias": draw(4)},
    "head": {"kernel": draw(4, 2), "bias": draw(2)},
  }


def run(config, steps=3):
  tree = params()
  tx, _ = optim.make_optimizer(config, tree, steps=10, steps_per_epoch=5)
  state = tx.init(tree)
  for step in range(steps):
    grads = jax.tree.map(lambda p, s=step: jnp.sin(p * (s + 1)), tree)
    updates, state = tx.update(grads, state, tree)
    tree = optax.apply_updates(tree, updates)
  return tree


def torch_adam(value, *, lr, decay, steps=3, b1=0.9, b2=0.999, eps=1e-3, l2=True):
  """Kingma & Ba, algorithm 1, with torch's placement of epsilon and decay."""
  value = np.asarray(value, np.float64)
  m, v = np.zeros_like(value), np.zeros_like(value)
  for step in range(steps):
    grad = np.sin(value * (step + 1)) + (decay * value if l2 else 0.0)
    m = b1 * m + (1 - b1) * grad
    v = b2 * v + (1 - b2) * grad**2
    m_hat = m / (1 - b1 ** (step + 1))
    v_hat = v / (1 - b2 ** (step + 1))
    move = m_hat / (np.sqrt(v_hat) + eps) + (0.0 if l2 else decay * value)
    value = value - lr * move
  return value


@pytest.mark.parametrize("decay", ["l2", "decoupled"])
def test_matches_torch_adam_in_every_group(decay):
  result = run(dict(CONFIG, decay=decay))
  start = params()
  factors = {
    ("visual", "kernel"): (1, 1),
    ("visual", "bias"): (2, 0),
    ("head", "kernel"): (5, 1),
    ("head", "bias"): (10, 0),
  }
  for (module, leaf), (lr, wd) in factors.items():
    expected = torch_adam(
      start[module][leaf], lr=1e-2 * lr, decay=0.05 * wd, l2=decay == "l2"
    )
    np.testing.assert_allclose(result[module][leaf], expected, rtol=2e-5, atol=2e-6)


def test_frozen_group_keeps_value_and_has_no_state():
  config = dict(CONFIG, groups=(("^visual/", 0.0, 1.0),))
  result, start = run(config), params()
  np.testing.assert_array_equal(result["visual"]["kernel"], start["visual"]["kernel"])
  assert np.abs(result["head"]["kernel"] - start["head"]["kernel"]).max() > 1e-3
  tx, _ = optim.make_optimizer(config, start, steps=10, steps_per_epoch=5)
  shapes = [leaf.shape for leaf in jax.tree.leaves(tx.init(start))]
  assert (3, 4) not in shapes and (4, 2) in shapes


def muon(value, *, lr, decay, steps=3, momentum=0.95):
  """Jordan et al., 2024, orthogonal factors exact; arXiv:2502.16982, Eq. 4."""
  value = np.asarray(value, np.float64)
  moved = np.zeros_like(value)
  for step in range(steps):
    grad = np.sin(value * (step + 1))
    moved = momentum * moved + grad
    u, _, v = np.linalg.svd(momentum * moved + grad, full_matrices=False)
    value = value - lr * (0.2 * max(value.shape) ** 0.5 * (u @ v) + decay * value)
  return value


def test_muon_takes_orthogonal_steps_and_adam_the_rest():
  config = dict(CONFIG, muon="^visual/", decay="decoupled", weight_decay=0.05)
  result, start = run(config), params()
  # Newton-Schulz in five steps brings singular values to 0.7..1.2, not to 1.
  exact = muon(start["visual"]["kernel"], lr=1e-2, decay=0.05)
  moved = np.asarray(result["visual"]["kernel"] - start["visual"]["kernel"])
  wanted = exact - np.asarray(start["visual"]["kernel"])
  cosine = (moved * wanted).sum() / np.linalg.norm(moved) / np.linalg.norm(wanted)
  assert cosine > 0.97
  assert 0.7 < np.linalg.norm(moved) / np.linalg.norm(wanted) < 1.2
  for module, leaf, lr, wd in (
    ("visual", "bias", 2e-2, 0.0),  # a vector
    ("head", "kernel", 5e-2, 0.05),  # another name
  ):
    expected = torch_adam(start[module][leaf], lr=lr, decay=wd, l2=False)
    np.testing.assert_allclose(result[module][leaf], expected, rtol=2e-5, atol=2e-6)


def test_muon_beside_a_frozen_group():
  config = dict(CONFIG, muon="kernel$", groups=(("^visual/", 0.0, 1.0),))
  result, start = run(config), params()
  np.testing.assert_array_equal(result["visual"]["kernel"], start["visual"]["kernel"])
  assert np.abs(result["head"]["kernel"] - start["head"]["kernel"]).max() > 1e-3


def test_clip_bounds_the_first_gradient():
  tx, _ = optim.make_optimizer(
    dict(CONFIG, clip=1e-6, weight_decay=0.0), params(), steps=10, steps_per_epoch=5
  )
  tree = params()
  updates, _ = tx.update(jax.tree.map(lambda p: 100 * p, tree), tx.init(tree), tree)
  # With |g| far below epsilon Adam's move is lr * g / eps, not lr * sign(g).
  assert optax.tree.norm(updates) < 1e-4


def test_schedule_per_step():
  schedule = optim.make_schedule(lr=2.0, steps=60, steps_per_epoch=10, **SCHEDULE)
  assert float(schedule(0)) == pytest.approx(0.2)
  assert float(schedule(10)) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
  assert float(schedule(20)) == pytest.approx(2.0)
  assert float(schedule(40)) == pytest.approx(1.0)
  assert float(schedule(60)) == pytest.approx(0.0, abs=1e-6)


def test_linear_schedule_falls_evenly_to_zero():
  schedule = optim.make_schedule(
    lr=2.0, steps=60, steps_per_epoch=10, **dict(SCHEDULE, kind="linear")
  )
  values = [float(schedule(step)) for step in (10, 20, 30, 40, 50, 60)]
  assert values == pytest.approx([1.1, 2.0, 1.5, 1.0, 0.5, 0.0], abs=1e-6)


def test_a_schedule_may_end_above_zero():
  for kind in ("linear", "cosine"):
    schedule = optim.make_schedule(
      lr=2.0, steps=60, steps_per_epoch=10, **dict(SCHEDULE, kind=kind, end=0.1)
    )
    values = [float(schedule(step)) for step in (0, 20, 40, 60)]
    assert values == pytest.approx([0.2, 2.0, 1.1, 0.2], abs=1e-6), kind


def test_step_schedule_is_that_of_aptm_and_mra():
  """(T - s) / (T - w), times 1, 1/2 from 4 w on, 1/5 from 7 w on; s / w before w."""
  kind = dict(kind="step", per="step", warmup_epochs=1.0, warmup_from=0.0)
  schedule = optim.make_schedule(lr=2.0, steps=110, steps_per_epoch=10, **kind)
  at = {0: 0, 5: 1.0, 10: 2.0, 39: 1.42, 40: 0.7, 69: 0.41, 70: 0.16, 110: 0.0}
  for step, value in at.items():
    assert float(schedule(step)) == pytest.approx(value, abs=1e-6), step
  with pytest.raises(ValueError, match="warmup_epochs above 0"):
    optim.make_schedule(
      lr=1.0, steps=9, steps_per_epoch=3, **dict(kind, warmup_epochs=0.0)
    )


def test_schedule_per_epoch_is_a_staircase():
  schedule = optim.make_schedule(
    lr=2.0, steps=60, steps_per_epoch=10, **dict(SCHEDULE, per="epoch")
  )
  values = [float(schedule(step)) for step in range(60)]
  for epoch in range(6):
    assert len(set(values[epoch * 10 : epoch * 10 + 10])) == 1
  cosine = lambda epoch: 1.0 + math.cos(math.pi * (epoch - 2) / 4)
  assert values[::10] == pytest.approx([0.2, 1.1, *map(cosine, range(2, 6))])


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(name="sgd"), "optim.name='sgd'"),
    (dict(decay="none"), "optim.decay='none'"),
    (dict(groups=(("decodr/", 5.0, 1.0),)), "'decodr/' matches no parameter"),
    (dict(muon="bias$"), "optim.muon='bias\\$' matches the name of no matrix"),
    (dict(groups=(("head", 5.0),)), "is not \\(regex"),
    (dict(schedule=dict(SCHEDULE, kind="steps")), "schedule.kind='steps'"),
    (dict(schedule=dict(SCHEDULE, per="day")), "schedule.per='day'"),
    (dict(schedule=dict(SCHEDULE, end=1.5)), "schedule.end=1.5"),
    (dict(schedule=dict(SCHEDULE, kind="constant", end=0.1)), "schedule.end=0.1"),
  ],
)
def test_errors_name_the_field(change, message):
  with pytest.raises(ValueError, match=message):
    optim.make_optimizer(dict(CONFIG, **change), params(), steps=10, steps_per_epoch=5)
