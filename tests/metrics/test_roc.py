"""The area under the ROC of wrong words: against a double loop, and by hand."""

import math

import numpy as np
import pytest

from tpr_jax.metrics import roc
from tpr_jax.metrics.uncertainty import Bootstrap

FEW = Bootstrap(resamples=200)
NAN = float("nan")


def slow_auc(scores, wrong):
  """Pair by pair."""
  total = pairs = 0.0
  for a, bad in zip(scores, wrong, strict=True):
    for b, other in zip(scores, wrong, strict=True):
      if bad and not other:
        pairs += 1
        total += 1.0 if a < b else 0.5 if a == b else 0.0
  return total / pairs if pairs else NAN


def problem(seed=0, captions=12, values=None, effect=0.3):
  """Uneven captions in a mixed order; few `values`: many ties."""
  rng = np.random.default_rng(seed)
  caption = np.repeat(rng.permutation(captions) * 5 - 2, rng.integers(1, 9, captions))
  caption = rng.permutation(caption)
  wrong = rng.random(len(caption)) < 0.3
  scores = rng.random(len(caption)) - effect * wrong
  if values:
    scores = np.floor(scores * values)
  return scores, wrong, caption


@pytest.mark.parametrize("values", [None, 8, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_area_is_that_of_all_pairs(values, dtype):
  for seed in range(10):
    scores, wrong, _ = problem(seed, values=values)
    scores = scores.astype(dtype)
    assert roc.auc(scores, wrong) == pytest.approx(slow_auc(scores, wrong), abs=1e-15)


@pytest.mark.parametrize(
  "scores, wrong, area",
  [
    ([0, 1], [1, 0], 1.0),
    ([1, 0], [1, 0], 0.0),
    ([3, 3], [1, 0], 0.5),
    ([0, 0, 0, 0, 0], [1, 0, 0, 1, 0], 0.5),
    ([0.1, 0.4, 0.35, 0.8], [1, 1, 0, 0], 0.75),
    ([1, 2, 2, 3], [1, 1, 0, 0], 0.875),
    ([-np.pi, 5e-324, 0.0], [1, 0, 1], 1.0),
  ],
)
def test_by_hand(scores, wrong, area):
  assert roc.auc(scores, np.array(wrong, bool)) == area


def test_only_the_order_of_the_scores_counts():
  scores, wrong, _ = problem(3, values=6)
  area = roc.auc(scores, wrong)
  assert roc.auc(np.exp(scores) - 7, wrong) == area
  assert roc.auc(-scores, wrong) == pytest.approx(1 - area, abs=1e-15)
  shuffled = np.random.default_rng(0).permutation(len(scores))
  assert roc.auc(scores[shuffled], wrong[shuffled]) == area


def test_many_tokens_are_counted_exactly():
  """Half of 10^10 pairs and one: a float32 count would lose it."""
  scores = np.zeros(200_000)
  wrong = np.arange(200_000) < 100_000
  scores[0] = -1
  assert roc.auc(scores, wrong) == (10**10 + 10**5) / (2 * 10**10)


def slow_by_caption(scores, wrong, caption):
  areas = [slow_auc(scores[caption == c], wrong[caption == c]) for c in set(caption)]
  areas = [area for area in areas if not math.isnan(area)]
  return np.mean(areas), len(areas)


def slow_interval(scores, wrong, caption, how):
  """Every draw as a list of tokens."""
  names = sorted(set(caption.tolist()))
  rng, areas = np.random.default_rng([how.seed, 0]), []
  for _ in range(how.resamples):
    chosen = [names[i] for i in rng.integers(0, len(names), len(names))]
    tokens = np.concatenate([np.flatnonzero(caption == name) for name in chosen])
    area = slow_auc(scores[tokens], wrong[tokens])
    areas += [] if math.isnan(area) else [area]
  return np.quantile(areas, [(1 - how.level) / 2, (1 + how.level) / 2])


@pytest.mark.parametrize("values, captions", [(None, 8), (4, 8), (4, 3)])
def test_everything_against_slow_transcriptions(values, captions):
  how = Bootstrap(0.8, 60, seed=2)
  given = problem(7, captions, values)
  found = roc.measure(*given, how)
  assert found.auc == pytest.approx(slow_auc(*given[:2]))
  np.testing.assert_allclose([found.low, found.high], slow_interval(*given, how))
  mean, count = slow_by_caption(*given)
  assert found.by_caption == pytest.approx(mean) and found.captions == count
  assert (found.wrong, found.right) == (given[1].sum(), (~given[1]).sum())
  assert not found.note


def test_draws_in_parts_are_the_same_draws(monkeypatch):
  given = problem(1)
  whole = roc.measure(*given, FEW)
  monkeypatch.setattr(roc, "_CHUNK", 500)
  assert roc.measure(*given, FEW) == whole


def test_within_captions_scores_of_different_captions_do_not_compare():
  """A caption whose scores are all higher: right by itself, wrong across."""
  scores = np.array([1.0, 2.0, 11.0, 12.0])
  wrong = np.array([True, False, True, False])
  found = roc.measure(scores, wrong, [0, 0, 1, 1], FEW)
  assert found.by_caption == 1.0 and found.auc == 0.75 and found.captions == 2


def test_the_interval_covers_the_truth_as_often_as_it_says():
  """Scores of a caption go together; the area of the population is known."""
  rng, how, covered = np.random.default_rng(5), Bootstrap(0.9, 200), []
  # Wrong - right is normal with mean -1 and variance 2 (1 + 0.25): Phi(1 / sqrt(2.5)).
  truth = 0.5 * (1 + math.erf(1 / math.sqrt(2.5) / math.sqrt(2)))
  for _ in range(200):
    caption = np.repeat(np.arange(60), 12)
    wrong = rng.random(len(caption)) < 0.25
    noise = rng.standard_normal(len(caption))
    scores = noise - wrong + 0.5 * rng.standard_normal(60)[caption]
    found = roc.measure(scores, wrong, caption, how)
    covered.append(found.low <= truth <= found.high)
  assert 0.9 - 4 * math.sqrt(0.9 * 0.1 / 200) - 0.02 <= np.mean(covered)
  assert np.mean(covered) <= 0.9 + 4 * math.sqrt(0.9 * 0.1 / 200)


@pytest.mark.parametrize(
  "wrong, said", [([0, 0, 0], "no wrong token among 3"), ([1, 1, 1], "no right token")]
)
def test_without_one_of_the_two_it_is_undefined_and_said(wrong, said):
  wrong = np.array(wrong, bool)
  assert math.isnan(roc.auc([1, 2, 3], wrong))
  found = roc.measure([1, 2, 3], wrong, [0, 0, 1], FEW)
  assert said in found.note and found.captions == 0
  assert all(map(math.isnan, (found.auc, found.low, found.high, found.by_caption)))
  assert (found.wrong, found.right) == (wrong.sum(), (~wrong).sum())


def test_no_token_at_all():
  found = roc.measure([], np.zeros(0, bool), [], FEW)
  assert math.isnan(found.auc) and "no wrong token among 0" in found.note


def test_one_caption_has_no_interval_and_says_so():
  found = roc.measure([1, 2], np.array([True, False]), [4, 4], FEW)
  assert found.auc == found.by_caption == 1.0
  assert math.isnan(found.low) and "one caption" in found.note


def test_captions_of_one_kind_each_have_no_area_by_caption():
  found = roc.measure([1, 2], np.array([True, False]), [0, 1], FEW)
  assert found.auc == found.low == found.high == 1.0  # of the draws with both
  assert math.isnan(found.by_caption) and "by caption" in found.note


@pytest.mark.parametrize(
  "scores, wrong, said",
  [
    ([1.0, NAN], [True, False], "token 1 is not finite"),
    ([1.0, 2.0], [True], "expected"),
    ([1.0, 2.0], [1, 0], "bool"),
    ([[1.0]], [[True]], "expected"),
  ],
)
def test_what_makes_no_sense_is_an_error(scores, wrong, said):
  with pytest.raises(ValueError, match=said):
    roc.auc(scores, np.array(wrong))
  with pytest.raises(ValueError, match="captions have shape"):
    roc.measure([1.0, 2.0], np.array([True, False]), [1], FEW)
