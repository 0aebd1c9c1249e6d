"""A detector without weights: every connected part of a frame that is not gray."""

import dataclasses
import pathlib

import numpy as np
from scipy import ndimage

from tests.search import place
from tpr_jax.detect.wanted import Wanted

GRAY = 114


def frame(*figures, size=(60, 90)):
  """uint8 [h, w, 3]; figures: (colour, left, top, width, height)."""
  made = np.full((*size, 3), GRAY, np.uint8)
  for colour, left, top, width, height in figures:
    made[top : top + height, left : left + width] = place.COLOURS[colour]
  return made


class Figures:
  """A `detect.place.Place`.

  Args:
    digest: of its weights.
    extra: corners and scores that it adds to each frame: wrong ones.
    given: of `Wanted`.

  Attributes:
    loads: how often it was loaded. seen: frames that it looked at.
  """

  def __init__(self, digest="figures", extra=(), **given):
    self.wanted = Wanted(pathlib.Path(f"{digest}.onnx"), **{"height": 5, **given})
    self.digest, self.extra, self.loads, self.seen = digest, extra, 0, 0

  def identity(self):
    settings = self.wanted.settings()
    return dict(place=f"/w/{self.digest}", digest=self.digest, settings=settings)

  def load(self):
    self.loads += 1
    return self._find

  def _find(self, pixels):
    self.seen += 1
    parts, _ = ndimage.label((pixels != GRAY).any(axis=2))
    corners = [
      (across.start, down.start, across.stop, down.stop)
      for down, across in ndimage.find_objects(parts)
    ]
    scores = [0.9 - 0.001 * at for at in range(len(corners))]
    corners += [each[:4] for each in self.extra]
    scores += [each[4] for each in self.extra]
    return np.array(corners, float).reshape(-1, 4), np.array(scores, float)


def narrowed(detector, **given):
  """The same weights with other settings."""
  other = Figures(detector.digest, detector.extra)
  other.wanted = dataclasses.replace(detector.wanted, **given)
  return other


def write(path, *given, **options):
  """A frame as a file, of long ago -> its path."""
  from PIL import Image

  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(frame(*given)).save(path, **options)
  place.old(path)
  return path


RED, GREEN, BLUE = (
  (colour, left, 10, 8, 24)
  for colour, left in (("red", 5), ("green", 30), ("blue", 60))
)


def folder(root):
  """two.png (red, green), one.png (blue), none.png, more/three.png (all)."""
  write(root / "two.png", RED, GREEN)
  write(root / "one.png", BLUE)
  write(root / "none.png")
  write(root / "more" / "three.png", RED, GREEN, BLUE)
  return root
