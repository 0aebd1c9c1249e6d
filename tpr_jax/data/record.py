"""What every dataset is to the rest of the project: records and a way to see them.

A `Record` is one image with its captions; a `Dataset` is one split of one source. Its
records are in memory, or they are a `Stream`, which reads each when it is asked for.
Nothing here knows about files, JAX or Grain, so input workers stay light.
"""

import abc
import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class DatasetError(Exception):
  """A dataset cannot be used: says what was looked for and how to mend it."""


class SplitError(DatasetError):
  """The dataset is there and holds no split of this name."""


class ImageError(Exception):
  """One picture cannot be read: names the file and the reason.

  Attributes:
    kind: what is wrong, a key of `damage.KINDS`; a subclass has its own.
    picture: what to call it where the record that would tell cannot be read either.
  """

  kind = "damaged"
  picture: str | None = None


@dataclasses.dataclass(frozen=True)
class Record:
  """One image of one person, with its captions.

  Attributes:
    image: name of the image, unique within its dataset: for files the path relative
      to the dataset's folder, for rendered people `split/identity/view`.
    identity: the person's number exactly as the source has it (gaps allowed).
    captions: sentences that describe this image; none where the source has none that
      can be used, which `unusable` then explains.
    split: "train", "val" or "test".
    source: name of the dataset the record came from.
    truth: everything else the source knows (plain JSON values).
    unusable: captions of the source that are not among `captions` because they are no
      text, one reason each.
    place: its number in the `Stream` that it was read from, else -1; not compared.
  """

  image: str
  identity: int
  captions: tuple[str, ...]
  split: str
  source: str = ""
  truth: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  unusable: tuple[str, ...] = ()
  place: int = dataclasses.field(default=-1, compare=False, repr=False)


# load_image(record, (height, width) or None) -> uint8 RGB [h, w, 3].
# The size is a wish: a renderer draws at that size, a file loader returns the
# stored size. Raises ImageError. Must be picklable (workers may be processes).
LoadImage = Callable[[Record, tuple[int, int] | None], np.ndarray]


class Note(NamedTuple):
  """What a source did to its files' content: how many it concerns, and a sentence."""

  count: int
  text: str


class Stream(Sequence[Record], abc.ABC):
  """Records of which each is read when it is asked for; none is kept.

  What training has to know of all of them lies in arrays that need no memory (they are
  mapped from files), so that it never goes through the records to begin. To iterate
  reads everything once. Picklable, without what it has read.

  Attributes:
    record, number: int32 [n], which caption of which record each caption is, in the
      records' order: all that are text, with words or without.
    labels: int32 [n], the training label of each.
    identities: int64 [N], the distinct raw identities, sorted.
    left_out: captions of the source that are no text.
    bad: kind of damage (damage.KINDS) -> image name -> reason, as far as it was known
      when the stream was written.
    digest: of `record`, `number` and `labels`: equal where rows of training are.
  """

  record: np.ndarray
  number: np.ndarray
  labels: np.ndarray
  identities: np.ndarray
  left_out: int
  bad: Mapping[str, Mapping[str, str]]
  digest: str

  @abc.abstractmethod
  def __getitem__(self, index: int) -> Record:  # no slices
    """Raises ImageError, with `picture`, where the record cannot be read."""

  @abc.abstractmethod
  def find(self, images: Collection[str]) -> list[int]:
    """The records of these names, also of those that `ImageError.picture` made up."""


@dataclasses.dataclass(frozen=True)
class Dataset:
  """One split of one source: its records, in the source's order, and their images.

  notes: what the source left out, replaced or put together. `--mode=check` and the
  start of training tell them.
  """

  name: str
  split: str
  records: Sequence[Record]
  load_image: LoadImage
  notes: tuple[Note, ...] = ()

  @property
  def stream(self) -> Stream | None:
    """The records, if they are a Stream."""
    return self.records if isinstance(self.records, Stream) else None

  @property
  def identities(self) -> Sequence[int]:
    """The distinct raw identities, sorted: position = training label."""
    if self.stream is not None:
      return self.stream.identities
    return tuple(sorted({record.identity for record in self.records}))

  @property
  def caption_count(self) -> int:
    if self.stream is not None:
      return len(self.stream.record)
    return sum(len(record.captions) for record in self.records)

  def find(self, images: Collection[str]) -> list[int]:
    """The numbers of the records of these names."""
    if self.stream is not None:
      return self.stream.find(images)
    return [i for i, record in enumerate(self.records) if record.image in images]
