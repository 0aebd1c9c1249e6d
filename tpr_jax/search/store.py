"""The table of an index: a LanceDB table, in a folder of its own.

One row a file, a broken one too (`problem` says why; no vector). Of frames out of which
people were cut: one row a person, or one for a frame without any (of the kind EMPTY).
Every write is one commit: a process that is killed leaves the table as it was before or
after it, and who has opened the table reads the version of that moment whatever is
written meanwhile.

LanceDB is an extra; nothing imports it before a store is opened.
"""

import datetime
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tpr_jax.search.problems import SearchError

TABLE, FOLDER = "pictures", "lance"
INSTALL = 'pip install "tpr_jax[search]"'
_ALL = (1 << 32) - 1  # rows; some versions give ten where nothing is asked for
_LISTED = 500  # values of one `in (...)`
# Each commit adds a file or more. Many small ones make reading slow; merging them
# writes them anew, so that it is not done for a few.
_MANY = 64
# Versions that readers may still have open.
_KEPT = datetime.timedelta(days=1)
_TYPES = {
  "text": pa.string(),
  "whole number": pa.int64(),
  "number": pa.float64(),
  "time": pa.timestamp("us"),
  "yes or no": pa.bool_(),
}
_FIXED = (
  ("path", pa.string()),
  ("hash", pa.string()),
  ("size", pa.int64()),
  ("modified", pa.int64()),
  ("changed", pa.int64()),
  ("width", pa.int64()),
  ("height", pa.int64()),
  ("file_time", pa.timestamp("us")),
  ("time", pa.timestamp("us")),
  ("thumbnail", pa.binary()),
  ("kind", pa.string()),
  ("problem", pa.string()),
)
_NEAR = "near"  # the index of nearest neighbours
_REFINED = 4  # candidates that are compared exactly, for each that is asked for
_READ = 8_192  # rows at once
KEPT = "_kept"  # of a second stage (again.py); only there where there is one
# What conditions may name, beside the columns of a side-car.
ASKED = ("path", "time", "size", "width", "height", "file_time", "hash")
# Of an index of people in frames, also. `hash` is then one of a person, `file_hash` of
# the frame's file; boxes are whole pixels of the upright frame, and so are width and
# height, which are the frame's.
BOX = ("box_x", "box_y", "box_width", "box_height")
_PEOPLE = (
  ("person", pa.int64()),  # 1, 2, ... within a frame; 0: there is none
  ("file_hash", pa.string()),
  *((name, pa.int64()) for name in BOX),
  ("detection_score", pa.float64()),
)
PEOPLE = tuple(name for name, _ in _PEOPLE)
EMPTY = "empty"  # kind of a frame without people: whole, and nothing to be found
_USABLE = f"(problem is null or kind = '{EMPTY}')"


class Known(NamedTuple):
  """What the table says about a file. kind: of damage, or EMPTY; None: a whole picture
  (or a frame with people)."""

  hash: str
  size: int
  modified: int
  changed: int
  kind: str | None


def _lancedb() -> Any:
  try:
    import lancedb
  except ImportError as error:
    raise SearchError(
      f"--mode=index, search and serve need lancedb, which is not installed: {INSTALL}"
      f" ({error})"
    ) from error
  return lancedb


class Store:
  """The table of the index in `place`.

  Args:
    dim: D, of a table that is made if it is not there; None: it must be there.
    kept: such a table has the column for what a second stage keeps.
    people: it has people in frames.

  Raises:
    SearchError: lancedb is missing, or there is no table that can be read.
  """

  def __init__(
    self,
    place: pathlib.Path,
    dim: int | None = None,
    *,
    kept: bool = False,
    people: bool = False,
  ):
    self.place = place / FOLDER
    database = _lancedb().connect(str(self.place))
    committed = any((self.place / f"{TABLE}.lance" / "_versions").glob("*.manifest"))
    if committed:
      try:
        self._table = database.open_table(TABLE)
      except (ValueError, RuntimeError, OSError) as error:
        raise SearchError(
          f"{self.place} cannot be read: {error}. Is the copy whole? If not, remove"
          f" {place} and index again"
        ) from error
    elif dim is None:
      raise SearchError(f"{place} has no pictures yet: finish --mode=index first")
    else:
      # A process that was killed may have left a folder without any version.
      vector = pa.field("vector", pa.list_(pa.float32(), dim))
      fixed = _FIXED + _PEOPLE if people else _FIXED
      more = [pa.field(KEPT, pa.binary())] if kept else []
      schema = pa.schema([*(pa.field(*each) for each in fixed), vector, *more])
      mode = "overwrite" if (self.place / f"{TABLE}.lance").exists() else "create"
      self._table = database.create_table(TABLE, schema=schema, mode=mode)

  # --- what is there --------------------------------------------------------------

  @property
  def dim(self) -> int:
    return self._table.schema.field("vector").type.list_size

  @property
  def people(self) -> bool:
    """Does it have people in frames? (By place: a side-car's columns come last, and may
    be called as those are in an index of whole pictures.)"""
    return self._table.schema.get_field_index("vector") > len(_FIXED)

  @property
  def _fixed(self) -> dict[str, pa.DataType]:
    return dict(_FIXED + _PEOPLE if self.people else _FIXED)

  @property
  def metadata(self) -> dict[str, str]:
    """Columns of the side-car: name -> kind (where.KINDS)."""
    own = {*self._fixed, "vector", KEPT}
    return {f.name: _kind(f.type) for f in self._table.schema if f.name not in own}

  @property
  def columns(self) -> dict[str, str]:
    """What conditions may name: name -> kind (where.KINDS)."""
    types = self._fixed
    asked = ASKED + PEOPLE if self.people else ASKED
    return {name: _kind(types[name]) for name in asked} | self.metadata

  @property
  def version(self) -> int:
    return self._table.version

  def pin(self) -> int:
    """From now on all is read from the latest version -> its number."""
    self._table.checkout_latest()
    self._table.checkout(version := self._table.version)
    return version

  def read(
    self, columns: Sequence[str], condition: str = "", *, ids: bool = False
  ) -> Iterator[pa.RecordBatch]:
    """Batches of columns of the rows that fit a condition (SQL of the store).

    Args:
      ids: also `_rowid`, which is good for this version.

    Raises:
      SearchError: the condition, or the folder, cannot be read.
    """
    asked = self._table.search().select(list(columns)).limit(_ALL)
    if condition:
      asked = asked.where(condition)
    if ids:
      asked = asked.with_row_id(True)
    try:
      yield from asked.to_batches()
    except (ValueError, RuntimeError, OSError) as error:
      raise SearchError(f"{self.place} cannot be read: {error}") from error

  @property
  def content(self) -> str:
    """The column with the hash of a file's content."""
    return "file_hash" if self.people else "hash"

  def known(self) -> dict[str, Known]:
    """path -> what is known about that file."""
    names = (self.content, "size", "modified", "changed", "kind")
    found = {}
    for batch in self.read(("path", *names)):
      columns = [batch[name].to_pylist() for name in names]
      found.update(zip(batch["path"].to_pylist(), map(Known, *columns), strict=True))
    return found

  def with_hash(self, hashes: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """hash of a file's content -> what the row of a whole picture, or the rows of a
    frame, say of this content."""
    names = ["path", "hash", "width", "height", "thumbnail", "kind", "problem"]
    names += PEOPLE if self.people else ()
    names += [KEPT] if KEPT in self._table.schema.names else []
    by_path: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for part in _parts(sorted(set(hashes))):
      condition = f"{_USABLE} and {self.content} in ({part})"
      for batch in self.read((*names, "vector"), condition):
        vectors = _rows_or_none(batch["vector"])
        plain = batch.drop_columns(["vector"]).to_pylist()
        for row, vector in zip(plain, vectors, strict=True):
          same = by_path.setdefault(row[self.content], {})
          same.setdefault(row.pop("path"), []).append({**row, "vector": vector})
    # Several files may have this content: those of one.
    return {content: next(iter(same.values())) for content, same in by_path.items()}

  def take(self, paths: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of these paths, in their order."""
    found = {}
    for part in _parts(paths):
      for batch in self.read(("path", *columns), f"path in ({part})"):
        found.update((row["path"], row) for row in batch.to_pylist())
    return [found[path] for path in paths]

  def of_rows(self, ids: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of these `_rowid`, each with its `path`, in their order."""
    if not len(ids):
      return []
    asked = self._table.take_row_ids([int(each) for each in ids])
    rows = asked.select(["path", *columns]).with_row_id().to_arrow().to_pylist()
    found = {row.pop("_rowid"): row for row in rows}
    return [found[int(each)] for each in ids]

  def vectors(self, ids: np.ndarray) -> np.ndarray:
    """Rows float32 [n, D] of whole pictures, by `_rowid`, in their order."""
    found = np.empty((len(ids), self.dim), np.float32)
    for start in range(0, len(ids), _READ):
      some = ids[start : start + _READ]
      asked = self._table.take_row_ids([int(each) for each in some])
      read = asked.select(["vector"]).with_row_id().to_arrow().combine_chunks()
      rows = rows_of(read["vector"].combine_chunks(), self.dim)
      names = read["_rowid"].to_numpy().astype(np.int64)
      order = np.argsort(names)
      found[start : start + _READ] = rows[
        order[np.searchsorted(names, some, sorter=order)]
      ]
    return found

  def whole(self) -> int:
    """Whole pictures (or people)."""
    return self._table.count_rows("problem is null")

  # --- nearest neighbours ---------------------------------------------------------

  def near_rows(self) -> int | None:
    """Rows that the index of nearest neighbours covers; None: there is none."""
    found = self._table.index_stats(_NEAR)
    return None if found is None else found.num_indexed_rows

  def near_parts(self) -> int:
    """Parts of that index."""
    return max(1, round(self.near_rows() ** 0.5))

  def make_near(self) -> None:
    """Parts of similar rows, each number of which takes one byte."""
    parts = max(1, round(self.whole() ** 0.5))
    self._table.create_index(
      metric="cosine",
      index_type="IVF_SQ",
      num_partitions=parts,
      vector_column_name="vector",
      name=_NEAR,
    )

  def extend_near(self) -> None:
    """Takes the rows in that have come since."""
    self._table.optimize(cleanup_older_than=_KEPT)

  def nearest(
    self, row: np.ndarray, k: int, probes: int, condition: str = ""
  ) -> tuple[np.ndarray, np.ndarray]:
    """The k rows that seem nearest, of those that meet a condition (SQL).

    Args:
      row: float32 [D], of any length.
      probes: parts that are looked into; rows that are in none are all looked at.

    Returns:
      (`_rowid` int64 [k], rows float32 [k, D]); fewer where there are fewer.
    """
    asked = self._table.search(row, vector_column_name="vector").metric("cosine")
    asked = asked.nprobes(probes).refine_factor(_REFINED).limit(k).with_row_id(True)
    if condition:
      asked = asked.where(f"problem is null and {condition}", prefilter=True)
    # Without one nothing is filtered, which would read a column of all rows: what has a
    # problem has no vector.
    read = asked.select(["vector", "_distance"]).to_arrow()
    read = read.filter(pc.is_valid(read["vector"])).combine_chunks()
    ids = read["_rowid"].to_numpy().astype(np.int64)
    return ids, rows_of(read["vector"].combine_chunks(), self.dim)

  # --- writing --------------------------------------------------------------------

  def put(self, rows: Sequence[Mapping[str, Any]], replaces: bool) -> None:
    """Adds rows in one commit.

    Args:
      rows: name -> value; what is not named is null. vector: float32 [D] or None. Of a
        frame, those of all of its people: whom it had before goes in the same commit.
      replaces: some of the paths may be there already.
    """
    schema = self._table.schema
    table = pa.table([_array(f, rows) for f in schema], schema=schema)
    if not replaces:
      self._table.add(table)
      return
    merge = self._table.merge_insert(["path", "person"] if self.people else "path")
    merge = merge.when_matched_update_all().when_not_matched_insert_all()
    if self.people:
      paths = sorted({row["path"] for row in rows})
      merge = merge.when_not_matched_by_source_delete(f"path in ({_listed(paths)})")
    # Rows without a vector are meant: its default takes them for damaged ones.
    merge.execute(table, on_bad_vectors="null")

  def update(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Sets these columns of the rows with these paths, in one commit."""
    fields = [self._table.schema.field(name) for name in ("path", *columns)]
    arrays = [_array(field, rows) for field in fields]
    table = pa.table(arrays, schema=pa.schema(fields))
    self._table.merge_insert("path").when_matched_update_all().execute(table)

  def remove(self, paths: Sequence[str]) -> None:
    for part in _parts(paths):
      self._table.delete(f"path in ({part})")

  def set_metadata(self, columns: Mapping[str, str]) -> None:
    """Makes these the columns of the side-car; new ones, and those of another kind, are
    null."""
    there = self.metadata
    if gone := [name for name, kind in there.items() if columns.get(name) != kind]:
      self._table.drop_columns(gone)
    kept = set(there) - set(gone)
    if new := [(n, _TYPES[kind]) for n, kind in columns.items() if n not in kept]:
      self._table.add_columns(pa.schema([pa.field(*each) for each in new]))

  def tidy(self) -> None:
    """Merges small files where there are many, and drops versions of long ago."""
    if self._table.stats()["fragment_stats"]["num_fragments"] >= _MANY:
      self._table.optimize(cleanup_older_than=_KEPT)


def rows_of(vectors: pa.Array, dim: int) -> np.ndarray:
  """A column of vectors, none of them null -> float32 [n, D]."""
  return vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)


def _rows_or_none(vectors: pa.Array) -> list[np.ndarray | None]:
  """A column of vectors, some of them null -> float32 [D] each, or None."""
  dim, flat = vectors.type.list_size, vectors.flatten().to_numpy(zero_copy_only=False)
  whole = iter(flat.reshape(-1, dim))  # flatten leaves out those that are null
  return [next(whole) if each else None for each in vectors.is_valid().to_pylist()]


def _kind(type_: pa.DataType) -> str:
  return next(kind for kind, known in _TYPES.items() if known == type_)


def _array(field: pa.Field, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
  values = [row.get(field.name) for row in rows]
  if field.name != "vector":
    return pa.array(values, field.type)
  dim = field.type.list_size
  flat = np.zeros((len(rows), dim), np.float32)
  lacking = np.array([value is None for value in values], bool)
  for at, value in enumerate(values):
    if value is not None:
      flat[at] = value
  return pa.FixedSizeListArray.from_arrays(
    pa.array(flat.reshape(-1)), dim, mask=pa.array(lacking)
  )


def _parts(texts: Sequence[str]) -> Iterator[str]:
  """Parts of an `in (...)`, each as SQL."""
  for start in range(0, len(texts), _LISTED):
    yield _listed(texts[start : start + _LISTED])


def _listed(texts: Sequence[str]) -> str:
  return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)
