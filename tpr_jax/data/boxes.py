"""Boxes of regions: how they move as the picture changes, and a crop that keeps one.

A box is (x, y, w, h) in pixels of the picture, x and y of its upper left corner, as
floats. An example (transforms.py) may hold one under "box"; None: there is none, or
none is left.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tpr_jax.data.op import Op, need, whole

Box = tuple[float, float, float, float]


def in_pixels(shares: Sequence[float], height: int, width: int) -> Box:
  """(cx, cy, w, h) as shares of the picture -> the box, within the picture.

  Centre and size are cut to whole pixels, as MRA's code does; there is a pixel at least
  (where that code stops), so that no box is empty.
  """
  ends = (width, height, width, height)
  cx, cy, w, h = (int(share * end) for share, end in zip(shares, ends, strict=True))
  x = min(max(0.0, cx - w / 2), width - 1.0)
  y = min(max(0.0, cy - h / 2), height - 1.0)
  return x, y, min(max(w, 1.0), width - x), min(max(h, 1.0), height - y)


def moved(example: Mapping[str, Any], move: Callable[[Box], Box | None]) -> dict:
  """{"box": where `move` takes it}; {} for an example without one."""
  box = example.get("box")
  return {} if box is None else {"box": move(box)}


def scaled(box: Box, down: float, across: float) -> Box:
  """Of the picture with `down` times its height and `across` times its width."""
  x, y, w, h = box
  return x * across, y * down, w * across, h * down


def flipped(box: Box, width: int) -> Box:
  """Of the mirrored picture."""
  x, y, w, h = box
  return width - x - w, y, w, h


def shifted(box: Box, down: int, right: int, height: int, width: int) -> Box | None:
  """Moved by pixels and cut to a picture of this size; None: nothing is left in it."""
  x, y, w, h = box
  left, top = max(0, x + right), max(0, y + down)
  w, h = min(width, x + right + w) - left, min(height, y + down + h) - top
  return (left, top, w, h) if w > 0 and h > 0 else None


@dataclasses.dataclass(frozen=True)
class BoxCrop(Op):
  """Pads every side by `pad` black pixels and crops at random, the box always inside.

  After MRA (arXiv:2507.10195, its data sets' code): each side of the crop is uniform
  between the picture's and the box's, whatever aspect that gives, so a resize follows.
  An example without a box is cropped as if the whole picture were its box: at most the
  padding goes.
  """

  pad: int = 10
  keeps_size: ClassVar[bool] = False

  def __post_init__(self):
    need(whole(self.pad, 0), "pad is a number of pixels")

  def __call__(self, example, rng):
    image, pad = example["image"], self.pad
    height, width = image.shape[:2]
    box = example.get("box") or (0.0, 0.0, float(width), float(height))
    x, y, w, h = box[0] + pad, box[1] + pad, box[2], box[3]
    height, width = height + 2 * pad, width + 2 * pad
    left = _draw(rng, 0, math.floor(x))
    top = _draw(rng, 0, math.floor(y))
    right = _draw(rng, min(math.ceil(x + w), width), width)
    bottom = _draw(rng, min(math.ceil(y + h), height), height)
    canvas = np.zeros((height, width, 3), image.dtype)
    canvas[pad : height - pad, pad : width - pad] = image
    crop = np.ascontiguousarray(canvas[top:bottom, left:right])
    inside = moved(example, lambda _: (x - left, y - top, w, h))
    return {**example, **inside, "image": crop}


def _draw(rng: np.random.Generator, low: int, high: int) -> int:
  """A whole number from low to high, both included."""
  return int(rng.integers(low, high + 1))
