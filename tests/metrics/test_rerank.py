"""Metrics of a re-ordered shortlist: against lists of all places, sorted slowly."""

import numpy as np
import pytest

from tpr_jax.metrics import rerank


def slow(flags, top, scores):
  """One query in floats: flags of the whole first list -> (first rank, AP, INP)."""
  places = list(range(len(flags)))
  head = sorted(places[:top], key=lambda place: (-scores[place], place))
  matches = [i + 1 for i, place in enumerate(head + places[top:]) if flags[place]]
  if not matches:
    return 0, np.nan, np.nan
  found = sum((k + 1) / rank for k, rank in enumerate(matches))
  return matches[0], found / len(matches), len(matches) / matches[-1]


def values(flags):
  """The numbers of the first ranking: float32, as the kernels give them."""
  unmoved = [slow(row, 0, []) for row in flags]
  first, ap, inp = (np.array(column) for column in zip(*unmoved, strict=True))
  return flags.sum(axis=1), first, ap.astype(np.float32), inp.astype(np.float32)


def check(flags, top, scores):
  found = rerank.ranks(*values(flags), flags[:, :top], rerank.order(scores))
  assert {k: v.dtype.name for k, v in found.items()} == dict(
    first_rank="int32", ap="float32", inp="float32"
  )
  for query, row in enumerate(flags):
    first, ap, inp = slow(row.tolist(), top, scores[query].tolist())
    assert found["first_rank"][query] == first
    np.testing.assert_allclose(found["ap"][query], ap, atol=1e-6)
    np.testing.assert_allclose(found["inp"][query], inp, atol=1e-6)


@pytest.mark.parametrize("top", [1, 2, 7, 30])
@pytest.mark.parametrize("levels", [3, 1000])  # 3: most scores are ties
def test_as_the_whole_list_sorted_slowly(top, levels):
  rng = np.random.default_rng([top, levels])
  # From queries without a match to such that everything matches.
  share = np.linspace(0.0, 1.0, 40)[:, None]
  flags = rng.random((40, 30)) < share
  assert not flags[0].any() and flags[-1].all()
  check(flags, top, rng.integers(0, levels, (40, top)) / levels)


def test_a_gallery_of_one():
  check(np.array([[True], [False]]), 1, np.array([[0.3], [0.2]]))


def test_equal_scores_leave_everything_as_it_was():
  rng = np.random.default_rng(0)
  flags = rng.random((20, 25)) < 0.2
  number, first, ap, inp = values(flags)
  scores = np.where(np.arange(10) % 2, 0.0, -0.0) * np.ones((20, 1))  # one score
  order = rerank.order(scores)
  np.testing.assert_array_equal(order, np.tile(np.arange(10), (20, 1)))
  found = rerank.ranks(number, first, ap, inp, flags[:, :10], order)
  np.testing.assert_array_equal(found["first_rank"], first)
  np.testing.assert_allclose(found["ap"], ap, atol=1e-7)
  np.testing.assert_array_equal(found["inp"], inp)


def test_the_example_of_the_docstring():
  flags = np.zeros((1, 12), bool)
  flags[0, [1, 2, 8]] = True
  number, first, ap, inp = values(flags)
  assert ap[0] == pytest.approx(0.5)
  order = rerank.order(np.array([[0.1, 0.9, 0.8, 0.0]]))
  assert order.tolist() == [[1, 2, 0, 3]]
  found = rerank.ranks(number, first, ap, inp, flags[:, :4], order)
  assert found["first_rank"][0] == 1
  assert found["ap"][0] == pytest.approx(0.5 + (1 / 2 + 1 / 3) / 3)
  assert found["inp"][0] == pytest.approx(3 / 9)


def test_a_score_that_is_no_number_is_an_error():
  scores = np.zeros((5, 4))
  scores[3, 1] = np.nan
  with pytest.raises(ValueError, match=r"query 3 are not finite \(1 of 5 queries\)"):
    rerank.order(scores)
