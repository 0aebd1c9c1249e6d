"""SDA: Yang et al., "MRA", arXiv:2507.10195. Made pictures with phrases for regions.

JSON lists of {"image", "caption", "image_id", "boxes", "logits", "phrases"}, in 14
files: boxes[i] = (cx, cy, w, h) as shares of the picture is where a detector found
phrases[i], with confidence logits[i]. They become truth["regions"] (data/regions.py):

  [{"box": [cx, cy, w, h], "phrase": text, "logit": number, where there is one}, ...]

A box that reaches out of the picture is cut to it. One that is empty, outside, no four
numbers, or without a phrase is left out; both are counted, and told as notes. A record
that has none left is shown as a whole. Where no box of a file can be used, it is
another format, and an error.

The records of a million images with two regions each take 2.2 GB of memory; shards of
them (--mode=shards) take none.

Whether two images may share an `image_id`, and what they then share, is not published.
An image is an identity unless asked otherwise, and how many share one is told.
"""

import collections
import itertools
import os
from collections.abc import Iterator
from typing import Any

from tpr_jax.data import regions
from tpr_jax.data.record import Dataset, DatasetError, Note
from tpr_jax.data.sources import annotations as notes
from tpr_jax.data.sources import layouts, pretraining

LAYOUT = layouts.Layout(
  name="sda",
  folder="SDA",
  annotations=("*.json",),
  images="",
  example="c_0_5000/0_0.jpg",
  paper=(
    'Yang et al., "Minimizing the Pretraining Gap: Domain-aligned Text-Based Person '
    'Retrieval", arXiv:2507.10195'
  ),
  request="https://github.com/Shuyu-XJTU/MRA",
  obtained=layouts.PUBLIC,
  tree=(
    "sda_0_5000.json       and the other 13 JSON files",
    "c_0_5000/0_0.jpg      and the other images",
  ),
)
IDENTITIES = ("image", "image_id")
_SHOWN = 3
_ROUNDING = 1e-3  # boxes have four digits: reaching out so far is no fault
_LEFT_OUT = {
  "form": "are no four numbers",
  "empty": "are empty",
  "outside": "lie outside of their pictures",
  "phrase": "have no phrase",
}


def load(
  root: str | os.PathLike,
  split: str,
  *,
  annotations: str | None = None,
  images: str = LAYOUT.images,
  identity: str = "image",
) -> Dataset:
  """The whole set, which is its split train.

  Args:
    root: the data root, a folder that holds SDA/.
    split: "train".
    annotations: a file's name below SDA/, or a pattern of several; None: all JSON
      files there.
    images: folder below SDA/ that the paths in the JSON start from.
    identity: "image": each image is one of its own; "image_id": those of one image_id
      are one, numbered in the order of reading.

  Raises:
    DatasetError: the set is not there, or its files are broken or of another shape.
    SplitError: another split.
  """
  if identity not in IDENTITIES:
    raise DatasetError(
      f"sda: the option identity is {identity!r}, expected {' or '.join(IDENTITIES)}"
    )
  paths = pretraining.find(LAYOUT, root, split, annotations)
  load_image = pretraining.file_images(LAYOUT, root, images)
  gathered, reading = pretraining.Gathered(LAYOUT), _Reading(identity == "image_id")
  for path in paths:
    reading.begin()
    gathered.read(path, pretraining.numbered(notes.read_json(path)), reading)
    reading.check(path)
  return gathered.dataset(load_image, *reading.notes())


class _Reading:
  """Entries -> listings; counts what is wrong with their boxes.

  Args:
    shared: whether images of one image_id are one identity.
  """

  def __init__(self, shared: bool):
    self._shared, self._numbers, self._names = shared, {}, collections.Counter()
    self._found, self._without = collections.Counter(), 0
    self._phrases: dict[str, str] = {}  # one object for each: most are said often
    self._used, self._wrong = 0, []

  def begin(self) -> None:
    """Of another file."""
    self._used, self._wrong = 0, []

  def __call__(self, entry: Any) -> pretraining.Listing:
    image, rest = pretraining.image_and_rest(entry, "image", "caption")
    columns = [_column(rest, key) for key in ("boxes", "phrases", "logits")]
    found = list(self._regions(image, *columns))
    self._used += len(found)
    self._without += not found
    truth = {**rest, **({regions.KEY: found} if found else {})}
    identity = self._identity(rest)
    texts = notes.as_sentences(["caption"], entry)
    return pretraining.Listing(image, *texts, truth, identity)

  def _identity(self, rest: dict[str, Any]) -> int | None:
    name = rest.get("image_id")
    named = isinstance(name, int | str) and not isinstance(name, bool)
    if named:
      self._names[name] += 1
    if not self._shared:
      return None
    if not named:
      raise notes.Problem(
        f"key 'image_id': found {notes.kind(name)}, expected a number or a name (the "
        "option identity=image_id asks for one)"
      )
    return self._numbers.setdefault(name, len(self._numbers))

  def _regions(self, image, boxes, phrases, logits) -> Iterator[dict[str, Any]]:
    """Those that can be used."""
    self._found["spare"] += max(0, len(phrases) - len(boxes))
    rows = itertools.zip_longest(boxes, phrases[: len(boxes)], logits[: len(boxes)])
    for box, phrase, logit in rows:
      fitted, wrong = _fitted(box)
      if not wrong and not (isinstance(phrase, str) and any(map(str.isalnum, phrase))):
        wrong = "phrase"
      if wrong:
        self._found[wrong] += 1
        if len(self._wrong) < _SHOWN:
          self._wrong.append(f"{image}: {box!r}, {phrase!r} ({_LEFT_OUT[wrong]})")
        continue
      self._found["cut"] += fitted != box
      found = {"box": fitted, "phrase": self._phrases.setdefault(phrase, phrase)}
      if isinstance(logit, int | float) and not isinstance(logit, bool):
        found["logit"] = logit
      yield found

  def check(self, path: os.PathLike) -> None:
    """Raises DatasetError where none of a file's boxes can be used."""
    if self._wrong and not self._used:
      lines = [
        f"{path}: none of its boxes can be used. Expected (cx, cy, w, h), centre and "
        "size as shares of the picture, and a phrase for each. Found:",
        *(f"  {wrong}" for wrong in self._wrong),
      ]
      raise DatasetError("\n".join(lines))

  def notes(self) -> Iterator[Note]:
    """What was found; a count may be 0."""
    left = {kind: self._found[kind] for kind in _LEFT_OUT if self._found[kind]}
    why = ", ".join(f"{count:,} {_LEFT_OUT[kind]}" for kind, count in left.items())
    shared = sum(count for count in self._names.values() if count > 1)
    become = "one identity" if self._shared else "an identity each"
    for count, what in (
      (sum(left.values()), f"boxes are left out: {why}"),
      (self._found["cut"], "boxes reach out of their pictures and are cut to them"),
      (self._found["spare"], "phrases have no box and are left out"),
      (self._without, "listings have no box: their region is the whole picture"),
      (shared, f"listings share their image_id with others and are {become}"),
    ):
      yield Note(count, f"{count:,} {what}")


def _column(rest: dict[str, Any], key: str) -> list[Any]:
  """Takes the list of `key` out of an entry; none where there is no such key."""
  value = rest.pop(key, None)
  if value is None:
    return []
  if not isinstance(value, list):
    raise notes.Problem(f"key {key!r}: found {notes.kind(value)}, expected a list")
  return value


def _fitted(box: Any) -> tuple[list[float], str]:
  """(the part of a box that lies in the picture, "") or ([], a key of _LEFT_OUT)."""
  if not regions.is_box(box):
    return [], "form"
  cx, cy, w, h = box
  if w <= 0 or h <= 0:
    return [], "empty"
  left, top = max(0.0, cx - w / 2), max(0.0, cy - h / 2)
  right, bottom = min(1.0, cx + w / 2), min(1.0, cy + h / 2)
  if left >= right or top >= bottom:
    return [], "outside"
  if max(w - (right - left), h - (bottom - top)) <= _ROUNDING:
    return box, ""
  fitted = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
  return [round(share, 6) for share in fitted], ""
