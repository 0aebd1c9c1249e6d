"""What a set of shards is on disk: one folder for each split.

  NAME-00000-of-00016.array_record ...  records, each in a chunk of its own
  captions.npy     (record, number, label) int32 of every caption, in order
  names.npy        uint64 [records], `name_key` of every picture's name
  identities.npy   int64 [N], the distinct identities, sorted: label -> identity
  bad_data.json    what was bad when it was written (damage.py)
  manifest.json    all of the above: sizes, counts and digests; written last

A record is the length of its head (uint32, little endian), the head (JSON: `pack`), and
the bytes of the picture. ArrayRecord keeps a hash of every chunk and checks it.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from tpr_jax.data import images
from tpr_jax.data.record import DatasetError, ImageError, Record

FORMAT = "tpr_jax shards 1"
MANIFEST, DAMAGE = "manifest.json", "bad_data.json"
CAPTIONS, NAMES, IDENTITIES = "captions.npy", "names.npy", "identities.npy"
INDEX = (CAPTIONS, NAMES, IDENTITIES)
ROW = np.dtype([("record", "<i4"), ("number", "<i4"), ("label", "<i4")])  # of CAPTIONS
# One record a chunk, as it is: a record is read alone, and pictures do not compress.
WRITE = "group_size:1,uncompressed"
READ = "readahead_buffer_size:0,max_parallelism:0"
_HEAD = struct.Struct("<I")
_ERRORS = {
  error.kind: error
  for error in (
    ImageError,
    images.MissingImage,
    images.UnopenedImage,
    images.AbsurdSize,
    images.Bomb,
  )
}
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Shard:
  """One file of records."""

  file: str
  bytes: int
  records: int


@dataclasses.dataclass(frozen=True)
class Manifest:
  """What manifest.json says.

  Attributes:
    name, split: of the dataset.
    records, captions, identities: how many there are.
    left_out: captions of the source that are no text.
    shards: in the order of the records.
    index: file (INDEX, DAMAGE) -> hex digest (sha256).
    resize: (height, width) of all pictures, or None: as they were; quality: of the
      JPEGs that were made.
  """

  name: str
  split: str
  records: int
  captions: int
  identities: int
  left_out: int
  shards: tuple[Shard, ...]
  index: Mapping[str, str]
  resize: tuple[int, int] | None
  quality: int

  def to_json(self) -> dict[str, Any]:
    return {"format": FORMAT, **dataclasses.asdict(self)}

  @classmethod
  def from_json(cls, plain: Mapping[str, Any]) -> "Manifest":
    """Raises KeyError or TypeError where it is no such object."""
    fields = {field.name: plain[field.name] for field in dataclasses.fields(cls)}
    fields["shards"] = tuple(Shard(**shard) for shard in fields["shards"])
    fields["resize"] = fields["resize"] and tuple(fields["resize"])
    return cls(**fields)


def shard_name(name: str, number: int, count: int) -> str:
  return f"{name}-{number:05d}-of-{count:05d}.array_record"


def partial(folder: pathlib.Path) -> pathlib.Path:
  """Where a split is while it is written."""
  return folder.with_name(f".{folder.name}.partial")


def name_key(image: str) -> int:
  """64 bits that the name of a picture is found by again."""
  name = image.encode("utf-8", "surrogatepass")
  return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def pack(record: Record, picture: bytes, error: ImageError | None = None) -> bytes:
  """A record and its encoded picture, or why there is none, as bytes."""
  head = dict(
    image=record.image,
    identity=record.identity,
    captions=record.captions,
    source=record.source,
    truth=dict(record.truth),
    unusable=record.unusable,
  )
  if error is not None:
    head["error"] = [error.kind, str(error)]
  text = json.dumps(head, separators=(",", ":")).encode()
  return b"".join((_HEAD.pack(len(text)), text, picture))


def unpack(
  data: bytes, split: str, place: int
) -> tuple[Record, bytes, ImageError | None]:
  """What `pack` was given. Raises ValueError or KeyError where it was not."""
  view = memoryview(data)
  size = _HEAD.unpack_from(view)[0] if len(view) >= _HEAD.size else len(view)
  end = _HEAD.size + size
  if len(view) < end:
    raise ValueError(f"{len(view)} bytes, shorter than its own head")
  head = json.loads(str(view[_HEAD.size : end], "ascii"))
  record = Record(
    image=head["image"],
    identity=head["identity"],
    captions=tuple(head["captions"]),
    split=split,
    source=head["source"],
    truth=head["truth"],
    unusable=tuple(head["unusable"]),
    place=place,
  )
  error = None
  if "error" in head:
    kind, reason = head["error"]
    error = _ERRORS.get(kind, ImageError)(reason)
  return record, bytes(view[end:]), error


def sha256(path: pathlib.Path) -> str:
  """Hex digest of a file."""
  found = hashlib.sha256()
  with path.open("rb") as file:
    while block := file.read(_BLOCK):
      found.update(block)
  return found.hexdigest()


def read_manifest(folder: pathlib.Path) -> Manifest:
  """The manifest of a split, after all of its files were looked at.

  Shards by their sizes, which tells what a copy has cut off; the index by its digests,
  for training would show other rows without noticing.

  Raises:
    DatasetError: it is no such folder, or a file is missing or has changed; names it.
  """
  path = folder / MANIFEST
  try:
    plain = json.loads(path.read_text("utf-8"))
    if plain.get("format") != FORMAT:
      raise DatasetError(
        f"{path}: format {plain.get('format')!r}, expected {FORMAT!r}: written by "
        "another version of --mode=shards, or by something else"
      )
    manifest = Manifest.from_json(plain)
  except OSError as error:
    raise DatasetError(f"{path}: cannot be read: {error}") from error
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise DatasetError(
      f"{path}: no manifest of --mode=shards ({type(error).__name__}: {error}); copy "
      "or write the set again"
    ) from error
  wrong = [reason for shard in manifest.shards if (reason := _wrong(folder, shard))]
  for file, digest in manifest.index.items():
    if not (folder / file).is_file():
      wrong.append(f"{file} is missing")
    elif sha256(folder / file) != digest:
      wrong.append(f"{file} has not the digest that it was written with")
  if wrong:
    more = f"; and {len(wrong) - 5:,} more files" if len(wrong) > 5 else ""
    raise DatasetError(
      f"{folder}: {'; '.join(wrong[:5])}{more}. Copy these again, or write the set "
      "again with --mode=shards"
    )
  return manifest


def _wrong(folder: pathlib.Path, shard: Shard) -> str:
  """What is wrong with a shard, as far as its size tells; "" for nothing."""
  try:
    size = os.stat(folder / shard.file).st_size
  except OSError as error:
    return f"{shard.file} is missing ({error.strerror})"
  if size != shard.bytes:
    return f"{shard.file} has {size:,} bytes, and {shard.bytes:,} were written"
  return ""
