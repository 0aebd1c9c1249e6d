"""Which pictures of an index answer a question: compared, ordered, judged."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from tpr_jax.metrics import calibration, rerank
from tpr_jax.search import gallery, nearest
from tpr_jax.search.again import Look
from tpr_jax.search.answer import Question
from tpr_jax.search.encoder import Encoder
from tpr_jax.search.near import Near
from tpr_jax.search.problems import AskedError
from tpr_jax.search.store import KEPT, Store


class Judged(NamedTuple):
  """probabilities: of the rows that were found, or None. matches: of an Answer."""

  probabilities: np.ndarray | None = None
  matches: bool | None = None

  def of(self, place: int) -> float | None:
    return None if self.probabilities is None else float(self.probabilities[place])


class Chosen(NamedTuple):
  """rows: int64 [k], best first. scores, cosines, second: of these rows (the last: of
  the first of them). The others: of a Question and its Answer."""

  rows: np.ndarray
  scores: np.ndarray
  cosines: Mapping[str, np.ndarray]
  skip: int
  searched: int
  judged: Judged
  second: np.ndarray

  def again(self, place: int) -> float | None:
    """The second stage's score of the row at this place, where there is one."""
    return float(self.second[place]) if place < len(self.second) else None


class Chooser(NamedTuple):
  """Chooses out of one version of an index.

  Attributes:
    store, known: that version. near: its index of nearest neighbours, where rows stay
      in the store. made: its calibration, or None. look: its second look, or None.
      encoder: asked for when pictures are looked at again.
  """

  store: Store
  known: gallery.Gallery
  near: Near | None
  made: calibration.Calibration | None
  look: Look | None
  encoder: Callable[[], Encoder]

  def __call__(
    self, asked: Question, allowed: np.ndarray | None, condition: str
  ) -> Chosen:
    """allowed: bool [N], the rows that meet `condition` (SQL); None: all.

    Raises:
      AskedError: the second stage makes something else than numbers of the words.
    """
    last = asked.skip + asked.top
    found = self._nearest(asked, max(last, asked.rerank), allowed, condition)
    second = np.zeros(0, np.float32)
    if asked.rerank:
      order, second = self._looked_at(asked, found)
      found = found._replace(
        rows=found.rows[order],
        scores=found.scores[order],
        cosines={side: of[order] for side, of in found.cosines.items()},
      )
    shown = slice(asked.skip, last)
    cosines = {side: of[shown] for side, of in found.cosines.items()}
    return Chosen(
      found.rows[shown],
      found.scores[shown],
      cosines,
      asked.skip,
      found.searched,
      self._judged(asked, found.seen, cosines.get("text")),
      second[shown],
    )

  def _nearest(
    self, asked: Question, k: int, allowed: np.ndarray | None, condition: str
  ) -> nearest.Found:
    shares = dict(text=1 - asked.image_weight, image=asked.image_weight)
    judged = self.made is not None
    if self.near is None:
      part = self.known.vectors, self.known.order
      how = dict(judged=judged, coarse=self.known.copies)
      return nearest.exact(*part, asked.rows, shares, k, allowed, **how)
    part = self.store, self.known, self.near
    return nearest.approximate(
      *part, asked.rows, shares, k, allowed, condition, judged=judged
    )

  def _looked_at(
    self, asked: Question, found: nearest.Found
  ) -> tuple[np.ndarray, np.ndarray]:
    """(new order of all rows found int [k], second scores float32 [n] of the first)."""
    rows, cosines = found.rows[: asked.rerank], found.scores[: asked.rerank]
    read = self.store.of_rows(self.known.ids[rows], [KEPT])
    kept = [self.look.unpack(row[KEPT]) for row in read]
    second = self.encoder().pair_scores(asked.kept, kept)
    if not np.isfinite(second).all():
      raise AskedError("the second stage's score of these words is not finite")
    (first,) = rerank.order(rerank.summed([second[None]], cosines[None], 1.0))
    order = np.concatenate([first, np.arange(len(first), len(found.rows))])
    return order, second[first]

  def _judged(
    self,
    asked: Question,
    seen: calibration.Background | None,
    words: np.ndarray | None,
  ) -> Judged:
    """What the calibration says; words: their cosines with the rows that are shown."""
    if seen is None:
      return Judged()
    matches = self.made.presence(seen) >= self.made.threshold(asked.false_alarms)
    return Judged(self.made.probabilities(seen, words), matches)
