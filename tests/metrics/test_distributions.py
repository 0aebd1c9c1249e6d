"""Histograms of cosines against counting pair by pair."""

import numpy as np
import pytest

from tpr_jax.metrics import distributions


def pairs(queries=37, items=53, people=9, seed=0):
  rng = np.random.default_rng(seed)
  query, gallery = rng.standard_normal((queries, 6)), rng.standard_normal((items, 6))
  return (
    query,
    gallery,
    rng.integers(0, people, queries),
    rng.integers(0, people, items),
  )


def slowly(query, gallery, query_ids, gallery_ids):
  """(matched, unmatched, means), one pair at a time in float64."""
  counts = np.zeros((2, distributions.BINS), int)
  of_query = []
  for q, i in zip(query, query_ids, strict=True):
    values = [[], []]
    for g, j in zip(gallery, gallery_ids, strict=True):
      cosine = q @ g / np.sqrt((q @ q) * (g @ g))
      place = int((cosine + 1) * distributions.BINS / 2)
      counts[int(i != j), min(max(place, 0), distributions.BINS - 1)] += 1
      values[int(i != j)].append(cosine)
    if all(values):
      of_query.append([np.mean(part) for part in values])
  return *counts, np.mean(of_query, axis=0)


@pytest.mark.parametrize("block", [1 << 20, 60])
def test_every_pair_is_counted_once_in_its_bin(monkeypatch, block):
  monkeypatch.setattr(distributions, "_BLOCK", block)
  data = pairs()
  found = distributions.count(*data)
  matched, unmatched, means = slowly(*data)
  np.testing.assert_array_equal(found.matched, matched)
  np.testing.assert_array_equal(found.unmatched, unmatched)
  np.testing.assert_allclose(found.means, means, atol=1e-6)
  assert found.matched.sum() + found.unmatched.sum() == 37 * 53
  assert (found.queries, found.unmatched_queries) == (37, 37)
  np.testing.assert_allclose(found.edges[[0, 100, -1]], [-1, 0, 1])


def test_known_cosines_and_the_ends_of_the_scale():
  query = np.array([[1.0, 0.0], [0.0, 3.0]])
  gallery = np.array([[2.0, 0.0], [-1.0, 0.0], [0.6, 0.8]])
  found = distributions.count(query, gallery, [0, 1], [0, 0, 1])
  assert found.matched[199] == 1 and found.matched[0] == 1  # 1 and -1 of query 0
  assert found.matched[180] == 1  # 0.8 of query 1
  assert found.unmatched[160] == 1  # 0.6 of query 0
  assert found.unmatched[100] == 2  # twice 0
  np.testing.assert_allclose(found.means, [(0.0 + 0.8) / 2, (0.6 + 0.0) / 2], atol=1e-6)


def test_identities_may_be_strings_and_lengths_do_not_matter():
  query, gallery, query_ids, gallery_ids = pairs()
  names = np.array([f"p{i:02d}" for i in range(9)])
  one = distributions.count(query, gallery, query_ids, gallery_ids)
  two = distributions.count(
    query * 7.0, gallery / 3.0, names[query_ids], names[gallery_ids]
  )
  np.testing.assert_array_equal(one.matched, two.matched)
  np.testing.assert_array_equal(one.unmatched, two.unmatched)


def test_above_the_limit_queries_are_drawn_and_matched_pairs_stay_exact():
  data = pairs()
  whole = distributions.count(*data)
  some = distributions.count(*data, most_pairs=10 * 53 + 5)
  assert some.unmatched_queries == 10 and some.queries == 37
  np.testing.assert_array_equal(some.matched, whole.matched)
  np.testing.assert_allclose(some.means, whole.means)
  assert 0 < some.unmatched.sum() < 10 * 53
  assert (some.unmatched <= whole.unmatched).all()
  again = distributions.count(*data, most_pairs=10 * 53 + 5)
  np.testing.assert_array_equal(some.unmatched, again.unmatched)
  other = distributions.count(*data, most_pairs=10 * 53 + 5, seed=1)
  assert (some.unmatched != other.unmatched).any()
  assert distributions.count(*data, most_pairs=1).unmatched_queries == 1


def test_queries_without_a_match_count_as_unmatched():
  query, gallery, query_ids, gallery_ids = pairs()
  query_ids = np.where(np.arange(37) < 5, 99, query_ids)
  found = distributions.count(query, gallery, query_ids, gallery_ids)
  matched, unmatched, means = slowly(query, gallery, query_ids, gallery_ids)
  np.testing.assert_array_equal(found.matched, matched)
  np.testing.assert_array_equal(found.unmatched, unmatched)
  np.testing.assert_allclose(found.means, means, atol=1e-6)


def test_one_identity_has_no_unmatched_pair_and_no_means():
  query, gallery, *_ = pairs(4, 5)
  found = distributions.count(query, gallery, np.zeros(4), np.zeros(5))
  assert found.matched.sum() == 20 and found.unmatched.sum() == 0
  assert np.isnan(found.means).all()


def test_blocks_stay_small(monkeypatch):
  sizes, score = [], distributions._score_bins

  def recorded(query, gallery):
    out = score(query, gallery)
    sizes.append(out.shape)
    return out

  monkeypatch.setattr(distributions, "_BLOCK", 250)
  monkeypatch.setattr(distributions, "_score_bins", recorded)
  distributions.count(*pairs())
  assert set(sizes) == {(4, 53)} and len(sizes) == 10  # one shape, 37 queries


@pytest.mark.parametrize("size", [0, 1, 2, 7, 1000])
def test_counting_bytes(size):
  values = np.random.default_rng(size).integers(0, 256, size).astype(np.uint8)
  expected = np.bincount(values, minlength=256)
  np.testing.assert_array_equal(distributions._count_bytes(values), expected)
