"""Reading .npz files that a copy, or a full disk, may have broken."""

import os
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

# What numpy, its zip reader and zlib raise on broken files.
_BROKEN = (
  OSError,
  ValueError,
  KeyError,
  EOFError,
  NotImplementedError,
  zipfile.BadZipFile,
  zlib.error,
)


def read(path: str | os.PathLike, make: Callable[[dict[str, np.ndarray]], Any]) -> Any:
  """What `make` makes of the arrays of a file.

  Raises:
    ValueError: says why, whatever is wrong with the file, or with its arrays by `make`.
  """
  try:
    with np.load(path, allow_pickle=False) as archive:
      return make({name: archive[name] for name in archive.files})
  except _BROKEN as error:
    what = f"no array {error}" if isinstance(error, KeyError) else error
    raise ValueError(str(what)) from error
