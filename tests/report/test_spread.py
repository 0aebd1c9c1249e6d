"""Figures of one evaluation: what stands behind them."""

import dataclasses
import itertools

import numpy as np
import pytest

from tests.report.test_report import QUICK, Page
from tpr_jax.report import files, report, spread
from tpr_jax.report.files import Pairs


def ranking(finished, name="fine"):
  return files.read(finished[0]).rankings[name]


def pairs(matched, unmatched, scale=1.0, means=(0.5, 0.0)):
  edges = np.linspace(-1, 1, len(matched) + 1)
  return Pairs(edges, np.array(matched), np.array(unmatched), 1, scale, np.array(means))


@pytest.mark.parametrize("gallery", [1, 4, 5, 37, 400, 7446, 1_000_000])
def test_bins_hold_every_rank_once(gallery):
  bins = spread.rank_bins(gallery)
  assert bins[0] == (1, 1) and bins[-1][1] == gallery
  for (_, last), (first, _) in itertools.pairwise(bins):
    assert first == last + 1
  assert len(bins) <= 20
  if gallery >= 50:
    assert bins[:5] == [(1, 1), (2, 5), (6, 10), (11, 20), (21, 50)]


def test_a_random_ranking_is_where_it_is_expected():
  """Against drawing random rankings; one match is uniform over the ranks."""
  bins = spread.rank_bins(30)
  one = spread.random_shares(bins, np.ones(5, int), 30)
  np.testing.assert_allclose(one, [(b - a + 1) / 30 for a, b in bins])
  rng = np.random.default_rng(0)
  matches = np.array([1, 4, 4, 27])
  first = [rng.permuted(np.arange(1, 31))[:n].min()
           for n in matches for _ in range(4000)]  # fmt: skip
  drawn = [np.mean([(a <= x <= b) for x in first]) for a, b in bins]
  found = spread.random_shares(bins, matches, 30)
  np.testing.assert_allclose(found, drawn, atol=0.015)
  assert found.sum() == pytest.approx(1)
  everything = spread.random_shares(bins, np.array([30]), 30)
  assert everything[0] == 1 and everything[1:].sum() == 0


def test_threshold_counts_what_is_above_it():
  cut, precision, recall = spread.threshold(pairs([0, 1, 3, 0], [10, 5, 1, 0]))
  np.testing.assert_allclose(cut, [-1, -0.5, 0])  # nothing lies above 0.5
  np.testing.assert_allclose(precision, [4 / 20, 4 / 10, 3 / 4])
  np.testing.assert_allclose(recall, [1, 1, 3 / 4])
  sampled = spread.threshold(pairs([0, 1, 3, 0], [5, 2.5, 0.5, 0], scale=2.0))
  np.testing.assert_allclose(sampled[1], precision)


def test_calibration_joins_bins_until_they_hold_enough():
  found = pairs([0, 0, 5, 45], [60, 40, 15, 5])
  cosine, share = spread.calibration(found, fewest=50)
  np.testing.assert_allclose(share, [0, 5 / 60, 45 / 50])
  np.testing.assert_allclose(cosine, [-0.75, (-0.25 * 40 + 0.25 * 20) / 60, 0.75])
  cosine, share = spread.calibration(found, fewest=1000)  # all in one, though fewer
  np.testing.assert_allclose(share, [50 / 170])
  _, share = spread.calibration(pairs([1, 1], [9, 1], scale=3.0), fewest=1)
  np.testing.assert_allclose(share, [1 / 28, 1 / 4])


@pytest.mark.parametrize("bins", [200, 7])
def test_a_density_has_area_one_and_few_pairs_are_joined(bins):
  rng = np.random.default_rng(0)
  edges = np.linspace(-1, 1, bins + 1)
  for number in (3, 300, 30_000):
    counts = np.histogram(rng.uniform(-1, 1, number), edges)[0]
    ends, density = spread.density_of(counts, edges)
    assert (density * np.diff(ends)).sum() == pytest.approx(1)
    assert ends[0] == -1 and ends[-1] == 1 and (np.diff(ends) > 0).all()
  assert len(density) == bins  # with many pairs none are joined


def test_four_figures_with_captions(finished):
  found = ranking(finished)
  figures = spread.draw(found)
  names = ["ranks", "similarities", "calibration", "threshold"]
  assert [figure.name for figure in figures] == names
  assert not spread.remarks(found)
  for figure in figures:
    assert figure.caption and figure.light != figure.dark


def test_older_files_lack_some_figures_and_say_so(finished):
  found = dataclasses.replace(ranking(finished), pairs=None)
  (sentence,) = spread.remarks(found)
  assert "distribution of the similarities is not known" in sentence
  oldest = dataclasses.replace(found, identity=None, gallery_identity=None)
  assert [figure.name for figure in spread.draw(oldest)] == ["ranks"]
  assert "random ranking" in spread.remarks(oldest)[0]
  nothing = dataclasses.replace(found, first_rank=np.zeros_like(found.first_rank))
  assert spread.draw(nothing) == []
  assert "nothing to draw" in spread.remarks(nothing)[0]


def test_a_sample_is_said(finished):
  found = ranking(finished)
  sampled = dataclasses.replace(found.pairs, unmatched_queries=7, scale=48 / 7)
  assert spread.remarks(dataclasses.replace(found, pairs=sampled)) == [
    "Unmatched pairs are those of 7 of 48 queries, drawn at random; matched pairs are"
    " all counted."
  ]


@pytest.mark.parametrize(
  ("matched", "unmatched", "number"),
  [([0, 0, 9, 0], [0, 0, 0, 0], 4), ([0, 0, 1, 0], [0, 0, 0, 1], 4),
   ([0] * 4, [1, 2, 3, 4], 2)],
  ids=["all matched", "one pair each", "none matched"],
)  # fmt: skip
def test_few_pairs_are_drawn_all_the_same(finished, matched, unmatched, number):
  found = pairs(matched, unmatched, means=(np.nan, np.nan))
  ranked = dataclasses.replace(ranking(finished), pairs=found)
  assert len(spread.draw(ranked)) == number


# ---- on the page


def test_the_page_says_what_an_older_evaluation_lacks(run):
  folder, datasets = run
  path = folder / "rankings" / "fine.npz"
  arrays = dict(np.load(path))
  for name in ("bins", "identity"):
    del arrays[name]
  np.savez(path, **arrays)
  page = Page(report.write(folder, datasets, **QUICK).read_text(encoding="utf-8"))
  assert page.words.count("distribution of the similarities is not known") == 1
  assert page.words.count("What a random ranking would give is not known") == 1
  assert page.words.count("Accepting every pair above a threshold") == 1  # of coarse


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    ("matched", np.ones(3, int), r"'matched' has shape \(3,\), expected \(200,\)"),
    ("identity", np.zeros(3), r"'identity' has shape \(3,\), with 48 entries"),
    ("unmatched_queries", np.array(0), "count no pair"),
  ],
)
def test_histograms_that_do_not_fit_are_an_error(run, name, value, message):
  path = run[0] / "rankings" / "fine.npz"
  np.savez(path, **{**dict(np.load(path)), name: value})
  with pytest.raises(files.ReportError, match=rf"fine\.npz: .*{message}"):
    files.read(run[0])
