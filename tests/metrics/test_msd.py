import jax.numpy as jnp
import numpy as np

from tests.reference import metrics as reference
from tpr_jax.metrics import msd


def test_example_of_the_docstring():
  s = msd.similarity(jnp.array([[0.8, -0.6, 0.0, 0.0]]))
  np.testing.assert_allclose(s, [[0.9, 0.2, 0.5, 0.5]], rtol=1e-6)
  sd = msd.from_ranks(
    jnp.array([[1, 3]]),
    jnp.array([[0.9, 0.5]]),
    jnp.array([[0.0, 1.4]]),
    jnp.array([0.7]),
    4,
  )
  np.testing.assert_allclose(sd, [0.7508930], rtol=1e-6)
  np.testing.assert_allclose(sd, [(1 - np.exp(-2)) * (1 + 1.4 / 1.9) / 2], rtol=1e-6)


def test_both_forms_equal_the_slow_one():
  rng = np.random.default_rng(0)
  for size in (2, 5, 30):
    s = np.sort(rng.random((20, size)).astype(np.float32), axis=1)[:, ::-1].copy()
    flags = rng.random((20, size)) < 0.4
    flags[:, -1] |= ~flags.any(axis=1)
    flags[0] = True  # every item matches
    places = flags.sum(axis=1).max()
    ranks = np.zeros((20, places), np.int32)
    for q, row in enumerate(flags):
      found = rng.permutation(np.flatnonzero(row)) + 1  # in any order
      ranks[q, : len(found)] = found
    at = np.maximum(ranks - 1, 0)
    before = np.take_along_axis(np.cumsum(s, axis=1), at, 1) - np.take_along_axis(
      s, at, 1
    )
    by_rank = msd.from_ranks(
      jnp.array(ranks),
      jnp.array(np.take_along_axis(s, at, 1)),
      jnp.array(before),
      jnp.array(np.where(flags, 0, s).sum(axis=1)),
      size,
    )
    by_flag = msd.from_flags(jnp.array(s), jnp.array(flags), size)
    slow = [
      reference.similarity_distribution(a.astype(float).tolist(), f.tolist())
      for a, f in zip(s, flags, strict=True)
    ]
    np.testing.assert_allclose(by_rank, slow, rtol=2e-6)
    np.testing.assert_allclose(by_flag, slow, rtol=2e-6)


def test_padding_counts_for_nothing():
  s = jnp.array([[0.9, 0.8, 0.1]])
  flags = jnp.array([[True, False, True]])
  padded = msd.from_flags(
    jnp.pad(s, ((0, 0), (0, 5))), jnp.pad(flags, ((0, 0), (0, 5))), 3
  )
  np.testing.assert_allclose(padded, msd.from_flags(s, flags, 3), rtol=1e-6)


def test_ratio_is_one_where_its_denominator_is_empty():
  for other_sum, others in ((0.0, 0), (0.0, 4)):
    ratio = msd.positive_negative_ratio(
      jnp.array([1.5]), jnp.array([2]), jnp.array([other_sum]), jnp.array([others])
    )
    assert ratio.tolist() == [1.0]


def test_zero_similarities_everywhere_give_precision():
  s, flags = jnp.zeros((1, 4)), jnp.array([[False, True, False, True]])
  assert msd.from_flags(s, flags, 4).tolist() == [0.5]
  ranks, zeros = jnp.array([[4, 2]]), jnp.zeros((1, 2))
  assert msd.from_ranks(ranks, zeros, zeros, jnp.zeros(1), 4).tolist() == [0.5]


def test_flags_from_ranks():
  flags = msd.flags_from_ranks(jnp.array([[3, 1, 0], [0, 0, 0]]), 4)
  assert flags.tolist() == [[True, False, True, False], [False] * 4]


def test_similarity_stays_in_range():
  s = msd.similarity(jnp.array([-1.0000002, -1.0, 0.0, 1.0, 1.0000002]))
  assert s.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
