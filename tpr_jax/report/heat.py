"""Words and patches of an evaluation's saliency file, as the page shows them.

Orange raises the similarity, blue lowers it: two colours that colour-blind readers can
tell apart, on light and on dark paper. Every map, and every text, is scaled to its own
largest weight, which is written beside it.
"""

import base64
import dataclasses
import io

import numpy as np
from PIL import Image

from tpr_jax.data.record import Dataset
from tpr_jax.report.files import Ranking
from tpr_jax.report.queries import Picture, Pictures
from tpr_jax.saliency_files import Explained, Saliency

RAISES, LOWERS = (235, 110, 0), (20, 110, 230)
_HEIGHT = 240  # pixels of a map
_STRONGEST = 0.78  # opacity of the largest weight
_FADED = 0.55  # how far the picture below a map is drained of its colours
_MAPS = 3  # words with a map of their own


@dataclasses.dataclass(frozen=True)
class Word:
  """A word; `share` in [-1, 1] of the largest weight of its text."""

  text: str
  share: float
  weight: float


@dataclasses.dataclass(frozen=True)
class Map:
  """A picture with weights over it. `largest`: the weight furthest from 0."""

  label: str
  largest: float
  uri: str


@dataclasses.dataclass(frozen=True)
class Shown:
  """One query: its picture, its words, the map of the query and of its top words.

  Attributes:
    right: whether the image shows the right person.
    largest: the word weight furthest from 0; 0 without words.
  """

  picture: Picture
  right: bool
  cosine: float
  words: tuple[Word, ...]
  largest: float
  maps: tuple[Map, ...]


def gather(
  saliency: Saliency, ranking: Ranking, dataset: Dataset, pictures: Pictures
) -> tuple[list[Shown], list[str]]:
  """(what is shown, sentences on what is not)."""
  found, stale = [], 0
  for one in saliency.queries:
    if not _fits(one, ranking, dataset):
      stale += 1
    elif pictures[one.image].image is not None:
      found.append(_shown(one, saliency, dataset, pictures[one.image]))
  said = []
  if stale:
    said.append(
      f"Words and patches of {stale} queries were weighed in another evaluation than"
      " the one shown, and are left out; run --mode=eval again."
    )
  return found, said


def _fits(one: Explained, ranking: Ranking, dataset: Dataset) -> bool:
  """Was this query explained with the ranking's model and the dataset's text?"""
  if not 0 <= one.query < len(ranking.query_record):
    return False
  same = (
    int(ranking.query_record[one.query]) == one.record
    and int(ranking.query_caption[one.query]) == one.caption
    and int(ranking.top[one.query, 0]) == one.image
    # The towers' last bits change with the batch that a row is in; bfloat16 has eight.
    and abs(float(ranking.score[one.query, 0]) - one.cosine) < 0.02
  )
  return same and tuple(dataset.records[one.record].captions[one.caption].split()) == (
    one.words
  )


def _shown(
  one: Explained, saliency: Saliency, dataset: Dataset, picture: Picture
) -> Shown:
  largest = _largest(one.word)
  words = tuple(
    Word(text, float(weight / abs(largest)) if largest else 0.0, float(weight))
    for text, weight in zip(one.words, one.word, strict=True)
  )
  maps = [_map("the whole text", one.patch, saliency, picture)]
  for place in np.argsort(-one.word, kind="stable")[:_MAPS]:
    if one.word[place] > 0:
      maps.append(_map(one.words[place], one.pairs[place], saliency, picture))
  person = dataset.records[one.record].identity
  return Shown(
    picture=picture,
    right=dataset.records[one.image].identity == person,
    cosine=one.cosine,
    words=words,
    largest=largest,
    maps=tuple(maps),
  )


def _largest(weights: np.ndarray) -> float:
  if not len(weights):
    return 0.0
  return float(weights[np.argmax(np.abs(weights))])


def _map(label: str, weights: np.ndarray, saliency: Saliency, picture: Picture) -> Map:
  largest = _largest(weights)
  sheet = overlay(picture.image, weights.reshape(saliency.grid))
  return Map(label, largest, uri(sheet))


def uri(sheet: Image.Image) -> str:
  """For the page."""
  out = io.BytesIO()
  sheet.save(out, format="JPEG", quality=84)
  code = base64.b64encode(out.getvalue()).decode("ascii")
  return f"data:image/jpeg;base64,{code}"


def overlay(picture: Image.Image, weights: np.ndarray) -> Image.Image:
  """The picture, faded, under orange (above 0) and blue (below 0) of the weights.

  Args:
    weights: [rows, columns], a grid over the whole picture.
  """
  width = max(1, round(picture.width * _HEIGHT / picture.height))
  base = picture.convert("RGB").resize((width, _HEIGHT), Image.Resampling.BICUBIC)
  grey = base.convert("L").convert("RGB")
  pixels = np.asarray(Image.blend(base, grey, _FADED), np.float32)
  scale = np.abs(weights).max()
  share = (weights / scale if scale > 0 else weights).astype(np.float32)
  smooth = Image.fromarray(share).resize((width, _HEIGHT), Image.Resampling.BICUBIC)
  share = np.clip(np.asarray(smooth), -1, 1)[..., None]
  colour = np.where(share > 0, np.float32(RAISES), np.float32(LOWERS))
  opacity = _STRONGEST * np.abs(share)
  mixed = pixels * (1 - opacity) + colour * opacity
  return Image.fromarray(np.clip(np.round(mixed), 0, 255).astype(np.uint8))
