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
"""

import numpy as np


def order(scores) -> np.ndarray:
  """float [Q, T] second scores -> int64 [Q, T]: the old place (0-based) of each new.

  Raises:
    ValueError: a score that is no number; names the first query with one.
  """
  scores = np.asarray(scores)
  bad = ~np.isfinite(scores).all(axis=1)
  if bad.any():
    raise ValueError(
      f"the second scores of query {int(np.flatnonzero(bad)[0])} are not finite"
      f" ({int(bad.sum()):,} of {len(scores):,} queries)"
    )
  return np.argsort(-scores, axis=1, kind="stable")


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
