"""ArrayRecord archives, written by `data/tfds_builders.py`, read without TensorFlow.

Gives the records of the source the archive was written from: same names, identities,
captions, splits and truth, in the same order, and the same picture bytes. Records are
read once when the split is opened; pictures when they are asked for.
"""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tpr_jax.data.images import MissingImage, decode
from tpr_jax.data.record import Dataset, DatasetError, ImageError, Record, SplitError
from tpr_jax.data.sources import annotations

_FEATURES = {"image", "name", "identity", "captions", "source", "truth"}


def load(
  root: str | os.PathLike,
  split: str,
  *,
  name: str | None = None,
  captions: str = "captions",
) -> Dataset:
  """One split of an archive.

  Args:
    root: the folder that archives were written to.
    split: "train", "val" or "test".
    name: which archive below root; None: the only one there.
    captions: which key holds the captions, as for the source itself; another than
      "captions" is looked up in `truth`.

  Raises:
    DatasetError: no such archive, or not one of ours.
    SplitError: it holds no such split.
  """
  folder = _find(root, name)
  source = _open(folder, split)
  records, index, unusable = [], {}, []
  for position in range(len(source)):
    try:
      record = _record(source[position], split)
    except RuntimeError as error:  # of ArrayRecord, whatever is wrong
      raise DatasetError(
        f"{folder}: record {position} of {split} cannot be read: {error}. Its captions "
        "are in it, so it cannot be left out: copy or write the archive again"
      ) from error
    if captions != "captions":
      record = _other_captions(record, captions)
    reasons = [annotations.Problem(reason) for reason in record.unusable]
    unusable += [(f"{split} {position}", reason) for reason in reasons]
    index.setdefault(record.image, position)
    records.append(record)
  annotations.raise_wrong_captions(folder, unusable, records)
  name = folder.parent.name
  return Dataset(name, split, tuple(records), ArchiveImages(str(folder), split, index))


class ArchiveImages:
  """`Dataset.load_image` for one split of an archive; opened again after pickling."""

  def __init__(self, folder: str, split: str, index: Mapping[str, int]):
    self.folder, self.split, self.index = folder, split, index
    self._source = None

  def __getstate__(self):
    return {**self.__dict__, "_source": None}

  def read_bytes(self, record: Record) -> bytes:
    """The bytes of the original file. Raises MissingImage, ImageError."""
    if record.image not in self.index:
      raise MissingImage(f"{record.image}: not in {self.folder}, split {self.split}")
    try:
      if self._source is None:
        self._source = _open(pathlib.Path(self.folder), self.split)
      return self._source[self.index[record.image]]["image"]
    except (RuntimeError, OSError) as error:  # ArrayRecord's only kind, and of the disk
      raise ImageError(
        f"{record.image}: its record in {self.folder} cannot be read: {error}"
      ) from error

  def __call__(self, record: Record, size: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 RGB [h, w, 3] at the stored size. Raises ImageError."""
    return decode(self.read_bytes(record), record.image)


def _find(root, name):
  """root/name/VERSION, the newest version."""
  if root is None or not os.fspath(root) or not pathlib.Path(root).is_dir():
    raise _missing(root, f"no folder {root}" if root else "no folder was given")
  versions = _versions(pathlib.Path(root))
  names = sorted(versions)
  if name is None and len(names) > 1:
    raise DatasetError(
      f"archive: {root} holds {', '.join(names)}. Choose one with the option name="
    )
  if not names or (name is not None and name not in names):
    wanted = f"no archive {name!r} in {root}" if name else f"no archive in {root}"
    held = f" (it holds {', '.join(names)})" if names else ""
    raise _missing(root, wanted + held)
  return max(versions[name or names[0]], key=_number)


def _versions(root):
  """{archive name: [its version folders]}; unfinished ones have other names."""
  found = {}
  for path in root.glob("*/*/features.json"):
    if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name):
      found.setdefault(path.parent.parent.name, []).append(path.parent)
  return found


def _number(folder):
  return [int(part) for part in folder.name.split(".")]


def _missing(root, reason):
  root = root or "DATA_ROOT"
  return DatasetError(
    "\n".join(
      (
        f"archive is not there: {reason}",
        "",
        "Expected on disk:",
        f"  {root}/",
        "    NAME/1.0.0/             features.json, dataset_info.json and the",
        "                            *.array_record* files that --mode=archive writes",
      )
    )
  )


def _open(folder, split):
  """The examples of a split, as TFDS reads them, with pictures left encoded."""
  # A second to import, and needed by nobody who does not read an archive.
  import tensorflow_datasets as tfds

  builder = tfds.builder_from_directory(folder)
  if _FEATURES - set(builder.info.features):
    raise DatasetError(
      f"{folder}: found the features {', '.join(builder.info.features)}, expected "
      f"{', '.join(sorted(_FEATURES))}: it was not written by --mode=archive"
    )
  if split not in builder.info.splits:
    raise SplitError(
      f"archive {folder} has no split {split!r}; it has "
      f"{', '.join(builder.info.splits)}"
    )
  return builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})


def _record(example: Mapping[str, Any], split: str) -> Record:
  text = [bytes(caption).decode() for caption in example["captions"]]
  return Record(
    image=example["name"].decode(),
    identity=int(example["identity"]),
    captions=tuple(text),
    split=split,
    source=example["source"].decode(),
    truth=json.loads(example["truth"]),
  )


def _other_captions(record, key):
  chosen, unusable = annotations.as_captions(key, record.truth)
  truth = {k: v for k, v in record.truth.items() if k != key}
  truth["captions"] = list(record.captions)
  return dataclasses.replace(record, captions=chosen, truth=truth, unusable=unusable)
