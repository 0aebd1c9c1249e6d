"""Writes a split as shards: record by record, going on after a stop.

Nothing is held but the index of the shard at hand. Whatever stops it, the same call
goes on after the last whole shard (`pieces.py`), and its files are those of a call that
nothing has stopped.
"""

import dataclasses
import itertools
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tpr_jax.data import captions, images, transforms
from tpr_jax.data.damage import CAPTION, Damage
from tpr_jax.data.record import Dataset, DatasetError, ImageError, Record
from tpr_jax.data.shards import format as files
from tpr_jax.data.shards import pieces
from tpr_jax.data.threads import in_order

_RECIPE = "recipe.json"
_AHEAD = 8  # records under way for each thread


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What decides the bytes of a set of shards, beside the records.

  Attributes:
    resize: (height, width) that every picture is brought to, as JPEG; None: pictures
      from files keep their bytes.
    quality: of the JPEGs that are made, 1 to 95.
    size: (height, width) that drawn pictures are drawn at; None: as they come.
    shard_bytes: a shard is full when its records take as many.
  """

  resize: tuple[int, int] | None = None
  quality: int = 95
  size: tuple[int, int] | None = None
  shard_bytes: int = 10**9

  def __post_init__(self):
    if not 1 <= self.quality <= 95:
      raise DatasetError(f"JPEG quality is {self.quality}, expected 1 to 95")
    if self.shard_bytes < 1:
      raise DatasetError(f"a shard of {self.shard_bytes} bytes holds nothing")
    if self.resize is not None and min(self.resize) < 1:
      raise DatasetError(f"resize is {self.resize}: expected height and width above 0")

  def encodes(self, dataset: Dataset) -> bool:
    """Whether JPEGs are made of its pictures; else their bytes are kept."""
    return self.resize is not None or not hasattr(dataset.load_image, "read_bytes")

  def picture(self, dataset: Dataset, record: Record) -> bytes:
    """The encoded picture. Raises ImageError."""
    if not self.encodes(dataset):
      return dataset.load_image.read_bytes(record)
    picture = dataset.load_image(record, self.resize or self.size)
    if self.resize is not None:  # as training does it
      resize = transforms.Resize(*self.resize)
      picture = resize(dict(image=picture), None)["image"]
    return images.encode_jpeg(np.ascontiguousarray(picture), self.quality)


# Called as progress(records done, records in all).
Progress = Callable[[int, int], None]
DEFAULT = Recipe()


def write_shards(
  dataset: Dataset,
  folder: str | os.PathLike,
  recipe: Recipe = DEFAULT,
  *,
  threads: int = 2,
  max_broken: float = 1.0,
  progress: Progress | None = None,
) -> files.Manifest:
  """Writes one split below folder/NAME/SPLIT.

  Pictures that cannot be read do not stop it: their records are written with the
  reason, which is what reading them gives, and are listed in bad_data.json.

  Args:
    dataset: its records may be a Stream.
    folder: the data root that the set is read from again.
    threads: records prepared at once.
    max_broken: share of the pictures that may be bad (damage.py).

  Raises:
    DatasetError: no records or captions; the folder is there already, or was begun with
      another recipe or other records; more pictures are bad than may be.
    ImageError: of a Stream, a record cannot be read, and so neither can its captions.
  """
  if not len(dataset.records):
    raise DatasetError(f"{dataset.name}/{dataset.split} has no records to write")
  if not re.fullmatch(r"[\w.-]+", dataset.name):
    raise DatasetError(f"{dataset.name!r} cannot be the name of files")
  final = pathlib.Path(folder, dataset.name, dataset.split)
  if final.exists():
    raise DatasetError(f"{final} is there already; remove it, or choose another folder")
  partial = files.partial(final)
  partial.mkdir(parents=True, exist_ok=True)
  _claim(partial, dataset, recipe)
  if not (partial / files.MANIFEST).exists():
    bad = _Writing(partial, dataset, recipe)(threads, max_broken, progress)
    known = dict(name=dataset.name, split=dataset.split)
    known |= dict(resize=recipe.resize, quality=recipe.quality)
    pieces.join(partial, bad, **known)
  pieces.remove(partial)
  (partial / _RECIPE).unlink(missing_ok=True)
  os.replace(partial, final)
  return files.read_manifest(final)


def finished(
  dataset: Dataset, folder: str | os.PathLike, recipe: Recipe
) -> files.Manifest | None:
  """What an earlier call has written to its end; None: nothing, or not to its end.

  Raises:
    DatasetError: something else is there, or it is not whole.
  """
  final = pathlib.Path(folder, dataset.name, dataset.split)
  if not final.exists():
    return None
  made = files.read_manifest(final)
  found = dict(resize=made.resize, quality=made.quality, records=made.records)
  wanted = dict(resize=recipe.resize, quality=recipe.quality)
  wanted["records"] = len(dataset.records)
  if found != wanted:
    raise DatasetError(
      f"{final} is there already, with {found}, and asked for are {wanted}: remove it, "
      "or choose another folder"
    )
  return made


def _claim(partial: pathlib.Path, dataset: Dataset, recipe: Recipe) -> None:
  """Notes in a new folder what it is for, or refuses one that is for something else."""
  wanted = dict(
    recipe=dataclasses.asdict(recipe),
    dataset=f"{dataset.name}/{dataset.split}",
    records=len(dataset.records),
  )
  wanted = json.loads(json.dumps(wanted))
  path = partial / _RECIPE
  if not path.exists() and not (partial / files.MANIFEST).exists():
    pieces.write_json(path, wanted)
  found = json.loads(path.read_text("utf-8")) if path.exists() else wanted
  if found != wanted:
    raise DatasetError(
      f"{partial} was begun with {json.dumps(found)}, and now it is "
      f"{json.dumps(wanted)}: go on with the same, or remove that folder"
    )


class _Writing:
  """The shards of a split, from where an earlier call has left off."""

  def __init__(self, partial: pathlib.Path, dataset: Dataset, recipe: Recipe):
    self._partial, self._dataset, self._recipe = partial, dataset, recipe
    self._shards, self._done = 0, 0
    self._bad = Damage(f"{dataset.name}/{dataset.split}", len(dataset.records))
    for piece in pieces.read(partial):
      for place, key in enumerate(piece.names.tolist(), self._done):
        name = dataset.records[place].image
        if files.name_key(name) != key:
          raise DatasetError(
            f"{partial} was begun with other records: number {place:,} was not {name}. "
            "Go on with the same, or remove that folder"
          )
      self._shards += 1
      self._done += len(piece.names)
      self._bad = self._bad.merge(piece.bad)

  def __call__(
    self, threads: int, max_broken: float, progress: Progress | None
  ) -> Damage:
    """Writes the rest -> what is bad in all."""
    shard = None
    try:
      for item in _items(self._dataset, self._recipe, self._done, threads):
        if shard is None:
          shard = pieces.ShardWriter(self._partial, self._shards, self._bad)
        shard.add(*item)
        self._take(item, max_broken)
        last = self._done == len(self._dataset.records)
        if last or shard.bytes >= self._recipe.shard_bytes:
          shard.close()
          shard, self._shards = None, self._shards + 1
        if progress:
          progress(self._done, len(self._dataset.records))
    finally:
      if shard is not None:
        shard.abandon()
    return self._bad

  def _take(self, item: "_Item", max_broken: float) -> None:
    self._done += 1
    for kind, reason in item.bad:
      self._bad.add(item.record.image, kind, reason)
    if item.bad and self._bad.over(max_broken):
      lines = [
        f"{len(self._bad):,} of the {self._bad.pictures:,} pictures of "
        f"{self._bad.data} are bad so far, more than data.max_broken={max_broken:g} "
        f"allows ({self._bad.allowed(max_broken):,}):",
        *self._bad.lines(),
        f"Mend them, remove {self._partial} and write again; or allow a larger share: "
        "--config.data.max_broken=SHARE (1: any). --mode=check lists all.",
      ]
      raise DatasetError("\n".join(lines))


class _Item(NamedTuple):
  """A record, `format.pack`ed, and (kind, reason) of what is bad about it."""

  record: Record
  data: bytes
  bad: tuple[tuple[str, str], ...]


def _items(
  dataset: Dataset, recipe: Recipe, first: int, threads: int
) -> Iterator[_Item]:
  """The records from number `first` on, some of them prepared ahead in threads."""
  return in_order(
    lambda place: _item(dataset, recipe, place),
    range(first, len(dataset.records)),
    threads=max(1, threads),
    ahead=_AHEAD * threads + 1,
  )


def _item(dataset: Dataset, recipe: Recipe, place: int) -> _Item:
  record = dataset.records[place]
  texts = [isinstance(text, str) for text in record.captions]
  if not all(texts):  # of a dataset made in Python
    wrong = [i for i, text in enumerate(texts) if not text]
    said = [captions.say(i, record.captions[i]) for i in wrong]
    kept = tuple(itertools.compress(record.captions, texts))
    unusable = (*record.unusable, *said)
    record = dataclasses.replace(record, captions=kept, unusable=unusable)
  bad, picture, failed = [], b"", None
  if reason := captions.fault(record):
    bad.append((CAPTION, reason))
  try:
    picture = recipe.picture(dataset, record)
  except ImageError as error:
    failed = error
    bad.append((error.kind, str(error)))
  return _Item(record, files.pack(record, picture, failed), tuple(bad))
