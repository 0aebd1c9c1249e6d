"""A set of shards that is being written: each shard with its piece of the index.

The piece is written after its shard is whole and on the disk, so that a shard with a
piece need never be written again. `join` puts the pieces together at the end.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Iterator

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from tpr_jax.data.damage import Damage
from tpr_jax.data.record import DatasetError, Record
from tpr_jax.data.shards import format as files

PREFIX, _SHARD = "piece-", ".array_record"


class ShardWriter:
  """A shard being written, and its piece.

  Args:
    partial: the folder of the set while it is written.
    number: of the shard.
    bad: names the split; what is bad in this shard is collected in another.

  Attributes:
    bytes: of its records so far.
  """

  def __init__(self, partial: pathlib.Path, number: int, bad: Damage):
    self._stem, self.bytes = _stem(partial, number), 0
    self._writer = ArrayRecordWriter(str(self._stem.with_suffix(".part")), files.WRITE)
    self._left_out, self._bad = 0, Damage(bad.data, bad.pictures)
    self._identities, self._names, self._captions = [], [], []

  def add(self, record: Record, data: bytes, bad: tuple[tuple[str, str], ...]) -> None:
    """Takes a record in; data: `format.pack`ed; bad: (kind, reason) of its damage."""
    self._writer.write(data)
    self.bytes += len(data)
    self._identities.append(record.identity)
    self._names.append(files.name_key(record.image))
    self._captions.append(len(record.captions))
    self._left_out += len(record.unusable)
    for kind, reason in bad:
      self._bad.add(record.image, kind, reason)

  def close(self) -> None:
    """Ends the shard and writes its piece, of which the JSON says that all is whole.

    Raises:
      DatasetError: the shard could not be written: only now ArrayRecord says so.
    """
    path = self._stem.with_suffix(".part")
    try:
      self._writer.close()
    except RuntimeError as error:
      raise DatasetError(
        f"{path} cannot be written: {error}. The same command goes on from the shard "
        "before it: is there room left?"
      ) from error
    with path.open("rb") as file:
      os.fsync(file.fileno())
    size = path.stat().st_size
    os.replace(path, self._stem.with_suffix(_SHARD))
    with self._stem.with_suffix(".npz").open("wb") as file:
      np.savez(
        file,
        identities=np.asarray(self._identities, np.int64),
        names=np.asarray(self._names, np.uint64),
        captions=np.asarray(self._captions, np.int32),
      )
      _sync(file)
    piece = dict(bytes=size, left_out=self._left_out, bad=self._bad.to_json())
    write_json(self._stem.with_suffix(".json"), piece)

  def abandon(self) -> None:
    """Closes a file that is not whole; it is written again."""
    with contextlib.suppress(RuntimeError):
      self._writer.close()


@dataclasses.dataclass(frozen=True)
class Piece:
  """What `ShardWriter.close` has left of a shard.

  Attributes:
    bytes: of the file; left_out: captions that are no text; bad: what is bad in it.
    identities, names, captions: of each record its identity, the key of its name and
      the number of its captions.
  """

  bytes: int
  left_out: int
  bad: Damage
  identities: np.ndarray
  names: np.ndarray
  captions: np.ndarray


def read(partial: pathlib.Path) -> Iterator[Piece]:
  """The pieces in order, one in memory at a time, up to the first that is missing."""
  for number in itertools.count():
    stem = _stem(partial, number)
    if not stem.with_suffix(".json").exists():
      return
    plain = json.loads(stem.with_suffix(".json").read_text("utf-8"))
    bad = Damage.from_json(plain["bad"])
    with np.load(stem.with_suffix(".npz")) as arrays:
      yield Piece(plain["bytes"], plain["left_out"], bad, **arrays)


def join(partial: pathlib.Path, bad: Damage, **known) -> files.Manifest:
  """Writes the index, gives the shards their names, and last writes the manifest.

  Stopped anywhere, it can be called again.

  Args:
    bad: of the whole split.
    known: the fields of Manifest that the pieces do not tell.
  """
  identities, sizes, rows, left_out = np.empty(0, np.int64), [], 0, 0
  for piece in read(partial):
    identities = np.union1d(identities, piece.identities)
    sizes.append((piece.bytes, len(piece.names)))
    rows, left_out = rows + int(piece.captions.sum()), left_out + piece.left_out
  if not rows:
    lines = [f"{bad.data} has no caption in {bad.pictures:,} records", *bad.lines()]
    raise DatasetError("\n".join(lines))
  records = sum(count for _, count in sizes)
  _index(partial, records, rows, identities)
  write_json(partial / files.DAMAGE, bad.to_json())
  shards = tuple(
    files.Shard(files.shard_name(known["name"], number, len(sizes)), size, count)
    for number, (size, count) in enumerate(sizes)
  )
  for number, shard in enumerate(shards):
    _name(_stem(partial, number).with_suffix(_SHARD), partial / shard.file)
  manifest = files.Manifest(
    records=records,
    captions=rows,
    identities=len(identities),
    left_out=left_out,
    shards=shards,
    index={f: files.sha256(partial / f) for f in (*files.INDEX, files.DAMAGE)},
    **known,
  )
  write_json(partial / files.MANIFEST, manifest.to_json())
  return manifest


def remove(partial: pathlib.Path) -> None:
  """Removes the pieces, once they are joined."""
  for left in partial.glob(f"{PREFIX}*"):
    left.unlink(missing_ok=True)


def write_json(path: pathlib.Path, value: object) -> None:
  """Whole or not at all, and on the disk."""
  partial = path.with_name(f"{path.name}.part")
  with partial.open("w", encoding="utf-8") as file:
    json.dump(value, file, indent=1)
    file.write("\n")
    _sync(file)
  os.replace(partial, path)


def _stem(partial: pathlib.Path, number: int) -> pathlib.Path:
  return partial / f"{PREFIX}{number:05d}"


def _name(written: pathlib.Path, path: pathlib.Path) -> None:
  if written.exists():
    os.replace(written, path)
  elif not path.exists():  # an earlier call has named it
    raise DatasetError(
      f"{written} is gone, though it was written: remove {path.parent} and write the "
      "set again"
    )


def _index(partial, records: int, rows: int, identities: np.ndarray) -> None:
  """Writes the arrays of the index, a piece at a time."""
  make = np.lib.format.open_memmap
  names = make(partial / files.NAMES, "w+", np.uint64, (records,))
  index = make(partial / files.CAPTIONS, "w+", files.ROW, (rows,))
  place = row = 0
  for piece in read(partial):
    count = piece.captions
    record = np.repeat(np.arange(len(count)), count)  # within the shard
    first = np.cumsum(count) - count  # of the captions of each record
    part = index[row : row + len(record)]
    part["record"] = place + record
    part["number"] = np.arange(len(record)) - first[record]
    part["label"] = np.searchsorted(identities, piece.identities)[record]
    names[place : place + len(count)] = piece.names
    place, row = place + len(count), row + len(record)
  names.flush()
  index.flush()
  np.save(partial / files.IDENTITIES, identities)


def _sync(file) -> None:
  file.flush()
  os.fsync(file.fileno())
