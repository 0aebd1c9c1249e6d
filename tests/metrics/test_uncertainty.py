"""Intervals and p values: against slow transcriptions, and against known truths."""

import itertools
import time

import numpy as np
import pytest

from tpr_jax.metrics import uncertainty
from tpr_jax.metrics.uncertainty import Bootstrap

FEW = Bootstrap(resamples=200)


def problem(seed=0, identities=12, scores=3):
  """Uneven numbers of queries, in a mixed order: (values, ids)."""
  rng = np.random.default_rng(seed)
  ids = np.repeat(rng.permutation(identities) * 7 - 3, rng.integers(1, 6, identities))
  ids = rng.permutation(ids)
  return rng.random((len(ids), scores)), ids


def drawn(rng, identities, effect=1.0):
  """One sample of a population whose mean is 0: queries of a person go together."""
  ids = np.repeat(np.arange(identities), rng.integers(1, 9, identities))
  person = effect * rng.standard_normal(identities)
  return person[ids] + rng.standard_normal(len(ids)), ids


# ---- against transcriptions


def slow_interval(values, ids, how):
  """Every resample as a list of queries, float by float."""
  people = sorted(set(ids.tolist()))
  rng, means = np.random.default_rng([how.seed, 0]), []
  for _ in range(how.resamples):
    queries = []
    for place in rng.integers(0, len(people), len(people)):
      queries += [v for v, i in zip(values, ids, strict=True) if i == people[place]]
    means.append(sum(queries) / len(queries))
  means.sort()
  ends = []
  for share in ((1 - how.level) / 2, (1 + how.level) / 2):
    at = share * (len(means) - 1)
    low = int(at)
    high = min(low + 1, len(means) - 1)
    ends.append(means[low] + (at - low) * (means[high] - means[low]))
  return ends


@pytest.mark.parametrize("level", [0.95, 0.5])
def test_the_interval_is_that_of_resampled_people(level):
  values, ids = problem()
  how = Bootstrap(level, 90, seed=3)
  found = uncertainty.interval(values, ids, how)
  for score in range(values.shape[1]):
    expected = slow_interval(values[:, score], ids, how)
    np.testing.assert_allclose(found[:, score], expected, rtol=1e-12)


def slow_p(differences, ids):
  """All sign patterns of all people, one by one."""
  sums = [differences[ids == person].sum() for person in sorted(set(ids.tolist()))]
  observed, reached, patterns = abs(sum(sums)), 0, 0
  for signs in itertools.product((-1, 1), repeat=len(sums)):
    total = sum(s * d for s, d in zip(signs, sums, strict=True))
    reached += abs(total) >= observed - 1e-9
    patterns += 1
  return reached / patterns


def test_p_of_few_people_counts_every_pattern():
  for seed in range(5):
    (a, ids), rng = problem(seed, identities=9), np.random.default_rng(seed)
    b = np.round(a - rng.normal(0.05, 0.2, a.shape), 1)
    found = uncertainty.compare(a, b, ids, FEW)
    assert found.exact.all() and found.identities == 9
    for score in range(3):
      expected = slow_p(a[:, score] - b[:, score], ids)
      assert found.p[score] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(found.difference, a.mean(axis=0) - b.mean(axis=0))
    low, high = uncertainty.interval(a - b, ids, FEW)
    np.testing.assert_array_equal([found.low, found.high], [low, high])


def test_random_patterns_come_close_to_all_of_them():
  a, ids = problem(2, identities=15, scores=1)
  b = a - np.random.default_rng(0).normal(0.1, 0.4, a.shape)
  found = uncertainty.compare(a, b, ids, FEW)
  assert not found.exact.any()
  assert found.p[0] == pytest.approx(slow_p((a - b)[:, 0], ids), abs=0.02)


def test_ties_of_hits_and_misses_are_ties():
  """Five people differ by one hit each, all for a: the two patterns of equal signs."""
  ids = np.repeat(np.arange(30), 3)
  a, b = np.zeros((2, 90, 1))
  a[[0, 3, 6, 9, 12]] = 1.0
  found = uncertainty.compare(a, b, ids, FEW)
  assert found.exact[0] and found.p[0] == 2 / 2**5


# ---- against known truths


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_the_interval_covers_the_truth_as_often_as_it_says(level):
  rng, how = np.random.default_rng(1), Bootstrap(level, 400)
  covered = []
  for _ in range(500):
    values, ids = drawn(rng, 60)
    low, high = uncertainty.interval(values[:, None], ids, how)[:, 0]
    covered.append(low <= 0 <= high)
  # Four standard deviations of a share, and a percentile interval's known lack.
  slack = 4 * np.sqrt(level * (1 - level) / len(covered))
  assert level - 0.01 - slack <= np.mean(covered) <= level + slack


def test_queries_taken_for_independent_cover_too_little():
  rng, covered = np.random.default_rng(2), []
  for _ in range(300):
    values, _ = drawn(rng, 60)
    low, high = uncertainty.interval(values[:, None], np.arange(len(values)), FEW)[:, 0]
    covered.append(low <= 0 <= high)
  assert np.mean(covered) < 0.8


@pytest.mark.parametrize(("identities", "flips"), [(40, 199), (10, 2_000)])
def test_p_is_uniform_where_nothing_differs(identities, flips):
  rng, found = np.random.default_rng(3), []
  for _ in range(400):
    common, ids = drawn(rng, identities)
    person = rng.standard_normal((2, identities))[:, ids]
    a, b = (common + person + rng.standard_normal((2, len(ids))))[..., None]
    found.append(uncertainty.compare(a, b, ids, Bootstrap(resamples=40), flips=flips))
  assert all(f.exact[0] == (identities == 10) for f in found)
  p = np.sort([f.p[0] for f in found])
  # Kolmogorov: at 1 % significance sup |F - p| < 1.63 / sqrt(n); p comes in steps.
  share = np.arange(1, len(p) + 1) / len(p)
  distance = np.maximum(np.abs(share - p), np.abs(share - 1 / len(p) - p)).max()
  assert distance < 1.63 / np.sqrt(len(p)) + 1 / min(flips, 2**identities)


def test_a_real_difference_is_found():
  rng = np.random.default_rng(4)
  b, ids = drawn(rng, 80)
  a = b + 0.3 + 0.3 * rng.standard_normal(len(b))
  found = uncertainty.compare(a[:, None], b[:, None], ids)
  assert found.low[0] > 0.2 and found.high[0] < 0.4
  assert found.p[0] == 1 / (uncertainty.FLIPS + 1)  # never 0
  # Paired: what both find hard cancels, and the interval is far narrower than theirs.
  alone = np.ptp(uncertainty.interval(a[:, None], ids)[:, 0])
  assert found.high[0] - found.low[0] < 0.5 * alone


# ---- what must not matter


def test_equal_results_differ_by_nothing():
  values, ids = problem(identities=30)
  found = uncertainty.compare(values, values, ids, FEW)
  for what in (found.difference, found.low, found.high):
    np.testing.assert_array_equal(what, 0.0)
  np.testing.assert_array_equal(found.p, 1.0)


def test_the_order_of_queries_does_not_matter():
  (a, ids), rng = problem(5, identities=30), np.random.default_rng(0)
  b, order = rng.random(a.shape), rng.permutation(len(a))
  one = uncertainty.compare(a, b, ids, FEW)
  other = uncertainty.compare(a[order], b[order], ids[order], FEW)
  for name in ("difference", "low", "high", "p"):
    np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12)


def test_identities_may_be_strings():
  values, ids = problem()
  names = np.array([f"{i + 100:04d}" for i in ids])
  np.testing.assert_array_equal(
    uncertainty.interval(values, ids, FEW), uncertainty.interval(values, names, FEW)
  )


def test_swapping_the_two_turns_the_sign():
  (a, ids), rng = problem(6, identities=30), np.random.default_rng(1)
  b = rng.random(a.shape)
  one, other = (uncertainty.compare(*two, ids, FEW) for two in ((a, b), (b, a)))
  np.testing.assert_allclose(one.difference, -other.difference)
  np.testing.assert_allclose(one.low, -other.high, rtol=1e-9)
  np.testing.assert_array_equal(one.p, other.p)


def test_the_draws_are_those_of_the_seed_however_they_are_cut(monkeypatch):
  values, ids = problem()
  found = uncertainty.interval(values, ids, FEW)
  np.testing.assert_array_equal(found, uncertainty.interval(values, ids, FEW))
  other = uncertainty.interval(values, ids, Bootstrap(resamples=200, seed=1))
  assert (found != other).any()
  monkeypatch.setattr(uncertainty, "_CHUNK", 100)
  np.testing.assert_allclose(found, uncertainty.interval(values, ids, FEW), rtol=1e-12)


def test_many_queries_take_no_time():
  rng = np.random.default_rng(0)
  ids = rng.integers(0, 4_000, 40_000)
  a, b = rng.random((2, 40_000, 6))
  started = time.process_time()
  uncertainty.interval(a, ids)
  assert time.process_time() - started < 2.0
  uncertainty.compare(a, b, ids)
  assert time.process_time() - started < 6.0


# ---- what cannot be done


def test_one_identity_says_nothing_about_others():
  values = np.random.default_rng(0).random((5, 2))
  for ids in (np.zeros(5, int), np.array(["x"] * 5)):
    with pytest.raises(ValueError, match=r"5 queries of 1 identities.*at least two"):
      uncertainty.interval(values, ids)
    with pytest.raises(ValueError, match="at least two"):
      uncertainty.compare(values, values, ids)


def test_a_query_without_a_value_is_named():
  values, ids = problem()
  values[4, 1] = np.nan
  with pytest.raises(ValueError, match=r"query 4 are not finite.*without a match"):
    uncertainty.interval(values, ids)


def test_shapes_that_do_not_fit():
  values, ids = problem()
  with pytest.raises(ValueError, match=r"expected \[Q, S\] and \[Q\]"):
    uncertainty.interval(values, ids[1:])
  with pytest.raises(ValueError, match=r"expected \[Q, S\]"):
    uncertainty.interval(values[:, 0], ids)
  with pytest.raises(ValueError, match="not of one query set"):
    uncertainty.compare(values, values[1:], ids)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (dict(level=95), "ci_level=95.*0.95"),
    (dict(level=0.0), "ci_level=0.0"),
    (dict(resamples=39), "ci_resamples=39.*at least 40"),
    (dict(resamples=-1), "ci_resamples=-1"),
    (dict(level=0.99, resamples=199), "at least 200"),
  ],
)
def test_settings_that_give_no_interval(fields, message):
  with pytest.raises(ValueError, match=message):
    Bootstrap(**fields)
  Bootstrap(resamples=40)
