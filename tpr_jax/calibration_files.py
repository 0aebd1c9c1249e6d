"""`calibration.json`: of a run beside `results.json`, and of an index.

Needs no JAX: a search by stored rows reads it too.
"""

import json
import pathlib

from tpr_jax import config as configs
from tpr_jax.metrics.calibration import Calibration
from tpr_jax.metrics.calibration import CalibrationError as CalibrationError

FILE = "calibration.json"


def write(folder: pathlib.Path, made: Calibration) -> None:
  configs.write_json(folder / FILE, made.to_json())


def read(folder: pathlib.Path) -> Calibration | None:
  """What a folder has; None: nothing. Raises CalibrationError: it cannot be read."""
  path = folder / FILE
  try:
    plain = json.loads(path.read_text(encoding="utf-8"))
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (OSError, ValueError) as error:
    raise CalibrationError(f"{path} cannot be read: {error}") from error
  try:
    return Calibration.from_json(plain)
  except CalibrationError as error:
    raise CalibrationError(f"{path}: {error}") from error
