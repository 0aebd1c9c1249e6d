"""What is asked of a detector on the command line, checked before it is loaded."""

import dataclasses
import os
import pathlib
import re
from typing import Any

from tpr_jax.detect.problems import DetectorError

SCORE, HEIGHT, MARGIN, PERSON = 0.5, 32, 0.0, "person"
_WIDEST = 1.0  # margin: a box's own width and height on each of its sides
_LARGEST = 4_096  # pixels of a side of what a detector sees
KINDS = (
  "a folder with an object-detection model saved by transformers' save_pretrained"
  " (config.json, preprocessor_config.json, model.safetensors), or an .onnx file"
)


@dataclasses.dataclass(frozen=True)
class Wanted:
  """--detect and its flags.

  Attributes:
    place: a folder of transformers, or an .onnx file.
    score: of a box, at least.
    height: of a person in the frame, at least; pixels.
    margin: how much of a box's sides is added on each side of what is cut out.
    person: the name of the class, or its number as digits.
    size: (height, width) of what an .onnx file sees, where it leaves that open.
  """

  place: pathlib.Path
  score: float = SCORE
  height: int = HEIGHT
  margin: float = MARGIN
  person: str = PERSON
  size: tuple[int, int] | None = None

  def settings(self) -> dict[str, Any]:
    """Plain values, all but the place; named as the flags are."""
    return {
      "score": self.score,
      "height": self.height,
      "margin": self.margin,
      "class": self.person,
      "size": None if self.size is None else list(self.size),
    }


def wanted(
  place: str,
  *,
  score: float = SCORE,
  height: int = HEIGHT,
  margin: float = MARGIN,
  person: str = PERSON,
  size: str | None = None,
) -> Wanted:
  """Raises DetectorError: there is no detector, or a value that it cannot have."""
  if not place.strip() or place.startswith("--"):
    raise DetectorError(
      f"--detect has no value: give a detector's weights, --detect=DETECTOR: {KINDS}."
      " tpr_jax brings none"
    )
  path = pathlib.Path(os.path.expanduser(place))
  if not path.exists():
    raise DetectorError(
      f"--detect={place}: there is no such file or folder. Expected {KINDS}; nothing is"
      " downloaded"
    )
  if path.is_file() and path.suffix.lower() != ".onnx":
    raise DetectorError(
      f"--detect={place}: found a file with the suffix {path.suffix!r}, expected"
      f" {KINDS}"
    )
  if not 0 < score < 1:
    raise DetectorError(f"--detect_score={score:g}: expected a number between 0 and 1")
  if height < 1:
    raise DetectorError(f"--detect_height={height}: expected 1 pixel or more")
  if not 0 <= margin <= _WIDEST:
    raise DetectorError(
      f"--detect_margin={margin:g}: expected a share of the box's sides from 0 to"
      f" {_WIDEST:g}, for example 0.05"
    )
  if not person.strip():
    raise DetectorError("--detect_class is empty: give a class's name or its number")
  return Wanted(path, score, height, margin, person.strip(), _size(size))


def _size(value: str | None) -> tuple[int, int] | None:
  if value is None:
    return None
  match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", value)
  if match is None or max(int(match[1]), int(match[2])) > _LARGEST:
    raise DetectorError(
      f"--detect_size={value}: expected HEIGHTxWIDTH of up to {_LARGEST:,} pixels, for"
      " example 640x640"
    )
  return int(match[1]), int(match[2])
