r"""How far a mean over queries can be trusted: intervals, and tests of differences.

The unit is the IDENTITY. Queries of one person share the person, often the picture,
and rise and fall together; drawing queries one by one would take them for independent
and give intervals that are too narrow. With n_i queries of identity i whose values sum
to s_i, i = 1..I, a score is

  theta = sum_i s_i / sum_i n_i

Interval: `resamples` times, I identities are drawn with replacement, each with all its
queries, and theta is computed again; the interval runs from the (1 - level) / 2 to the
(1 + level) / 2 quantile of these values (percentile bootstrap: Efron & Tibshirani, "An
Introduction to the Bootstrap", 1993, Sec. 13.3).

Difference of two results on the same queries: the same with the differences of the
values, D_i = sum over the queries of i of (a - b), so that what both find hard cancels.

Test: if neither result is better, each D_i is as likely to have the other sign. With
signs e_i of +1 or -1,

  T(e) = |sum_i e_i D_i|,    p = share of the e with T(e) >= T(1, ..., 1)

over all 2^m sign patterns of the m identities with D_i != 0 where these are few, else
over `flips` random patterns and the observed one (which keeps p above 0: Phipson &
Smyth, "Permutation p-values should never be zero", 2010).

What none of this covers: another training run (seeds: train several), another gallery
(it is held fixed), or the choice of the better of many models on the same queries. A
percentile interval is somewhat too narrow for few identities, and has no width where
every query scores the same, as at 100 %. Where only a handful of identities differ, the
interval of a difference may leave out 0 and p still be large: then believe p.

Plain numpy on the host: the sums by identity are small.
"""

import dataclasses
import math

import numpy as np

FLIPS = 9_999  # random sign patterns
_CHUNK = 1 << 18  # numbers drawn at a time: what a cache holds


@dataclasses.dataclass(frozen=True)
class Bootstrap:
  """How intervals are made.

  Attributes:
    level: share of such intervals that should hold the true value, in (0, 1).
    resamples: how often the identities are drawn.
    seed: of the draws; the same identities are then drawn for every score and result.
  """

  level: float = 0.95
  resamples: int = 2_000
  seed: int = 0

  def __post_init__(self):
    if not 0.0 < self.level < 1.0:
      raise ValueError(
        f"ci_level={self.level!r}: expected a share between 0 and 1, for example 0.95"
      )
    # round: 2 / (1 - 0.95) is a little more than 40
    least = math.ceil(round(2.0 / (1.0 - self.level), 6))
    if self.resamples < least:
      raise ValueError(
        f"ci_resamples={self.resamples}: an interval of level {self.level:g} needs at"
        f" least {least}, and some 2000 to be steady"
      )


@dataclasses.dataclass(frozen=True)
class Difference:
  """Of two results on the same queries; float64 [S], S scores.

  Attributes:
    difference: mean of a minus mean of b.
    low, high: ends of its interval.
    p: two-sided p value of no difference.
    exact: bool [S], were all sign patterns counted?
    identities: number of identities.
  """

  difference: np.ndarray
  low: np.ndarray
  high: np.ndarray
  p: np.ndarray
  exact: np.ndarray
  identities: int


def interval(values, ids, how: Bootstrap = Bootstrap()) -> np.ndarray:
  """float64 [2, S]: lower and upper end for the mean of each column.

  Args:
    values: [Q, S] finite numbers, one row a query.
    ids: [Q] identities, numbers or strings. Their order decides which draws they get;
      the order of the queries does not matter.

  Raises:
    ValueError: fewer than two identities (nothing can be said about other people
      from one person), shapes that don't fit, or a value that is not finite.
  """
  return _interval(*_sums(values, ids), how)


def compare(
  a,
  b,
  ids,
  how: Bootstrap = Bootstrap(),
  *,
  flips: int = FLIPS,
) -> Difference:
  """Compares the means of two results on the same queries.

  Args:
    a, b: [Q, S] values of the two, row for row the same queries.
    ids: [Q] identities.
    flips: number of random sign patterns; where there are no more patterns than that,
      all of them are counted instead.

  Raises:
    ValueError: as `interval`, or a and b of different shapes.
  """
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  if a.shape != b.shape:
    raise ValueError(
      f"values of shape {a.shape} and {b.shape} are not of one query set"
    )
  sums, counts = _sums(a - b, ids)
  low, high = _interval(sums, counts, how)
  drawn = _flip_p(sums, flips, how.seed)
  p, exact = np.empty(sums.shape[1]), np.zeros(sums.shape[1], bool)
  for score, column in enumerate(sums.T):
    moved = column[column != 0]
    exact[score] = 2 ** min(len(moved), 63) <= flips + 1
    p[score] = _exact_p(moved) if exact[score] else drawn[score]
  return Difference(sums.sum(axis=0) / counts.sum(), low, high, p, exact, len(counts))


def _sums(values, ids) -> tuple[np.ndarray, np.ndarray]:
  """(float64 [I, S] sums of the values of each identity, float64 [I] queries)."""
  values, ids = np.asarray(values, np.float64), np.asarray(ids)
  if values.ndim != 2 or ids.shape != values.shape[:1]:
    raise ValueError(
      f"values have shape {values.shape}, ids {ids.shape}; expected [Q, S] and [Q]"
    )
  bad = ~np.isfinite(values).all(axis=1)
  if bad.any():
    raise ValueError(
      f"the values of query {int(np.flatnonzero(bad)[0])} are not finite; queries"
      " without a match have none and must be left out"
    )
  found, dense = np.unique(ids, return_inverse=True)
  if len(found) < 2:
    raise ValueError(
      f"{len(ids)} queries of {len(found)} identities: an interval needs at least two"
    )
  columns = [np.bincount(dense, column, len(found)) for column in values.T]
  counts = np.bincount(dense, minlength=len(found)).astype(np.float64)
  return np.stack(columns, axis=1), counts


def _interval(sums: np.ndarray, counts: np.ndarray, how: Bootstrap) -> np.ndarray:
  number, rng = len(counts), np.random.default_rng([how.seed, 0])
  both = np.concatenate([sums, counts[:, None]], axis=1)
  step, totals = max(_CHUNK // number, 1), []
  for start in range(0, how.resamples, step):
    rows = min(step, how.resamples - start)
    drawn = rng.integers(0, number, (rows, number))
    # How often each identity was drawn, for each resample.
    drawn += number * np.arange(rows)[:, None]
    times = np.bincount(drawn.ravel(), minlength=rows * number)
    totals.append(times.reshape(rows, number).astype(np.float64) @ both)
  total = np.concatenate(totals)
  means = total[:, :-1] / total[:, -1:]
  ends = [(1.0 - how.level) / 2.0, (1.0 + how.level) / 2.0]
  return np.quantile(means, ends, axis=0)


def _at_least(found: np.ndarray, sums: np.ndarray) -> np.ndarray:
  """bool: is |found| at least |sum of sums|? Sums that differ by rounding are equal."""
  slack = 1e-11 * np.abs(sums).sum(axis=0)
  return np.abs(found) >= np.abs(sums.sum(axis=0)) - slack


def _flip_p(sums: np.ndarray, flips: int, seed: int) -> np.ndarray:
  """float64 [S] p values over random sign patterns, shared by all scores."""
  number, rng = len(sums), np.random.default_rng([seed, 1])
  width = -(-number // 8)  # a bit a sign
  step, reached = max(_CHUNK // (8 * width), 1), np.ones(sums.shape[1])
  for start in range(0, flips, step):
    rows = min(step, flips - start)
    bits = np.unpackbits(rng.integers(0, 256, (rows, width), np.uint8), axis=1)
    signs = 2.0 * bits[:, :number] - 1.0
    reached += _at_least(signs @ sums, sums).sum(axis=0)
  return reached / (flips + 1)


def _exact_p(sums: np.ndarray) -> float:
  """p over all sign patterns of [m] sums; 1 for m = 0."""
  number = len(sums)
  bits = (np.arange(2**number)[:, None] >> np.arange(number)) & 1
  return float(_at_least((2.0 * bits - 1.0) @ sums, sums).mean())
