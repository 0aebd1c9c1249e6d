"""Scores the pairs of a split, part by part: pictures in, lines of the manifest out.

A part is a fixed range of records, whatever the number of devices and processes, so
that every row is encoded at the same place of the same batch. What is held at a time is
the features of one part and a few hundred pictures.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tpr_jax.data import kept, threads
from tpr_jax.data.record import Dataset, ImageError, Record
from tpr_jax.filter import rule
from tpr_jax.filter.pool import Drawn
from tpr_jax.filter.problems import FilterError
from tpr_jax.filter.scorers import Scorer

PART = 2048  # records, rounded up to whole batches
_PIECE = 512  # pictures encoded at a time, rounded up likewise
PROBLEM = "problem"  # key of a line of a part: [kind of damage, reason]


@dataclasses.dataclass(frozen=True)
class _Read:
  """One record: what its picture became (None: unreadable, and why), its captions."""

  name: str
  identity: int | None
  captions: tuple[str, ...]
  picture: np.ndarray | None
  problem: tuple[str, str] | None = None


class Scoring:
  """Scores parts of `data`.

  Args:
    counts: int32 [N], captions of each record.
    drawn: the pool; counter: over its features.
    threads: that read pictures.
  """

  def __init__(
    self,
    data: Dataset,
    counts: np.ndarray,
    scorer: Scorer,
    drawn: Drawn,
    counter: rule.Counter,
    *,
    threads: int,
  ):
    self._data, self._counts, self._scorer = data, counts, scorer
    self._drawn, self._counter, self._threads = drawn, counter, threads
    self._first = np.cumsum(counts, dtype=np.int64) - counts
    self._piece = _whole(_PIECE, scorer.batch)

  def __call__(self, start: int, stop: int) -> list[dict[str, Any]]:
    """Records start to stop -> a line for each of their captions.

    {"image", "image_id", "caption_sha1", "s0", "c"}; s0 and c are None, and "problem"
    says why, where the picture cannot be read.

    Raises:
      FilterError: features that are not numbers; names the image or the caption.
    """
    read: list[_Read] = []
    images, pieces = [], []
    for one in self._records(start, stop):
      read.append(dataclasses.replace(one, picture=None))
      images.append(self._scorer.prepare(None) if one.problem else one.picture)
      if len(images) == self._piece:
        pieces.append(self._scorer.encode_images(images))
        images = []
    if images:
      pieces.append(self._scorer.encode_images(images))
    texts = [text for one in read for text in one.captions]
    if not texts:
      return []
    image, text = np.concatenate(pieces), self._scorer.encode_texts(texts)
    _check(read, image, text)
    sha1 = [kept.caption_sha1(each) for each in texts]
    names = [one.name for one in read for _ in one.captions]
    keys = np.array(list(map(kept.pair_key, names, sha1)), np.int64)
    people = np.array(
      [-1 if r.identity is None else r.identity for r in read], np.int64
    )
    counts = np.array([len(one.captions) for one in read])
    numbers = self._drawn.numbers(people, keys)
    own, count = self._counter(image, text, counts, *numbers)
    lines, at = [], 0
    for one in read:
      for _ in one.captions:
        lines.append(_line(one, sha1[at], own[at], count[at]))
        at += 1
    return lines

  def _records(self, start: int, stop: int) -> Iterator[_Read]:
    """In order, read by threads some way ahead."""
    # A picture without captions is no pair.
    there = (index for index in range(start, stop) if self._counts[index])
    return threads.in_order(
      self._read, there, threads=self._threads, ahead=2 * self._piece
    )

  def _read(self, index: int) -> _Read:
    try:
      record = self._data.records[index]
    except ImageError as error:  # of a stream: nothing of it is known
      lost = ("",) * int(self._counts[index])
      return _Read(
        error.picture or f"record {index}", None, lost, None, (error.kind, str(error))
      )
    captions = self._captions(index, record)
    try:
      picture = self._data.load_image(record, self._scorer.size)
    except ImageError as error:
      problem = (error.kind, str(error))
      return _Read(record.image, record.identity, captions, None, problem)
    prepared = self._scorer.prepare(picture)
    return _Read(record.image, record.identity, captions, prepared)

  def _captions(self, index: int, record: Record) -> tuple[str, ...]:
    stream = self._data.stream
    if stream is None:
      return tuple(map(str, record.captions))
    first, count = self._first[index], self._counts[index]
    numbers = stream.number[first : first + count]
    return tuple(str(record.captions[number]) for number in numbers)


def part_size(batch: int) -> int:
  """Records of a part."""
  return _whole(PART, batch)


def _whole(size: int, batch: int) -> int:
  return -(-size // batch) * batch


def _line(one: _Read, sha1: str, own: np.float32, count: np.int32) -> dict[str, Any]:
  scored = one.problem is None
  lost = one.identity is None  # neither caption nor person is known
  line = dict(
    image=one.name,
    image_id=one.identity,
    caption_sha1=None if lost else sha1,
    # Nine digits tell all float32 numbers apart.
    s0=float(f"{own:.9g}") if scored else None,
    c=int(count) if scored else None,
  )
  return line if scored else {**line, PROBLEM: list(one.problem)}


def _check(read: Sequence[_Read], image: np.ndarray, text: np.ndarray) -> None:
  """Raises FilterError that names what has no numbers for features."""
  for what, names, rows in (
    ("image", [one.name for one in read], image.reshape(len(image), -1)),
    ("caption of", [one.name for one in read for _ in one.captions], text),
  ):
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
      raise FilterError(
        f"the features of {what} {names[bad[0]]} hold NaN or infinity, and of"
        f" {len(bad) - 1:,} more of {len(rows):,}: the scorer's weights are broken, or"
        " its precision (scorer.dtype) is too low"
      )
