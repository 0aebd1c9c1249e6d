"""Rank metrics of a list whose first places were put into another order.

A first ranking of the whole gallery, and a second score for its first T items, the
shortlist. The shortlist is sorted by the second score, ties by the first ranking; the
rest keeps its places. With ranks j_k (1-based) of the n+ matches before and j'_k after,
m of them in the shortlist,

  AP' = AP + (1/n+) sum_{k<=m} (k / j'_k - k / j_k)
  INP' = n+ / j'_{n+} where m = n+, else INP
  first rank: j'_1 where m > 0, else as before

since the matches of the shortlist are the first m in both orders, and those beyond it
stay where they are. So nothing but the shortlist and the first ranking's own numbers is
needed. SD is not among them: the similarities of such a list are of two scales.
Plain numpy on the host: Q x T numbers are few. Q queries, T places.

Worked example: matches at ranks 2, 3 and 9 have AP = (1/2 + 2/3 + 3/9) / 3 = 0.5. With
T = 4 and those two moved to ranks 1 and 2, AP' = 0.5 + (1/2 + 1/3) / 3 = 0.7778, INP
stays 3/9, the first rank becomes 1.

What sorts the shortlist is made of second scores s_v of V views of the images (2: the
mirrored ones too) and of the first ranking's cosines c:

  summed   mean_v s_v + w c
  scaled   mean_v u(s_v) + W w u(c)    u(x) = (x - low) / (high - low)

`scaled` is the evaluation of ALBEF's descendants (APTM, arXiv:2306.02898; MRA,
arXiv:2507.10195), which scales matrices of all queries and all images: in such a matrix
of second scores a row holds its own minimum beyond the shortlist, so low and high are
the extremes of the second scores there are, while for c they are those of all cosines.
In each view an item beyond the shortlist has a second score and a cosine that are no
higher than any of the shortlist, and among them the cosine alone differs: for w >= 0
the rest keeps its places here, too.

W is the number of processes. Process p fills rows p (Q div W + 1) and on of a matrix
whose other rows hold 1000, scales this matrix, adds w u(c), and the W matrices are
summed. So in the rows of process p low is the least of ITS second scores, high is 1000
(where others have rows, and no score is higher), and the cosine counts W times: with
W = 4 about 200 times as much, beside the second scores, as with W = 1. What the other
processes add to a row is one number for all of it, and is left out. No number of
devices changes the result: W is an argument.
"""

import numpy as np

_NOT_MINE = 1000.0  # in the rows of other processes


def order(scores) -> np.ndarray:
  """float [Q, T] second scores -> int64 [Q, T]: the old place (0-based) of each new.

  Raises:
    ValueError: a score that is no number; names the first query with one.
  """
  return np.argsort(-_finite(scores), axis=1, kind="stable")


def summed(views, cosine, weight) -> np.ndarray:
  """float64 [Q, T]: what sorts the shortlist, second scores as they are.

  Args:
    views: second scores, float [Q, T] for each view.
    cosine: float [Q, T], of the first ranking.
    weight: w.

  Raises:
    ValueError: as `order`.
  """
  second = np.mean([_finite(scores) for scores in views], axis=0, dtype=np.float64)
  return second + weight * np.asarray(cosine, np.float64)


def scaled(views, cosine, weight, lowest, processes=1) -> np.ndarray:
  """float64 [Q, T]: what sorts the shortlist, second scores and cosines scaled.

  Where all numbers are alike, so that there is nothing to scale, they count as 0.

  Args:
    views, cosine: as in `summed`; column 0 of `cosine` is each query's highest.
    weight: w, 0 at least.
    lowest: the lowest cosine of any query with any item of the gallery.
    processes: W.

  Raises:
    ValueError: as `order`; or a negative weight, with which the rest would not keep
      its places.
  """
  if not weight >= 0:
    raise ValueError(f"weight={weight} of the scaled cosine: expected 0 or more")
  views = [_finite(scores).astype(np.float64) for scores in views]
  cosine = np.asarray(cosine, np.float64)
  total, step = np.zeros(cosine.shape), len(cosine) // processes + 1
  for start in range(0, len(cosine), step):
    rows = slice(start, start + step)
    for scores in views:
      own = scores[rows]
      ends = [own.min(), own.max(), *([_NOT_MINE] if len(own) < len(cosine) else [])]
      total[rows] += _unit(own, min(ends), max(ends))
  first = _unit(cosine, lowest, cosine.max())
  return total / len(views) + processes * weight * first


def _unit(values, low, high):
  """low -> 0, high -> 1."""
  return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _finite(scores) -> np.ndarray:
  scores = np.asarray(scores)
  bad = ~np.isfinite(scores).all(axis=1)
  if bad.any():
    raise ValueError(
      f"the second scores of query {int(np.flatnonzero(bad)[0])} are not finite"
      f" ({int(bad.sum()):,} of {len(scores):,} queries)"
    )
  return scores


def ranks(matches, first_rank, ap, inp, flags, order) -> dict[str, np.ndarray]:
  """`first_rank` int32, `ap` and `inp` float32, all [Q], of the new order.

  Args:
    matches: int [Q], n+ of each query in the whole gallery.
    first_rank, ap, inp: [Q], of the first ranking (0, NaN, NaN without a match).
    flags: bool [Q, T]: is the item at this place of the first ranking a match?
    order: int [Q, T], from `order`.
  """
  matches, flags = np.asarray(matches), np.asarray(flags, bool)
  moved = np.take_along_axis(flags, order, axis=1)
  before, after = _precisions(flags), _precisions(moved)
  number = np.maximum(matches, 1)
  inside = flags.sum(axis=1)
  whole = (inside == matches) & (matches > 0)
  first = np.where(inside > 0, 1 + moved.argmax(axis=1), first_rank)
  last = moved.shape[1] - moved[:, ::-1].argmax(axis=1)
  changed = np.asarray(ap, np.float64) + (after - before) / number
  return dict(
    first_rank=first.astype(np.int32),
    ap=np.where(whole, after / number, changed).astype(np.float32),
    inp=np.where(whole, matches / last, inp).astype(np.float32),
  )


def _precisions(flags: np.ndarray) -> np.ndarray:
  """bool [Q, T] -> float64 [Q], sum over the matches of k / j_k."""
  precision = np.cumsum(flags, axis=1) / np.arange(1, flags.shape[1] + 1)
  return np.where(flags, precision, 0.0).sum(axis=1)
