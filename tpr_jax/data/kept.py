"""Pairs that `--mode=filter` judged: its manifest, read, and a split cut down by it.

`filter.jsonl` of a filter's folder is JSON Lines: a header, then a line for each
caption of the split, in its order:

  {"file", "index", "image", "image_id", "caption_sha1", "s0", "c", "keep"}

file, index: where the source lists the pair. s0: similarity of the pair; c: how many
captions of the pool are at least as similar (tpr_jax/filter/rule.py); both null where
the picture cannot be read, and keep is then false.

A split is the one that was judged when the digest of all of its images' names and
captions is that of the header. Of a `Stream` nothing is read for it: its own digest
must be that of the stream that was judged.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from tpr_jax.data.record import Dataset, DatasetError, Note, Record, Stream

MANIFEST = "filter.jsonl"
_FORMAT = 1


class Listing(NamedTuple):
  """What a split holds.

  counts: int32 [N], captions of each record. digest: equal where names and captions,
  and their order, are.
  """

  counts: np.ndarray
  digest: str


def caption_sha1(caption: object) -> str:
  """Hexadecimal SHA-1 of a caption, as UTF-8."""
  return hashlib.sha1(str(caption).encode("utf-8", "surrogatepass")).hexdigest()


def pair_key(image: str, sha1: str) -> int:
  """A whole number below 2^63 for an image's name and the SHA-1 of its caption."""
  text = f"{image}\n{sha1}".encode("utf-8", "surrogatepass")
  return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def keys_of(record: Record) -> list[int]:
  """`pair_key` of each caption of a record."""
  return [pair_key(record.image, caption_sha1(text)) for text in record.captions]


def listing(dataset: Dataset) -> Listing:
  """Goes through a split once; of a stream only the arrays are looked at."""
  stream = dataset.stream
  if stream is not None:
    counts = np.bincount(stream.record, minlength=len(stream)).astype(np.int32)
    return Listing(counts, f"stream:{stream.digest}")
  digest, counts = hashlib.sha1(), np.zeros(len(dataset.records), np.int32)
  for number, record in enumerate(dataset.records):
    keys = np.array(keys_of(record), np.int64)
    counts[number] = len(keys)
    digest.update(keys.tobytes())
  return Listing(counts, digest.hexdigest())


def lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  """The objects of a JSON Lines file. DatasetError where one is none."""
  with path.open(encoding="utf-8") as file:
    for number, line in enumerate(file, start=1):
      try:
        yield json.loads(line)
      except ValueError as error:
        raise DatasetError(
          f"{path}, line {number:,}: not JSON ({error}); make the manifest again with"
          " --mode=filter"
        ) from error


def header(folder: str | os.PathLike) -> dict[str, Any]:
  """The first line of a folder's manifest.

  Raises:
    DatasetError: there is none, or it is of another kind.
  """
  path = pathlib.Path(folder) / MANIFEST
  if not path.is_file():
    raise DatasetError(
      f"{folder} holds no {MANIFEST}: expected a folder that --mode=filter has written"
      " to its end (data.filter=FOLDER)"
    )
  found = next(lines(path), None)
  if not isinstance(found, dict) or found.get("format") != _FORMAT:
    raise DatasetError(
      f"{path} does not begin with the header of a filter of format {_FORMAT}; make it"
      " again with --mode=filter"
    )
  return found


@dataclasses.dataclass(frozen=True)
class Judged:
  """A manifest, as far as training needs it; n pairs.

  Attributes:
    folder: that it lies in. header: its first line.
    keep: bool [n], in the split's order.
    kept: int64, sorted: `pair_key` of what is kept.
  """

  folder: pathlib.Path
  header: Mapping[str, Any]
  keep: np.ndarray
  kept: np.ndarray

  def check(self, dataset: Dataset) -> None:
    """Raises DatasetError where this is no manifest of the whole of `dataset`."""
    about, found = self.header["data"], listing(dataset)
    if found.digest == about["digest"]:
      return
    pairs = int(found.counts.sum())
    stream = " read as shards" if about["digest"].startswith("stream:") else ""
    raise DatasetError(
      f"data.filter={self.folder}: its manifest is of other data. It judged"
      f" {about['pairs']:,} pairs of {about['name']}/{about['split']}{stream}; this is"
      f" {dataset.name}/{dataset.split} with {pairs:,} pairs"
      + (", read as shards" if dataset.stream is not None else "")
      + ", and names or captions differ. Filter this data (--mode=filter, with the same"
      " data.name, root and options), or leave data.filter out"
    )

  def apply(self, dataset: Dataset) -> Dataset:
    """`dataset`, the split that was judged or a part of it, with kept pairs alone.

    Records without one are left out, and with them identities that have no other.

    Raises:
      DatasetError: nothing is left.
    """
    before = dataset.caption_count
    stream = dataset.stream
    records = (
      KeptStream(stream, self.keep)
      if stream is not None
      else tuple(filter(None, map(self._cut, dataset.records)))
    )
    made = dataclasses.replace(dataset, records=records)
    left = made.caption_count
    if not left:
      raise DatasetError(
        f"data.filter={self.folder}: none of the {before:,} pairs of {dataset.name}/"
        f"{dataset.split} is kept; cut it again with a larger k or keep_ratio"
      )
    note = (
      f"the filter {self.folder} keeps {left:,} of {before:,} pairs"
      f" ({100 * left / before:.3g} %), {len(made.identities):,} of"
      f" {len(dataset.identities):,} identities"
    )
    notes = (*dataset.notes, Note(before - left, note))
    return dataclasses.replace(made, notes=notes)

  def _cut(self, record: Record) -> Record | None:
    keep = among(np.array(keys_of(record), np.int64), self.kept)
    if keep.all():  # also of a record without captions: checks tell of those
      return record
    if not keep.any():
      return None
    pick = lambda values: tuple(v for v, k in zip(values, keep, strict=True) if k)
    truth = dict(record.truth)
    if len(truth.get("caption_truth", ())) == len(keep):  # an entry for each caption
      truth["caption_truth"] = list(pick(truth["caption_truth"]))
    return dataclasses.replace(record, captions=pick(record.captions), truth=truth)


def read(folder: str | os.PathLike) -> Judged:
  """The manifest of a filter's folder. Raises DatasetError."""
  folder = pathlib.Path(os.path.expanduser(folder))
  about, path = header(folder), folder / MANIFEST
  rows = lines(path)
  next(rows)
  keep, kept = np.zeros(about["pairs"], bool), []
  number = -1
  for number, row in enumerate(rows):
    if number < len(keep) and row["keep"]:
      keep[number] = True
      kept.append(pair_key(row["image"], row["caption_sha1"]))
  if number + 1 != len(keep):
    raise DatasetError(
      f"{path} has {number + 1:,} pairs, its header says {len(keep):,}: the file was"
      " cut off or changed; make it again with --mode=filter"
    )
  return Judged(folder, about, keep, np.sort(np.array(kept, np.int64)))


def judged(whole: Dataset, folder: str) -> Judged | None:
  """The manifest that a config's data.filter names for `whole`; None: it names none.

  Raises:
    DatasetError: no manifest in `folder`, or one of other data.
  """
  if not folder:
    return None
  found = read(folder)
  found.check(whole)
  return found


def filtered(whole: Dataset, folder: str) -> Dataset:
  """A training split, cut down as data.filter says; "": as is. Raises as `judged`."""
  found = judged(whole, folder)
  return found.apply(whole) if found else whole


def among(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
  """bool [n]: which of the keys are among the sorted ones."""
  if not len(known):
    return np.zeros(len(keys), bool)
  return known[np.minimum(np.searchsorted(known, keys), len(known) - 1)] == keys


class KeptStream(Stream):
  """Another stream, of which some captions alone are trained on.

  Args:
    inner: all of it.
    keep: bool [n], which of its captions.
  """

  def __init__(self, inner: Stream, keep: np.ndarray):
    self._inner, self._keep = inner, keep
    self.record, self.number = inner.record[keep], inner.number[keep]
    people, self.labels = np.unique(inner.labels[keep], return_inverse=True)
    self.labels = self.labels.astype(np.int32)
    self.identities = inner.identities[people]
    self.left_out, self.bad = inner.left_out, inner.bad
    mask = hashlib.sha1(np.packbits(keep).tobytes()).hexdigest()
    self.digest = f"{inner.digest}:{mask}"

  def __reduce__(self):
    return KeptStream, (self._inner, self._keep)

  def __len__(self) -> int:
    return len(self._inner)

  def __getitem__(self, index: int) -> Record:
    return self._inner[index]

  def find(self, images: Collection[str]) -> list[int]:
    return self._inner.find(images)


def write_lines(path: pathlib.Path, objects: Iterable[Any]) -> None:
  """Writes JSON Lines, whole or not at all."""
  partial = path.with_name(f".{path.name}.tmp")
  with partial.open("w", encoding="utf-8") as file:
    for each in objects:
      file.write(json.dumps(each) + "\n")
  os.replace(partial, path)
