"""The fields of configs/matrix.py, checked before any model is loaded. No JAX here."""

import dataclasses
import glob
import hashlib
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from tpr_jax import config as configs
from tpr_jax.core import text
from tpr_jax.data import build
from tpr_jax.matrix.problems import MatrixError
from tpr_jax.report import tables

FIELDS = (
  "name",
  "title",
  "root",
  "rows",
  "columns",
  "own",
  "scores",
  "decimals",
  "eval",
  "mesh",
  "threads",
  "load",
)
_ENTRY = ("name", "root", "split", "group_by", "i2t", "note", "options")
_LOAD = ("image_size", "text_length", "tokenizer", "activation", "dtype")
_DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Place:
  """One model of a row.

  Attributes:
    label: short, and unlike those of the row's other models; a folder's name too.
    place: what `loading.load` takes.
  """

  label: str
  place: str


@dataclasses.dataclass(frozen=True)
class Row:
  """Models under one label: seeds of one recipe. `own`: its column, "" for none."""

  label: str
  folder: str
  places: tuple[Place, ...]
  own: str


@dataclasses.dataclass(frozen=True)
class Column:
  """One test set. `entry`: the fields of `common.evaluation`, plain, root filled in."""

  label: str
  folder: str
  entry: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Settings:
  """A matrix, checked; `config` is the plain config that it was read from."""

  rows: tuple[Row, ...]
  columns: tuple[Column, ...]
  title: str
  scores: tuple[str, ...]
  decimals: int
  eval: Mapping[str, Any]
  mesh: Mapping[str, int]
  threads: int
  load: Mapping[str, Any]
  config: Mapping[str, Any]


def is_matrix(config: ConfigDict) -> bool:
  """Is this a matrix, rather than the config of a run?"""
  return "rows" in config and "columns" in config


def read(config: ConfigDict) -> Settings:
  """The settings of a config made by configs/matrix.py.

  Patterns among the models become the folders and files that are there now.

  Raises:
    MatrixError: a value that its field cannot have; no row; no column.
  """
  lacking = [field for field in FIELDS if field not in config]
  _expect(
    "config", f"no {', '.join(lacking)}", not lacking, "what configs/matrix.py has"
  )
  given = {label: places for label, places in config.rows.items() if len(places)}
  if not given:
    raise MatrixError(
      "no row has a model; name them, seeds joined by +, for example"
      " --config=configs/matrix.py:rendered,fine=runs/a+runs/b"
      + "".join(f' or --config.rows.{row}="runs/a,runs/b"' for row in config.rows)
    )
  _expect("columns", "none", len(config.columns) > 0, "one test set at least")
  scores = tuple(config.scores)
  known = bool(scores) and all(score in tables.METRICS for score in scores)
  _expect("scores", scores, known, f"some of {', '.join(tables.METRICS)}")
  _whole("decimals", config.decimals, 0, 4)
  _whole("threads", config.threads, 1)
  _whole("eval.batch", config.eval.batch, 1)
  folders = _folders("rows", tuple(given)), _folders("columns", tuple(config.columns))
  return Settings(
    rows=tuple(
      Row(label, folders[0][label], _places(label, places), _own(label, config))
      for label, places in given.items()
    ),
    columns=tuple(
      Column(label, folders[1][label], _entry(label, config))
      for label in config.columns
    ),
    title=config.title,
    scores=scores,
    decimals=config.decimals,
    eval=configs.plain(config.eval),
    mesh=configs.plain(config.mesh),
    threads=config.threads,
    load=_load(config.load),
    config=configs.plain(config),
  )


def _own(row: str, config: ConfigDict) -> str:
  own = config.own.get(row, "")
  known = not own or own in config.columns
  _expect(f"own.{row}", own, known, f"one of {', '.join(config.columns)}, or ''")
  return own


def _entry(label: str, config: ConfigDict) -> dict[str, Any]:
  entry = config.columns[label]
  lacking = [field for field in _ENTRY if field not in entry]
  at = f"columns.{label}"
  _expect(at, f"no {', '.join(lacking)}", not lacking, "what common.evaluation has")
  name = entry["name"]
  known = name in build.SOURCES
  _expect(f"{at}.name", name, known, f"one of {', '.join(build.SOURCES)}")
  split = entry["split"]
  _expect(f"{at}.split", split, split in build.SPLITS, " or ".join(build.SPLITS))
  plain = {field: configs.plain(entry[field]) for field in _ENTRY}
  return {**plain, "root": plain["root"] or config.root}


def _load(fields: ConfigDict) -> dict[str, Any]:
  lacking = [field for field in _LOAD if field not in fields]
  _expect("load", f"no {', '.join(lacking)}", not lacking, ", ".join(_LOAD))
  size = tuple(fields.image_size)
  fits = len(size) in (0, 2) and all(isinstance(n, int) and n > 0 for n in size)
  _expect("load.image_size", size, fits, "(height, width), or () for the model's own")
  _whole("load.text_length", fields.text_length, 0)
  _expect("load.dtype", fields.dtype, fields.dtype in _DTYPES, " or ".join(_DTYPES))
  return configs.plain(fields)


def _places(row: str, value: Any) -> tuple[Place, ...]:
  """The models of a row: "a,b", or a list of them; patterns replaced, none twice."""
  words = value.split(",") if isinstance(value, str) else list(value)
  texts = all(isinstance(word, str) for word in words)
  _expect(f"rows.{row}", value, texts, "places, 'runs/a,runs/b' or a list of them")
  found: dict[str, str] = {}  # absolute -> as given
  for word in filter(None, (word.strip() for word in words)):
    for place in _matching(word):
      found.setdefault(_absolute(place), place)
  places = list(found.values())
  _expect(f"rows.{row}", value, bool(places), "the place of a model, as runs/a")
  names = [_plain(pathlib.PurePath(place).name) or "model" for place in places]
  return tuple(
    Place(name if _same(names, name) == 1 else f"{name}-{_code(place)}", place)
    for name, place in zip(names, places, strict=True)
  )


def _matching(word: str) -> list[str]:
  """What a pattern matches, seed10 after seed2; a pattern without a match is itself:
  nothing of this name can be loaded, and that is then said."""
  expanded = os.path.expanduser(word)
  if not any(mark in word for mark in "*?[") or os.path.exists(expanded):
    return [str(pathlib.PurePath(expanded))]
  return sorted(glob.glob(expanded), key=text.natural) or [word]


def _absolute(place: str) -> str:
  return os.path.realpath(place) if os.path.exists(place) else place


def _same(names: Sequence[str], name: str) -> int:
  return sum(other.lower() == name.lower() for other in names)


def _code(place: str) -> str:
  return hashlib.blake2b(_absolute(place).encode(), digest_size=4).hexdigest()


def _plain(label: str) -> str:
  return re.sub(r"[^\w.-]+", "_", label).strip("._-")


def _folders(field: str, labels: Sequence[str]) -> dict[str, str]:
  """Label -> a name that a folder can have."""
  found = {label: _plain(label) for label in labels}
  for label, name in found.items():
    # Some file systems take "A" and "a" for one name.
    same = [o for o, n in found.items() if o != label and n.lower() == name.lower()]
    if same or not name:
      raise MatrixError(
        f"{field}: {label!r} "
        + (f"and {same[0]!r} would share a folder" if same else "names no folder")
        + "; each needs letters or digits that no other has"
      )
  return found


def _whole(field: str, value: Any, least: int, most: int | None = None) -> None:
  whole = isinstance(value, int) and not isinstance(value, bool)
  fits = whole and value >= least and (most is None or value <= most)
  _expect(
    field, value, fits, f"{least} or more" if most is None else f"{least} to {most}"
  )


def _expect(field: str, value: Any, fits: bool, wanted: str) -> None:
  if not fits:
    raise MatrixError(f"--config.{field}: found {value!r}, expected {wanted}")
