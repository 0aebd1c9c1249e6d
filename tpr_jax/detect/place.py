"""A detector of people that need not be loaded: what it is, and where."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from tpr_jax.detect.problems import DetectorError
from tpr_jax.detect.wanted import Wanted

_WEIGHTS = (".safetensors", ".bin", ".json")


class Detector(Protocol):
  """Finds people; called by one thread at a time."""

  def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 RGB [h, w, 3] -> float [N, 4], left, top, right, bottom in its pixels, and
    float [N], scores of showing a person. Not cleaned: `boxes.clean` does that."""


@dataclasses.dataclass(frozen=True)
class Place:
  """`Wanted` as something to load."""

  wanted: Wanted

  def identity(self) -> dict[str, Any]:
    """Plain values: "digest" of its weights and configuration, of which every byte is
    read; "place"; "settings"."""
    from tpr_jax import weights_id  # brings JAX

    path = self.wanted.place
    return dict(
      place=str(path.resolve()),
      digest=weights_id.digest(_root(path), _files(path)),
      settings=self.wanted.settings(),
    )

  def load(self) -> Detector:
    """Raises DetectorError: it is none that is understood, or an extra is missing."""
    if self.wanted.place.is_dir():
      from tpr_jax.detect import folder

      return folder.load(self.wanted)
    from tpr_jax.detect import onnx_file

    return onnx_file.load(self.wanted)


def _files(path: pathlib.Path) -> list[pathlib.Path]:
  """All files that a detector's answers depend on."""
  if path.is_dir():
    return [each for each in path.iterdir() if each.suffix in _WEIGHTS]
  # Large weights lie beside the graph: model.onnx_data, model.onnx.data.
  own = [each for each in path.parent.iterdir() if each.name.startswith(path.name)]
  return own + list(beside(path).values())


def _root(path: pathlib.Path) -> pathlib.Path:
  """The folder of all that belongs to a detector."""
  if path.is_dir():
    return path
  return path.parent.parent if path.parent.name == "onnx" else path.parent


def beside(path: pathlib.Path) -> dict[str, pathlib.Path]:
  """transformers' two JSON files of an .onnx file: in its folder, or above onnx/."""
  root = _root(path)
  names = ("config.json", "preprocessor_config.json")
  return {name: root / name for name in names if (root / name).is_file()}


def people(names: Mapping[int, str], wanted: Wanted) -> list[int]:
  """Numbers of the class that is asked for.

  Args:
    names: of the classes, as far as the detector tells them; may be empty.

  Raises:
    DetectorError: no class has that name, or the names are not known.
  """
  person = wanted.person
  if person.isdigit():
    if names and int(person) not in names:
      raise DetectorError(
        f"--detect_class={person}: {wanted.place} has the classes"
        f" {min(names)} to {max(names)}"
      )
    return [int(person)]
  if not names:
    raise DetectorError(
      f"{wanted.place} does not tell the names of its classes, so {person!r} cannot be"
      " looked up: give its number, --detect_class=0 in most exports with COCO's 80"
      " classes, 1 in those with COCO's 91"
    )
  found = [at for at, name in names.items() if name.lower() == person.lower()]
  if not found:
    some = ", ".join(map(repr, list(names.values())[:8]))
    raise DetectorError(
      f"{wanted.place} has no class {person!r}; it has {len(names):,}: {some}"
      f"{', ...' if len(names) > 8 else ''}; name one with --detect_class=NAME"
    )
  return found
