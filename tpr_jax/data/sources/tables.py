"""Parquet and Arrow files: columns of text in batches, pictures when asked for.

Parquet has no way to one row: to see a picture, all those of its row group are read.
The groups last seen are kept, so that reading in order, as --mode=check and
--mode=archive do, reads each once. Training in random order reads a whole group for a
picture, a hundred times its bytes or more: archive such a set first.
"""

import bisect
import collections
import os
import pathlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tpr_jax.data.images import FileImages, MissingImage, decode
from tpr_jax.data.record import DatasetError, ImageError, Record

_ROWS = 1 << 16  # of text, in memory at a time
MAX_GROUP = 1 << 30  # bytes of pictures in a row group: it is read as a whole
_HELD = 1 << 28  # bytes of row groups that are kept; of the last one always
_OPEN = 64  # files
_ERRORS = (OSError, pa.ArrowException, UnicodeDecodeError)


def open_parquet(path: pathlib.Path, texts: Sequence[str]) -> parquet.ParquetFile:
  """A parquet file whose columns `texts` are there and hold text.

  Raises:
    DatasetError: it is none, was cut off, or has other columns.
  """
  try:
    file = parquet.ParquetFile(path)
  except _ERRORS as error:
    raise unreadable(path, "parquet", error) from error
  _check_columns(path, file.schema_arrow, texts, _is_text, "text")
  return file


def parquet_rows(
  path: pathlib.Path, texts: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
  """(row number, {column: value}) of the columns `texts`; no other column is read."""
  with open_parquet(path, texts) as file:
    try:
      first = 0
      for batch in file.iter_batches(batch_size=_ROWS, columns=list(texts)):
        yield from enumerate(batch.to_pylist(), start=first)
        first += batch.num_rows
    except _ERRORS as error:
      raise unreadable(path, "parquet", error) from error


def arrow_lists(path: pathlib.Path, column: str) -> Iterator[tuple[int, Any]]:
  """(row number, value) of one column, lists of text, of an Arrow IPC file.

  Both formats: of files and of streams. No other column is read.

  Raises:
    DatasetError: it is neither, was cut off, or has other columns.
  """
  try:
    with pa.memory_map(str(path)) as source:
      is_file = source.read(6) == b"ARROW1"
      schema = _reader(source, is_file).schema
      _check_columns(path, schema, [column], _is_list, "lists of text")
      options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(column)])
      reader, first = _reader(source, is_file, options), 0
      for batch in _batches(reader, is_file):
        values = batch.column(0)
        for start in range(0, len(values), _ROWS):
          part = values.slice(start, _ROWS).to_pylist()
          yield from enumerate(part, start=first + start)
        first += len(values)
  except _ERRORS as error:
    raise unreadable(path, "Arrow IPC, of files or of streams", error) from error


def unfinished(path: pathlib.Path) -> bool:
  """Is it an Arrow stream without the mark of its end?

  One that was cut off between two batches looks complete otherwise.
  """
  with open(path, "rb") as file:
    if file.read(6) == b"ARROW1":
      return False
    file.seek(-8, os.SEEK_END)
    return file.read() != b"\xff\xff\xff\xff\0\0\0\0"


def _reader(source, is_file, options=None):
  source.seek(0)
  open_it = pa.ipc.open_file if is_file else pa.ipc.open_stream
  return open_it(source, options=options)


def _batches(reader, is_file):
  if not is_file:
    return reader
  return (reader.get_batch(number) for number in range(reader.num_record_batches))


def unreadable(path: pathlib.Path, what: str, error: Exception) -> DatasetError:
  """What to say of a file that its library cannot read."""
  try:
    with open(path, "rb") as file:
      pointer = file.read(19) == b"version https://git"
    size = f"{path.stat().st_size:,} bytes"
  except OSError:
    return DatasetError(f"{path}: cannot be read: {error}")
  if pointer:
    return DatasetError(
      f"{path}: a pointer of Git LFS, not the file itself: fetch it with git lfs pull"
    )
  return DatasetError(
    f"{path}: cannot be read as {what}: {error}. A download that was cut off looks "
    f"like this: compare the file's size, {size}, with the original's"
  )


def _check_columns(path, schema, names, fits, what):
  lacking = [name for name in names if name not in schema.names]
  if lacking:
    raise DatasetError(
      f"{path}: no column {', '.join(lacking)}; found the columns "
      f"{', '.join(schema.names) or 'none'}, expected {', '.join(names)}"
    )
  for name in names:
    found = schema.field(name).type
    # A column in which all is null has no other type; its rows are then said to be so.
    if not fits(found) and not pa.types.is_null(found):
      raise DatasetError(f"{path}: the column {name} is {found}, expected {what}")


def _is_text(found):
  if pa.types.is_dictionary(found):
    found = found.value_type
  return pa.types.is_string(found) or pa.types.is_large_string(found)


def _is_list(found):
  lists = (pa.types.is_list, pa.types.is_large_list)
  return any(of(found) for of in lists) and (
    _is_text(found.value_type) or pa.types.is_null(found.value_type)
  )


def _picture_column(path, schema) -> str | None:
  """The column of a parquet file that holds the bytes of pictures; None: there is none.

  Either binary, or what the hub's `datasets` writes: struct<bytes: binary, path: text>.
  """
  if "image" not in schema.names:
    return None
  found, name = schema.field("image").type, "image"
  if pa.types.is_struct(found) and found.get_field_index("bytes") >= 0:
    found, name = found.field("bytes").type, "image.bytes"
  if pa.types.is_binary(found) or pa.types.is_large_binary(found):
    return name
  if pa.types.is_null(found):
    return None
  raise DatasetError(
    f"{path}: the column image is {schema.field('image').type}, expected binary, or "
    "struct<bytes: binary, path: string>"
  )


def _pictures(path, file) -> list[int]:
  """Bytes of pictures in each row group of a file; 0: all are null."""
  name, metadata, found = _picture_column(path, file.schema_arrow), file.metadata, []
  for group in range(metadata.num_row_groups):
    columns = map(metadata.row_group(group).column, range(metadata.num_columns))
    chunk = next((c for c in columns if name and c.path_in_schema == name), None)
    stats = chunk and chunk.statistics
    empty = stats and stats.has_null_count and stats.null_count == chunk.num_values
    found.append(0 if chunk is None or empty else chunk.total_uncompressed_size)
    if found[-1] > MAX_GROUP:
      raise DatasetError(
        f"{path}: the pictures of row group {group} are {found[-1]:,} bytes; a row "
        f"group is read as a whole, and {MAX_GROUP:,} is the limit. Write the file "
        "again with pyarrow.parquet.write_table(table, path, row_group_size=100)"
      )
  return found


def pictures(
  paths: Sequence[pathlib.Path],
  texts: Sequence[str],
  rows: Mapping[str, int],
  apart: FileImages,
) -> "ParquetImages | None":
  """`load_image` for the pictures in parquet files; None: they hold no picture.

  Args:
    paths: the files; all are opened, none is read.
    texts: the columns that each must have beside.
    rows: name of an image -> its row, counted through all of the files.
    apart: where the pictures of rows without bytes are.

  Raises:
    DatasetError: `open_parquet`; the column image has another type, or a row group is
      too large.
  """
  groups, starts, first, held = [], [], 0, False
  for path in paths:
    with open_parquet(path, texts) as file:
      held = any(_pictures(path, file)) or held
      for group in range(file.metadata.num_row_groups):
        groups.append((str(path), group))
        starts.append(first)
        first += file.metadata.row_group(group).num_rows
  return ParquetImages(groups, starts, rows, apart) if held else None


class ParquetImages:
  """`Dataset.load_image` for pictures in parquet files; opened again after pickling."""

  def __init__(self, groups, starts, rows, apart):
    self.groups, self.starts, self.rows, self.apart = groups, starts, rows, apart
    self._prepare()

  def _prepare(self):
    self._lock = threading.Lock()
    self._files = collections.OrderedDict()  # path -> (file, column), last used last
    self._held = collections.OrderedDict()  # group -> its pictures, or None

  def __getstate__(self):
    return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

  def __setstate__(self, state):
    self.__dict__.update(state)
    self._prepare()

  def read_bytes(self, record: Record) -> bytes:
    """The bytes of the original file. Raises MissingImage, ImageError."""
    if record.image not in self.rows:
      raise MissingImage(f"{record.image}: not in the parquet files")
    row = self.rows[record.image]
    at = bisect.bisect_right(self.starts, row) - 1
    try:
      with self._lock:  # a parquet file is for one thread at a time
        column = self._group(at)
    except (*_ERRORS, DatasetError) as error:
      path, group = self.groups[at]
      raise ImageError(
        f"{record.image}: row group {group} of {path} cannot be read: {error}"
      ) from error
    value = None if column is None else column[row - self.starts[at]].as_py()
    if isinstance(value, dict):
      value = value["bytes"]
    return self.apart.read_bytes(record) if value is None else value

  def __call__(self, record: Record, size: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 RGB [h, w, 3] at the stored size. Raises ImageError."""
    return decode(self.read_bytes(record), record.image)

  def _group(self, at):
    if at not in self._held:
      path, group = self.groups[at]
      file, name = self._file(path)
      columns = name and file.read_row_group(group, columns=[name]).column("image")
      self._held[at] = columns
      while len(self._held) > 1 and self._size() > _HELD:
        self._held.popitem(last=False)
    self._held.move_to_end(at)
    return self._held[at]

  def _size(self):
    return sum(column.nbytes for column in self._held.values() if column is not None)

  def _file(self, path):
    if path not in self._files:
      file = parquet.ParquetFile(path)
      self._files[path] = file, _picture_column(path, file.schema_arrow)
      if len(self._files) > _OPEN:
        self._files.popitem(last=False)[1][0].close()
    self._files.move_to_end(path)
    return self._files[path]
