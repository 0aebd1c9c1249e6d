"""RandAugment (Cubuk et al., arXiv:1909.13719) in the form that APTM trains with.

APTM (arXiv:2306.02898) and ALBEF draw `ops` of these ten, with replacement, and apply
each with probability a half at one magnitude m of 10:
  identity, auto_contrast, equalize     as Pillow has them
  brightness, sharpness                 factor 0.1 + 1.8 m / 10: at 5 nothing changes
  shear_x, shear_y                      by 0.3 m / 10, along one edge of the picture
  translate_x, translate_y              by m pixels, whatever the size of the picture
  rotate                                by 3 m degrees, about the middle
The last five go either way; what they uncover is grey. A direction is drawn for the
others too, so that what is drawn does not depend on the op.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from tpr_jax.data import boxes
from tpr_jax.data.op import Op, PipeError, need, number, share, whole

GREY = (128, 128, 128)
_COLOURS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
  "identity": lambda image, m: image,
  "auto_contrast": lambda image, m: ImageOps.autocontrast(image),
  "equalize": lambda image, m: ImageOps.equalize(image),
  "brightness": lambda image, m: ImageEnhance.Brightness(image).enhance(_factor(m)),
  "sharpness": lambda image, m: ImageEnhance.Sharpness(image).enhance(_factor(m)),
}
_MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
KINDS = (*_COLOURS, *_MOVES)
_ORDER = {kind: i for i, kind in enumerate(KINDS)}


def _factor(magnitude: float) -> float:
  return 0.1 + 1.8 * magnitude / 10


def matrix(kind: str, magnitude: float, height: int, width: int) -> np.ndarray:
  """float64 [2, 3]: where (x, y, 1) of the picture goes; negative: the other way."""
  found = np.eye(2, 3)
  if kind == "rotate":
    angle = math.radians(3 * magnitude)
    cos, sin = math.cos(angle), math.sin(angle)
    found[:, :2] = [[cos, -sin], [sin, cos]]
    middle = np.array([width / 2, height / 2])
    found[:, 2] = middle - found[:, :2] @ middle
  else:
    change = {
      "shear_x": ((0, 1), 0.03),
      "shear_y": ((1, 0), 0.03),
      "translate_x": ((0, 2), 1.0),
      "translate_y": ((1, 2), 1.0),
    }
    place, size = change[kind]
    found[place] += size * magnitude
  return found


@dataclasses.dataclass(frozen=True)
class RandAugment(Op):
  """`ops` of `kinds` one after the other, each with probability p (see above).

  A box becomes the smallest upright one around where its corners go, cut to the
  picture; one of which nothing is left is dropped.
  """

  ops: int = 2
  magnitude: float = 7
  p: float = 0.5
  kinds: tuple = KINDS

  def __post_init__(self):
    need(whole(self.ops), "ops is a number > 0")
    need(
      number(self.magnitude) and 0 <= self.magnitude <= 10,
      "magnitude is between 0 and 10",
    )
    need(share(self.p), "p is between 0 and 1")
    known = isinstance(self.kinds, tuple) and all(k in _ORDER for k in self.kinds)
    need(known and self.kinds, f"kinds are some of {', '.join(KINDS)}")

  def __call__(self, example, rng):
    if example["image"].dtype != np.uint8:
      raise PipeError("rand_augment needs a uint8 image: put it before normalize")
    for _ in range(self.ops):
      kind = self.kinds[int(rng.integers(len(self.kinds)))]
      chosen, way = rng.random(2)
      if chosen < self.p:
        magnitude = self.magnitude if way < 0.5 else -self.magnitude
        example = apply(example, kind, magnitude)
    return dict(example)


def apply(example: dict[str, Any], kind: str, magnitude: float) -> dict[str, Any]:
  """One op, on the picture and on the box that may come with it.

  Args:
    kind: of `KINDS`. magnitude: 0 to 10; its sign is the direction of a move.
  """
  picture = Image.fromarray(example["image"])
  if kind in _COLOURS:
    return {**example, "image": np.asarray(_COLOURS[kind](picture, abs(magnitude)))}
  height, width = example["image"].shape[:2]
  forward = matrix(kind, magnitude, height, width)
  back = np.linalg.inv(np.vstack([forward, (0, 0, 1)]))[:2]  # Pillow's direction
  image = picture.transform(
    picture.size,
    Image.Transform.AFFINE,
    tuple(back.ravel()),
    Image.Resampling.BILINEAR,
    fillcolor=GREY,
  )
  box = boxes.moved(example, lambda box: _around(box, forward, height, width))
  return {**example, **box, "image": np.asarray(image)}


def _around(box, forward: np.ndarray, height: int, width: int) -> boxes.Box | None:
  x, y, w, h = box
  corners = np.array([(x, y, 1), (x + w, y, 1), (x, y + h, 1), (x + w, y + h, 1)])
  (left, top), (right, bottom) = (
    bound(corners @ forward.T, axis=0).tolist() for bound in (np.min, np.max)
  )
  return boxes.shifted((left, top, right - left, bottom - top), 0, 0, height, width)
