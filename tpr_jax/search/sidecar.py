"""Columns of metadata that a table beside the pictures gives: camera, shop, time, ...

A CSV (comma, semicolon or tab) or TSV with a column `path`, a JSON list of objects with
`path`, JSON Lines of them, or a JSON object of them by path. Paths are those below the
folder of pictures. What kind a column is, all of its values decide together.
"""

import csv
import dataclasses
import datetime
import difflib
import io
import json
import math
import pathlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tpr_jax.search.problems import SearchError

PATH, TIME = "path", "time"
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")
# Of the index itself; `time` may be given, and then stands before the file's own.
TAKEN = (
  *("hash", "size", "modified", "changed", "width", "height", "file_time"),
  *("thumbnail", "kind", "problem", "vector", "_kept"),
)
_NAME = re.compile(r"[^\W\d]\w*(?:[ -]\w+)*")
_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,17})")  # "007" is a text
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_BOOLS = {"true": True, "false": False}


@dataclasses.dataclass(frozen=True)
class Sidecar:
  """A side-car, read.

  Attributes:
    columns: name -> kind (where.KINDS), without `path`.
    rows: path (composed Unicode) -> {name: value or None}.
  """

  columns: Mapping[str, str]
  rows: Mapping[str, Mapping[str, Any]]

  def of(self, path: str) -> dict[str, Any]:
    """The values of a picture; None where the side-car does not say."""
    found = self.rows.get(key(path), {})
    return {name: found.get(name) for name in self.columns}


def key(path: str) -> str:
  """How paths are compared: a file system may change the form of accents."""
  return unicodedata.normalize("NFC", path)


def read(file: pathlib.Path, taken: Sequence[str] = ()) -> Sidecar:
  """Args: taken: names of columns that this index has beside TAKEN.

  Raises:
    SearchError: says what is wrong with the file, and where.
  """
  if file.suffix.lower() not in SUFFIXES:
    raise SearchError(
      f"--metadata={file}: found the suffix {file.suffix!r}, expected one of"
      f" {', '.join(SUFFIXES)}"
    )
  try:
    said = file.read_text("utf-8-sig")
  except (OSError, UnicodeDecodeError) as error:
    raise SearchError(f"--metadata={file} cannot be read: {error}") from error
  reader = _table if file.suffix.lower() in (".csv", ".tsv") else _objects
  rows: dict[str, dict[str, Any]] = {}
  for where, row in reader(file, said):
    path = row.pop(PATH, None)
    if not isinstance(path, str) or not path:
      near = difflib.get_close_matches(PATH, row, 1, cutoff=0.5)
      guess = f" (is it {near[0]!r}? rename that)" if near else ""
      raise SearchError(
        f"{file}, {where}: no {PATH!r}{guess}, the file's path below the folder of"
        f" pictures; found {', '.join(map(str, row)) or 'nothing'}"
      )
    path = key(path.replace("\\", "/").removeprefix("./"))
    if path in rows:
      raise SearchError(f"{file}, {where}: {path} for the second time")
    rows[path] = row
  names = list(dict.fromkeys(name for row in rows.values() for name in row))
  _check(file, names, (*TAKEN, *taken, TIME))
  columns, made = {}, {path: {} for path in rows}
  for name in names:
    given = {path: row.get(name) for path, row in rows.items()}
    columns[name], values = _column(file, name, given)
    for path, value in values.items():
      made[path][name] = value
  return Sidecar(columns, made)


def _check(file: pathlib.Path, names: Sequence[str], taken: Sequence[str]) -> None:
  seen: dict[str, str] = {}
  for name in names:
    if not _NAME.fullmatch(name):
      raise SearchError(
        f"{file}: the column {name!r} has a name that conditions could not name; use"
        " letters, digits, _ , - and single spaces"
      )
    if name.lower() in taken and name != TIME:
      raise SearchError(
        f"{file}: the index has a column {name.lower()!r} of its own; give {name!r}"
        " another name"
      )
    if name.lower() in seen:
      raise SearchError(
        f"{file}: the columns {seen[name.lower()]!r} and {name!r} differ by case alone"
      )
    seen[name.lower()] = name


def _table(file: pathlib.Path, said: str) -> Iterator[tuple[str, dict[str, Any]]]:
  head = said.split("\n", 1)[0].rstrip("\r")
  columns = {mark: [c.strip(' "') for c in head.split(mark)] for mark in "\t;,"}
  # One column alone has no separator: any will do.
  mark = next((m for m, names in columns.items() if PATH in names), None)
  if mark is None:
    longest = max(columns.values(), key=len)
    near = difflib.get_close_matches(PATH, longest, 1, cutoff=0.4)
    guess = f"; rename {near[0]!r}?" if near else ""
    raise SearchError(
      f"{file}: found the columns {', '.join(longest)}, expected one called {PATH!r}:"
      f" the file's path below the folder of pictures{guess}"
    )
  rows = csv.DictReader(io.StringIO(said, newline=""), delimiter=mark, strict=True)
  try:
    for row in rows:
      where = f"line {rows.line_num}"
      if None in row or None in row.values():
        raise SearchError(
          f"{file}, {where}: expected {len(rows.fieldnames or ())} cells, found"
          f" {'more' if None in row else 'fewer'}"
        )
      yield where, {name.strip(): value for name, value in row.items()}
  except csv.Error as error:
    raise SearchError(f"{file}, line {rows.line_num}: {error}") from error


def _objects(file: pathlib.Path, said: str) -> Iterator[tuple[str, dict[str, Any]]]:
  try:
    if file.suffix.lower() == ".jsonl":
      lines = enumerate(said.split("\n"), start=1)  # U+2028 is legal within a string
      found = [(f"line {n}", json.loads(line)) for n, line in lines if line.strip()]
    else:
      whole = json.loads(said)
      if isinstance(whole, dict):
        whole = [
          {**row, PATH: path} if isinstance(row, dict) else row
          for path, row in whole.items()
        ]
      if not isinstance(whole, list):
        raise SearchError(f"{file}: expected a list of objects, or objects by path")
      found = [(f"entry {n}", row) for n, row in enumerate(whole, start=1)]
  except json.JSONDecodeError as error:
    raise SearchError(f"{file}: broken JSON: {error}") from error
  for where, row in found:
    if not isinstance(row, dict):
      raise SearchError(f"{file}, {where}: expected an object, found {row!r:.60}")
    for name, value in row.items():
      if isinstance(value, (dict, list)):
        raise SearchError(
          f"{file}, {where}: {name!r} holds a {type(value).__name__}; expected a text,"
          " a number, true, false or null"
        )
    yield where, dict(row)


def _column(
  file: pathlib.Path, name: str, given: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
  """(kind, path -> value); an empty text is no value."""
  real = {path: v for path, v in given.items() if v is not None and v != ""}
  values = list(real.values())
  if not values:
    return ("time" if name == TIME else "text"), {}
  for kind, make in _MAKERS.items():
    if name == TIME and kind != "time":
      continue
    try:
      made = [make(value) for value in values]
    except ValueError:
      continue
    return kind, dict(zip(real, made, strict=True))
  for path, value in real.items():  # of `time` alone: anything else may be a text
    try:
      _time(value)
    except ValueError as error:
      raise SearchError(
        f"{file}: the time of {path} is {value!r}, expected as 2026-01-31 13:45:00"
      ) from error
  raise AssertionError(name)


def _whole(value: Any) -> int:
  if isinstance(value, str) and _WHOLE.fullmatch(value):
    return int(value)
  if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
    return value
  raise ValueError(value)


def _number(value: Any) -> float:
  number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not number and not (isinstance(value, str) and _NUMBER.fullmatch(value)):
    raise ValueError(value)
  if not math.isfinite(found := float(value)):
    raise ValueError(value)
  return found


def _bool(value: Any) -> bool:
  if isinstance(value, bool):
    return value
  if isinstance(value, str) and value.lower() in _BOOLS:
    return _BOOLS[value.lower()]
  raise ValueError(value)


def _time(value: Any) -> datetime.datetime:
  if not isinstance(value, str) or len(value) < len("2026-01-31"):
    raise ValueError(value)
  found = datetime.datetime.fromisoformat(value.strip())
  if found.tzinfo is not None:
    found = found.astimezone(datetime.UTC).replace(tzinfo=None)
  return found


def _text(value: Any) -> str:
  if isinstance(value, bool):
    return str(value).lower()
  return value if isinstance(value, str) else json.dumps(value)


_MAKERS = {
  "whole number": _whole,
  "number": _number,
  "yes or no": _bool,
  "time": _time,
  "text": _text,
}
