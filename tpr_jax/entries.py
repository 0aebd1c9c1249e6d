"""One entry of `config.evals`: the data it asks for, its scores, the files they leave.

Shared by a run's evaluation, that of any model, and the cells of a matrix.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from tpr_jax import config as configs
from tpr_jax import evaluate
from tpr_jax.data import build as data_build
from tpr_jax.data.record import Dataset


def dataset(config: ConfigDict, name: str) -> Dataset:
  """The dataset of one entry of `config.evals`.

  Raises:
    DatasetError: it is not there, or cannot be used.
  """
  entry, data = config.evals[name], config.data
  options = entry.options.to_dict()
  if not entry.name or entry.name == data.name:
    options = {**data.options.to_dict(), **options}
  return data_build.dataset(
    entry.name or data.name, entry.root or data.root, entry.split, options
  )


def score(
  name: str,
  features: evaluate.Features,
  data: Dataset,
  *,
  entry: Mapping[str, Any],
  how: Mapping[str, Any],
  mesh: Mesh,
  folder: pathlib.Path | None,
  say: Callable[[str], None] = print,
) -> dict[str, Any]:
  """Scores of `features` as results.json has them; writes rankings/NAME.npz.

  With `save_features` also features/NAME.npz.

  Args:
    entry: of `config.evals` (configs/common.evaluation).
    how: `config.eval`.
    folder: that the files go to; None: none are written.

  Raises:
    EvaluationError: as `evaluate.score`.
    ConfigError: intervals that cannot be made.
  """
  with configs.errors():
    intervals = evaluate.bootstrap(how)
  found = evaluate.score(
    features,
    data,
    i2t=entry["i2t"],
    group_by=entry["group_by"],
    msd_variant=how["msd_variant"],
    intervals=intervals,
    mesh=mesh,
  )
  if folder is not None:
    (folder / "rankings").mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "rankings" / f"{name}.npz", **found.rankings)
    if how.get("save_features", False):
      path = folder / "features" / f"{name}.npz"
      evaluate.save(features, data, path, group_by=entry["group_by"])
      say(f"    features: {path}")
  return {**found.scores, "note": entry["note"]}
