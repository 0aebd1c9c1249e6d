"""What the pre-training sets share: all of each is `train`, one record an image.

They have millions of records, so bad ones are counted rather than collected, and the
entries of a file are let go of as they are read. The records of a million images with
two captions of 25 words take 1.4 GB of memory, and a JSON file some more while it is
read.

In the code that pre-trained on them (GA-DMS, arXiv:2509.09118) an image is an identity
of its own; here too, unless a source says otherwise.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tpr_jax.data.images import FileImages
from tpr_jax.data.record import (
  Dataset,
  DatasetError,
  LoadImage,
  Note,
  Record,
  SplitError,
)
from tpr_jax.data.sources import annotations as notes
from tpr_jax.data.sources import layouts

AGAIN = "listed_again"  # key of `truth`: that of further listings of an image
_KEPT = 1_000  # problems of a file


def find(
  layout: layouts.Layout, root: str | os.PathLike, split: str, chosen: str | None
) -> list[pathlib.Path]:
  """The annotation files, sorted.

  Raises:
    DatasetError: the set is not there (`layouts.missing`).
    SplitError: split is not "train". Told before anything is read.
  """
  found = layouts.find_all(layout, root, chosen)
  if split != "train":
    raise SplitError(
      f"{layout.name} has no split {split!r}: it is a set to pre-train on, and all of "
      f"{pathlib.Path(root, layout.folder)} is train; for validation set aside a share "
      "of the training identities (tpr_jax.data.build.hold_out), or use another dataset"
    )
  return found


def file_images(
  layout: layouts.Layout, root: str | os.PathLike, images: str
) -> FileImages:
  """Pictures that are files below `images` of the set's folder, "" for itself."""
  folder = pathlib.Path(root, layout.folder, images)
  if not folder.is_dir():
    raise layouts.missing(layout, root, f"no folder {folder} (option images={images})")
  return FileImages(str(folder))


def whole_number(layout: layouts.Layout, option: str, value: Any) -> int:
  """An option that is a whole number, 0 or more. Raises DatasetError."""
  if isinstance(value, bool) or not isinstance(value, int) or value < 0:
    raise DatasetError(
      f"{layout.name}: the option {option} is {value!r}, expected a whole number, 0 or "
      "more"
    )
  return value


def numbered(
  entries: list, positions: Iterable[int] | None = None
) -> Iterator[tuple[int, Any]]:
  """(position, entry); the list, which may hold gigabytes, is emptied on the way."""
  for position in range(len(entries)) if positions is None else positions:
    entry, entries[position] = entries[position], None
    yield position, entry


def image_and_rest(entry: Any, image: str, captions: str) -> tuple[str, dict[str, Any]]:
  """(the path under the key `image`, what is under all keys but these two)."""
  if not isinstance(entry, dict):
    raise notes.Problem(f"found {notes.kind(entry)}, expected an object {{...}}")
  path = notes.as_path(image, notes.take(entry, image))
  return path, {k: v for k, v in entry.items() if k not in (image, captions)}


class Problems:
  """The bad records of one file: all are counted, the first are kept to be shown."""

  def __init__(self, path: pathlib.Path):
    self._path, self._first, self._count = path, [], 0

  def add(self, where: str, problem: notes.Problem) -> None:
    self._count += 1
    if self._count <= _KEPT:
      # Without the traceback, which would keep the whole record alive.
      self._first.append((where, problem.with_traceback(None)))

  def check(self) -> None:
    """Raises one DatasetError for all of them, if there are any."""
    notes.raise_problems(self._path, self._first, total=self._count)


class Listing(NamedTuple):
  """What an annotation file says in one place about one image.

  identity: None: the image is a person of its own, numbered in the order of reading.
  """

  image: str
  captions: tuple[str, ...]
  unusable: tuple[str, ...] = ()
  truth: Mapping[str, Any] | None = None
  identity: int | None = None


class Gathered:
  """The records of a set, while its files are read: one for each image.

  An image that is listed again adds the captions that its record lacks; the truth of
  further listings, where it is another, goes to `truth[AGAIN]`.
  """

  def __init__(self, layout: layouts.Layout):
    self.records: list[Record] = []
    self._layout, self._at = layout, {}
    self._again = self._new = self._old = self._unlike = 0

  def read(
    self,
    path: pathlib.Path,
    entries: Iterable[tuple[int, Any]],
    listing: Callable[[Any], Listing],
    word: str = "record",
  ) -> None:
    """Takes in the (number, entry) pairs of one file.

    listing: of an entry; raises Problem. word: what a number counts, for messages.

    Raises:
      DatasetError: names the bad records; or no record of the file has a caption.
    """
    problems, reasons, texts = Problems(path), Problems(path), 0
    for number, entry in entries:
      try:
        found = listing(entry)
        self._add(found)
      except notes.Problem as problem:
        problems.add(f"{word} {number}", problem)
        continue
      texts += len(found.captions)
      for reason in found.unusable:
        reasons.add(f"{word} {number}", notes.Problem(reason))
    problems.check()
    if not texts:  # another key, or another format
      reasons.check()

  def _add(self, found):
    at = self._at.setdefault(found.image, len(self.records))
    if at < len(self.records):
      self.records[at] = self._joined(self.records[at], found)
      return
    record = Record(
      image=found.image,
      identity=at if found.identity is None else found.identity,
      captions=found.captions,
      split="train",
      source=self._layout.name,
      unusable=found.unusable,
    )
    if found.truth:
      record = dataclasses.replace(record, truth=found.truth)
    self.records.append(record)

  def _joined(self, record, found):
    if found.identity not in (None, record.identity):
      raise notes.Problem(
        f"image {found.image!r} is identity {found.identity} here and identity "
        f"{record.identity} in a record above"
      )
    new = tuple(text for text in found.captions if text not in record.captions)
    self._again += 1
    self._new += len(new)
    self._old += len(found.captions) - len(new)
    first = {key: value for key, value in record.truth.items() if key != AGAIN}
    truth = record.truth
    if dict(found.truth or {}) != first:
      self._unlike += 1
      truth = {**first, AGAIN: [*truth.get(AGAIN, ()), dict(found.truth or {})]}
    return dataclasses.replace(
      record,
      captions=record.captions + new,
      unusable=record.unusable + found.unusable,
      truth=truth,
    )

  def _note(self):
    text = (
      f"{self._again:,} listings of images that had been listed before were joined to "
      f"their records: {self._new:,} captions more, {self._old:,} that were there"
    )
    if self._unlike:
      text += f"; {self._unlike:,} had another truth, kept as truth[{AGAIN!r}]"
    return Note(self._again, text)

  def dataset(self, load_image: LoadImage, *said: Note) -> Dataset:
    """The whole set; notes whose count is 0 are not kept."""
    if not self.records:
      raise DatasetError(f"{self._layout.name}: its files hold no records")
    kept = tuple(note for note in (self._note(), *said) if note.count)
    return Dataset(self._layout.name, "train", tuple(self.records), load_image, kept)
