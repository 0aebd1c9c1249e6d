"""The permutation that needs no memory: a bijection that looks drawn by chance."""

import collections
import itertools
import math

import numpy as np
import pytest

from tpr_jax.data.permutation import ROUNDS, Permutation


def keys(*seed, count=1):
  numbers = np.random.SeedSequence(seed).generate_state(ROUNDS * count, np.uint64)
  return numbers.reshape(count, ROUNDS).tolist()


def made(size, *seed):
  return Permutation(size, keys(*seed)[0])


def z_of_chi_square(counts, expected):
  """How many standard deviations chi-square is from its mean, for equal chances."""
  counts = np.asarray(counts, float).ravel()
  freedom = counts.size - 1
  chi = ((counts - expected) ** 2 / expected).sum()
  return (chi - freedom) / math.sqrt(2 * freedom)


@pytest.mark.parametrize("size", [*range(1, 70), 255, 256, 257, 1_000, 4_097, 30_011])
def test_it_is_a_bijection(size):
  for seed in range(3):
    assert sorted(map(made(size, seed), range(size))) == list(range(size))


def test_of_ten_million_places_any_part_is_distinct():
  order = made(10_000_000, 5)
  begin, end = (
    [order(i) for i in places]
    for places in (range(5_000), range(9_995_000, 10_000_000))
  )
  found = np.array(begin + end)
  assert len(set(begin + end)) == 10_000 and 0 <= found.min() <= found.max() < 10**7
  assert abs(z_of_chi_square(np.histogram(found, 50, (0, 10**7))[0], 200)) < 4


def test_it_never_changes():
  """The order of runs that have begun: these numbers may never be others."""
  assert [made(10, 3)(i) for i in range(10)] == [8, 4, 0, 1, 6, 2, 5, 7, 3, 9]
  first = [2110602, 757819, 1803375, 2683295, 2210676]
  assert [made(5_000_000, 3)(i) for i in range(5)] == first


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_all_orders_of_few_things_are_equally_likely(size):
  count = 60 * math.factorial(size) + 2_000
  found = collections.Counter(
    tuple(map(Permutation(size, each), range(size)))
    for each in keys(7, size, count=count)
  )
  orders = [found[order] for order in itertools.permutations(range(size))]
  assert abs(z_of_chi_square(orders, count / len(orders))) < 4


@pytest.mark.parametrize("size", [30, 1_009])
def test_pairs_of_places_know_nothing_of_each_other(size):
  """Where neighbours and places a batch apart go, over many keys: all cells alike."""
  cells, repeats = 6, 100_000 // size
  for apart in (1, 8, size // 2):
    table = np.zeros((cells, cells))
    for each in keys(11, size, apart, count=repeats):
      order = Permutation(size, each)
      # Not all of one permutation: its pairs depend on each other.
      starts = range(0, size - apart, max(1, size // 10))
      for at in starts:
        table[order(at) * cells // size, order(at + apart) * cells // size] += 1
    share = np.bincount(np.arange(size) * cells // size) / size
    expected = np.outer(share, share) * size / (size - 1)
    same = np.arange(cells)
    expected[same, same] -= share / (size - 1)  # no two places go to one
    expected *= table.sum()
    chi = ((table - expected) ** 2 / expected).sum()
    freedom = cells**2 - 1
    assert abs(chi - freedom) / math.sqrt(2 * freedom) < 4.5, apart


def test_every_bit_of_the_keys_decides_it():
  base = keys(1)[0]
  size = 2_500  # halves of 50: where one round differs, 50 places may agree
  order = [Permutation(size, base)(i) for i in range(size)]
  for number in range(ROUNDS):
    for bit in (0, 63):
      other = list(base)
      other[number] ^= 1 << bit
      other = [Permutation(size, other)(i) for i in range(size)]
      assert np.equal(order, other).sum() <= 300, (number, bit)


def test_neighbouring_seeds_and_epochs_are_strangers():
  size = 10_000
  orders = [
    list(map(made(size, seed, epoch), range(size)))
    for seed in (0, 1)
    for epoch in (0, 1, 2)
  ]
  for one, other in itertools.combinations(orders, 2):
    assert np.equal(one, other).sum() < 12  # by chance: 1 on average
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.04


def test_steps_between_neighbours_are_of_all_sizes():
  size = 20_011
  order = np.array(list(map(made(size, 2), range(size))))
  steps = np.diff(order) % size
  assert abs(z_of_chi_square(np.histogram(steps, 100, (0, size))[0], size / 100)) < 4
  # As many ascents and runs as in an order drawn by chance (half; a third turn).
  assert abs((np.diff(order) > 0).mean() - 0.5) < 0.02
  middle = order[1:-1]
  peaks = (middle > order[:-2]) & (middle > order[2:])
  assert abs(peaks.mean() - 1 / 3) < 0.015


def test_what_cannot_be_is_refused():
  with pytest.raises(ValueError, match="of 0 things"):
    Permutation(0, keys(1)[0])
  with pytest.raises(ValueError, match="with 3 keys"):
    Permutation(5, [1, 2, 3])
  for place in (-1, 5):
    with pytest.raises(IndexError, match=f"place {place} of a permutation of 5"):
      made(5, 1)(place)
