"""What becomes of each file that is new or looks changed: read by threads, in order."""

import dataclasses
import datetime
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from tpr_jax.data import images, threads
from tpr_jax.data.record import ImageError
from tpr_jax.search import photo
from tpr_jax.search.encoder import Encoder
from tpr_jax.search.people import Cutter, Person
from tpr_jax.search.store import EMPTY, Known
from tpr_jax.search.walk import Found

THREADS, AHEAD = 4, 128
FRAMES_AHEAD = 8  # each may hold hundreds of people, ready to be encoded
# Kinds of damage that are not of the content: the same file may be readable tomorrow.
_PASSING = ("missing", "unopened")
# A file may change twice within one tick of the clock that stamps it. Until it is so
# much older than its reading, its times are not trusted, and its content is read again.
_TICKS = 2_000_000_000  # nanoseconds


@dataclasses.dataclass(frozen=True)
class Gone:
  """The file has vanished since the folder was walked."""

  file: Found


@dataclasses.dataclass(frozen=True)
class Same:
  """The content is the one that the index has; `time`: of the file, as it is now."""

  file: Found
  time: datetime.datetime | None


@dataclasses.dataclass(frozen=True)
class Copy:
  """The content is that of another file of the index: moved, or copied."""

  file: Found
  hash: str
  time: datetime.datetime


@dataclasses.dataclass(frozen=True)
class Fresh:
  """A picture to encode. prepared: uint8 [H, W, 3]."""

  file: Found
  hash: str
  time: datetime.datetime
  width: int
  height: int
  thumbnail: bytes
  prepared: np.ndarray


@dataclasses.dataclass(frozen=True)
class Frame:
  """A scene and its people. left_out: reasons -> boxes of the detector."""

  file: Found
  hash: str
  time: datetime.datetime
  width: int
  height: int
  people: Sequence[Person]
  left_out: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Broken:
  """It cannot be read as a picture. hash: "" where there is no content either."""

  file: Found
  hash: str
  kind: str
  problem: str


Outcome = Gone | Same | Copy | Fresh | Frame | Broken


def unchanged(file: Found, known: Known | None) -> bool:
  """Can it be told without reading that the file is the one that the index knows?"""
  return (
    known is not None
    and known.kind not in _PASSING
    and (known.size, known.modified, known.changed)
    == (file.size, file.modified, file.changed)
  )


def stamps(file: Found, now: int) -> dict[str, int]:
  """The columns that `unchanged` compares; now: ns since 1970, before the reading."""
  settled = now - max(file.modified, file.changed) > _TICKS
  return dict(
    size=file.size,
    modified=file.modified if settled else -1,
    changed=file.changed if settled else -1,
  )


def outcomes(
  folder: pathlib.Path,
  files: Sequence[Found],
  known: Mapping[str, Known],
  contents: Collection[str],
  encoder: Callable[[], Encoder],
  cutter: Cutter | None = None,
) -> Iterator[Outcome]:
  """One for each file, in their order.

  Args:
    known: path -> what the index knows. contents: hashes of its whole pictures.
    encoder: asked for when a picture must be encoded.
    cutter: cuts people out; None: pictures are taken whole.
  """

  def one(file: Found) -> Outcome:
    own = known.get(file.path)
    try:
      data = images.read_bytes(folder / file.path, file.path)
    except images.MissingImage:
      return Gone(file)
    except ImageError as error:
      if own is not None and (own.hash, own.kind) == ("", error.kind):
        return Same(file, None)  # still not to be opened
      return Broken(file, "", error.kind, str(error))
    digest = photo.digest(data)
    if own is not None and own.hash == digest:
      whole = own.kind in (None, EMPTY)
      return Same(file, photo.when(data, file.modified) if whole else None)
    if digest in contents:
      return Copy(file, digest, photo.when(data, file.modified))
    try:
      pixels = images.decode(data, file.path)
    except ImageError as error:
      return Broken(file, digest, error.kind, str(error))
    height, width = pixels.shape[:2]
    time = photo.when(data, file.modified)
    if cutter is not None:
      return Frame(file, digest, time, width, height, *cutter(pixels))
    prepared, small = encoder().prepare(pixels), photo.thumbnail(pixels)
    return Fresh(file, digest, time, width, height, small, prepared)

  ahead = AHEAD if cutter is None else FRAMES_AHEAD
  return threads.in_order(one, files, threads=THREADS, ahead=ahead)
