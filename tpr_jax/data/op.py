"""What an op of a pipe is (transforms.py), and how ops check their arguments."""

import abc
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class PipeError(ValueError):
  """A pipe string cannot be used: says which op and what it takes."""


class Op(abc.ABC):
  """One step of a pipe. `random` ops draw from the rng, the others never do.

  keeps_size: whether the size of the picture it makes is that of the one it is given,
  or else known before.
  """

  random: ClassVar[bool] = True
  keeps_size: ClassVar[bool] = True

  @abc.abstractmethod
  def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> dict: ...

  @property
  def changes_caption(self) -> bool:
    return False

  def captions(self, caption: str) -> set[str]:
    """Every form in which the op may leave this caption."""
    return {caption}


def colour(fill, dtype=np.uint8) -> np.ndarray:
  """The colour [3] to fill with, in the units of the image: pixels for uint8; on
  float32 "mean" is 0 and "irra" is the mean, and numbers are taken as they are."""
  need(
    fill in ("mean", "irra") if isinstance(fill, str) else number(fill) or triple(fill),
    "fill is 'mean', 'irra', a number or three numbers",
  )
  return _colour(tuple(fill) if isinstance(fill, list) else fill, np.dtype(dtype))


@functools.lru_cache(maxsize=64)  # every picture asks for one of a few
def _colour(fill, dtype: np.dtype) -> np.ndarray:
  mean, std = np.array(CLIP_MEAN), np.array(CLIP_STD)
  if isinstance(fill, str):
    unit = np.zeros(3) if fill == "mean" else mean
    if dtype != np.uint8:
      return unit.astype(dtype)
    fill = np.round(255 * (mean + std * unit))
  if dtype == np.uint8:
    need(np.min(fill) >= 0 and np.max(fill) <= 255, "fill is between 0 and 255")
  made = np.broadcast_to(np.asarray(fill, dtype), (3,)).copy()
  made.flags.writeable = False  # all who ask are given this one
  return made


def paint(image: np.ndarray, rgb: np.ndarray) -> None:
  """Writes one colour [3] over [h, w, 3], in place: a row at a time, since numpy is
  slow at repeating three numbers."""
  image[:] = np.tile(rgb, (image.shape[1], 1))


def need(true: bool, message: str) -> None:
  if not true:
    raise ValueError(message)


def number(value) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def whole(value, least: int = 1) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value >= least


def share(value) -> bool:
  return number(value) and 0 <= value <= 1


def triple(value) -> bool:
  return (
    isinstance(value, (tuple, list)) and len(value) == 3 and all(map(number, value))
  )


def interval(value) -> bool:
  pair = (
    isinstance(value, (tuple, list)) and len(value) == 2 and all(map(number, value))
  )
  return bool(pair and 0 <= value[0] <= value[1])
