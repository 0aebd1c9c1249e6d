"""The index that is served: searches, pictures that were given, and new versions.

Searches are done by one thread (worker.py): the sentences of those that wait together
are encoded as one batch. What a picture or a sentence became is kept for a while, so
that the next page of results asks nothing of the model.
"""

import asyncio
import collections
import dataclasses
import pathlib
import secrets
import time
from collections.abc import Callable, Sequence

import numpy as np

from tpr_jax.data.record import ImageError
from tpr_jax.search import photo
from tpr_jax.search.answer import Answer, Stored
from tpr_jax.search.index import Index, check_row
from tpr_jax.search.problems import AskedError, SearchError
from tpr_jax.serve import limits
from tpr_jax.serve.problems import Refused
from tpr_jax.serve.worker import Worker

BATCH = 8  # sentences at once: a size that towers are compiled for (pretrained.py)
_SENTENCES = 512  # whose rows are kept


@dataclasses.dataclass(frozen=True)
class Given:
  """A picture that a client gave: row float32 [D], unit; thumbnail: JPEG."""

  row: np.ndarray
  thumbnail: bytes


@dataclasses.dataclass(frozen=True)
class Asked:
  """A search. image: row float32 [D] of a picture, or None."""

  query: str = ""
  image: np.ndarray | None = None
  where: str = ""
  image_weight: float = 0.5
  top: int = limits.TOP
  skip: int = 0


@dataclasses.dataclass(frozen=True)
class Found:
  """An answer, and the version of the index that gave it."""

  answer: Answer
  version: int


class Engine:
  """Answers from one version of an index until a newer one is loaded.

  Args:
    index: with its pictures and model; both are loaded here.

  Attributes:
    index: the version that answers now.
    problem: why a newer one could not be taken, or "".

  Raises:
    SearchError: the index or its model cannot be loaded.
  """

  def __init__(self, index: Index, clock: Callable[[], float] = time.monotonic):
    self.index, self.problem, self._clock = index, "", clock
    len(index)  # reads the vectors
    encoder = index.encoder()
    # Compiled now rather than while the first people wait.
    for count in (1, BATCH):
      encoder.encode_texts(["a person"] * count)
    self._sentences: collections.OrderedDict[str, np.ndarray] = (
      collections.OrderedDict()
    )
    self._given: collections.OrderedDict[str, tuple[Given, float]] = (
      collections.OrderedDict()
    )
    self._worker = Worker(self._act, batch=BATCH)

  @property
  def folder(self) -> pathlib.Path:
    """Of the pictures."""
    return pathlib.Path(self.index.about["images"])

  def close(self) -> None:
    self._worker.close()

  # --- searching ------------------------------------------------------------------

  async def search(self, asked: Asked, version: int | None = None) -> Found:
    """Args: version: the one that the answer must be of, or None.

    Raises:
      Refused: too many wait, or the version is another now.
      AskedError: the condition, or what the model makes of the words.
    """
    return await self._worker((asked, version))

  def _act(
    self, jobs: Sequence[tuple[Asked, int | None] | np.ndarray]
  ) -> Sequence[Found | np.ndarray | Exception]:
    searches = [job[0] for job in jobs if isinstance(job, tuple)]
    try:
      self._encode([asked.query for asked in searches if asked.query])
    except Exception as error:  # of one sentence, as it may be: each for itself, then
      if len(jobs) == 1:
        return [error]
      return [result for job in jobs for result in self._act([job])]
    return [_result(self._one, job) for job in jobs]

  def _one(self, job: tuple[Asked, int | None] | np.ndarray) -> Found | np.ndarray:
    index = self.index
    if isinstance(job, np.ndarray):
      return index.encoder().encode_images([job])[0]
    asked, version = job
    if version not in (None, index.version):
      raise Refused(
        409, "The index has changed since the first of these results: search again."
      )
    rows = {}
    if asked.query:
      rows["text"] = self._sentences[asked.query]
      check_row(rows["text"], "words")
    if asked.image is not None:
      rows["image"] = asked.image
    answer = index.ranked(
      rows,
      top=asked.top,
      skip=asked.skip,
      where=asked.where,
      image_weight=asked.image_weight,
    )
    return Found(answer, index.version)

  def _encode(self, sentences: Sequence[str]) -> None:
    """Puts the rows of these sentences where `_one` finds them."""
    new = [each for each in dict.fromkeys(sentences) if each not in self._sentences]
    if new:
      rows = self.index.encoder().encode_texts(new)
      self._sentences.update(zip(new, rows, strict=True))
    for each in sentences:
      self._sentences.move_to_end(each)
    while len(self._sentences) > _SENTENCES:
      self._sentences.popitem(last=False)

  # --- pictures -------------------------------------------------------------------

  async def give(self, data: bytes) -> tuple[str, str]:
    """Takes a picture to search by -> its name for `given`, the hash of its content.

    Raises:
      AskedError: it is no picture, or none of a size that can be read.
      Refused: too many wait.
    """
    prepared, thumbnail = await asyncio.to_thread(self._read, data)
    row = await self._worker(prepared)
    check_row(row, "picture")
    while len(self._given) >= limits.UPLOADS:
      self._given.popitem(last=False)
    name = secrets.token_urlsafe(16)
    end = self._clock() + limits.UPLOAD_SECONDS
    self._given[name] = (Given(row, thumbnail), end)
    return name, photo.digest(data)

  def given(self, name: str) -> Given:
    """Raises Refused (404): there is none, or it was forgotten."""
    found, end = self._given.get(name, (None, 0.0))
    if found is None or end <= self._clock():
      self._given.pop(name, None)
      raise Refused(404, "The picture that was given is forgotten: give it again.")
    return found

  def stored(self, key: str) -> Stored:
    """A picture of the index. Raises Refused (404): there is none."""
    found = self.index.stored(key)
    if found is None:
      raise Refused(404, "The index holds no such picture (any more).")
    return found

  def _read(self, data: bytes) -> tuple[np.ndarray, bytes]:
    try:
      found = photo.open(data, "the picture")
    except ImageError as error:
      raise AskedError(f"The picture cannot be used: {error}") from error
    return self.index.encoder().prepare(found.pixels), found.thumbnail

  # --- versions -------------------------------------------------------------------

  def refresh(self) -> bool:
    """Takes the latest version once it is loaded; was there a newer one?

    Both are in memory meanwhile. What keeps it from being taken is told once, and the
    old version goes on to answer.
    """
    try:
      newer = self.index.latest()
      if newer is self.index:
        self.problem = ""
        return False
      len(newer)
    except SearchError as error:
      if str(error) != self.problem:
        print(f"error: the old version is served on: {error}", flush=True)
      self.problem = str(error)
      return False
    self.index, self.problem = newer, ""
    print(f"Version {newer.version}: {len(newer):,} pictures", flush=True)
    return True


def _result(act: Callable, job: object) -> object:
  """What it returns, or the exception that it ends with."""
  try:
    return act(job)
  except Exception as error:
    return error
