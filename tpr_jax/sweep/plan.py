"""The plan of a sweep: every run that its config names, checked before any starts."""

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from tpr_jax import config as configs
from tpr_jax import rankings
from tpr_jax.metrics import localisation
from tpr_jax.report import tables

SEED = "{seed}"  # in an override: the run's own
FIELDS = ("name", "rows", "scores", "seeds", "base", "baseline", "jobs")


@dataclasses.dataclass(frozen=True)
class Run:
  """One process: one row of the table with one seed.

  Attributes:
    row, seed: its place in the table.
    folder: its run folder.
    arguments: what follows `python -m tpr_jax.main`.
    config: the plain config that its folder will hold.
  """

  row: str
  seed: int
  folder: pathlib.Path
  arguments: tuple[str, ...]
  config: dict[str, Any]

  @property
  def label(self) -> str:
    return f"{self.row}, seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Plan:
  """A sweep. `runs` are in the order in which they start: every row of the first seed,
  then of the second, so that each row has a number early."""

  folder: pathlib.Path
  rows: tuple[str, ...]
  seeds: tuple[int, ...]
  scores: tuple[str, ...]
  baseline: str
  jobs: int
  runs: tuple[Run, ...]
  config: dict[str, Any]


def is_sweep(config: ConfigDict) -> bool:
  """Is this a list of runs, rather than the config of one?"""
  return "rows" in config and "seeds" in config


def build(config: ConfigDict, folder: pathlib.Path) -> Plan:
  """Reads and checks every row's config.

  Args:
    config: made by configs/common.sweep.
    folder: of the whole sweep; each run gets one inside.

  Raises:
    ConfigError: a field of the sweep cannot be used; a row's config or override is
      unknown, or doesn't have the scores; or a run's folder holds another config.
  """
  _check(config)
  names = _folder_names([row[0] for row in config.rows])
  made: dict[tuple[str, int], Run] = {}
  for row, value, overrides in config.rows:
    for seed in config.seeds:
      words = [word.replace(SEED, str(seed)) for word in (*config.base, *overrides)]
      with _named(row):
        single = _config_of_run(configs.resolve(value), words)
        _check_scores(single, config.scores)
      own = folder / f"{names[row]}-seed{seed}"
      plain = {**configs.plain(single), "seed": seed}
      why = configs.occupied(own, plain)
      if why:
        raise configs.ConfigError(f"row {row!r}, seed {seed}: {why}")
      options = (*words, f"seed={seed}")
      arguments = (f"--config={value}", *(f"--config.{word}" for word in options))
      made[row, seed] = Run(row, seed, own, (*arguments, f"--run={own}"), plain)
  rows, seeds = tuple(row[0] for row in config.rows), tuple(config.seeds)
  return Plan(
    folder=folder,
    rows=rows,
    seeds=seeds,
    scores=tuple(config.scores),
    baseline=config.baseline,
    jobs=config.jobs,
    runs=tuple(made[row, seed] for seed in seeds for row in rows),
    config=configs.plain(config),
  )


@contextlib.contextmanager
def _named(row: str) -> Iterator[None]:
  """Errors with the row that they are about."""
  try:
    yield
  except configs.ConfigError as error:
    raise configs.ConfigError(f"row {row!r}: {error}") from error


def _folder_names(rows: Sequence[str]) -> dict[str, str]:
  """Row -> a name that a folder can have."""
  found: dict[str, str] = {}
  for row in rows:
    name = re.sub(r"[^\w.-]+", "_", row).strip("._-")
    # Some file systems take "A" and "a" for one name.
    same = [other for other, taken in found.items() if taken.lower() == name.lower()]
    if same or not name:
      raise configs.ConfigError(
        f"rows: {row!r} "
        + (f"and {same[0]!r} would share a folder" if same else "names no folder")
        + "; every row needs letters or digits that no other row has"
      )
    found[row] = name
  return found


def _words(value: Any) -> bool:
  return isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)


def _is_row(row: Any) -> bool:
  return (
    isinstance(row, list | tuple)
    and len(row) == 3
    and _words(row[:2])
    and _words(row[2])
  )


def _whole(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def _check(config: ConfigDict) -> None:
  """The sweep's own fields; those of its runs are checked one by one."""
  lacking = [name for name in FIELDS if name not in config]
  if lacking:
    raise configs.ConfigError(
      f"the sweep has no {', '.join(lacking)}: make it with configs/common.sweep"
    )
  rows, seeds = config.rows, config.seeds
  several = isinstance(rows, list | tuple) and len(rows) > 0
  if not several or not all(map(_is_row, rows)):
    raise configs.ConfigError(
      "rows: expected (row, --config value, (override, ...)) for each, for example"
      f' ("CFAM", "configs/cfam.py", ("train.steps=500",)); got {rows!r}'
    )
  if not isinstance(seeds, list | tuple) or not seeds or not all(map(_whole, seeds)):
    raise configs.ConfigError(f"seeds={seeds!r}: expected whole numbers, as (0, 1)")
  if len(set(seeds)) < len(seeds):
    raise configs.ConfigError(f"seeds={tuple(seeds)}: one of them is there twice")
  for name in ("base", "scores"):
    if not _words(config[name]):
      raise configs.ConfigError(
        f"{name}={config[name]!r}: expected a tuple of texts, as ('a', 'b') or ('a',)"
      )
  if not config.scores:
    raise configs.ConfigError("scores: none given, for example ('test/R1',)")
  if config.baseline and config.baseline not in [row[0] for row in rows]:
    raise configs.ConfigError(
      f"baseline={config.baseline!r}: no such row; rows:"
      f" {', '.join(row[0] for row in rows)}"
    )
  if not _whole(config.jobs) or config.jobs < 1:
    raise configs.ConfigError(f"jobs={config.jobs!r}: expected 1 or more runs at once")
  for word in (*config.base, *(word for row in rows for word in row[2])):
    _check_override(word)


def _check_override(word: str) -> None:
  field, equals, _ = word.partition("=")
  if not equals or word.startswith("-"):
    raise configs.ConfigError(
      f"override {word!r}: expected FIELD=VALUE, for example 'train.steps=500'"
    )
  if field == "seed":
    raise configs.ConfigError(
      f"override {word!r}: the seeds of a sweep are its own field, seeds=(0, 1, 2)"
    )


def _config_of_run(value: str, overrides: Sequence[str]) -> ConfigDict:
  if is_sweep(configs.read(value)):
    raise configs.ConfigError(f"{value} is a sweep itself; name the config of a run")
  return configs.overridden(value, overrides)


def _check_scores(config: ConfigDict, scores: Sequence[str]) -> None:
  """Will a run of this config have these scores?"""
  entries, again = list(config.evals), []
  if config.get("eval", {}).get("rerank", {}).get("by"):
    again = [f"{entry}{rankings.RERANKED}" for entry in entries]
  for name in scores:
    entry, _, metric = name.partition("/")
    if entry not in entries + again:
      known = ", ".join(entries + again)
      raise configs.ConfigError(f"score {name!r}: evals has {known}, no {entry!r}")
    if entry in again and metric == "mSD":
      raise configs.ConfigError(f"score {name!r}: a re-ranked list has no mSD")
    if metric in localisation.SCORES:
      _check_localised(config, name, entry)
    elif metric not in tables.METRICS:
      known = ", ".join((*tables.METRICS, *localisation.SCORES))
      raise configs.ConfigError(
        f"score {name!r}: expected EVAL/METRIC with one of {known}"
      )


def _check_localised(config: ConfigDict, name: str, entry: str) -> None:
  """Are phrases looked for in this test (tpr_jax/localise.py)?"""
  test = config.evals.get(entry)  # None: a re-ranked list
  regions = test is not None and test.options.get("regions", True)
  if not config.get("eval", {}).get("localise") or not regions:
    raise configs.ConfigError(
      f"score {name!r}: phrases are looked for in tests whose data has regions, one"
      " stage, with eval.localise above 0"
    )
