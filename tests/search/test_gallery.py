"""Exact best rows: against a sort of all of them, ties and conditions included."""

import numpy as np
import pytest

from tpr_jax.search import gallery


def slow(scores, order, k, allowed):
  rows = [i for i in range(len(scores)) if allowed is None or allowed[i]]
  return sorted(rows, key=lambda i: (-scores[i], order[i]))[:k]


@pytest.mark.parametrize("seed", range(40))
def test_the_best_are_those_of_a_sort(seed):
  rng = np.random.default_rng(seed)
  count, dim = int(rng.integers(1, 300)), int(rng.integers(1, 6))
  # Small whole numbers: products are exact in float32, and many are equal.
  vectors = rng.integers(-2, 3, (count, dim)).astype(np.float32)
  query = rng.integers(-2, 3, dim).astype(np.float32)
  order = rng.permutation(count)
  allowed = None if seed % 3 == 0 else rng.random(count) < rng.random()
  k = int(rng.integers(1, count + 20))
  scores = vectors @ query
  found = gallery.best(scores, order, k, allowed)
  exact = (vectors.astype(int) @ query.astype(int)).tolist()
  assert found.tolist() == slow(exact, order, k, allowed)


def test_nothing_allowed_and_nothing_there():
  none = np.zeros(5, bool)
  assert gallery.best(np.ones(5), np.arange(5), 3, none).tolist() == []
  assert gallery.best(np.ones(0), np.arange(0), 3).tolist() == []


def standard(cosines, shares):
  return gallery.standard(cosines, shares, [*map(gallery.moments, cosines)])


def test_standard_scores_do_not_depend_on_scale_and_offset():
  rng = np.random.default_rng(0)
  text, image = rng.normal(size=(2, 200)).astype(np.float32)
  once = standard([text, image], [0.5, 0.5])
  again = standard([0.01 * text + 0.2, 3 * image + 0.6], [0.5, 0.5])
  np.testing.assert_allclose(once, again, atol=1e-4)
  mean, deviation = once.mean(), standard([text], [1.0]).std()
  assert abs(mean) < 1e-6 and abs(deviation - 1) < 1e-6


def test_a_similarity_without_spread_counts_for_nothing():
  image = np.float32([0.1, 0.5, 0.3])
  flat = np.full(3, 0.7, np.float32)
  found = standard([flat, image], [0.9, 0.1])
  assert np.argsort(-found).tolist() == [1, 2, 0] and np.isfinite(found).all()
