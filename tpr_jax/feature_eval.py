"""`--mode=eval --features=FILE`: the table of a feature file, of whatever origin."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from tpr_jax import config as configs
from tpr_jax import evaluate, feature_files, rankings
from tpr_jax.core import sharding
from tpr_jax.metrics import msd
from tpr_jax.metrics.uncertainty import Bootstrap
from tpr_jax.report import tables


@dataclasses.dataclass(frozen=True)
class Options:
  """What the command line chooses.

  Attributes:
    group_by: columns, after commas, whose values are also reported apart (groups.py).
    i2t: also image to text.
    msd_variant: metrics/msd.py.
    intervals: how they are made; None: none.
  """

  group_by: str = ""
  i2t: bool = False
  msd_variant: str = msd.VARIANTS[0]
  intervals: Bootstrap | None = dataclasses.field(default_factory=Bootstrap)


def run(place: str, out: pathlib.Path | None, options: Options) -> dict[str, Any]:
  """Prints the table; with `out`, also writes `results.json` and `rankings/NAME.npz`.

  Args:
    place: "FILE.npz" and what else `feature_files.read` takes.

  Returns:
    What `results.json` holds.

  Raises:
    FeatureError: a file that cannot be used, or `out` holds something else.
    EvaluationError: no query has a match, or a feature without direction.
  """
  if out is not None:
    _check_free(out)
  found = feature_files.read(place)
  for name in found.unused:
    print(f"{place}: {name!r} is not used (names begin with query_ or gallery_).")
  scored = evaluate.score_arrays(
    found.query,
    found.gallery,
    found.query_ids,
    found.gallery_ids,
    where=place,
    groups=feature_files.groups(found, options.group_by),
    i2t=options.i2t,
    msd_variant=options.msd_variant,
    intervals=options.intervals,
    mesh=sharding.make_mesh(dict(data=-1)) if jax.device_count() > 1 else None,
  )
  results = {
    "features": place,
    "msd_variant": options.msd_variant,
    "evals": {found.name: {**scored.scores, "note": ""}},
  }
  print(tables.results_table(results))
  if out is not None:
    _write(out, found, results, scored.rankings)
    print(f"\nWritten: {out / 'results.json'}")
  return results


def _check_free(out: pathlib.Path) -> None:
  """Results of a run must not be lost to a mistyped folder."""
  there = configs.read_json(out / "results.json")
  if (out / "config.json").exists() or (there and "features" not in there):
    raise feature_files.FeatureError(
      f"--out={out} is the folder of a run; give another one"
    )


def _write(
  out: pathlib.Path,
  found: feature_files.FeatureFile,
  results: dict[str, Any],
  arrays: dict[str, np.ndarray],
) -> None:
  if found.text is not None:
    arrays = {**arrays, "query_digest": rankings.digests(found.text)}
  if found.gallery_path is not None:
    arrays = {**arrays, "gallery_digest": rankings.digests(found.gallery_path)}
  (out / "rankings").mkdir(parents=True, exist_ok=True)
  np.savez_compressed(out / "rankings" / f"{found.name}.npz", **arrays)
  configs.write_json(out / "results.json", results)
