"""The nearest rows of a gallery to what is asked: by all of them, or approximately.

Up to `EXACT` pictures every row is in memory and compared; many, in copies of eight
bits first (coarse.py), with the same result. Beyond, rows stay in the store, whose own
index of nearest neighbours (near.py) names some candidates; they are then compared
exactly. What else a search needs of all rows, the mean and the deviation of the
cosines, is taken from a sample in memory.

Words and a picture together are one row, too: a weighted sum of standard scores is

    z_n = sum_j w_j (x_n . q_j - mean_j) / sd_j = x_n . sum_j w_j q_j / sd_j + constant
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tpr_jax.metrics import calibration
from tpr_jax.search import gallery
from tpr_jax.search.coarse import Coarse
from tpr_jax.search.near import Near
from tpr_jax.search.store import Store

EXACT = 1_000_000  # pictures
FEW = 100_000  # that meet a condition: their rows are read, and all compared
_SEEN = 20  # of the best, that a background is made of (metrics/calibration.py)

Rows = Mapping[str, np.ndarray]  # "text", "image" or both -> unit row float32 [D]
Moments = Mapping[str, tuple[float, float]]  # side -> `gallery.moments`


class Found(NamedTuple):
  """The nearest rows.

  Attributes:
    rows: int64 [k] of the gallery, best first.
    scores: [k]; the cosine, or the sum of standard scores.
    cosines: side -> float32 [k].
    searched: rows that were compared with, or stood for.
    seen: the background of the words' cosines; None: it was not asked for, a picture
      was asked with, too, or there are too few rows.
  """

  rows: np.ndarray
  scores: np.ndarray
  cosines: Mapping[str, np.ndarray]
  searched: int
  seen: calibration.Background | None


def exact(
  vectors: np.ndarray,
  order: np.ndarray,
  asked: Rows,
  shares: Mapping[str, float],
  k: int,
  allowed: np.ndarray | None = None,
  *,
  judged: bool = True,
  moments: Moments | None = None,
  coarse: Coarse | None = None,
) -> Found:
  """Compares every row.

  Args:
    vectors: float32 [N, D]. order: int64 [N], of ties.
    shares: side -> its weight, where there are two.
    k: so many; fewer where fewer are allowed.
    allowed: bool [N]; None: all.
    judged: the background is asked for.
    moments: of the cosines of a gallery of which these rows are a part; None: they are
      all of it.
    coarse: copies of the rows, for which a question of one side is asked first. The
      background is then that of the copies, but for the first rows.
  """
  if coarse is not None and len(asked) == 1:
    return _by_copies(coarse, order, asked, k, allowed, judged)
  # A product for each: of several at once, the last bits would depend on which, and
  # pages of one answer would not fit together.
  cosines = {side: vectors @ row for side, row in asked.items()}
  if moments is None and len(cosines) > 1:
    moments = {side: gallery.moments(of) for side, of in cosines.items()}
  scores = _scores(cosines, shares, moments)
  rows = gallery.best(scores, order, k, allowed)
  searched = len(vectors) if allowed is None else int(allowed.sum())
  seen = None
  if judged and _background(asked, searched):
    words = cosines["text"]
    seen = calibration.background(words if allowed is None else words[allowed])
  some = {side: of[rows] for side, of in cosines.items()}
  return Found(rows, scores[rows], some, searched, seen)


def _by_copies(
  coarse: Coarse,
  order: np.ndarray,
  asked: Rows,
  k: int,
  allowed: np.ndarray | None,
  judged: bool,
) -> Found:
  ((side, row),) = asked.items()
  near = coarse.near(row, max(k, _SEEN), allowed)
  at = gallery.best(near.cosines, order[near.rows], k)
  seen = None
  if judged and _background(asked, len(near.about)):
    seen = _with_first(calibration.background(near.about), near.cosines)
  cosines = near.cosines[at]
  return Found(near.rows[at], cosines, {side: cosines}, len(near.about), seen)


def _with_first(
  seen: calibration.Background, first: np.ndarray
) -> calibration.Background:
  """A background of copies or of a sample, with the true cosines of its first rows."""
  true = calibration.background(first)
  return seen._replace(upper=true.upper, highest=true.highest)


def approximate(
  store: Store,
  known: gallery.Gallery,
  near: Near,
  asked: Rows,
  shares: Mapping[str, float],
  k: int,
  allowed: np.ndarray | None = None,
  condition: str = "",
  *,
  judged: bool = True,
) -> Found:
  """Compares the candidates of the store's index; where few are allowed, all of them.

  Args:
    known: without its vectors, with a sample of them.
    near: what is known of that index.
    allowed: bool [N], the rows that meet `condition`, as SQL; None: all do.
    The others: of `exact`.
  """
  searched = len(known) if allowed is None else int(allowed.sum())
  sampled = {side: known.sample @ row for side, row in asked.items()}
  moments = {side: gallery.moments(of) for side, of in sampled.items()}
  if allowed is not None and searched <= FEW:
    at = np.flatnonzero(allowed)
    part = store.vectors(known.ids[at]), known.order[at]
    found = exact(*part, asked, shares, k, judged=judged, moments=moments)
    return found._replace(rows=at[found.rows])
  (target, *_) = asked.values()
  if len(asked) > 1:
    parts = [shares[side] * row / moments[side][1] for side, row in asked.items()]
    target = np.sum(parts, axis=0, dtype=np.float32)
  ids, vectors = store.nearest(target, max(k, _SEEN), near.probes, condition)
  rows = known.places(ids)
  cosines = {side: vectors @ row for side, row in asked.items()}
  scores = _scores(cosines, shares, moments)
  best = np.lexsort((known.order[rows], -scores))[:k]
  seen = None
  if judged and _background(asked, searched):
    inside = slice(None) if allowed is None else allowed[known.sampled]
    seen = calibration.background(sampled["text"][inside])
    seen = _with_first(seen, cosines["text"])._replace(count=searched)
  some = {side: of[best] for side, of in cosines.items()}
  return Found(rows[best], scores[best], some, searched, seen)


def _scores(
  cosines: Mapping[str, np.ndarray],
  shares: Mapping[str, float],
  moments: Moments | None,
) -> np.ndarray:
  if len(cosines) == 1:
    (scores,) = cosines.values()
    return scores
  columns = [(of, shares[side], moments[side]) for side, of in cosines.items()]
  return gallery.standard(*zip(*columns, strict=True))


def _background(asked: Rows, searched: int) -> bool:
  """Is a calibration one of such searches: of words alone, of no few pictures?"""
  return set(asked) == {"text"} and searched >= calibration.SMALLEST
