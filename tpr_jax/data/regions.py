"""Regions: boxes of a picture with a phrase each, as records and batches have them.

A record that has some lists them in its truth:

  truth["regions"] = [{"box": [cx, cy, w, h], "phrase": "a black shirt", ...}, ...]

with the centre and the size of a box as shares of the picture, and under "region" which
one it is, where that is known. `sda` and rendered people (option regions=True) do; so
may one's own records of any source.
"""

import contextlib
import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tpr_jax.data import boxes
from tpr_jax.data.record import Dataset, DatasetError, ImageError, Record

KEY = "regions"  # of Record.truth
_IDS = 2**31  # ids are int32
_LOOKED_AT = 1_000  # records of a stream that may be without any region
_NEAR = 1e-6  # of a cell: an edge that rounding has moved so far has not moved


class Region(NamedTuple):
  """A box as shares of the picture, (cx, cy, w, h), and what is in it.

  kind: which region it is ("head", of rendered people); "": the data does not say.
  """

  box: tuple[float, float, float, float]
  phrase: str
  kind: str = ""


def of(record: Record) -> tuple[Region, ...]:
  """The regions of a record; none where it has none.

  Raises:
    DatasetError: they are not in the form at the top.
  """
  listed = record.truth.get(KEY, ())
  if not isinstance(listed, Sequence) or isinstance(listed, str):
    raise _wrong(record, listed)
  return tuple(_region(record, each) for each in listed)


def _region(record: Record, value) -> Region:
  box = value.get("box") if isinstance(value, dict) else None
  if not is_box(box) or not isinstance(value.get("phrase"), str):
    raise _wrong(record, value)
  kind = value.get("region", "")
  return Region(tuple(box), value["phrase"], kind if isinstance(kind, str) else "")


def is_box(value) -> bool:
  """Four finite numbers?"""
  return (
    isinstance(value, (list, tuple))
    and len(value) == 4
    and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    and all(map(math.isfinite, value))
  )


def _wrong(record: Record, found) -> DatasetError:
  return DatasetError(
    f"{record.image}: truth[{KEY!r}] holds {str(found)[:80]!r}, expected a list of "
    '{"box": [cx, cy, w, h] as shares of the picture, "phrase": text}'
  )


def choose(
  record: Record, rng: np.random.Generator, height: int, width: int
) -> tuple[boxes.Box, str | None]:
  """(box in pixels, its phrase) of one region, each as likely as another.

  A record without regions: (the whole picture, None), whose text is its caption.

  Args:
    height, width: of the picture that the box is for.

  Raises:
    DatasetError: as `of`.
  """
  known = of(record)
  if not known:
    return (0.0, 0.0, float(width), float(height)), None
  chosen = known[int(rng.integers(len(known)))]
  return boxes.in_pixels(chosen.box, height, width), chosen.phrase


def cells(
  box: boxes.Box | None, size: tuple[int, int], grid: tuple[int, int]
) -> np.ndarray:
  """bool [rows * columns], row-major: cells that the box touches, one at least.

  Cells are patches of the picture, size / grid pixels each: MRA's 7 x 7 at 224 x 224,
  where its code has `box_atts` as 1 - these (arXiv:2507.10195).

  Args:
    box: None: all cells.
    size: (height, width) of the picture. grid: (rows, columns).
  """
  found = np.ones(grid, bool)
  if box is not None:
    x, y, w, h = box
    rows = _touched(y, h, size[0] / grid[0], grid[0])
    columns = _touched(x, w, size[1] / grid[1], grid[1])
    found = rows[:, None] & columns[None, :]
  return found.ravel()


def _touched(start: float, length: float, step: float, count: int) -> np.ndarray:
  """bool [count]: cells along one side."""
  first = min(max(math.floor(start / step + _NEAR), 0), count - 1)
  last = min(math.ceil((start + length) / step - _NEAR) - 1, count - 1)
  at = np.arange(count)
  return (at >= first) & (at <= max(first, last))


def phrase_id(phrase: str, first: int) -> int:
  """A number from `first` to 2^31 - 1 that equal phrases, letter by letter, share.

  It comes of the phrase alone, so it is the same in every process, from memory and from
  shards, and needs no table of millions. Two of n different phrases share one with
  probability n^2 / 2^32: 6e-6 for the 160 of a batch of MRA's.

  Args:
    first: of these numbers: ids below it are taken (those of images).
  """
  digest = hashlib.blake2b(phrase.encode("utf-8", "surrogatepass"), digest_size=8)
  return first + int.from_bytes(digest.digest(), "little") % (_IDS - first)


def check(dataset: Dataset) -> None:
  """Has it any region at all?

  Of a stream the first records are looked at, of the others all.

  Raises:
    DatasetError: it has none, or some of another form.
  """
  looked_at = len(dataset.records)
  if dataset.stream is not None:
    looked_at = min(looked_at, _LOOKED_AT)
  for at in itertools.islice(range(len(dataset.records)), looked_at):
    with contextlib.suppress(ImageError):
      if of(dataset.records[at]):
        return
  raise DatasetError(
    f"regions of {dataset.name}/{dataset.split} are asked for (data.views.region), and "
    f"none of the {looked_at:,} records looked at has any in truth[{KEY!r}]. Use a set "
    "that has boxes (sda, rendered people with their option regions=True, or shards or "
    "an archive of these), or leave data.views.region empty"
  )
