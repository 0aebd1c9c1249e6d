"""Rendered people as files: JPEG pictures and JSON in the UFine6926 record format.

FOLDER/UFine6926/annotations.json holds {"split", "id", "file_path", "captions"} and
the truth fields of each record, FOLDER/UFine6926/images/<split>/... the pictures, so
that other programs can train on the same data and `sources/ufine6926.py` reads it.
"""

import io
import json
import os
import pathlib
import uuid
from collections.abc import Callable, Iterable

from PIL import Image

from tpr_jax.data.record import Dataset, DatasetError, Record

FOLDER = "UFine6926"
ANNOTATIONS = "annotations.json"
RECIPE = "written.txt"  # not JSON: a folder of this format holds one JSON file
_OWN = ("split", "id", "file_path", "captions")
_JPEG_END = b"\xff\xd9"


def write(
  datasets: Iterable[Dataset],
  folder: str | os.PathLike,
  *,
  size: tuple[int, int] = (384, 128),
  quality: int = 92,
  progress: Callable[[int, int], None] | None = None,
) -> pathlib.Path:
  """Writes splits of a set to disk; returns the path of the JSON file.

  Every file is written under a temporary name and then renamed, the JSON last. After
  an interruption the same call goes on: complete pictures of the same recipe (set,
  size and quality) are kept.

  Args:
    datasets: splits to write together, usually train, val and test.
    folder: the data root that gets a sub-folder UFine6926.
    size: (height, width) of the pictures. quality: of the JPEGs, 1 to 95.
    progress: called with (pictures done, pictures in all) after each picture.

  Raises:
    DatasetError: no records, two records of one name, a truth field with the name of
      a record's key, or the folder holds pictures of another recipe.
  """
  datasets = list(datasets)
  if not 1 <= quality <= 95:
    raise DatasetError(f"JPEG quality is {quality}, expected 1 to 95")
  entries = _entries(datasets)
  home = pathlib.Path(folder, FOLDER)
  home.mkdir(parents=True, exist_ok=True)
  _claim(home, _recipe(datasets, size, quality))
  done = 0
  for dataset in datasets:
    for record in dataset.records:
      path = home / file_path(record)
      if not _complete(path):
        pixels = dataset.load_image(record, size)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "JPEG", quality=quality, subsampling=0)
        _write_file(path, data.getvalue())
      done += 1
      if progress:
        progress(done, len(entries))
  lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
  _write_file(home / ANNOTATIONS, f"[\n{lines}\n]\n".encode())
  return home / ANNOTATIONS


def file_path(record: Record) -> str:
  """Where a record's picture is, relative to the set's folder."""
  return f"images/{record.image}.jpg"


def _entries(datasets):
  entries, names = [], set()
  for dataset in datasets:
    for record in dataset.records:
      taken = [key for key in record.truth if key in _OWN]
      if taken:
        raise DatasetError(
          f"{record.image}: truth has the record's own key {taken[0]!r}"
        )
      if record.image in names:
        raise DatasetError(f"two records are called {record.image}")
      names.add(record.image)
      own = (record.split, record.identity, file_path(record), list(record.captions))
      entries.append({**dict(zip(_OWN, own, strict=True)), **record.truth})
  if not entries:
    raise DatasetError("there are no records to write")
  return entries


def _recipe(datasets, size, quality):
  """What decides the pixels of every picture, as text."""
  makers = sorted({repr(getattr(d.load_image, "__self__", d.name)) for d in datasets})
  return "\n".join([f"{size[0]} x {size[1]}, JPEG quality {quality}", *makers]) + "\n"


def _claim(home, recipe):
  """Notes the recipe in a new folder, or refuses a folder with another one."""
  path = home / RECIPE
  if not path.exists():
    strange = [p.name for p in home.iterdir() if not p.name.startswith(".")]
    if strange:
      raise DatasetError(
        f"{home} holds files that were not written from rendered people "
        f"({', '.join(sorted(strange)[:3])}); choose another folder"
      )
    _write_file(path, recipe.encode())
  found = path.read_text()
  if found != recipe:
    raise DatasetError(
      f"{home} holds pictures of another recipe; choose another folder or delete it.\n"
      f"found:\n{found}expected:\n{recipe}"
    )


def _complete(path):
  """Whether a whole JPEG is there (renaming makes a partial one unlikely)."""
  if not path.is_file() or path.stat().st_size < 4:
    return False
  with path.open("rb") as file:
    file.seek(-2, os.SEEK_END)
    return file.read() == _JPEG_END


def _write_file(path, data):
  path.parent.mkdir(parents=True, exist_ok=True)
  # Its own name for every writer, so that two of them cannot mix one file.
  temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
  try:
    temporary.write_bytes(data)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
