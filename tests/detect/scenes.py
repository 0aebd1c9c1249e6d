"""Scene photographs: rendered people in places that are known, on gray."""

import functools
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from tpr_jax.data.rendered import draw, sampling, views
from tpr_jax.detect import place, wanted

HERE = pathlib.Path(__file__).parent
LAYOUTS = ("yolo", "end2end", "torchvision", "dfine", "detr")
GRAY = 114
HEIGHTS = (96, 128, 168)  # of people in a frame of 320 x 320


class Figure(NamedTuple):
  """left, top: pixels of the frame. number: of the person that is drawn."""

  left: int
  top: int
  height: int
  number: int = 0

  @property
  def corners(self):
    return self.left, self.top, self.left + self.height // 3, self.top + self.height


@functools.cache
def person(number, height):
  """uint8 [height, height // 3, 3]."""
  rng = np.random.default_rng([7, number])
  who = sampling.sample_person(rng)
  view = views.sample_view(rng, "street")
  return draw.draw(who, view, height, height // 3, rng, regions=False)[0]


def scene(*figures, size=(320, 320)):
  """uint8 [h, w, 3]."""
  frame = np.full((*size, 3), GRAY, np.uint8)
  for each in figures:
    left, top, right, bottom = each.corners
    frame[top:bottom, left:right] = person(each.number, each.height)
  return frame


def crowd(number, most=4):
  """Up to `most` figures apart from each other, in a frame of 320 x 320."""
  rng = np.random.default_rng([3, number])
  figures = []
  for column in rng.permutation(4)[: int(rng.integers(1, most + 1))]:
    height = int(rng.choice(HEIGHTS))
    left = 80 * int(column) + int(rng.integers(4, 20))
    top = int(rng.integers(4, 316 - height))
    figures.append(Figure(left, top, height, int(rng.integers(100))))
  return figures


def detector(layout="yolo", **given):
  """A Place; the layouts that do not tell their classes are told."""
  if layout in ("torchvision", "dfine"):
    given.setdefault("person", "1")
  return place.Place(wanted.wanted(str(file(layout)), **given))


def file(layout="yolo"):
  return (HERE / "detr" if layout == "detr" else HERE) / f"{layout}.onnx"


def write(path, frame, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(frame).save(path, **options)
  return path


def overlap(one, other):
  """Intersection over union of two (left, top, right, bottom)."""
  one, other = np.asarray(one), np.asarray(other)
  low = np.maximum(one[:2], other[:2])
  high = np.minimum(one[2:], other[2:])
  shared = np.clip(high - low, 0, None).prod()
  area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
  return shared / (area(one) + area(other) - shared)
