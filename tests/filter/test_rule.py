"""The rule itself, against the sort of the published code and slow numpy."""

import jax
import numpy as np
import pytest

from tpr_jax.filter import cut, rule
from tpr_jax.filter.problems import FilterError
from tpr_jax.filter.settings import Cut


def unit(rng, *shape):
  rows = rng.normal(size=shape).astype(np.float32)
  return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def coarse(rng, *shape):
  """Unit rows of few different numbers, whose products tie again and again: each has
  four entries of +-1/2."""
  rows = np.zeros(shape, np.float32).reshape(-1, shape[-1])
  for row in rows:
    row[rng.choice(shape[-1], 4, replace=False)] = rng.choice([-0.5, 0.5], 4)
  return rows.reshape(shape)


def sorted_rule(image, text, pool, k):
  """The published script: drop iff s_0 <= L[k], L all D + 1 values, descending."""
  own = max(float(q @ text) for q in image)
  values = [max(float(q @ t) for q in image) for t in pool] + [own]
  return not own <= sorted(values, reverse=True)[k]


def data(rng, make, n=30, q=3, d=8, p=50):
  counts = rng.integers(0, 4, n)
  counts[3] = 11  # more than a row of the kernel holds
  return make(rng, n, q, d), make(rng, int(counts.sum()), d), counts, make(rng, p, d)


def test_it_is_the_sort_and_the_index_also_with_ties():
  rng = np.random.default_rng(0)
  image, text, counts, pool = data(rng, coarse)
  text[::5] = pool[: len(text[::5])]  # captions that are in the pool themselves
  owner = np.repeat(np.arange(len(counts)), counts)
  own, c = rule.Counter(pool, tile=16, rows=24)(image, text, counts)
  exact = np.einsum("nqd,nd->nq", image[owner].astype(float), text).max(1)
  np.testing.assert_array_equal(own, exact.astype(np.float32))
  scores = np.einsum("nqd,pd->nqp", image.astype(float), pool).max(1)[owner]
  assert (scores == exact[:, None]).sum() > 100  # ties, or nothing is tested
  for k in (1, 2, 7, 20, 50):
    kept = [sorted_rule(image[o], t, pool, k) for o, t in zip(owner, text, strict=True)]
    np.testing.assert_array_equal(c < k, kept)


def test_a_distractor_with_the_same_score_counts():
  pool = np.eye(4, dtype=np.float32)
  image, text = pool[None, :1], pool[:1]
  own, c = rule.Counter(pool, tile=4, rows=4)(image, text, np.array([1]))
  assert own.tolist() == [1.0] and c.tolist() == [1]
  own, c = rule.Counter(pool[1:], tile=4, rows=4)(image, text, np.array([1]))
  assert c.tolist() == [0]
  # Whatever the bits: a caption of the pool ties with itself, never by a hair not.
  rng = np.random.default_rng(1)
  image, text = unit(rng, 200, 2, 256), unit(rng, 200, 256)
  both = rule.Counter(np.concatenate([text, text[::-1]]), tile=64, rows=96)
  alone = [
    rule.Counter(text[i : i + 1], tile=1)(
      image[i : i + 1], text[i : i + 1], np.ones(1, int)
    )
    for i in range(3)
  ]
  assert [c.tolist() for _, c in alone] == [[1]] * 3
  assert (both(image, text, np.ones(200, int))[1] >= 2).all()


def test_neither_blocks_nor_devices_change_a_bit():
  rng = np.random.default_rng(2)
  image, text, counts, pool = data(rng, unit, n=40, d=24, p=100)
  text[::5] = pool[: len(text[::5])]
  people, keys = rng.integers(0, 9, 100), rng.integers(0, 50, 100)
  mine = rng.integers(-2, 9, 40).astype(np.int32), rng.integers(0, 50, len(text))
  found = [
    rule.Counter(
      pool, people, keys, rows=rows, tile=tile, devices=jax.devices()[:devices]
    )(image, text, counts, mine[0], mine[1].astype(np.int32))
    for rows, tile, devices in ((2048, 128, 1), (9, 7, 1), (30, 64, 8), (3, 100, 3))
  ]
  for own, c in found[1:]:
    np.testing.assert_array_equal(own.view(np.int32), found[0][0].view(np.int32))
    np.testing.assert_array_equal(c, found[0][1])
  assert len(set(found[0][1].tolist())) > 10


def test_scores_are_cosines_to_a_millionth():
  rng = np.random.default_rng(3)
  for d in (8, 256, 1024):
    image, text = unit(rng, 50, 2, d), unit(rng, 50, d)
    own, _ = rule.Counter(text, tile=64)(image, text, np.ones(50, int))
    exact = np.einsum("nqd,nd->nq", image.astype(float), text).max(1)
    np.testing.assert_allclose(own, exact, atol=5e-6)


def test_excluded_captions_do_not_count():
  rng = np.random.default_rng(4)
  image, text, counts, pool = data(rng, coarse)
  owner = np.repeat(np.arange(len(counts)), counts)
  people, keys = rng.integers(0, 6, len(pool)), rng.integers(0, 20, len(pool))
  person = rng.integers(0, 8, len(image)).astype(np.int32)
  key = rng.integers(0, 25, len(text)).astype(np.int32)
  for who, which in ((people, keys), (people, None), (None, keys), (None, None)):
    counter = rule.Counter(pool, who, which, tile=16, rows=24)
    _, c = counter(image, text, counts, person, key)
    slow = []
    for i, t in enumerate(text):
      v = image[owner[i]].astype(float)
      s0, n = (v @ t).max(), 0
      for j, other in enumerate(pool):
        if who is not None and who[j] == person[owner[i]]:
          continue
        if which is not None and which[j] == key[i]:
          continue
        n += (v @ other).max() >= s0
      slow.append(n)
    np.testing.assert_array_equal(c, slow)


def test_features_that_are_no_unit_rows_are_named():
  rng = np.random.default_rng(5)
  pool, image, text = unit(rng, 6, 8), unit(rng, 4, 1, 8), unit(rng, 4, 8)
  broken = pool.copy()
  broken[2, 3] = np.nan
  with pytest.raises(FilterError, match="caption 2 of the pool holds NaN or infinity"):
    rule.Counter(broken)
  counter = rule.Counter(pool, tile=8, rows=8)
  image[1] = np.inf
  with pytest.raises(FilterError, match="row 1 of the images holds NaN"):
    counter(image, text, np.ones(4, int))
  with pytest.raises(FilterError, match="row 0 of the texts is not of length 1"):
    counter(unit(rng, 4, 1, 8), 2 * text, np.ones(4, int))


# ---- what is kept


def scored(rng, n=200, people=40):
  c = rng.integers(-1, 30, n).astype(np.int32)
  s0 = np.where(c < 0, np.nan, rng.integers(0, 5, n) / 8).astype(np.float32)
  return cut.Scored(s0, c, rng.integers(0, people, n))


def test_k_keeps_what_beats_all_but_k():
  found = cut.Scored(
    np.array([0.5, 0.5, 0.5, np.nan], np.float32),
    np.array([0, 1, 10, -1], np.int32),
    np.arange(4),
  )
  keep = lambda by, value: cut.decide(found, Cut(by, value, 0), 10).tolist()
  assert keep("k", 1) == [True, False, False, False]  # beats every distractor
  assert keep("k", 11) == [True, True, True, False]  # k > D: all that can be read
  assert keep("quantile", 0.2) == keep("k", 2) == [True, True, False, False]
  assert keep("quantile", 0.001) == keep("k", 1)


def test_a_ratio_keeps_the_best_ties_by_similarity_then_place():
  found = scored(np.random.default_rng(6))
  for ratio in (0.1, 0.5, 0.9, 1.0):
    keep = cut.decide(found, Cut("keep_ratio", ratio, 0), 30)
    real = [i for i in range(200) if found.c[i] >= 0]
    order = sorted(real, key=lambda i: (found.c[i], -found.s0[i], i))
    assert set(np.flatnonzero(keep)) == set(order[: round(ratio * len(real))])


def test_the_best_pairs_of_a_person_can_be_kept():
  found = scored(np.random.default_rng(7))
  plain = cut.decide(found, Cut("k", 3, 0), 30)
  keep = cut.decide(found, Cut("k", 3, 2), 30)
  assert (keep >= plain).all() and keep.sum() > plain.sum()
  for person in range(40):
    mine = [i for i in range(200) if found.person[i] == person and found.c[i] >= 0]
    best = sorted(mine, key=lambda i: (found.c[i], -found.s0[i], i))
    expected = {i for i in mine if found.c[i] < 3} | set(best[:2])
    assert {i for i in mine if keep[i]} == expected
