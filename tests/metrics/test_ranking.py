import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import metrics as reference
from tpr_jax.metrics import ranking


def flags_and_ranks(rng, queries=40, size=24, places=24):
  flags = rng.random((queries, size)) < rng.random((queries, 1))
  flags[np.arange(queries), rng.integers(0, size, queries)] = True
  ranks = np.zeros((queries, places), np.int32)
  for q, row in enumerate(flags):
    found = rng.permutation(np.flatnonzero(row)) + 1
    ranks[q, : len(found)] = found
  return flags, ranks


def test_from_ranks_and_from_flags_are_the_definition():
  flags, ranks = flags_and_ranks(np.random.default_rng(0))
  for values in (
    jax.jit(ranking.from_ranks)(ranks),
    jax.jit(ranking.from_flags)(flags),
  ):
    for q, row in enumerate(flags):
      assert values["first_rank"][q] == 1 + np.argmax(row)
      assert values["ap"][q] == pytest.approx(
        reference.average_precision(row), rel=1e-6
      )
      assert values["inp"][q] == pytest.approx(
        reference.inverse_negative_penalty(row), rel=1e-6
      )


def test_query_without_match_is_nan_and_rank_zero():
  values = ranking.from_ranks(jnp.array([[0, 0], [2, 0]]))
  assert values["first_rank"].tolist() == [0, 2]
  assert np.isnan(values["ap"][0]) and np.isnan(values["inp"][0])
  assert values["ap"][1] == 0.5


def test_example_of_the_docstring():
  scores = jnp.array([[0.9, 0.2, 0.5, 0.5]])
  ranks, before = ranking.rank_matches(
    scores, jnp.array([[3, 0]]), jnp.ones_like(scores), lanes=4
  )
  assert ranks.tolist() == [[3, 1]] and before.tolist() == [[2.0, 0.0]]
  values = ranking.from_ranks(ranks)
  assert values["first_rank"].tolist() == [1]
  np.testing.assert_allclose(values["ap"], [0.8333333], rtol=1e-6)
  np.testing.assert_allclose(values["inp"], [2 / 3], rtol=1e-6)


@pytest.mark.parametrize("lanes", [1, 2, 8, 32])
def test_counting_equals_sorting_with_many_ties(lanes):
  rng = np.random.default_rng(lanes)
  scores = rng.integers(-2, 3, (16, 32)).astype(np.float32)  # five distinct values
  weights = rng.random((16, 32)).astype(np.float32)
  columns = np.stack([rng.permutation(32)[:5] for _ in range(16)]).astype(np.int32)
  columns[3, 2:] = -1
  ranks, before = jax.jit(ranking.rank_matches, static_argnames="lanes")(
    scores, columns, weights, lanes=lanes
  )
  order = np.asarray(ranking.order(scores))
  for q in range(16):
    listed, _ = reference.rank_list(scores[q], scores[q] > 0)
    assert order[q].tolist() == listed.tolist()
    for r, column in enumerate(columns[q]):
      if column < 0:
        assert ranks[q, r] == 0 and before[q, r] == 0
        continue
      place = listed.tolist().index(column)
      assert ranks[q, r] == place + 1
      assert before[q, r] == pytest.approx(weights[q, listed[:place]].sum(), rel=1e-5)
