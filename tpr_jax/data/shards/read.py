"""Records of shards, read one by one; nothing is held that grows with their number.

An open shard keeps 8 bytes a record, where its chunks begin; all else stays on disk.
"""

import bisect
import collections
import itertools
import json
import operator
import pathlib
import re
import threading
from collections.abc import Collection, Sequence

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from tpr_jax.data.damage import Damage
from tpr_jax.data.images import decode
from tpr_jax.data.record import DatasetError, ImageError, Record, Stream
from tpr_jax.data.shards import format as files

MOST_OPEN = 256  # shards; systems allow 1,024 files or more in a process
_NAMELESS = re.compile(r"record (\d+) of (.+)")


class Reader:
  """One shard. Safe between threads, which take turns.

  ArrayRecord's `read([i])` makes a list as long as the shard's chunks for each call
  (0.3 ms at 60,000 records, and memory that grows); to seek and read costs 0.02 ms.
  """

  def __init__(self, path: pathlib.Path, records: int):
    self._path, self._records = path, records
    self._lock, self._file = threading.Lock(), None

  def __call__(self, number: int) -> bytes:
    """The bytes of one record. Raises OSError, with the reason, whatever is wrong."""
    with self._lock:
      try:
        if self._file is None:
          self._file = ArrayRecordReader(str(self._path), files.READ)
          found = self._file.num_records()
          if self._file.ok() and found != self._records:
            raise OSError(f"it holds {found:,} records, not {self._records:,}")
        self._file.seek(number)
        return self._file.read()
      except (RuntimeError, IndexError, OSError) as error:
        self._file = None  # it would repeat this error for every other record
        raise OSError(str(error) or "the file ends before it") from error


class Readers:
  """The shards of a folder, those used last held open. Safe between threads."""

  def __init__(self, folder: pathlib.Path, shards: Sequence[files.Shard]):
    self._folder, self.shards = folder, shards
    self._ends = list(itertools.accumulate(shard.records for shard in shards))
    self._lock, self._open = threading.Lock(), collections.OrderedDict()

  def where(self, place: int) -> tuple[files.Shard, int]:
    """(shard, number within it) of a record."""
    at = bisect.bisect_right(self._ends, place)
    return self.shards[at], place - self._ends[at] + self.shards[at].records

  def place(self, file: str, number: int) -> int | None:
    """The inverse; None where there is no such record."""
    for shard, end in zip(self.shards, self._ends, strict=True):
      if shard.file == file and number < shard.records:
        return end - shard.records + number
    return None

  def __call__(self, place: int) -> bytes:
    """The bytes of a record. Raises OSError."""
    shard, number = self.where(place)
    with self._lock:
      reader = self._open.pop(shard.file, None)
      if reader is None:
        reader = Reader(self._folder / shard.file, shard.records)
      self._open[shard.file] = reader  # at the end: used last
      while len(self._open) > MOST_OPEN:
        self._open.popitem(last=False)  # closed when the last thread has read from it
    return reader(number)

  def __reduce__(self):
    return Readers, (self._folder, self.shards)


class ShardRecords(Stream):
  """The records of one split of a set of shards.

  Args:
    folder: of the split.
    manifest: what `format.read_manifest` has found good.
  """

  def __init__(self, folder: pathlib.Path, manifest: files.Manifest):
    self._folder, self._manifest = folder, manifest
    self._readers = Readers(folder, manifest.shards)
    self.left_out = manifest.left_out
    self.digest = manifest.index[files.CAPTIONS]
    bad = json.loads((folder / files.DAMAGE).read_text("utf-8"))
    self.bad = Damage.from_json(bad).found
    self._map()

  def _map(self) -> None:
    """Maps the arrays: they are read from the file where they are looked at."""
    rows = np.load(self._folder / files.CAPTIONS, mmap_mode="r")
    # Plain arrays over the same memory: a memmap takes longer for every number.
    columns = (np.asarray(rows[name]) for name in files.ROW.names)
    self.record, self.number, self.labels = columns
    identities = np.load(self._folder / files.IDENTITIES, mmap_mode="r")
    self.identities = np.asarray(identities)
    self._last = threading.local()

  def __reduce__(self):
    return ShardRecords, (self._folder, self._manifest)

  def __len__(self) -> int:
    return self._manifest.records

  def __getitem__(self, index: int) -> Record:
    return self._read(range(len(self))[operator.index(index)])[0]

  def picture(self, place: int) -> bytes:
    """The encoded picture of a record. Raises ImageError."""
    _, data, error = self._read(place)
    if error is not None:
      raise type(error)(str(error))  # a new one: this one may have been raised before
    return data

  def _read(self, place: int) -> tuple[Record, bytes, ImageError | None]:
    """A record and its picture; each thread keeps its last: it is asked for twice."""
    if getattr(self._last, "place", None) != place:
      try:
        data = self._readers(place)
        found = files.unpack(data, self._manifest.split, place)
      except (OSError, ValueError, KeyError, TypeError) as error:
        shard, number = self._readers.where(place)
        name = f"record {number} of {shard.file}"
        failed = ImageError(f"{name} cannot be read: {error}")
        failed.picture = name
        raise failed from error
      self._last.place, self._last.found = place, found
    return self._last.found

  def find(self, images: Collection[str]) -> list[int]:
    wanted = {files.name_key(image) for image in images}
    keys = np.load(self._folder / files.NAMES, mmap_mode="r")
    found = np.flatnonzero(np.isin(keys, np.fromiter(wanted, np.uint64, len(wanted))))
    places = {int(place) for place in found}
    for match in filter(None, map(_NAMELESS.fullmatch, images)):
      places.add(self._readers.place(match[2], int(match[1])))
    return sorted(places - {None})


class ShardImages:
  """`Dataset.load_image` for the records of a `ShardRecords`."""

  def __init__(self, records: ShardRecords):
    self._records = records

  def read_bytes(self, record: Record) -> bytes:
    """The bytes of the picture. Raises ImageError."""
    if record.place < 0:
      raise DatasetError(f"{record.image} is no record of this set of shards")
    return self._records.picture(record.place)

  def __call__(self, record: Record, size: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 RGB [h, w, 3] at the stored size. Raises ImageError."""
    return decode(self.read_bytes(record), record.image)
