"""One's own pictures: a folder of images and a JSON, JSONL, CSV or TSV file.

Columns (keys), the first of each group that is there:
  image, file_path, img_path    path below the folder, or below `images`
  caption | captions            one sentence | a list of sentences (in CSV: a JSON list)
  identity, id                  optional: whole numbers or names; without it each image
                                is a person of its own
  split                         optional: train, val or test
Anything else goes to `truth`. Rows that give one `caption` each and name the same
image are one record with several captions.
"""

import contextlib
import csv
import dataclasses
import io
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tpr_jax.data.images import FileImages
from tpr_jax.data.record import Dataset, DatasetError, Record
from tpr_jax.data.sources import annotations as notes
from tpr_jax.data.sources.layouts import visible_file

IMAGE_KEYS = ("image", "file_path", "img_path")
CAPTION_KEYS = ("captions", "caption")
IDENTITY_KEYS = ("identity", "id")
_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv")


def load(
  root: str | os.PathLike,
  split: str,
  *,
  annotations: str | Mapping[str, str] | None = None,
  images: str = "",
  captions: str | None = None,
  default_split: str = "test",
) -> Dataset:
  """One split of a folder.

  Identities that are names are numbered in sorted order within a file, and kept as
  `truth["identity_name"]`; where there are none, images are numbered in order and the
  image's path is the name.

  Args:
    root: the folder.
    split: "train", "val" or "test".
    annotations: the file's name below root; or a file for each split, as
      {"train": "train.csv", "test": "test.csv"}; None: the only such file there.
    images: folder below root that image paths start from.
    captions: the column with captions, when it is neither `captions` nor `caption`.
    default_split: what records without a split column are.

  Raises:
    DatasetError: folder or file missing, or rows that cannot be used (all are read
      first; the message names file, row, column, what was found and what is expected).
  """
  if root is None or not os.fspath(root) or not pathlib.Path(root).is_dir():
    raise _missing(root, "no folder " + (os.fspath(root) if root else "was given"))
  if default_split not in notes.SPLITS:
    raise DatasetError(
      f"folder: default_split is {default_split!r}, expected {', '.join(notes.SPLITS)}"
    )
  records = []
  for path, file_split, strict in _files(
    pathlib.Path(root), annotations, default_split
  ):
    items = _items(path, _rows(path), captions)
    for item in items:
      if strict and item.split not in (None, file_split):
        raise DatasetError(
          f"{path}: {item.image} says split {item.split!r}, but the option annotations "
          f"names this file for {file_split!r}"
        )
    records += _records(path, items, file_split)
  folder = pathlib.Path(root, images)
  if not folder.is_dir():
    raise _missing(root, f"no folder {folder} (asked for by images=)")
  return notes.one_split("folder", split, records, FileImages(str(folder)), root)


def _files(root, chosen, default_split):
  """[(path, split of its rows without a split column, whether all must be it)]."""
  if isinstance(chosen, Mapping):
    for split in chosen:
      if split not in notes.SPLITS:
        raise DatasetError(
          f"folder: annotations names the split {split!r}, expected "
          f"{', '.join(notes.SPLITS)}"
        )
    files = [(root / name, split, True) for split, name in chosen.items()]
  elif chosen:
    files = [(root / chosen, default_split, False)]
  else:
    files = filter(visible_file, root.iterdir())
    found = sorted(p for p in files if p.suffix.lower() in _SUFFIXES)
    if len(found) > 1:
      raise DatasetError(
        f"folder: {root} holds several annotation files: "
        f"{', '.join(p.name for p in found)}. Choose with the option annotations=NAME, "
        "or annotations={'train': NAME, 'test': NAME}"
      )
    files = [(path, default_split, False) for path in found]
  if not files:
    raise _missing(root, f"no {', '.join('*' + s for s in _SUFFIXES)} in {root}")
  for path, *_ in files:
    if not path.is_file():
      raise _missing(root, f"no file {path}")
  return files


def _missing(root, reason):
  root = root or "DATA_ROOT"
  return DatasetError(
    "\n".join(
      (
        f"folder is not there: {reason}",
        "",
        "Expected on disk:",
        f"  {root}/",
        "    captions.csv            or .tsv, .json, .jsonl; any name",
        "    images/0001.jpg         and the other images, at the paths that it names",
        "",
        "with the columns image, caption and, if known, identity and split:",
        "  image,caption,identity,split",
        '  images/0001.jpg,"A woman in a red coat and white sneakers.",1,train',
      )
    )
  )


def _rows(path):
  """A file -> [(where, dict)], by its suffix."""
  suffix = path.suffix.lower()
  if suffix == ".json":
    return [(f"record {i}", entry) for i, entry in enumerate(notes.read_json(path))]
  if suffix == ".jsonl":
    return _json_lines(path)
  if suffix in (".csv", ".tsv"):
    return _table(path)
  raise DatasetError(
    f"{path}: found the suffix {suffix!r}, expected {', '.join(_SUFFIXES)}"
  )


def _json_lines(path):
  rows = []
  # Not splitlines(): U+2028 and its kin are legal inside a JSON string.
  for number, line in enumerate(notes.read_text(path).split("\n"), start=1):
    if not line.strip():
      continue
    try:
      rows.append((f"line {number}", json.loads(line)))
    except json.JSONDecodeError as error:
      raise DatasetError(
        f"{path}: broken JSON on line {number}, column {error.colno}: {error.msg}; "
        "expected one object {...} a line"
      ) from error
  return rows


def _table(path):
  text = notes.read_text(path)
  header = text.split("\n", 1)[0].rstrip("\r")
  # Spreadsheets in half of Europe separate with ";": the header decides, not a guess
  # from the captions.
  marks = [m for m in "\t;," if set(IMAGE_KEYS) & set(_columns(header, m))]
  if not marks:
    raise DatasetError(
      f"{path}: found the header {header[:80]!r}, expected column names, separated by "
      f"comma, semicolon or tab, with one of {', '.join(IMAGE_KEYS)}"
    )
  reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=marks[0])
  rows, problems = [], []
  try:
    for row in reader:
      where = f"line {reader.line_num}"
      if None in row or None in row.values():
        found = sum(v is not None for k, v in row.items() if k is not None)
        found += len(row.get(None, ()))
        want = f"{len(reader.fieldnames)} columns ({marks[0]!r} between them)"
        problems.append((where, notes.Problem(f"found {found}, expected {want}")))
      else:
        rows.append((where, _cells(row)))
  except csv.Error as error:
    raise DatasetError(f"{path}: line {reader.line_num}: {error}") from error
  notes.raise_problems(path, problems)
  return rows


def _columns(header, mark):
  return next(csv.reader([header], delimiter=mark), ())


def _cells(row):
  """Text cells -> values: JSON lists of captions parsed; blank cells are no cells."""
  out = {key: value for key, value in row.items() if value != "" or key in CAPTION_KEYS}
  if out.get("captions", "").lstrip().startswith("["):
    # What is not JSON stays text, which `as_captions` then refuses and shows.
    with contextlib.suppress(json.JSONDecodeError):
      out["captions"] = json.loads(out["captions"])
  return out


@dataclasses.dataclass
class _Item:
  """One image while rows are gathered: captions and extra columns, one per row."""

  image: str
  identity: int | str | None
  split: str | None
  captions: list[str]
  unusable: list[str]
  extras: list[dict]

  def add(self, other):
    if (self.identity, self.split) != (other.identity, other.split):
      raise notes.Problem(
        f"image {self.image!r} is identity {other.identity}, split {other.split} here "
        f"and identity {self.identity}, split {self.split} in a row above"
      )
    self.captions += other.captions
    self.unusable += other.unusable
    self.extras += other.extras

  def truth(self):
    """Extra columns: one value if all rows agree, else a list with one per row."""
    keys = {key: None for extra in self.extras for key in extra}
    columns = {key: [extra.get(key) for extra in self.extras] for key in keys}
    return {k: v[0] if all(x == v[0] for x in v) else v for k, v in columns.items()}


def records_of(
  path: pathlib.Path,
  rows: Sequence[tuple[str, Mapping[str, Any]]],
  captions: str | None,
  split: str,
) -> list[Record]:
  """Rows of one file, as [(where, columns)], -> its records, in order.

  captions, split: as load's `captions` and `default_split`. Raises DatasetError.
  """
  return _records(path, _items(path, rows, captions), split)


def _items(path, rows, captions):
  """Rows of one file -> items, in order; rows with a single caption join by image."""
  items, problems, unusable = {}, [], []
  for position, (where, row) in enumerate(rows):
    try:
      item, single = as_item(row, captions)
      unusable += [(where, notes.Problem(reason)) for reason in item.unusable]
      key = item.image if single else (item.image, position)
      if key in items:
        items[key].add(item)
      else:
        items[key] = item
    except notes.Problem as problem:
      problems.append((where, problem))
  notes.raise_problems(path, problems)
  notes.raise_wrong_captions(path, unusable, items.values())
  if not items:
    raise DatasetError(f"{path}: found no rows, expected one or more images")
  return list(items.values())


def as_item(row, captions):
  """A row -> (_Item, whether it gave a single caption). Raises notes.Problem."""
  if not isinstance(row, dict):
    raise notes.Problem(f"found {notes.kind(row)}, expected an object {{...}}")
  image = _first(row, IMAGE_KEYS) or notes.take(row, IMAGE_KEYS[0])
  text = captions or _first(row, CAPTION_KEYS) or CAPTION_KEYS[1]
  sentences, unusable = notes.as_captions(text, row)
  person = _first(row, IDENTITY_KEYS)
  identity = row[person] if person else None
  if person and (isinstance(identity, bool) or not isinstance(identity, (int, str))):
    raise notes.Problem(
      f"key {person!r}: found {notes.kind(identity)}, expected a whole number or a name"
    )
  item = _Item(
    image=notes.as_path(image, row[image]),
    identity=identity,
    split=notes.as_split("split", row["split"]) if "split" in row else None,
    captions=list(sentences),
    unusable=list(unusable),
    extras=[{k: v for k, v in row.items() if k not in (image, text, person, "split")}],
  )
  return item, not isinstance(row.get(text), list)


def _first(row, keys):
  return next((key for key in keys if key in row), None)


def _records(path, items, file_split):
  """Items -> records, with numbers for the identities and splits for the undivided."""
  known = [item.identity is not None for item in items]
  if any(known) and not all(known):
    raise DatasetError(
      f"{path}: {items[known.index(False)].image} has no identity while other images "
      "have one; expected all or none (without, each image is its own person)"
    )
  if all(known):
    names = [str(item.identity).strip() for item in items]
  else:
    names = [item.image for item in items]
  whole = all(known) and all(re.fullmatch(r"-?\d+", name) for name in names)
  if whole:
    numbers = {name: int(name) for name in names}
  else:
    ordered = sorted(set(names)) if all(known) else dict.fromkeys(names)
    numbers = {name: number for number, name in enumerate(ordered)}
  return [
    Record(
      image=item.image,
      identity=numbers[name],
      captions=tuple(item.captions),
      split=item.split or file_split,
      source="folder",
      truth=item.truth() if whole else {**item.truth(), "identity_name": name},
      unusable=tuple(item.unusable),
    )
    for item, name in zip(items, names, strict=True)
  ]
