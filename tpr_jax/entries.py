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
from tpr_jax import evaluate, rankings
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
  top: int = evaluate.TOP,
  again: Callable[..., evaluate.Evaluation] | None = None,
) -> dict[str, dict[str, Any]]:
  """{name: scores} of `features` as results.json has them; writes rankings/NAME.npz.

  With `save_features` also features/NAME.npz.

  Args:
    entry: of `config.evals` (configs/common.evaluation).
    how: `config.eval`.
    folder: that the files go to; None: none are written.
    top: images of each query that `again` is given.
    again: what makes another ranking of the first one (two_stage.score): its scores
      and its file are NAME.reranked.

  Raises:
    EvaluationError: as `evaluate.score`.
    ConfigError: intervals that cannot be made.
  """
  with configs.errors():
    intervals = evaluate.bootstrap(how)
  common = dict(group_by=entry["group_by"], intervals=intervals, mesh=mesh)
  found = evaluate.score(
    features, data, i2t=entry["i2t"], msd_variant=how["msd_variant"], top=top, **common
  )
  scored = {name: found}
  if again is not None:
    scored[f"{name}{rankings.RERANKED}"] = again(found, say=say, **common)
  if folder is not None:
    (folder / "rankings").mkdir(parents=True, exist_ok=True)
    for label, one in scored.items():
      np.savez_compressed(folder / "rankings" / f"{label}.npz", **one.rankings)
    if how.get("save_features", False):
      path = folder / "features" / f"{name}.npz"
      evaluate.save(features, data, path, group_by=entry["group_by"])
      say(f"    features: {path}")
  notes = {k: [entry["note"], one.scores.get("note")] for k, one in scored.items()}
  return {
    label: {**one.scores, "note": "; ".join(filter(None, notes[label]))}
    for label, one in scored.items()
  }
