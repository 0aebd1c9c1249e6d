"""How a frame is brought to what an .onnx detector sees, and boxes back to the frame.

letterbox  YOLO: scaled to fit, in the middle of gray (114), RGB / 255.
stretched  RT-DETR's and D-FINE's own exports: both sides scaled apart, RGB / 255.
plain      torchvision: not scaled at all, RGB / 255; its graph does the rest.
processor  transformers' exports: as preprocessor_config.json says.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from tpr_jax.detect.problems import DetectorError

_GRAY = 114
_UNIT = 1 / 255
# What is understood of preprocessor_config.json; anything else that changes pixels is
# an error rather than other boxes.
_SIDES = ({"height", "width"}, {"shortest_edge", "longest_edge"}, {"shortest_edge"})


@dataclasses.dataclass(frozen=True)
class Seen:
  """What a detector sees of a frame.

  Attributes:
    pixels: float32 [1, 3, H, W].
    scale: (x, y), its pixels by those of the frame.
    corner: (x, y) in it of the frame's left upper corner.
  """

  pixels: np.ndarray
  scale: tuple[float, float]
  corner: tuple[float, float] = (0.0, 0.0)

  def in_frame(self, corners: np.ndarray) -> np.ndarray:
    """[N, 4], left, top, right, bottom in what is seen -> in pixels of the frame."""
    shift, scale = np.tile(self.corner, 2), np.tile(self.scale, 2)
    return (corners - shift) / scale


def letterbox(frame: np.ndarray, size: tuple[int, int]) -> Seen:
  """uint8 [h, w, 3], (H, W) -> what YOLO sees."""
  (height, width), (high, wide) = frame.shape[:2], size
  share = min(high / height, wide / width)
  inner = max(round(height * share), 1), max(round(width * share), 1)
  # Of an odd rest the smaller half comes first, as where these were trained.
  top, left = (high - inner[0]) // 2, (wide - inner[1]) // 2
  whole = np.full((high, wide, 3), _GRAY, np.uint8)
  whole[top : top + inner[0], left : left + inner[1]] = _sampled(frame, inner)
  scale = inner[1] / width, inner[0] / height
  return Seen(_planes(whole), scale, (left, top))


def stretched(frame: np.ndarray, size: tuple[int, int]) -> Seen:
  """uint8 [h, w, 3], (H, W) -> the whole frame in that size."""
  scale = size[1] / frame.shape[1], size[0] / frame.shape[0]
  return Seen(_planes(_resized(frame, size)), scale)


def plain(frame: np.ndarray) -> Seen:
  return Seen(_planes(frame), (1.0, 1.0))


@dataclasses.dataclass(frozen=True)
class Processor:
  """preprocessor_config.json, the part that is about pixels.

  Attributes:
    size: height and width, or shortest_edge and perhaps longest_edge; None: not scaled.
    factor: of bytes. mean, deviation: float32 [3, 1, 1].
    resample: Pillow's filter.
    step: sides that keep their ratio are cut to multiples of it.
  """

  size: Mapping[str, int] | None
  factor: float
  mean: np.ndarray
  deviation: np.ndarray
  resample: int
  step: int = 1

  @classmethod
  def of(cls, said: Mapping[str, Any], where: str) -> "Processor":
    """Raises DetectorError: it asks for something that is not understood here."""
    size = said.get("size") if said.get("do_resize", True) else None
    if said.get("do_resize", True) and (
      not isinstance(size, Mapping) or {k for k, v in size.items() if v} not in _SIDES
    ):
      raise DetectorError(
        f"{where}: found size={size!r}, expected height and width, or shortest_edge and"
        " longest_edge"
      )
    if said.get("pad_size") or said.get("do_center_crop"):
      raise DetectorError(
        f"{where} pads or crops (pad_size, do_center_crop), which is not understood of"
        " an .onnx file; give the transformers folder itself"
      )
    normal = said.get("do_normalize", True)
    try:
      three = [
        np.float32(said[name] if normal else each).reshape(3, 1, 1)
        for name, each in (("image_mean", [0] * 3), ("image_std", [1] * 3))
      ]
    except (KeyError, ValueError, TypeError) as error:
      raise DetectorError(
        f"{where}: do_normalize needs image_mean and image_std, three numbers each"
        f" ({type(error).__name__}: {error})"
      ) from error
    factor = said.get("rescale_factor", _UNIT) if said.get("do_rescale", True) else 1.0
    # YOLOS alone sees whole patches (transformers 5, its get_size_with_aspect_ratio).
    step = 16 if said.get("image_processor_type", "").startswith("Yolos") else 1
    return cls(size, float(factor), *three, int(said.get("resample", 2)), step)

  def __call__(self, frame: np.ndarray, fixed: tuple[int, int] | None) -> Seen:
    """fixed: (H, W) that the graph asks for, whatever the processor says."""
    size = fixed or self._size(*frame.shape[:2])
    small = _resized(frame, size, self.resample)
    planes = (_planes(small, self.factor) - self.mean) / self.deviation
    return Seen(planes, (size[1] / frame.shape[1], size[0] / frame.shape[0]))

  def _size(self, height: int, width: int) -> tuple[int, int]:
    if self.size is None:
      return height, width
    if self.size.get("height"):
      return self.size["height"], self.size["width"]
    share = self.size["shortest_edge"] / min(height, width)
    if longest := self.size.get("longest_edge"):
      share = min(share, longest / max(height, width))
    sides = (round(side * share) for side in (height, width))
    high, wide = (max(side - side % self.step, self.step) for side in sides)
    return high, wide


def _resized(
  frame: np.ndarray, size: tuple[int, int], resample: int = Image.Resampling.BILINEAR
) -> np.ndarray:
  if frame.shape[:2] == size:
    return frame
  return np.asarray(Image.fromarray(frame).resize(size[::-1], resample))


def _sampled(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Bilinear between the four pixels next to each place, however much smaller it gets:
  OpenCV's way, by which YOLO is trained. (Pillow's own averages over all pixels.)"""
  if frame.shape[:2] == size:
    return frame
  down, across = frame.shape[0] / size[0], frame.shape[1] / size[1]
  picture = Image.fromarray(frame).transform(
    size[::-1],
    Image.Transform.AFFINE,
    (across, 0, 0, 0, down, 0),
    Image.Resampling.BILINEAR,
  )
  return np.asarray(picture)


def _planes(pixels: np.ndarray, factor: float = _UNIT) -> np.ndarray:
  """uint8 [h, w, 3] -> float32 [1, 3, h, w], times `factor`."""
  planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
  return planes.astype(np.float32) * np.float32(factor)
