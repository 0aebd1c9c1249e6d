"""WebPerson: Zheng et al., "GA-DMS", EMNLP 2025, arXiv:2509.09118.

Two captions an image, written by language models, of people cut out of web pictures;
5,002,723 images, or a release of 1,000,000. Two forms:

  JSON      a list of objects {image name: {"caption1": text, "caption2": text}}, one or
            more images in each; the pictures are files
  parquet   (the hub's) columns image_path, caption1, caption2 and, unless the pictures
            are files, image: binary, or struct<bytes, path>

The images of a JSON file are taken in the order of their names, as GA-DMS's code does;
rows of parquet in theirs, in which their pictures can be read (`tables.py`). An image
is an identity: GA-DMS numbers them by captions, we by images.

Not verified: no published file could be read where this was written, and the hub's card
gives its parquet 27 MB, too few for the captions of 5,002,723 rows.
"""

import itertools
import os
import pathlib
import re
from typing import Any

from tpr_jax.data.images import FileImages
from tpr_jax.data.record import Dataset, DatasetError
from tpr_jax.data.sources import annotations as notes
from tpr_jax.data.sources import layouts, pretraining, tables

LAYOUT = layouts.Layout(
  name="webperson",
  folder="WebPerson",
  annotations=("*.json", "*.parquet", "data/*.parquet"),
  images="images",
  example="0000001.jpg",
  paper=(
    'Zheng et al., "Gradient-Attention Guided Dual-Masking Synergetic Framework for '
    'Robust Text-based Person Retrieval", EMNLP 2025, arXiv:2509.09118'
  ),
  request="https://github.com/Multimodal-Representation-Learning-MRL/GA-DMS",
  obtained=layouts.PUBLIC,
  tree=(
    "webperson.json          (one JSON file, any name), or the hub's",
    "data/train-*.parquet    which may hold the pictures themselves; if not:",
    "images/0000001.jpg      and the other images",
  ),
)
CAPTIONS = ("caption1", "caption2")
_COLUMNS = ("image_path", *CAPTIONS)
_EXPECTED = '{"caption1": "text", "caption2": "text"}'


def load(
  root: str | os.PathLike,
  split: str,
  *,
  annotations: str | None = None,
  images: str = LAYOUT.images,
) -> Dataset:
  """The whole set, which is its split train.

  Args:
    root: the data root, a folder that holds WebPerson/.
    split: "train".
    annotations: the file's name below WebPerson/, or a pattern of several; None: the
      one JSON file there, or all parquet files.
    images: folder below WebPerson/ that the names of pictures start from.

  Raises:
    DatasetError: the set is not there, or its files are broken or of another shape.
    SplitError: another split.
  """
  paths = pretraining.find(LAYOUT, root, split, annotations)
  kinds = {path.suffix for path in paths}
  if len(kinds) > 1:
    raise DatasetError(
      f"webperson: {paths[0].parent} holds JSON and parquet files: choose with the "
      "option annotations, for example annotations=*.json or annotations=data/*.parquet"
    )
  if kinds == {".parquet"}:
    if not annotations:
      _check_shards(paths)
    return _parquet(root, paths, images)
  if not annotations:
    layouts.only_one(LAYOUT, root, paths)
  load_image = pretraining.file_images(LAYOUT, root, images)
  gathered = pretraining.Gathered(LAYOUT)
  for path in paths:
    gathered.read(path, _by_name(notes.read_json(path)), _pair)
  return gathered.dataset(load_image)


def _by_name(entries: list) -> list[tuple[int, tuple[str | None, Any]]]:
  """(record, (image name, its captions)) in the order of names; not an object: None."""
  pairs = []
  for number, entry in pretraining.numbered(entries):
    if isinstance(entry, dict) and entry:
      pairs += [(number, pair) for pair in entry.items()]
    else:
      pairs.append((number, (None, entry)))
  return sorted(pairs, key=lambda pair: pair[1][0] or "")


def _pair(pair: tuple[str | None, Any]) -> pretraining.Listing:
  name, entry = pair
  if name is None:
    raise notes.Problem(
      f"found {notes.kind(entry)}, expected an object {{image: {_EXPECTED}}}"
    )
  if not isinstance(entry, dict):
    raise notes.Problem(
      f"image {name!r}: found {notes.kind(entry)}, expected {_EXPECTED}"
    )
  image = notes.as_path(name, name)
  truth = {key: value for key, value in entry.items() if key not in CAPTIONS}
  return pretraining.Listing(image, *notes.as_sentences(CAPTIONS, entry), truth)


def _row(row: dict[str, Any]) -> pretraining.Listing:
  image = notes.as_path("image_path", row["image_path"])
  return pretraining.Listing(image, *notes.as_sentences(CAPTIONS, row))


def _parquet(root, paths, images):
  rows, numbers = {}, itertools.count()
  apart = FileImages(str(pathlib.Path(root, LAYOUT.folder, images)))
  inside = tables.pictures(paths, _COLUMNS, rows, apart)
  load_image = inside or pretraining.file_images(LAYOUT, root, images)

  def listing(row):
    number, found = next(numbers), _row(row)
    if inside:
      rows.setdefault(found.image, number)
    return found

  gathered = pretraining.Gathered(LAYOUT)
  for path in paths:
    gathered.read(path, tables.parquet_rows(path, _COLUMNS), listing, "row")
  return gathered.dataset(load_image)


def _check_shards(paths: list[pathlib.Path]) -> None:
  """Are all of NAME-00000-of-00012.parquet there? Raises DatasetError."""
  found = {}
  for path in paths:
    if match := re.fullmatch(r"(.*)-(\d+)-of-(\d+)", path.stem):
      of = path.parent, match[1], match[3]
      found.setdefault(of, set()).add(int(match[2]))
  for (folder, name, total), numbers in found.items():
    lacking = sorted(set(range(int(total))) - numbers)
    if lacking:
      shown = ", ".join(f"{name}-{i:0{len(total)}}-of-{total}" for i in lacking[:5])
      raise DatasetError(
        f"webperson: {folder} lacks {len(lacking)} of {int(total)} parquet files: "
        f"{shown}{', ...' if len(lacking) > 5 else ''}. To do without them: "
        "annotations=PATTERN of those to read"
      )
