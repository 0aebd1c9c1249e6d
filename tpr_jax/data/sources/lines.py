"""One's own pictures, millions of them: a JSON Lines file of which a line is an image.

As `folder.py` in its keys, but of a line nothing is kept save where it stands (12
bytes). A record is read when it is asked for, so that `--mode=shards` writes sets whose
annotations no memory holds. For that, what needs the whole file at once is left out:

  captions    all of an image in its own line; lines of one image are not joined
  identity    whole numbers, or none at all: then each line is a person of its own
  file        UTF-8 JSON Lines; no JSON list, CSV or TSV
"""

import array
import dataclasses
import json
import os
import pathlib
import re
import threading
from collections.abc import Sequence

from tpr_jax.data.images import FileImages
from tpr_jax.data.record import Dataset, DatasetError, Record, SplitError
from tpr_jax.data.sources import annotations as notes
from tpr_jax.data.sources import folder, layouts

_ENOUGH = 1_000  # wrong lines: then it is another format, and the rest is not read
_WHOLE = re.compile(r"-?\d+")
_BLANK = b" \t\r\n\xef\xbb\xbf"  # with the byte order mark


def load(
  root: str | os.PathLike,
  split: str,
  *,
  annotations: str | None = None,
  images: str = "",
  captions: str | None = None,
  default_split: str = "train",
) -> Dataset:
  """One split of a folder. Every line is looked at once, and then read again.

  Args:
    root: the folder.
    split: "train", "val" or "test".
    annotations: the file's name below root; None: the only *.jsonl there.
    images: folder below root that image paths start from.
    captions: the key with captions, when it is neither `captions` nor `caption`.
    default_split: what lines without a split are.

  Raises:
    DatasetError: folder or file missing, or lines that cannot be used (the message
      names file, line, key, what was found and what is expected).
    SplitError: there is no such split.
  """
  path = _file(root, annotations)
  if default_split not in notes.SPLITS:
    raise DatasetError(
      f"lines: default_split is {default_split!r}, expected {', '.join(notes.SPLITS)}"
    )
  pictures = pathlib.Path(root, images)
  if not pictures.is_dir():
    raise DatasetError(f"lines: no folder {pictures} (asked for by images=)")
  reading = _Reading(path, captions, default_split)
  places = reading.scan()
  if not len(places[split]):
    found = (f"{s} ({len(places[s]):,} images)" for s in places if len(places[s]))
    raise SplitError(f"lines has no split {split!r}: {path} has {', '.join(found)}")
  records = Lines(reading, split, places[split])
  return Dataset("lines", split, records, FileImages(str(pictures)))


@dataclasses.dataclass
class _Places:
  """Where lines begin, and their numbers."""

  begin: array.array = dataclasses.field(default_factory=lambda: array.array("q"))
  number: array.array = dataclasses.field(default_factory=lambda: array.array("i"))

  def __len__(self) -> int:
    return len(self.begin)

  def add(self, begin: int, number: int) -> None:
    self.begin.append(begin)
    self.number.append(number)


class Lines(Sequence[Record]):
  """The records of the lines at these places; safe between threads, picklable."""

  def __init__(self, reading: "_Reading", split: str, places: _Places):
    self._reading, self._split, self._places = reading, split, places
    self._local = threading.local()

  def __reduce__(self):
    return Lines, (self._reading, self._split, self._places)

  def __len__(self) -> int:
    return len(self._places)

  def __getitem__(self, index: int) -> Record:
    begin, number = self._places.begin[index], self._places.number[index]
    if not hasattr(self._local, "file"):
      self._local.file = self._reading.path.open("rb")
    self._local.file.seek(begin)
    try:
      return self._reading.record(self._local.file.readline(), number, self._split)
    except notes.Problem as problem:
      raise DatasetError(
        f"{self._reading.path}: line {number:,} is another one since the file was "
        f"opened: {problem}"
      ) from problem


class _Reading:
  """How the lines of a file become records."""

  def __init__(self, path: pathlib.Path, captions: str | None, default_split: str):
    self.path, self._captions, self._default = path, captions, default_split

  def record(self, line: bytes, number: int, split: str) -> Record:
    """A line -> its record. Raises notes.Problem."""
    item, _ = self._item(line)
    truth, identity = item.truth(), item.identity
    if identity is None:
      identity = number - 1
      truth["identity_name"] = item.image
    return Record(
      image=item.image,
      identity=int(identity),
      captions=tuple(item.captions),
      split=split,
      source="lines",
      truth=truth,
      unusable=tuple(item.unusable),
    )

  def scan(self) -> dict[str, _Places]:
    """Split -> the places of its lines, of which all were looked at.

    Raises:
      DatasetError: some cannot be used, or none has a caption.
    """
    found = {split: _Places() for split in notes.SPLITS}
    problems, unusable, before, begin, any_text = [], [], (None, None), 0, False
    with self.path.open("rb") as file:
      for number, line in enumerate(file, start=1):
        try:
          if line.strip(_BLANK):
            item, single = self._item(line)
            self._check(item, single, *before)
            before = (item.identity is None, item.image if single else None)
            found[item.split or self._default].add(begin, number)
            any_text = any_text or bool(item.captions)
            if not any_text:
              unusable += [(f"line {number}", notes.Problem(r)) for r in item.unusable]
        except notes.Problem as problem:
          problems.append((f"line {number}", problem))
          if len(problems) == _ENOUGH:
            break
        begin += len(line)
    notes.raise_problems(self.path, problems)
    if not any(map(len, found.values())):
      raise DatasetError(f"{self.path}: found no lines, expected one or more images")
    if not any_text:
      notes.raise_problems(self.path, unusable)
    return found

  def _item(self, line: bytes):
    """(folder's item, whether it has a single caption). Raises notes.Problem."""
    try:
      row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
      raise notes.Problem(f"not UTF-8 text (byte {error.start}): save it so") from error
    except json.JSONDecodeError as error:
      raise notes.Problem(
        f"broken JSON, column {error.colno}: {error.msg}; expected one object {{...}}"
      ) from error
    return folder.as_item(row, self._captions)

  @staticmethod
  def _check(item, single: bool, nameless: bool | None, image: str | None) -> None:
    """Raises notes.Problem for what `folder` would need the whole file for.

    nameless: had the line before no identity? image: its image, if it had one caption.
    """
    if single and item.image == image:
      raise notes.Problem(
        f"image {image!r} stands in the line before, too: give all captions of an "
        "image in one line, as a list"
      )
    if nameless not in (None, item.identity is None):
      raise notes.Problem("expected an identity in every line, or in none")
    if isinstance(item.identity, str) and not _WHOLE.fullmatch(item.identity.strip()):
      raise notes.Problem(
        f"identity {item.identity!r}: expected a whole number; names are numbered by "
        "data.name=folder"
      )


def _file(root, chosen: str | None) -> pathlib.Path:
  """The JSON Lines file. DatasetError says what is there."""
  if root is None or not os.fspath(root) or not pathlib.Path(root).is_dir():
    reason = f"no folder {root}" if root else "no folder was given"
    raise DatasetError(f"lines: {reason}; say where: --config.data.root=DIR")
  if chosen:
    found = [pathlib.Path(root, chosen)]
  else:
    found = sorted(filter(layouts.visible_file, pathlib.Path(root).glob("*.jsonl")))
  if len(found) != 1 or not found[0].is_file():
    names = ", ".join(path.name for path in found) or "no *.jsonl"
    raise DatasetError(
      f"lines: {root} holds {names if not chosen else f'no {chosen}'}, expected one "
      "JSON Lines file: choose with the option annotations=NAME"
    )
  return found[0]
