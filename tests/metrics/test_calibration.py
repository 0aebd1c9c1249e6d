"""Probabilities of hits, and the answer that nothing matches, on made galleries."""

import json
import math

import numpy as np
import pytest

from tpr_jax.metrics import calibration
from tpr_jax.metrics.calibration import CalibrationError


def world(seed, queries=150, people=150, views=2, strength=3.0):
  """(cosines, match): some sentences are near everything, some spread wider."""
  rng = np.random.default_rng(seed)
  match = np.zeros((queries, people * views), bool)
  for query in range(queries):
    at = views * (query % people)
    match[query, at : at + views] = True
  level, spread = (
    rng.normal(0.3, 0.1, (queries, 1)),
    rng.uniform(0.02, 0.08, (queries, 1)),
  )
  noise = rng.normal(size=match.shape)
  return level + spread * (noise + strength * match), match


@pytest.fixture(scope="module")
def fitted():
  return calibration.fit(*world(0), source=dict(name="made"))


def slow_features(cosines, best):
  """The formulas of the docstring, one number after the other."""
  mean = sum(cosines) / len(cosines)
  deviation = math.sqrt(sum((c - mean) ** 2 for c in cosines) / len(cosines))
  ranked = sorted(cosines, reverse=True)
  upper = sum(ranked[10:20]) / 10
  return [
    best,
    (best - mean) / deviation,
    (best - upper) / deviation,
    math.log(len(cosines)),
  ]


def test_features_by_hand():
  cosines = np.random.default_rng(1).normal(size=60)
  best = np.sort(cosines)[::-1][:3]
  found = calibration.features(calibration.background(cosines), best)
  for row, value in zip(found, best, strict=True):
    np.testing.assert_allclose(row, slow_features(cosines.tolist(), value), rtol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 11, 12, 20])
def test_small_galleries_have_features_too(count):
  cosines = np.linspace(0.1, 0.5, count)
  found = calibration.features(calibration.background(cosines), cosines[-1:])
  assert np.isfinite(found).all()


def asked(fitted, seed):
  """Of unseen queries: (p of hits, match of hits, presence with, without, right)."""
  cosines, match = world(seed)
  p, truth, present, absent, right, flat = [], [], [], [], [], ([], [])
  for row, own in zip(cosines, match, strict=True):
    for there in (True, False):
      shown = row if there else row[~own]
      owned = own if there else np.zeros(len(shown), bool)
      order = np.argsort(-shown)[:10]
      p.append(fitted.probabilities(calibration.background(shown), shown[order]))
      truth.append(owned[order])
      (present if there else absent).append(
        fitted.presence(calibration.background(shown))
      )
      flat[there].append(shown.max())
    right.append(own[np.argmax(row)])
  return (
    np.concatenate(p),
    np.concatenate(truth),
    *map(np.array, (present, absent, right)),
    flat,
  )


def test_probabilities_are_true_of_people_that_were_not_fitted(fitted):
  p, truth, *_ = asked(fitted, 5)
  found = calibration.reliability(p, truth)
  assert found.error < 0.03
  assert ((p > 0) & (p < 1)).all()
  assert found.count.sum() == len(p)
  # And not by saying the mean of all.
  assert p[truth].mean() > 3 * p[~truth].mean()


def test_false_alarms_are_as_many_as_asked_for_and_a_flat_threshold_finds_fewer(fitted):
  _, _, present, absent, right, flat = asked(fitted, 6)
  for share in (0.05, 0.2):
    found = calibration.detection(present, absent, right, fitted.threshold(share))
    assert abs(found.false_alarms - share) < 0.05
  assert found.detected > 0.6
  found = calibration.detection(present, absent, right, fitted.threshold(0.05))
  level = np.quantile(flat[False], 0.95)
  plain = calibration.detection(
    np.array(flat[True]), np.array(flat[False]), right, level
  )
  assert found.detected > plain.detected + 0.3
  assert found.correct <= found.detected


def test_what_is_no_better_than_chance_is_called_so():
  made = calibration.fit(*world(2, strength=0.0))
  p, _, present, absent, right, _ = asked(made, 7)
  assert p.max() < 0.2
  found = calibration.detection(present, absent, right, made.threshold(0.05))
  assert found.detected < 0.3  # that world has matches, which this model cannot know


def test_a_hit_says_more_the_farther_it_stands_out(fitted):
  cosines = np.random.default_rng(3).normal(0.3, 0.05, 300)
  p = fitted.probabilities(
    calibration.background(cosines), np.array([0.35, 0.45, 0.55, 0.65])
  )
  assert (np.diff(p) > 0).all()


def test_the_regression_is_the_maximum_of_the_likelihood():
  rng = np.random.default_rng(4)
  rows = rng.normal(size=(500, 3))
  labels = rng.random(500) < 1 / (1 + np.exp(-(rows @ [1.0, -2.0, 0.5] - 1)))
  weights = np.array(calibration._logistic(rows, labels))

  def loss(w):
    logits = rows @ w[:-1] + w[-1]
    ridge = 0.5e-3 * len(rows) * (w[:-1] ** 2).sum()
    return np.logaddexp(0, np.where(labels, -logits, logits)).sum() + ridge

  for axis in range(4):
    for step in (-1e-3, 1e-3):
      moved = weights.copy()
      moved[axis] += step
      assert loss(moved) > loss(weights)


def test_separable_data_stay_finite():
  cosines, match = world(8, strength=60.0)
  made = calibration.fit(cosines, match)
  p = made.probabilities(
    calibration.background(cosines[0]), np.sort(cosines[0])[::-1][:3]
  )
  assert np.isfinite(p).all() and p[1] > 0.9 > 0.2 > p[2]


def test_it_is_plain_json_and_comes_back(fitted):
  plain = json.loads(json.dumps(fitted.to_json()))
  again = calibration.Calibration.from_json(plain)
  assert again == fitted
  assert again.source == dict(name="made")


@pytest.mark.parametrize(
  "change",
  [
    lambda plain: plain.pop("hit"),
    lambda plain: plain.update(hit=[1.0]),
    lambda plain: plain.update(absent=[math.nan] * 401),
    lambda plain: plain.update(scale="x"),
  ],
)
def test_what_is_none(fitted, change):
  plain = json.loads(json.dumps(fitted.to_json()))
  change(plain)
  with pytest.raises(CalibrationError, match="no calibration"):
    calibration.Calibration.from_json(plain)


def test_too_little_to_fit_by():
  cosines, match = world(9, queries=10, people=10)
  with pytest.raises(CalibrationError, match="found 10 queries and 20 pictures"):
    calibration.fit(cosines, match)
  with pytest.raises(CalibrationError, match="expected a share between 0 and 1"):
    calibration.fit(*world(0)).threshold(0.0)


def test_the_same_seed_fits_the_same():
  assert calibration.fit(*world(0)) == calibration.fit(*world(0))
  assert calibration.fit(*world(0), seed=1) != calibration.fit(*world(0))
