"""People cut out of a frame: what a detector finds there, ready to be encoded."""

import collections
import dataclasses
import threading
from collections.abc import Callable

import numpy as np

from tpr_jax.detect import boxes
from tpr_jax.detect.place import Detector
from tpr_jax.detect.wanted import Wanted
from tpr_jax.search import photo
from tpr_jax.search.store import BOX


@dataclasses.dataclass(frozen=True)
class Person:
  """number: 1, 2, ... within the frame, best first. thumbnail: JPEG of what was cut
  out. prepared: uint8 [H, W, 3], for the encoder."""

  number: int
  found: boxes.Found
  thumbnail: bytes
  prepared: np.ndarray

  def columns(self, content: str) -> dict[str, int | float | str | bytes]:
    """Of the table; content: hash of the frame's file."""
    box = dataclasses.astuple(self.found.box)
    return dict(
      hash=key(content, self.number, self.found.box),
      person=self.number,
      detection_score=round(self.found.score, 4),
      thumbnail=self.thumbnail,
      **dict(zip(BOX, box, strict=True)),
    )


class Cutter:
  """Cuts people out of frames; used by several threads.

  Args:
    detector: asked for when the first frame is looked at.
    wanted: which of its boxes count, and with what margin.
    prepare: of the encoder: uint8 [h, w, 3] -> uint8 [H, W, 3].
  """

  def __init__(
    self,
    detector: Callable[[], Detector],
    wanted: Wanted,
    prepare: Callable[[np.ndarray], np.ndarray],
  ):
    self._detector, self._wanted, self._prepare = detector, wanted, prepare
    self._lock = threading.Lock()

  def __call__(
    self, pixels: np.ndarray
  ) -> tuple[list[Person], collections.Counter[str]]:
    """uint8 [h, w, 3], an upright frame -> its people, and why boxes were left out."""
    detector = self._detector()
    with self._lock:  # a detector takes all cores by itself
      corners, scores = detector(pixels)
    height, width = pixels.shape[:2]
    found, left_out = boxes.clean(
      corners,
      scores,
      width,
      height,
      score=self._wanted.score,
      lowest=self._wanted.height,
    )
    people = []
    for number, each in enumerate(found, start=1):
      part = each.box.widened(self._wanted.margin, width, height).cut(pixels)
      people.append(Person(number, each, photo.thumbnail(part), self._prepare(part)))
    return people, left_out


def key(content: str, number: int, box: boxes.Box) -> str:
  """32 hex digits that tell one person of a frame from all others."""
  said = f"{content} {number} {dataclasses.astuple(box)}"
  return photo.digest(said.encode())
