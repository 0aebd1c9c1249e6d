"""Metrics of a re-ordered shortlist: against lists of all places, sorted slowly."""

import numpy as np
import pytest

from tests.reference import two_stage as reference
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


# ---- the sum that is scaled over all pairs, against whole matrices


@pytest.mark.parametrize("processes", [1, 2, 4, 40])  # 40: some have no rows
@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("top", [1, 6, 25])
@pytest.mark.parametrize("levels", [4, 10_000])  # 4: most second scores are ties
def test_the_scaled_sum_as_whole_matrices_give_it(processes, views, top, levels):
  rng = np.random.default_rng([processes, views, top, levels])
  queries, size = 31, 25
  cosine = rng.uniform(-0.2, 0.9, (queries, size))
  draw = lambda: rng.integers(0, levels, cosine.shape) * 9.0 / levels
  scores = [draw() - 4.0, 0.7 * draw() - 5.0][:views]
  same = rng.random(cosine.shape) < np.linspace(0, 1, queries)[:, None]
  expected = reference.evaluation(cosine, scores, top, 0.002, processes)
  # Equal numbers, up to the order in which processes are added: one list.
  lists = np.argsort(-np.round(expected, 12), axis=1, kind="stable")

  first = np.argsort(-cosine, axis=1, kind="stable")
  columns = first[:, :top]
  of_shortlist = lambda matrix: np.take_along_axis(matrix, columns, axis=1)
  final = rerank.scaled(
    [of_shortlist(matrix) for matrix in scores],
    of_shortlist(cosine),
    0.002,
    cosine.min(),
    processes,
  )
  order = rerank.order(final)
  ours = np.concatenate(
    [np.take_along_axis(columns, order, axis=1), first[:, top:]], axis=1
  )
  np.testing.assert_array_equal(ours, lists)
  # Alike but for what the other processes add to a row.
  apart = of_shortlist(expected) - final
  np.testing.assert_allclose(apart, apart[:, :1] * np.ones(top), atol=1e-9)

  flags = np.take_along_axis(same, first, axis=1)
  found = rerank.ranks(*values(flags), flags[:, :top], order)
  for query in range(queries):
    numbers = reference.list_numbers(same[query, lists[query]])
    for name, number in zip(("first_rank", "ap", "inp"), numbers, strict=True):
      np.testing.assert_allclose(found[name][query], number, atol=1e-6)


def test_the_cosine_counts_as_often_as_there_are_processes():
  """Two images 0.1 apart in cosine and 0.5 the other way in the second score."""
  cosine = np.array([[0.9, 0.8], [0.6, 0.4], [0.5, 0.3], [0.6, 0.1]])
  scores = np.array([[1.0, 1.5], [-6.0, 7.0], [2.0, 1.0], [3.0, -1.0]])
  # One process: 0.5 / 13 of the second score is worth more than 0.002 x 0.1 / 0.9.
  alone = rerank.scaled([scores], cosine, 0.002, 0.0)
  np.testing.assert_allclose(alone[0], [7 / 13 + 0.002, 7.5 / 13 + 0.002 * 0.8 / 0.9])
  assert rerank.order(alone)[0].tolist() == [1, 0]
  # Four: 0.5 / 1006 is worth less than 4 x 0.002 x 0.1 / 0.9. Two rows a process.
  dealt = rerank.scaled([scores], cosine, 0.002, 0.0, 4)
  np.testing.assert_allclose(
    dealt[0], [7 / 1006 + 0.008, 7.5 / 1006 + 0.008 * 0.8 / 0.9]
  )
  np.testing.assert_allclose(dealt[2, 0], 3 / 1001 + 0.008 * 0.5 / 0.9)
  assert rerank.order(dealt)[0].tolist() == [0, 1]


def test_one_query_with_one_match_has_the_inverse_of_its_rank():
  cosine, scores = np.array([[0.5, 0.4, 0.3]]), np.array([[1.0, 3.0, 2.0]])
  order = rerank.order(rerank.scaled([scores], cosine, 0.002, -0.1, 4))
  assert order.tolist() == [[1, 2, 0]]
  flags = np.array([[True, False, False, False]])
  found = rerank.ranks(*values(flags), flags[:, :3], order)
  assert found["ap"][0] == pytest.approx(1 / 3) and found["first_rank"][0] == 3


def test_where_all_is_alike_nothing_is_divided_by_zero():
  alike = np.ones((3, 4))
  np.testing.assert_array_equal(
    rerank.scaled([alike, alike], alike, 0.002, 1.0), np.zeros((3, 4))
  )
  final = rerank.scaled([alike[:1, :2]], np.array([[0.3, 0.2]]), 0.5, 0.1)
  np.testing.assert_allclose(final, [[0.5, 0.25]])


def test_without_weight_the_second_score_alone_decides_and_ties_stay():
  scores, cosine = np.array([[2.0, 5.0, 2.0]]), np.array([[0.9, 0.5, 0.1]])
  assert rerank.order(rerank.scaled([scores], cosine, 0.0, 0.0)).tolist() == [[1, 0, 2]]


def test_views_are_averaged_in_the_plain_sum():
  one, two = np.array([[1.0, 2.0]], np.float32), np.array([[3.0, 0.0]], np.float32)
  cosine = np.array([[0.5, 0.25]])
  np.testing.assert_array_equal(rerank.summed([one], cosine, 2.0), [[2.0, 2.5]])
  np.testing.assert_array_equal(rerank.summed([one, two], cosine, 2.0), [[3.0, 1.5]])


@pytest.mark.parametrize("make", [rerank.summed, rerank.scaled])
def test_the_query_of_a_second_score_that_is_no_number_is_named(make):
  scores, cosine = np.zeros((5, 4)), np.zeros((5, 4))
  scores[3, 1] = np.inf
  more = (0.0,) if make is rerank.scaled else ()
  with pytest.raises(ValueError, match=r"query 3 are not finite \(1 of 5 queries\)"):
    make([cosine, scores], cosine, 1.0, *more)


def test_a_negative_weight_of_the_scaled_sum_is_an_error():
  with pytest.raises(ValueError, match=r"weight=-0\.5 of the scaled cosine"):
    rerank.scaled([np.zeros((2, 2))], np.zeros((2, 2)), -0.5, 0.0)
