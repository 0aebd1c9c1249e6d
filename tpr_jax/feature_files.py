"""Features of any model as plain files: what `--mode=eval --features=FILE` reads.

One `.npz`; Q queries (texts), G gallery items (images), D dimensions:

  query        float [Q, D]    rows of any length but 0; compared by their cosine
  gallery      float [G, D]
  query_ids    [Q]             identities: whole numbers, or strings
  gallery_ids  [G]
  query_text   [Q] strings     optional: the texts
  gallery_path [G] strings     optional: names of the images
  query_*      [Q]             optional: anything else; a column for --group_by=*

or parquet, one row an item, with the columns `feature` (a list of numbers), `id`,
optionally `text` and `path`, and any others as columns for --group_by: one file with
a column `role` ("query" or "gallery"), or two, queries first. Reading never runs code
of a file (no pickles).
"""

import dataclasses
import difflib
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tpr_jax import groups as grouping

_REQUIRED = ("query", "gallery", "query_ids", "gallery_ids")
_TEMPLATE = 'README, "Scores of any model\'s features", has ten lines that write one'


class FeatureError(Exception):
  """A file of features cannot be used: names it, what was found and expected."""


@dataclasses.dataclass(frozen=True)
class FeatureFile:
  """What a file holds.

  Attributes:
    name: of the file, without its ending.
    query: float32 [Q, D]; gallery: float32 [G, D].
    query_ids: [Q], gallery_ids: [G]; both int64, or both strings.
    columns: name without "query_" -> [Q]; "text" holds the texts.
    gallery_path: [G] names of the images; None where not given.
    unused: names in the file that mean nothing here.
  """

  name: str
  query: np.ndarray
  gallery: np.ndarray
  query_ids: np.ndarray
  gallery_ids: np.ndarray
  columns: Mapping[str, np.ndarray]
  gallery_path: np.ndarray | None
  unused: tuple[str, ...] = ()

  @property
  def text(self) -> np.ndarray | None:
    return self.columns.get("text")


def read(place: str) -> FeatureFile:
  """Reads "FILE.npz", "FILE.parquet" or "QUERIES.parquet,GALLERY.parquet".

  Raises:
    FeatureError: no such file, not such a file, an array that is missing, has the
      wrong shape or kind, or does not fit the others.
  """
  paths = [pathlib.Path(part.strip()) for part in place.split(",")]
  for path in paths:
    if not path.is_file():
      raise FeatureError(f"--features={place}: there is no file {path}")
  kinds = {path.suffix.lower() for path in paths}
  if kinds == {".npz"} and len(paths) == 1:
    found = _npz(paths[0])
  elif kinds == {".parquet"} and len(paths) <= 2:
    found = _parquet(paths)
  else:
    raise FeatureError(
      f"--features={place}: expected FILE.npz, FILE.parquet or"
      f" QUERIES.parquet,GALLERY.parquet; {_TEMPLATE}"
    )
  return _checked(found, paths[0].stem, place)


def write(
  path: pathlib.Path,
  *,
  query: np.ndarray,
  gallery: np.ndarray,
  query_ids: np.ndarray,
  gallery_ids: np.ndarray,
  query_text: Sequence[str],
  gallery_path: Sequence[str],
  columns: Mapping[str, Sequence[Any]],
) -> None:
  """Writes one `.npz` as `read` takes it, whole or not at all.

  Args:
    columns: name without "query_" -> [Q].
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_suffix(".tmp")
  with partial.open("wb") as file:
    np.savez_compressed(
      file,
      query=query,
      gallery=gallery,
      query_ids=query_ids,
      gallery_ids=gallery_ids,
      query_text=np.array(query_text, np.str_),
      gallery_path=np.array(gallery_path, np.str_),
      **{f"query_{name}": np.asarray(values) for name, values in columns.items()},
    )
  partial.replace(path)


def groups(found: FeatureFile, group_by: str) -> dict[str, grouping.Names]:
  """Key -> [Q] "column=value", None for a query without a value; {} without `group_by`.

  "length" is that of the texts (groups.py), where no column has this name.

  Raises:
    FeatureError: no such column, no value in it, or more than groups.MOST of them.
  """
  return {key: _group(found, key) for key in grouping.keys(group_by)}


def _group(found: FeatureFile, key: str) -> grouping.Names:
  known = sorted(set(found.columns) - {"text"})
  if key == "length" and key not in known and "text" in found.columns:
    return [grouping.length(str(text)) for text in found.columns["text"]]
  if key not in known:
    near = difflib.get_close_matches(key, known, 1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    has = f"has {', '.join(known)}" if known else f"has no array query_{key}"
    raise FeatureError(f"--group_by={key}: {found.name} {has}.{guess}")
  names: grouping.Names = []
  for value in found.columns[key].tolist():
    empty = value == "" or value != value  # NaN is not itself
    whole = isinstance(value, float) and value.is_integer()  # as a null makes it
    names.append(None if empty else f"{key}={int(value) if whole else value}")
  number = len(set(names) - {None})
  if not 1 <= number <= grouping.MOST:
    raise FeatureError(
      f"--group_by={key}: {found.name} has {number:,} values of it; expected 1 to"
      f" {grouping.MOST} groups of queries"
    )
  return names


def _npz(path: pathlib.Path) -> dict[str, np.ndarray]:
  if not zipfile.is_zipfile(path):
    raise FeatureError(
      f"{path} is no .npz, a file of named arrays as np.savez writes it; {_TEMPLATE}"
    )
  try:
    with np.load(path, allow_pickle=False) as archive:
      return {name: _member(archive, name, path) for name in archive.files}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise FeatureError(
      f"{path} cannot be read as .npz: {error}; {_TEMPLATE}"
    ) from error


def _member(archive: Any, name: str, path: pathlib.Path) -> np.ndarray:
  try:
    return archive[name]
  except ValueError as error:
    if "allow_pickle" not in str(error):
      raise
    raise FeatureError(
      f"{path}: {name!r} holds Python objects; write plain arrays, for example"
      " np.array(texts, dtype=str)"
    ) from error


def _parquet(paths: Sequence[pathlib.Path]) -> dict[str, np.ndarray]:
  """The same arrays as an `.npz` has."""
  tables = [_table(path) for path in paths]
  sides = ("query", "gallery")
  if len(paths) == 1:
    tables = _by_role(tables[0], paths[0])
  found = {}
  for side, table in zip(sides, tables, strict=True):
    renamed = {"feature": side, "id": f"{side}_ids"}
    for name, column in table.items():
      # With one file, what only the other side has is null here.
      if name in renamed or any(value is not None for value in column):
        found[renamed.get(name, f"{side}_{name}")] = _column(column)
  return found


def _by_role(table: dict[str, Any], path: pathlib.Path) -> list[dict[str, Any]]:
  if "role" not in table:
    raise FeatureError(
      f'{path} has no column "role" ("query" or "gallery"); it has'
      f" {', '.join(table)}. Or give two files: --features=QUERIES.parquet,"
      "GALLERY.parquet"
    )
  roles = table.pop("role")
  other = sorted({str(role) for role in roles} - {"query", "gallery"})
  if other:
    raise FeatureError(f'{path}: role {other[0]!r}; expected "query" or "gallery"')
  rows = [np.flatnonzero([r == side for r in roles]) for side in ("query", "gallery")]
  pick = lambda column, at: (
    column[at] if isinstance(column, np.ndarray) else [column[i] for i in at]
  )
  return [{name: pick(column, at) for name, column in table.items()} for at in rows]


def _table(path: pathlib.Path) -> dict[str, Any]:
  """Columns of a parquet file: `feature` as an array [rows, D], the others as lists."""
  try:
    import pyarrow as pa  # slow to import, and needed here only
    from pyarrow import parquet
  except ImportError as error:
    raise FeatureError(
      f"{path}: reading parquet needs pyarrow (pip install pyarrow); .npz does not"
    ) from error
  try:
    table = parquet.read_table(path)
  except (OSError, pa.ArrowException) as error:
    raise FeatureError(f"{path} cannot be read as parquet: {error}") from error
  for name in ("feature", "id"):
    if name not in table.column_names:
      has = ", ".join(table.column_names)
      raise FeatureError(f"{path} has no column {name!r}; it has {has}")
  others = [name for name in table.column_names if name != "feature"]
  found: dict[str, Any] = {name: table.column(name).to_pylist() for name in others}
  return {**found, "feature": _rows(table.column("feature"), path)}


def _rows(column: Any, path: pathlib.Path) -> np.ndarray:
  """A pyarrow column of lists, all of one length -> [rows, D]; null is NaN."""
  import pyarrow.compute as pc
  from pyarrow import types

  kinds = (types.is_list, types.is_large_list, types.is_fixed_size_list)
  if not any(kind(column.type) for kind in kinds) or not len(column):
    raise FeatureError(
      f"{path}: the column 'feature' is {column.type} with {len(column)} rows; expected"
      " a list of numbers in each row"
    )
  lengths = pc.list_value_length(column).to_numpy()
  odd = np.flatnonzero(~(lengths == lengths[0]) | ~(lengths > 0))
  if len(odd):
    raise FeatureError(
      f"{path}: row {odd[0]} has a feature of {lengths[odd[0]]} numbers, the first row"
      f" one of {lengths[0]}; expected as many in each"
    )
  return pc.list_flatten(column).to_numpy().reshape(len(column), -1)


def _column(values: Any) -> np.ndarray:
  if isinstance(values, np.ndarray):
    return values
  if any(isinstance(value, str) for value in values):
    return np.array(["" if value is None else str(value) for value in values], np.str_)
  return np.array([np.nan if value is None else value for value in values])


def _checked(found: Mapping[str, np.ndarray], name: str, place: str) -> FeatureFile:
  absent = [key for key in _REQUIRED if key not in found]
  if absent:
    raise FeatureError(
      f"{place} has no array {absent[0]!r}; it has {', '.join(sorted(found)) or 'none'}"
      f", expected {', '.join(_REQUIRED)}; {_TEMPLATE}"
    )
  query, gallery = (_features(found[key], key, place) for key in ("query", "gallery"))
  if query.shape[1] != gallery.shape[1]:
    raise FeatureError(
      f"{place}: query has {query.shape[1]} dimensions, gallery {gallery.shape[1]}"
    )
  sizes = {"query": len(query), "gallery": len(gallery)}
  ids = [_ids(found[f"{key}_ids"], f"{key}_ids", sizes[key], place) for key in sizes]
  if ids[0].dtype.kind != ids[1].dtype.kind:
    raise FeatureError(
      f"{place}: query_ids are {_kind(ids[0])}, gallery_ids {_kind(ids[1])}; they are"
      " compared with each other, so write both alike"
    )
  columns, unused = {}, []
  for key, values in found.items():
    if key in _REQUIRED or key == "gallery_path":
      continue
    if not key.startswith("query_"):
      unused.append(key)
      continue
    columns[key.removeprefix("query_")] = _per_row(values, key, len(query), place)
  path = found.get("gallery_path")
  if path is not None:
    path = _per_row(path, "gallery_path", len(gallery), place)
  return FeatureFile(
    name, query, gallery, *ids, columns, path, unused=tuple(sorted(unused))
  )


def _features(values: np.ndarray, key: str, place: str) -> np.ndarray:
  if values.ndim != 2 or not values.size or values.dtype.kind not in "fiu":
    raise FeatureError(
      f"{place}: {key} is {values.dtype} {values.shape}; expected numbers"
      " [rows, dimensions], not empty"
    )
  values = values.astype(np.float32)
  bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
  if len(bad):
    shown = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
    raise FeatureError(
      f"{place}: {key} holds NaN or infinity in {len(bad):,} of {len(values):,} rows:"
      f" {shown}; the model or its input is broken there"
    )
  return values


def _ids(values: np.ndarray, key: str, rows: int, place: str) -> np.ndarray:
  values = _per_row(values, key, rows, place)
  if values.dtype.kind == "f" and np.isfinite(values).all():
    whole = values.astype(np.int64)
    values = whole if (whole == values).all() else values
  if values.dtype.kind in "iub":
    return values.astype(np.int64)
  if values.dtype.kind != "U":
    raise FeatureError(
      f"{place}: {key} is {values.dtype}; expected whole numbers or strings"
    )
  return values


def _per_row(values: np.ndarray, key: str, rows: int, place: str) -> np.ndarray:
  if values.shape != (rows,):
    side = key.partition("_")[0]
    raise FeatureError(
      f"{place}: {key} has shape {values.shape}; expected one entry for each of the"
      f" {rows:,} rows of {side!r}"
    )
  return values.astype(np.str_) if values.dtype.kind == "S" else values


def _kind(ids: np.ndarray) -> str:
  return "strings" if ids.dtype.kind == "U" else "numbers"
