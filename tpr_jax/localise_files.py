"""Where phrases look in their pictures, beside their true boxes: `localise/NAME.npz`.

Written by an evaluation (localise.py), drawn by the report. No JAX here. n phrases, F
fusion layers, N = rows * columns cells. The file holds `record`, `region`, `other`
int32 [n]; `phrase`, `kind` strings [n]; `box` float64 [n, 4]; `maps` float32 [n, F, N];
`other_map` float32 [n, N]; `layers` int32 [F]; `grid`, `size` int32 [2]; `by`, a
string; `broken` int32 [].
"""

import dataclasses
import pathlib
from typing import ClassVar

import numpy as np

from tpr_jax.core import npz
from tpr_jax.metrics import localisation


class LocaliseError(Exception):
  """A file of maps cannot be used: names it and says why."""


@dataclasses.dataclass(frozen=True)
class Looks:
  """Phrases of one evaluation, each asked of its own picture.

  Attributes:
    by: what the maps are, of models/cross_maps.BY.
    grid: (rows, columns) of the maps. size: (height, width) of the pictures.
    layers: int32 [F], their numbers in the text tower.
    record, region: int32 [n], which region of which record.
    phrase, kind: strings [n]; kind "": the data does not say.
    box: float64 [n, 4], (cx, cy, w, h) as shares of the picture.
    maps: float32 [n, F, N] >= 0, not scaled.
    other: int32 [n], another region of the same record; -1: there is none.
    other_map: float32 [n, N], mean map of its phrase; 0 where there is none.
    broken: phrases left out, for their pictures cannot be read.
  """

  by: str
  grid: tuple[int, int]
  size: tuple[int, int]
  layers: np.ndarray
  record: np.ndarray
  region: np.ndarray
  phrase: np.ndarray
  kind: np.ndarray
  box: np.ndarray
  maps: np.ndarray
  other: np.ndarray
  other_map: np.ndarray
  broken: int = 0

  ARRAYS: ClassVar = dict(
    layers="i", record="i", region="i", phrase="U", kind="U", box="f", maps="f",
    other="i", other_map="f",
  )  # fmt: skip

  @property
  def mean(self) -> np.ndarray:
    """float64 [n, N]: the mean map of all layers, each summing to 1."""
    return localisation.shares(self.maps.mean(axis=1))


def write(path: pathlib.Path, found: Looks) -> None:
  """Writes one file, in place of an older one; makes its folder."""
  path.parent.mkdir(parents=True, exist_ok=True)
  np.savez_compressed(
    path,
    by=np.str_(found.by),
    grid=np.array(found.grid, np.int32),
    size=np.array(found.size, np.int32),
    broken=np.int32(found.broken),
    **{name: getattr(found, name) for name in Looks.ARRAYS},
  )


def read(path: pathlib.Path) -> Looks:
  """One file.

  Raises:
    LocaliseError: it cannot be read, or its arrays don't fit each other.
  """
  try:
    return npz.read(path, _looks)
  except ValueError as error:
    raise LocaliseError(
      f"{path} cannot be used ({error}); score the run again with --mode=eval --run=DIR"
    ) from error


def _looks(arrays: dict[str, np.ndarray]) -> Looks:
  grid, size = (
    tuple(int(number) for number in arrays[name]) for name in ("grid", "size")
  )
  n, layers, cells = len(arrays["record"]), len(arrays["layers"]), int(np.prod(grid))
  shapes = dict.fromkeys(Looks.ARRAYS, (n,)) | dict(
    layers=(layers,), box=(n, 4), maps=(n, layers, cells), other_map=(n, cells)
  )
  for name, kind in Looks.ARRAYS.items():
    found = arrays[name]
    if found.shape != shapes[name] or found.dtype.kind != kind:
      raise ValueError(
        f"{name!r} has shape {found.shape} and type {found.dtype}, expected"
        f" {shapes[name]}"
      )
  localisation.measure(arrays["maps"].mean(axis=1), arrays["box"], grid)
  return Looks(
    by=str(arrays["by"]),
    grid=grid,
    size=size,
    broken=int(arrays["broken"]),
    **{name: arrays[name] for name in Looks.ARRAYS},
  )
