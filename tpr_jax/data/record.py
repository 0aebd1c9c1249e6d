"""What every dataset is to the rest of the project: records and a way to see them.

A `Record` is one image with its captions; a `Dataset` is one split of one source.
Nothing here knows about files, JAX or Grain, so input workers stay light.
"""

import dataclasses
from collections.abc import Callable, Mapping
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
  """

  kind = "damaged"


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
  """

  image: str
  identity: int
  captions: tuple[str, ...]
  split: str
  source: str = ""
  truth: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  unusable: tuple[str, ...] = ()


# load_image(record, (height, width) or None) -> uint8 RGB [h, w, 3].
# The size is a wish: a renderer draws at that size, a file loader returns the
# stored size. Raises ImageError. Must be picklable (workers may be processes).
LoadImage = Callable[[Record, tuple[int, int] | None], np.ndarray]


class Note(NamedTuple):
  """What a source did to its files' content: how many it concerns, and a sentence."""

  count: int
  text: str


@dataclasses.dataclass(frozen=True)
class Dataset:
  """One split of one source: its records, in the source's order, and their images.

  notes: what the source left out, replaced or put together. `--mode=check` and the
  start of training tell them.
  """

  name: str
  split: str
  records: tuple[Record, ...]
  load_image: LoadImage
  notes: tuple[Note, ...] = ()

  @property
  def identities(self) -> tuple[int, ...]:
    """The distinct raw identities, sorted: position = training label."""
    return tuple(sorted({record.identity for record in self.records}))
