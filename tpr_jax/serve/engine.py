"""The index that is served: searches, pictures that were given, and new versions.

Searches are done by one thread (worker.py): the sentences of those that wait together
are encoded as one batch. What a picture or a sentence became is kept for a while, so
that the next page of results asks nothing of the model.
"""

import asyncio
import dataclasses
import pathlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tpr_jax.data.record import ImageError
from tpr_jax.search import photo
from tpr_jax.search.answer import Answer, Question, Stored
from tpr_jax.search.index import Index, check_row
from tpr_jax.search.problems import AskedError, SearchError
from tpr_jax.search.settings import FALSE_ALARMS
from tpr_jax.serve import limits
from tpr_jax.serve.kept import Kept
from tpr_jax.serve.problems import Refused
from tpr_jax.serve.worker import Worker

BATCH = 8  # sentences at once: a size that towers are compiled for (pretrained.py)
_SENTENCES = 512  # whose rows are kept
_THUMBNAILS = 8_192  # some 25 MB


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
  false_alarms: float = FALSE_ALARMS
  rerank: int = 0


@dataclasses.dataclass(frozen=True)
class Found:
  """An answer, and the version of the index that gave it."""

  answer: Answer
  version: int


@dataclasses.dataclass(frozen=True)
class Search:
  """A job of the worker. The other kind is a prepared picture, uint8 [H, W, 3]."""

  asked: Asked
  version: int | None


Job = Search | np.ndarray


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
    self.index, self.problem = index, ""
    len(index)  # reads the vectors
    encoder = index.encoder()
    # Compiled now rather than while the first people wait.
    for count in (1, BATCH):
      encoder.encode_texts(["a person"] * count)
    self._sentences: Kept[np.ndarray] = Kept(_SENTENCES)
    self._looks: Kept[Mapping[str, np.ndarray]] = Kept(_SENTENCES)
    self._given: Kept[Given] = Kept(limits.UPLOADS, limits.UPLOAD_SECONDS, clock)
    self._thumbnails: Kept[bytes] = Kept(_THUMBNAILS)
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
    return await self._worker(Search(asked, version))

  def _act(self, jobs: Sequence[Job]) -> Sequence[Found | np.ndarray | Exception]:
    """A result for each; where one breaks the batch, each is done for itself."""
    try:
      return self._together(jobs)
    except Exception as error:
      if len(jobs) == 1:
        return [error]
      return [result for job in jobs for result in self._act([job])]

  def _together(self, jobs: Sequence[Job]) -> Sequence[Found | np.ndarray | Exception]:
    index = self.index
    searches = [job for job in jobs if isinstance(job, Search)]
    sentences = self._encode([j.asked.query for j in searches if j.asked.query])
    results: dict[int, Found | np.ndarray | Exception] = {}
    questions: dict[int, Question] = {}
    for at, job in enumerate(jobs):
      if not isinstance(job, Search):
        results[at] = index.encoder().encode_images([job])[0]
      elif job.version not in (None, index.version):
        results[at] = Refused(
          409, "The index has changed since the first of these results: search again."
        )
      else:
        questions[at] = self._question(job.asked, sentences)
    if questions:
      found = index.answers([*questions.values()])
      for at, answer in zip(questions, found, strict=True):
        results[at] = Found(answer, index.version)
        # All at once they cost little more than one, and will be asked for next.
        for hit in answer.hits:
          self._thumbnails.put(hit.key, hit.thumbnail)
    return [results[at] for at in range(len(jobs))]

  def _encode(self, sentences: Sequence[str]) -> dict[str, np.ndarray]:
    """sentence -> its row, float32 [D]; those that are not kept by one call."""
    found = {each: self._sentences.get(each) for each in sentences}
    new = [each for each, row in found.items() if row is None]
    if new:
      rows = self.index.encoder().encode_texts(new)
      for each, row in zip(new, rows, strict=True):
        self._sentences.put(each, row)
        found[each] = row
    return found

  def _question(self, asked: Asked, sentences: Mapping[str, np.ndarray]) -> Question:
    rows, kept = {}, None
    if asked.query:
      rows["text"] = sentences[asked.query]
      check_row(rows["text"], "words")
    if asked.image is not None:
      rows["image"] = asked.image
    if asked.rerank:
      kept = self._looks.get(asked.query)
      if kept is None:
        kept = self.index.encoder().keep_texts([asked.query])[1][0]
        self._looks.put(asked.query, kept)
    return Question(
      rows,
      top=asked.top,
      skip=asked.skip,
      where=asked.where,
      image_weight=asked.image_weight,
      false_alarms=asked.false_alarms,
      rerank=asked.rerank,
      kept=kept,
    )

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
    name = secrets.token_urlsafe(16)
    self._given.put(name, Given(row, thumbnail))
    return name, photo.digest(data)

  def given(self, name: str) -> Given:
    """Raises Refused (404): there is none, or it was forgotten."""
    found = self._given.get(name)
    if found is None:
      raise Refused(404, "The picture that was given is forgotten: give it again.")
    return found

  async def thumbnail(self, key: str) -> bytes:
    """JPEG. Raises Refused (404): there is no such picture."""
    found = self._thumbnails.get(key)
    if found is None:
      found = (await asyncio.to_thread(self.stored, key)).thumbnail
      self._thumbnails.put(key, found)
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
    self._thumbnails = Kept(_THUMBNAILS)  # of pictures that may be gone
    print(f"Version {newer.version}: {len(newer):,} pictures", flush=True)
    return True
