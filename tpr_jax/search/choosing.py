"""Which pictures of an index answer a question: compared, ordered, judged."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from tpr_jax.metrics import calibration, rerank
from tpr_jax.search import gallery
from tpr_jax.search.again import Look
from tpr_jax.search.answer import Question
from tpr_jax.search.encoder import Encoder
from tpr_jax.search.problems import AskedError
from tpr_jax.search.store import KEPT, Store


class Judged(NamedTuple):
  """probabilities: of the rows that were found, or None. matches: of an Answer."""

  probabilities: np.ndarray | None = None
  matches: bool | None = None

  def of(self, place: int) -> float | None:
    return None if self.probabilities is None else float(self.probabilities[place])


class Chosen(NamedTuple):
  """rows: int64, best first. scores, cosines: of all rows. second: of the first rows.
  The others: of a Question and its Answer."""

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
    store, vectors: that version. made: its calibration, or None. look: its second
      look, or None. encoder: asked for when pictures are looked at again.
  """

  store: Store
  vectors: gallery.Gallery
  made: calibration.Calibration | None
  look: Look | None
  encoder: Callable[[], Encoder]

  def __call__(self, asked: Question, allowed: np.ndarray | None) -> Chosen:
    """allowed: bool [N], the rows that meet the condition; None: all.

    Raises:
      AskedError: the second stage makes something else than numbers of the words.
    """
    # A product for each: of several at once, the last bits would depend on which, and
    # pages of one answer would not fit together.
    cosines = {side: self.vectors.cosines(row) for side, row in asked.rows.items()}
    if len(cosines) == 1:
      (scores,) = cosines.values()
    else:
      shares = (1 - asked.image_weight, asked.image_weight)
      both = (cosines["text"], cosines["image"])
      scores = gallery.standard(both, shares)
    last = asked.skip + asked.top
    best = gallery.best(scores, self.vectors.order, max(last, asked.rerank), allowed)
    second = np.zeros(0, np.float32)
    if asked.rerank:
      first = best[: asked.rerank]
      order, second = self._looked_at(asked.kept, first, scores[first])
      best[: asked.rerank] = first[order]
    searched = len(self.vectors) if allowed is None else int(allowed.sum())
    rows, shown = best[asked.skip : last], slice(asked.skip, last)
    judged = self._judged(asked, cosines, allowed, rows)
    return Chosen(rows, scores, cosines, asked.skip, searched, judged, second[shown])

  def _looked_at(
    self, text: Mapping[str, np.ndarray], rows: np.ndarray, cosines: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """(new order of these rows int [n], second scores float32 [n] in that order)."""
    read = self.store.of_rows(self.vectors.ids[rows], [KEPT])
    kept = [self.look.unpack(row[KEPT]) for row in read]
    second = self.encoder().pair_scores(text, kept)
    if not np.isfinite(second).all():
      raise AskedError("the second stage's score of these words is not finite")
    (order,) = rerank.order(rerank.summed([second[None]], cosines[None], 1.0))
    return order, second[order]

  def _judged(
    self,
    asked: Question,
    cosines: Mapping[str, np.ndarray],
    allowed: np.ndarray | None,
    rows: np.ndarray,
  ) -> Judged:
    """What a calibration says, which is one of words alone, and of no few pictures."""
    if self.made is None or set(cosines) != {"text"}:
      return Judged()
    searched = cosines["text"] if allowed is None else cosines["text"][allowed]
    if len(searched) < calibration.SMALLEST:
      return Judged()
    seen = calibration.background(searched)
    matches = self.made.presence(seen) >= self.made.threshold(asked.false_alarms)
    return Judged(self.made.probabilities(seen, cosines["text"][rows]), matches)
