"""Probabilities for the hits of a search, and the answer that nothing matches.

A cosine says little by itself: some sentences are near everything and some near
nothing, and the best of many strangers is nearer than the best of a few. So a hit is
judged by four numbers, of which the query's own background gives three:

  s                        the cosine
  (s - mean) / deviation   of the query's cosines with the whole gallery
  (s - upper) / deviation  upper: the mean cosine of the ranks 11 to 20, what the best
                           strangers reach, as one person is seldom seen more often
  log N                    of the gallery

Two logistic regressions of them are fitted on a split whose matches are known: one of
the hits that are shown, one of each query's best hit, which tells whether the person is
there at all. Each query is asked twice for each of several sizes of galleries, drawn at
random: with the pictures of its person, and without. So both take one of two people to
be absent.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

SHOWN = 20  # hits of a query that are fitted
_UPPER = (10, 20)  # ranks, from 0
SMALLEST = 25  # pictures of a gallery that anything is said about
_RIDGE = 1e-3  # of a row's weight: keeps separable data finite
_QUANTILES = 401
_TURNS, _DONE = 100, 1e-10


class CalibrationError(ValueError):
  """There is too little to fit by: says what was found and what is needed."""


@dataclasses.dataclass(frozen=True)
class Calibration:
  """Fitted numbers; plain JSON by `to_json`.

  Attributes:
    center, scale: [4], of the features.
    hit, query: [5], weights of the scaled features and the constant.
    absent: sorted logits of queries whose person is absent, at even quantiles.
    source: what it was fitted on, plain JSON.
  """

  center: tuple[float, ...]
  scale: tuple[float, ...]
  hit: tuple[float, ...]
  query: tuple[float, ...]
  absent: tuple[float, ...]
  source: dict[str, Any] = dataclasses.field(default_factory=dict)

  def probabilities(self, seen: "Background", best: np.ndarray) -> np.ndarray:
    """Of hits to be matches.

    Args:
      best: float [K], their cosines.

    Returns:
      float64 [K], each in (0, 1).
    """
    return _sigmoid(self._logits(self.hit, features(seen, best)))

  def presence(self, seen: "Background") -> float:
    """Logit of the person's being in the gallery at all."""
    best = np.array([seen.highest])
    return float(self._logits(self.query, features(seen, best))[0])

  def threshold(self, false_alarms: float) -> float:
    """The presence below which nothing matches.

    Args:
      false_alarms: share of the queries whose person is absent that get an answer.
    """
    if not 0 < false_alarms < 1:
      raise CalibrationError(
        f"false alarms of {false_alarms}: expected a share between 0 and 1"
      )
    return float(np.quantile(self.absent, 1 - false_alarms))

  def _logits(self, weights: Sequence[float], rows: np.ndarray) -> np.ndarray:
    scaled = (rows - np.array(self.center)) / np.array(self.scale)
    return scaled @ np.array(weights[:-1]) + weights[-1]

  def to_json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)

  @classmethod
  def from_json(cls, plain: Any) -> "Calibration":
    """Raises CalibrationError: it is none."""
    try:
      lengths = dict(center=4, scale=4, hit=5, query=5, absent=_QUANTILES)
      numbers = {name: tuple(map(float, plain[name])) for name in lengths}
      source = dict(plain["source"])
    except (KeyError, TypeError, ValueError) as error:
      raise CalibrationError(f"no calibration: {error!r}") from error
    for name, length in lengths.items():
      if len(numbers[name]) != length or not np.isfinite(numbers[name]).all():
        raise CalibrationError(
          f"no calibration: {name} has {len(numbers[name])} numbers, expected {length}"
          " finite ones"
        )
    return cls(**numbers, source=source)


class Background(NamedTuple):
  """What a hit is seen against: of all cosines of a query, the mean, the standard
  deviation, the mean of the ranks 11 to 20, the highest, and how many they are."""

  mean: float
  deviation: float
  upper: float
  highest: float
  count: int


def background(cosines: np.ndarray) -> Background:
  """float [N] of a query with the whole gallery, N of 1 or more."""
  count, wide = len(cosines), np.asarray(cosines, np.float64)
  first, last = (min(rank, count - 1) for rank in _UPPER)
  top = np.sort(-np.partition(-wide, last)[: last + 1])[::-1]
  upper = top[first : max(last, first + 1)].mean()
  return Background(wide.mean(), max(wide.std(), 1e-9), upper, top[0], count)


def features(seen: Background, best: np.ndarray) -> np.ndarray:
  """Of hits with the cosines float [K] -> float64 [K, 4] (see above)."""
  best = np.asarray(best, np.float64)
  return np.stack(
    [
      best,
      (best - seen.mean) / seen.deviation,
      (best - seen.upper) / seen.deviation,
      np.full(len(best), math.log(seen.count)),
    ],
    axis=1,
  )


class _Row(NamedTuple):
  rows: np.ndarray  # [K, 4]
  match: np.ndarray  # bool [K]
  present: bool


def fit(
  cosines: np.ndarray,
  match: np.ndarray,
  *,
  seed: int = 0,
  source: dict[str, Any] | None = None,
) -> Calibration:
  """Fits on queries whose matches are known.

  Args:
    cosines: float [Q, N]. match: bool [Q, N].
    seed: of the galleries that are drawn.

  Raises:
    CalibrationError: too few queries with matches, or too small a gallery.
  """
  asked = list(_asked(cosines, match, seed))
  if len(asked) < 40:
    raise CalibrationError(
      f"a calibration needs 20 queries with matches and {SMALLEST} pictures of others,"
      f" found {int(match.any(1).sum())} queries and {cosines.shape[1]} pictures"
    )
  hits = np.concatenate([one.rows for one in asked])
  labels = np.concatenate([one.match for one in asked])
  center, scale = hits.mean(0), np.maximum(hits.std(0), 1e-9)
  bests = np.stack([one.rows[0] for one in asked])
  present = np.array([one.present for one in asked])
  made = Calibration(
    center=tuple(center.tolist()),
    scale=tuple(scale.tolist()),
    hit=_logistic((hits - center) / scale, labels),
    query=_logistic((bests - center) / scale, present),
    absent=(0.0,) * _QUANTILES,
    source=source or {},
  )
  logits = made._logits(made.query, bests[~present])
  quantiles = np.quantile(logits, np.linspace(0, 1, _QUANTILES))
  return dataclasses.replace(made, absent=tuple(quantiles.tolist()))


def _asked(cosines: np.ndarray, match: np.ndarray, seed: int) -> Iterator[_Row]:
  """Each query with and without its person, in galleries of several sizes."""
  for query, (row, own) in enumerate(zip(cosines, match, strict=True)):
    others = row[~own]
    if not own.any():
      continue
    size = len(others)
    while size >= SMALLEST:
      rng = np.random.default_rng([seed, query, size])
      drawn = rng.permutation(others)[:size]
      size //= 2
      yield _shown(drawn, np.zeros(len(drawn), bool))
      both = np.concatenate([row[own], drawn])
      yield _shown(both, np.arange(len(both)) < own.sum())


def _shown(cosines: np.ndarray, match: np.ndarray) -> _Row:
  order = np.argsort(-cosines, kind="stable")[:SHOWN]
  return _Row(
    features(background(cosines), cosines[order]), match[order], bool(match.any())
  )


def _logistic(rows: np.ndarray, labels: np.ndarray) -> tuple[float, ...]:
  """Weights and constant of a logistic regression, by Newton's method: [F + 1]."""
  wide = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
  target = labels.astype(np.float64)
  ridge = np.diag([_RIDGE * len(rows)] * rows.shape[1] + [0.0])
  weights = np.zeros(wide.shape[1])
  # The constant alone first: full steps from zero can overshoot where matches are rare.
  share = np.clip(target.mean(), 1e-6, 1 - 1e-6)
  weights[-1] = math.log(share / (1 - share))
  for _ in range(_TURNS):
    found = _sigmoid(wide @ weights)
    gradient = wide.T @ (found - target) + ridge @ weights
    curvature = (wide * (found * (1 - found))[:, None]).T @ wide + ridge
    step = np.linalg.solve(curvature + 1e-9 * np.eye(len(weights)), gradient)
    weights -= step
    if np.abs(step).max() < _DONE:
      break
  return tuple(weights.tolist())


def _sigmoid(x: np.ndarray) -> np.ndarray:
  return 0.5 * (1 + np.tanh(0.5 * x))


class Reliability(NamedTuple):
  """Probabilities in bins of even width against what was true.

  Attributes:
    edges: [B + 1]. count: [B]. said, true: [B], mean probability and share of matches
      of each bin; NaN where nothing is.
    error: the mean of |said - true| over all, weighed by count (ECE).
  """

  edges: np.ndarray
  count: np.ndarray
  said: np.ndarray
  true: np.ndarray
  error: float


def reliability(
  probability: np.ndarray, match: np.ndarray, bins: int = 10
) -> Reliability:
  """float [n], bool [n] -> `Reliability`."""
  edges = np.linspace(0, 1, bins + 1)
  place = np.clip(np.digitize(probability, edges) - 1, 0, bins - 1)
  count = np.bincount(place, minlength=bins)
  known = np.where(count, count, np.nan)
  said = np.bincount(place, probability, bins) / known
  true = np.bincount(place, match.astype(np.float64), bins) / known
  gap = np.nansum(np.abs(said - true) * count) / max(count.sum(), 1)
  return Reliability(edges, count, said, true, float(gap))


class Detection(NamedTuple):
  """What a threshold does on other data than it was chosen on, shares.

  Attributes:
    false_alarms: of queries whose person is absent, those that get an answer.
    detected: of queries whose person is there, those that get one.
    correct: of these all, those whose best hit is the person, and is shown.
  """

  false_alarms: float
  detected: float
  correct: float


def detection(
  present: np.ndarray, absent: np.ndarray, right: np.ndarray, threshold: float
) -> Detection:
  """Scores of queries with [n] and without [m] their person; bool [n] `right`: the best
  hit is the person."""
  shown = present >= threshold
  return Detection(
    float((absent >= threshold).mean()),
    float(shown.mean()),
    float((shown & right).mean()),
  )
