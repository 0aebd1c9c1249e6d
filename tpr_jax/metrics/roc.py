r"""How well a low score tells a wrong word from a right one: area under the ROC.

Of wrong tokens with scores a_1..a_m and right ones with b_1..b_n,

  AUC = ( #{(i, j): a_i < b_j} + #{(i, j): a_i = b_j} / 2 ) / (m n)

the share of pairs that the score puts in the right order, ties counted one half (the
statistic of Mann & Whitney, 1947; Hanley & McNeil, Radiology 143, 1982): 1 where every
wrong token has a lower score than every right one, 0.5 by chance and where all scores
are equal. It is undefined, NaN, without a wrong or without a right token. Counted in
whole numbers, so it is exact.

The pooled area takes the pairs across captions too: it also asks whether scores of
different captions compare. The area by caption is the mean of the areas within captions
that have both kinds of token.

Interval: percentile bootstrap (metrics/uncertainty.py) that draws captions with all
their tokens, since the tokens of a caption share its picture. Captions of one person
rise and fall together as well, which it does not know: with few people, too narrow.
"""

import dataclasses

import numpy as np

from tpr_jax.metrics.uncertainty import Bootstrap

_CHUNK = 1 << 20  # numbers drawn at a time
_HOW = Bootstrap()
_NAN = float("nan")


@dataclasses.dataclass(frozen=True)
class Area:
  """The area under the ROC of some tokens.

  Attributes:
    auc: of all pairs of tokens. low, high: its interval.
    by_caption: mean of the captions' own areas.
    captions: how many have both wrong and right tokens, and so an area of their own.
    wrong, right: number of tokens.
    note: why numbers are NaN; "" where none is.
  """

  auc: float
  low: float
  high: float
  by_caption: float
  captions: int
  wrong: int
  right: int
  note: str = ""


def auc(scores, wrong) -> float:
  """The area; NaN without a wrong or without a right token.

  Args:
    scores: [N] finite numbers, low where a token is suspected.
    wrong: [N] bool.

  Raises:
    ValueError: shapes that don't fit, or a score that is not finite.
  """
  scores, wrong = _checked(scores, wrong)
  pairs = int(wrong.sum()) * int((~wrong).sum())
  if not pairs:
    return _NAN
  values, place = np.unique(scores, return_inverse=True)
  bad, good = (np.bincount(place[k], minlength=len(values)) for k in (wrong, ~wrong))
  twice = int((good * (2 * np.cumsum(bad) - bad)).sum())
  return twice / (2 * pairs)


def measure(scores, wrong, caption, how: Bootstrap = _HOW) -> Area:
  """Everything that is said about one kind of score.

  Args:
    scores, wrong: as `auc`.
    caption: int [N], equal for tokens of the same caption.
    how: of the interval. Draws without a wrong or a right token count for nothing.

  Time and memory grow with the square of the number of captions, thousands at most.

  Raises:
    ValueError: as `auc`.
  """
  scores, wrong = _checked(scores, wrong)
  caption = np.asarray(caption)
  if caption.shape != wrong.shape:
    raise ValueError(f"captions have shape {caption.shape}, scores {scores.shape}")
  found, dense = np.unique(caption, return_inverse=True)
  count = lambda kept: np.bincount(dense[kept], minlength=len(found))
  bad, good, twice = count(wrong), count(~wrong), _twice(scores, wrong, dense)
  own = np.diagonal(twice)[bad * good > 0] / (2 * bad * good)[bad * good > 0]
  low = high = _NAN
  note = _why(int(bad.sum()), int(good.sum()))
  if not note and len(found) < 2:
    note = "tokens of one caption: an interval needs two at least"
  elif not note:
    low, high = _interval(twice, bad, good, how)
    if not len(own):
      note = "no caption has both wrong and right tokens: no area by caption"
  return Area(
    auc=auc(scores, wrong),
    low=float(low),
    high=float(high),
    by_caption=float(own.mean()) if len(own) else _NAN,
    captions=len(own),
    wrong=int(bad.sum()),
    right=int(good.sum()),
    note=note,
  )


def _why(wrong: int, right: int) -> str:
  if wrong and right:
    return ""
  lacking = "wrong" if not wrong else "right"
  return f"no {lacking} token among {wrong + right:,}: the area is undefined"


def _checked(scores, wrong) -> tuple[np.ndarray, np.ndarray]:
  scores, wrong = np.asarray(scores, np.float64), np.asarray(wrong)
  if scores.ndim != 1 or wrong.shape != scores.shape or wrong.dtype != bool:
    raise ValueError(
      f"scores have shape {scores.shape}, wrong {wrong.shape} {wrong.dtype}; expected"
      " [N] and [N] bool"
    )
  bad = ~np.isfinite(scores)
  if bad.any():
    raise ValueError(
      f"the score of token {int(np.flatnonzero(bad)[0])} is not finite: leave out"
      " positions that are no words"
    )
  return scores, wrong


def _twice(scores: np.ndarray, wrong: np.ndarray, caption: np.ndarray) -> np.ndarray:
  """float64 [C, C]: twice the pairs in the right order, ties once, of the wrong tokens
  of one caption and the right ones of another; whole numbers."""
  captions = int(caption.max(initial=-1)) + 1
  found = np.zeros((captions, captions))
  order = np.argsort(scores[~wrong])
  right, of = scores[~wrong][order], caption[~wrong][order]
  for each in np.unique(caption[wrong]):
    own = np.sort(scores[wrong & (caption == each)])
    below = sum(np.searchsorted(own, right, side) for side in ("left", "right"))
    found[each] = np.bincount(of, below, captions)
  return found


def _interval(
  twice: np.ndarray, wrong: np.ndarray, right: np.ndarray, how: Bootstrap
) -> np.ndarray:
  """float64 [2], NaN if no draw has tokens of both kinds.

  With n_c how often caption c was drawn, the pairs in the right order are
  sum_cd n_c n_d pairs_cd. twice: of `_twice`. wrong, right: int [C] tokens.
  """
  captions, rng, areas = len(wrong), np.random.default_rng([how.seed, 0]), []
  step = max(_CHUNK // captions, 1)
  for start in range(0, how.resamples, step):
    rows = min(step, how.resamples - start)
    drawn = rng.integers(0, captions, (rows, captions))
    drawn += captions * np.arange(rows)[:, None]
    times = np.bincount(drawn.ravel(), minlength=rows * captions)
    times = times.reshape(rows, captions).astype(np.float64)
    pairs = 2 * (times @ wrong) * (times @ right)
    ordered = ((times @ twice) * times).sum(axis=1)
    areas.append(ordered[pairs > 0] / pairs[pairs > 0])
  every = np.concatenate(areas)
  if not len(every):
    return np.full(2, _NAN)
  return np.quantile(every, [(1.0 - how.level) / 2.0, (1.0 + how.level) / 2.0])
