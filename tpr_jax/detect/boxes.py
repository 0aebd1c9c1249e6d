"""Boxes in pictures: what of a detector's answer is a person that can be cut out."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

# Why a box is left out, as it is told.
NOT_FINITE = "not finite"
OUTSIDE = "outside of the frame"
EMPTY = "without any area"
LOW = "too low"


@dataclasses.dataclass(frozen=True)
class Box:
  """Whole pixels of an upright frame; x, y: of the left upper corner."""

  x: int
  y: int
  width: int
  height: int

  def cut(self, pixels: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] of a frame that it lies in -> a copy of its part."""
    rows = slice(self.y, self.y + self.height)
    return np.ascontiguousarray(pixels[rows, self.x : self.x + self.width])

  def widened(self, margin: float, width: int, height: int) -> "Box":
    """With `margin` of its sides more on each of its sides, within a frame."""
    across, down = round(margin * self.width), round(margin * self.height)
    left, top = max(self.x - across, 0), max(self.y - down, 0)
    right = min(self.x + self.width + across, width)
    bottom = min(self.y + self.height + down, height)
    return Box(left, top, right - left, bottom - top)


@dataclasses.dataclass(frozen=True)
class Found:
  """A person in a frame. score: the detector's own, between 0 and 1."""

  box: Box
  score: float


def clean(
  corners: np.ndarray,
  scores: np.ndarray,
  width: int,
  height: int,
  *,
  score: float,
  lowest: int,
) -> tuple[list[Found], collections.Counter[str]]:
  """The boxes that show a person, best first, and why others were left out.

  Args:
    corners: float [N, 4], left, top, right, bottom in pixels of the frame.
    scores: float [N]. width, height: of the frame.
    score: the least. lowest: the least height in pixels, of what lies in the frame.

  Returns:
    What reaches out of the frame is cut at it. Boxes whose score is too small are not
    counted: every detector has hundreds. Those whose score is no number are.
  """
  found, left_out = [], collections.Counter()
  corners, scores = np.asarray(corners, np.float64), np.asarray(scores, np.float64)
  finite = np.isfinite(scores) & np.isfinite(corners).all(axis=1)
  left_out[NOT_FINITE] = int((~finite & ~(scores < score)).sum())
  kept = np.flatnonzero(finite & (scores >= score))
  for at in kept[np.argsort(-scores[kept], kind="stable")]:
    left, top, right, bottom = corners[at]
    if not (left < right and top < bottom):
      left_out[EMPTY] += 1
    elif right <= 0 or bottom <= 0 or left >= width or top >= height:
      left_out[OUTSIDE] += 1
    elif (box := _whole(corners[at], width, height)).height < lowest:
      left_out[LOW] += 1
    else:
      found.append(Found(box, min(float(scores[at]), 1.0)))
  return found, +left_out


def _whole(corners: Sequence[float], width: int, height: int) -> Box:
  """The nearest whole pixels within a frame, one at least."""
  left, top = (
    int(np.clip(round(low), 0, most - 1))
    for low, most in zip(corners[:2], (width, height), strict=True)
  )
  right = int(np.clip(round(corners[2]), left + 1, width))
  bottom = int(np.clip(round(corners[3]), top + 1, height))
  return Box(left, top, right - left, bottom - top)


def suppressed(corners: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
  """Greedy non-maximum suppression.

  Args:
    corners: float [N, 4], left, top, right, bottom. scores: float [N].
    overlap: of two boxes with a larger intersection over union, the better stays.

  Returns:
    int64 [M], rows that stay, best first.
  """
  order = np.argsort(-scores, kind="stable")
  sides = np.clip(corners[:, 2:] - corners[:, :2], 0, None)
  area = sides.prod(axis=1)
  stay = []
  while len(order):
    best, order = order[0], order[1:]
    stay.append(best)
    low = np.maximum(corners[order, :2], corners[best, :2])
    high = np.minimum(corners[order, 2:], corners[best, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    union = area[order] + area[best] - shared
    order = order[~(shared > overlap * union)]
  return np.array(stay, np.int64)
