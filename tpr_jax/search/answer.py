"""What is asked of an index, and what it found."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tpr_jax.detect.boxes import Box
from tpr_jax.search.settings import FALSE_ALARMS


@dataclasses.dataclass(frozen=True)
class Question:
  """A search by rows that are there.

  Attributes:
    rows: "text", "image" or both -> unit rows float32 [D].
    skip: best ones that are left out: those of the pages before.
    image_weight: of both, the share of the picture.
    false_alarms: of the searches for people who are not there, the share that may be
      told that somebody matches.
    rerank: so many of the first pictures are ordered again by the second stage of the
      index, for words alone; 0: none.
    kept: what the second stage keeps of the words, where rerank is above 0.
  """

  rows: Mapping[str, np.ndarray]
  top: int = 20
  skip: int = 0
  where: str = ""
  image_weight: float = 0.5
  false_alarms: float = FALSE_ALARMS
  rerank: int = 0
  kept: Mapping[str, np.ndarray] | None = None


@dataclasses.dataclass(frozen=True)
class Hit:
  """One picture, or one person in a frame, that was found.

  Attributes:
    score: the cosine; of a sentence with a picture, the weighted sum of standard
      scores (`gallery.standard`).
    cosines: "text", "image" -> cosine, of what was asked with.
    path: of the picture, or of the frame; below the folder.
    values: columns -> value: size, width, height, time, of a person detection_score,
      and those of the side-car.
    thumbnail: JPEG.
    key: the hash of its content (`photo.digest`), the same in every version; of a
      person, `people.key`.
    probability: of being a picture of the person that the words describe, where one of
      two such people is in the index at all; None where it is not known.
    box: where the person is in the frame, in its pixels; None: a whole picture.
    content: the hash of the file.
    second: the second stage's score, where it was asked for: such hits are in the order
      of second + score, before all others.
  """

  rank: int
  score: float
  path: str
  cosines: Mapping[str, float]
  values: Mapping[str, Any]
  thumbnail: bytes
  key: str
  probability: float | None = None
  box: Box | None = None
  content: str = ""
  second: float | None = None


@dataclasses.dataclass(frozen=True)
class Stored:
  """A content that the index holds, under one name or several.

  Attributes:
    paths: below the folder of pictures.
    row: float32 [D], unit. thumbnail: JPEG.
    content: the hash of the files: the key itself, but for a person in a frame.
    box: of a person in the frame. cut: what was cut out there, with its margin.
  """

  key: str
  paths: tuple[str, ...]
  row: np.ndarray
  thumbnail: bytes
  content: str
  box: Box | None = None
  cut: Box | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
  """hits: best first. searched, total: pictures (or people) that fit the condition,
  and all. people: these are people in frames.
  matches: is the person among those searched at all? None: not known.
  recall: of approximate searches, the share of the nearest that was found when it was
  measured; None: this one is exact."""

  hits: tuple[Hit, ...]
  searched: int
  total: int
  matches: bool | None = None
  people: bool = False
  recall: float | None = None
