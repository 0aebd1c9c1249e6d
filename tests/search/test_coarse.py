"""Searches by way of copies in eight bits: the same rows and cosines as without."""

import numpy as np
import pytest

from tests.search import place
from tpr_jax.search import coarse, gallery, nearest


def unit(rows):
  return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def drawn(seed, count, dim, kind):
  """(rows, query) of several kinds: random ones, people, near copies, equal rows."""
  rng = np.random.default_rng(seed)
  if kind == "random":
    rows = rng.normal(size=(count, dim))
  elif kind == "narrow":  # as encoders have them: a large common part
    rows = 3 * rng.normal(size=dim) + rng.normal(size=(count, dim))
  elif kind == "copies":  # nearer to each other than eight bits can tell
    rows = rng.normal(size=dim) + 1e-4 * rng.normal(size=(count, dim))
  else:
    rows = rng.normal(size=(3, dim))[rng.integers(3, size=count)]
  rows = unit(rows)
  return rows, unit(rows[0] + 0.5 * rng.normal(size=dim) / dim**0.5)


@pytest.mark.parametrize("kind", ["random", "narrow", "copies", "equal"])
@pytest.mark.parametrize("seed", range(5))
def test_the_rows_and_cosines_are_those_of_a_whole_search(kind, seed):
  rng = np.random.default_rng(seed + 100)
  count, k = int(rng.integers(1, 700)), int(rng.integers(1, 60))
  rows, query = drawn(seed, count, 48, kind)
  order = rng.permutation(count)
  allowed = None if seed % 2 else rng.random(count) < 0.3
  asked, copies = dict(text=query), coarse.Coarse(rows)
  found = nearest.exact(rows, order, asked, {}, k, allowed, coarse=copies)
  every = coarse.cosines(rows, np.arange(count), query)
  best = gallery.best(every, order, k, allowed)
  np.testing.assert_array_equal(found.rows, best)
  np.testing.assert_array_equal(found.scores, every[best])
  truth = nearest.exact(rows, order, asked, {}, k, allowed)
  assert found.searched == truth.searched
  np.testing.assert_allclose(found.scores, truth.scores, atol=1e-6)
  np.testing.assert_array_equal(found.cosines["text"], found.scores)
  assert (found.seen is None) == (truth.seen is None)
  if found.seen is not None:
    assert found.seen.count == truth.seen.count
    np.testing.assert_allclose(found.seen, truth.seen, atol=2e-3)
    np.testing.assert_allclose(found.seen[2:4], truth.seen[2:4], atol=1e-6)


@pytest.mark.parametrize("kind", ["random", "narrow", "copies", "equal"])
def test_the_bound_holds(kind):
  rows, query = drawn(7, 500, 64, kind)
  copies = coarse.Coarse(rows)
  about = copies.near(query, 1).about
  apart = np.abs(about - rows.astype(np.float64) @ query)
  assert (apart <= copies._bound).all() and copies._bound.max() < 0.02


def test_few_rows_of_many_are_compared():
  rows, query = drawn(3, 20_000, 256, "random")
  near = coarse.Coarse(rows).near(query, 20)
  assert 20 <= len(near.rows) < 400


def test_nothing_allowed_and_rows_of_zeros():
  rows, query = drawn(1, 50, 8, "random")
  rows[3] = 0
  copies = coarse.Coarse(rows)
  none = nearest.exact(
    rows, np.arange(50), dict(text=query), {}, 5, np.zeros(50, bool), coarse=copies
  )
  assert none.rows.tolist() == [] and none.searched == 0
  found = nearest.exact(rows, np.arange(50), dict(text=query), {}, 50, coarse=copies)
  assert sorted(found.rows.tolist()) == list(range(50))
  assert found.scores[found.rows == 3] == 0


def test_an_index_asks_so_where_it_is_large(tmp_path, monkeypatch, trusted):
  images = place.folder(tmp_path / "images", 120)
  place.index(images, tmp_path / "index")
  small = place.opened(tmp_path / "index").search("red", top=30)
  asked = []
  near = coarse.Coarse.near
  monkeypatch.setattr(
    coarse.Coarse, "near", lambda *given: asked.append(given) or near(*given)
  )
  monkeypatch.setattr(coarse, "LEAST", 100)
  index = place.opened(tmp_path / "index")
  large = index.search("red", top=30)
  assert len(asked) == 1
  assert [hit.path for hit in large.hits] == [hit.path for hit in small.hits]
  np.testing.assert_allclose(
    [hit.score for hit in large.hits], [hit.score for hit in small.hits], atol=1e-6
  )
  # Pages of one answer fit together.
  first = index.search("red", top=10)
  assert [hit.score for hit in first.hits] == [hit.score for hit in large.hits][:10]
