"""What is asked of an index, and what it found."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Question:
  """A search by rows that are there.

  Attributes:
    rows: "text", "image" or both -> unit rows float32 [D].
    skip: best ones that are left out: those of the pages before.
    image_weight: of both, the share of the picture.
  """

  rows: Mapping[str, np.ndarray]
  top: int = 20
  skip: int = 0
  where: str = ""
  image_weight: float = 0.5


@dataclasses.dataclass(frozen=True)
class Hit:
  """One picture that was found.

  Attributes:
    score: the cosine; of a sentence with a picture, the weighted sum of standard
      scores (`gallery.standard`).
    cosines: "text", "image" -> cosine, of what was asked with.
    values: columns -> value: size, width, height, time and those of the side-car.
    thumbnail: JPEG.
    key: the hash of its content (`photo.digest`), the same in every version.
  """

  rank: int
  score: float
  path: str
  cosines: Mapping[str, float]
  values: Mapping[str, Any]
  thumbnail: bytes
  key: str


@dataclasses.dataclass(frozen=True)
class Stored:
  """A content that the index holds, under one name or several.

  Attributes:
    paths: below the folder of pictures.
    row: float32 [D], unit. thumbnail: JPEG.
  """

  key: str
  paths: tuple[str, ...]
  row: np.ndarray
  thumbnail: bytes


@dataclasses.dataclass(frozen=True)
class Answer:
  """hits: best first. searched, total: pictures that fit the condition, and all."""

  hits: tuple[Hit, ...]
  searched: int
  total: int
