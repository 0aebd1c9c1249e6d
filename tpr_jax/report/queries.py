"""Which queries are shown, and each with its best images."""

import base64
import dataclasses
import io
import pathlib

import numpy as np
from PIL import Image

from tpr_jax import rankings
from tpr_jax.data.record import Dataset, ImageError
from tpr_jax.report.files import Ranking, ReportError

_HEIGHT, _WIDTH = 240, 96  # thumbnails are at most this large


@dataclasses.dataclass(frozen=True)
class Picture:
  """One gallery image: its name, and None where it cannot be read."""

  name: str
  image: Image.Image | None
  uri: str | None


@dataclasses.dataclass(frozen=True)
class Hit:
  """One ranked image. `twin`: of another person, made to look almost the same."""

  rank: int
  score: float
  right: bool
  twin: bool
  picture: Picture


@dataclasses.dataclass(frozen=True)
class Query:
  """A caption, the image it was written for, and the best images by the model.

  Attributes:
    first_rank: rank of the first right image; 0: none in the gallery.
    ap: average precision in percent; None where first_rank is 0.
  """

  text: str
  source: Picture
  first_rank: int
  ap: float | None
  hits: tuple[Hit, ...]


class Pictures:
  """Thumbnails of a dataset, each read once.

  Args:
    shape: (height, width) whose aspect is asked of a source that draws its images.

  Attributes:
    broken: name of image -> why it could not be read.
  """

  def __init__(self, dataset: Dataset, shape: tuple[int, int] = (3, 1)):
    self._dataset = dataset
    self._size = (_HEIGHT, max(1, round(_HEIGHT * shape[1] / shape[0])))
    self._known: dict[int, Picture] = {}
    self.broken: dict[str, str] = {}

  def __getitem__(self, record: int) -> Picture:
    if record not in self._known:
      self._known[record] = self._read(record)
    return self._known[record]

  def _read(self, index: int) -> Picture:
    record = self._dataset.records[index]
    try:
      pixels = self._dataset.load_image(record, self._size)
    except ImageError as error:
      self.broken[record.image] = str(error)
      return Picture(record.image, None, None)
    image = Image.fromarray(np.asarray(pixels))
    image.thumbnail((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, format="JPEG", quality=86)
    code = base64.b64encode(out.getvalue()).decode("ascii")
    return Picture(record.image, image, f"data:image/jpeg;base64,{code}")


def check(ranking: Ranking, dataset: Dataset, path: pathlib.Path) -> None:
  """Do the ranking's indices exist in the dataset?

  Raises:
    ReportError: they don't; the ranking was made with other data.
  """
  records = dataset.records
  highest = max(ranking.query_record.max(), ranking.top.max())
  lowest = min(ranking.query_record.min(), ranking.query_caption.min())
  if highest >= len(records) or lowest < 0:
    raise ReportError(
      f"{path} names record {int(highest)}, but {dataset.name}/{dataset.split} has"
      f" {len(records):,} records: the evaluation was made with other data; run"
      " --mode=eval again"
    )
  counts = np.array([len(record.captions) for record in records])
  bad = np.flatnonzero(ranking.query_caption >= counts[ranking.query_record])
  if len(bad):
    record = records[ranking.query_record[bad[0]]]
    raise ReportError(
      f"{path} names caption {int(ranking.query_caption[bad[0]])} of {record.image},"
      f" which has {len(record.captions)}: the evaluation was made with other data;"
      " run --mode=eval again"
    )


def choose_random(ranking: Ranking, count: int, seed: int) -> np.ndarray:
  """`count` queries drawn without replacement by `seed`, in the dataset's order."""
  total = len(ranking.query_record)
  return rankings.draw(total, count, seed)


def choose_extremes(ranking: Ranking, count: int) -> tuple[np.ndarray, np.ndarray]:
  """(best, worst) queries that have a match, at most one per record, disjoint.

  Best: highest average precision, then the largest lead of the first image over the
  last one shown. Worst: lowest rank of the first right image, then the lowest AP.
  """
  real = np.flatnonzero(ranking.first_rank > 0)
  lead = np.nan_to_num(ranking.score[:, 0] - np.nanmin(ranking.score, axis=1))
  best = real[np.lexsort((real, -lead[real], -ranking.ap[real]))]
  worst = real[np.lexsort((real, ranking.ap[real], -ranking.first_rank[real]))]
  first = one_per_record(best, ranking, min(count, len(real) // 2))
  rest = worst[~np.isin(worst, first)]
  return first, one_per_record(rest, ranking, count)


def one_per_record(chosen, ranking: Ranking, count: int) -> np.ndarray:
  """The first `count` of the chosen queries that are of different records."""
  kept, seen = [], set()
  for query in chosen:
    record = int(ranking.query_record[query])
    if len(kept) < count and record not in seen:
      seen.add(record)
      kept.append(int(query))
  return np.array(kept, np.int64)


def gather(
  chosen: np.ndarray, ranking: Ranking, dataset: Dataset, pictures: Pictures
) -> list[Query]:
  """The chosen queries with their texts and pictures."""
  found = []
  for query in chosen:
    index = int(ranking.query_record[query])
    record = dataset.records[index]
    twins = record.truth.get("twin_group")
    hits = []
    for place, at in enumerate(ranking.top[query].tolist()):
      if at < 0:  # fewer images in the gallery than places
        continue
      other = dataset.records[at]
      right = other.identity == record.identity
      hits.append(
        Hit(
          rank=place + 1,
          score=float(ranking.score[query, place]),
          right=right,
          twin=not right
          and twins is not None
          and other.truth.get("twin_group") == twins,
          picture=pictures[at],
        )
      )
    first = int(ranking.first_rank[query])
    found.append(
      Query(
        text=record.captions[int(ranking.query_caption[query])],
        source=pictures[index],
        first_rank=first,
        ap=100.0 * float(ranking.ap[query]) if first else None,
        hits=tuple(hits),
      )
    )
  return found
