"""Evaluation: encode every image and caption once, then the streaming metric kernels.

Queries are the captions of a split, the gallery its images; a gallery item is a match
when the identities are equal (spec of the field: an image's own captions are among the
queries of its split).
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from tpr_jax.core import sharding
from tpr_jax.core.types import Params
from tpr_jax.data import pipeline
from tpr_jax.data.record import Dataset
from tpr_jax.data.tokenizer import Tokenizer
from tpr_jax.data.transforms import Pipe
from tpr_jax.metrics import streaming

TOP = 10  # images kept for each query, for the pictures of the report
SCORES = ("R1", "R5", "R10", "mAP", "mINP", "mSD")  # higher is better


class EvaluationError(Exception):
  """A split cannot be evaluated: says why."""


@dataclasses.dataclass(frozen=True)
class Features:
  """One split, encoded. Rows are unit vectors.

  Attributes:
    image: float32 [n, D], the readable images.
    image_record: int32 [n], their index in the dataset.
    text: float32 [m, D], all captions.
    text_record, text_caption: int32 [m], which caption of which record.
    broken: name of image -> why it could not be read.
  """

  image: np.ndarray
  image_record: np.ndarray
  text: np.ndarray
  text_record: np.ndarray
  text_caption: np.ndarray
  broken: Mapping[str, str]


class Encoder:
  """The two towers of a model, compiled once for fixed batch shapes.

  Args:
    model: a module with `encode_image` and `encode_text`.
    mesh: batches are split over it; parameters stay where they are.
  """

  def __init__(self, model: nn.Module, mesh: Mesh):
    self._batch_sh = sharding.batch_sharding(mesh)
    self._shards = sharding.batch_shards(mesh)
    whole = sharding.replicated(mesh)

    def tower(method: str, key: str) -> Callable[[Params, jax.Array], jax.Array]:
      return jax.jit(
        lambda params, x: model.apply({"params": params}, x, method=method)[key],
        out_shardings=whole,
      )

    self._image = tower("encode_image", "image")
    self._text = tower("encode_text", "text")

  def _rows(self, batch: np.ndarray) -> jax.Array:
    count, index = jax.process_count(), jax.process_index()
    size = len(batch) // count
    rows = batch[index * size : (index + 1) * size]
    return jax.make_array_from_process_local_data(self._batch_sh, rows)

  def __call__(
    self,
    params: Params,
    dataset: Dataset,
    *,
    tokenizer: Tokenizer,
    pipe: Pipe,
    length: int,
    batch: int,
    threads: int,
  ) -> Features:
    """Encodes all images and captions of `dataset`.

    Raises:
      EvaluationError: the batch cannot be split over the devices, or nothing is left
        to encode.
    """
    if batch % self._shards:
      raise EvaluationError(
        f"eval.batch={batch} cannot be split evenly over {self._shards} devices"
      )
    images, valid = [], []
    stream = pipeline.image_batches(dataset, pipe=pipe, batch=batch, threads=threads)
    for rows in stream:
      images.append(self._image(params, self._rows(rows["image"])))
      valid.append(rows["valid"])
    texts, record, caption, real = [], [], [], []
    for rows in pipeline.text_batches(dataset, tokenizer, length=length, batch=batch):
      texts.append(self._text(params, self._rows(rows["text"])))
      record.append(rows["record"])
      caption.append(rows["caption"])
      real.append(rows["valid"])
    if not images or not texts or not np.concatenate(valid).any():
      raise EvaluationError(
        f"{dataset.name}/{dataset.split}: no readable image or no caption to evaluate"
      )
    seen, kept = np.concatenate(valid), np.concatenate(real)
    return Features(
      image=np.concatenate(jax.device_get(images))[seen],
      image_record=np.flatnonzero(seen).astype(np.int32),
      text=np.concatenate(jax.device_get(texts))[kept],
      text_record=np.concatenate(record)[kept],
      text_caption=np.concatenate(caption)[kept],
      broken=dict(stream.broken),
    )


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Scores of one split, and what its pictures need.

  Attributes:
    scores: {"t2i": {...}, "i2t": {...}?, "groups": {...}?, "broken_images": n}: plain
      JSON values, percentages.
    rankings: arrays for `rankings/NAME.npz` (see README, "The run folder").
  """

  scores: dict[str, Any]
  rankings: dict[str, np.ndarray]


def _group_of(dataset: Dataset, key: str, record: int, caption: int) -> str | None:
  truth = dataset.records[record].truth
  if key == "twin_group":
    return "near twins" if truth.get(key) is not None else "others"
  per_caption = truth.get("caption_truth")
  if isinstance(per_caption, (list, tuple)) and key in per_caption[caption]:
    value = per_caption[caption][key]
  else:
    value = truth.get(key)
  return None if value is None else f"{key}={value}"


@contextlib.contextmanager
def _errors(where: str) -> Iterator[None]:
  """What the kernels say about features and identities, with the place."""
  try:
    yield
  except ValueError as error:
    raise EvaluationError(f"{where}: {error}") from error


def _group_scores(
  result: streaming.Result, features: Features, dataset: Dataset, group_by: str
) -> dict[str, Any]:
  queries = zip(features.text_record, features.text_caption, strict=True)
  names = [_group_of(dataset, group_by, int(r), int(c)) for r, c in queries]
  where = f"{dataset.name}/{dataset.split}"
  groups = sorted({name for name in names if name is not None})
  if not groups:
    raise EvaluationError(f"group_by={group_by!r}: no record of {where} has it")
  found = {}
  for group in groups:
    with _errors(f"{where}, {group}"):
      mask = np.array([name == group for name in names])
      found[group] = result.subset(mask).summary()
  return found


def score(
  features: Features,
  dataset: Dataset,
  *,
  i2t: bool = False,
  group_by: str = "",
  msd_variant: str = "paper",
  mesh: Mesh | None = None,
) -> Evaluation:
  """Ranks the gallery for every query and reduces to the field's numbers.

  Args:
    i2t: also rank the captions for every image.
    group_by: key of the records' truth (or of a caption's truth); the queries of each
      value are also reported apart, against the whole gallery. "twin_group" splits
      into "near twins" and "others".
    msd_variant: "paper" or "released_script" (metrics/msd.py).

  Raises:
    EvaluationError: no query (of a group) has a match, no record has `group_by`, or a
      feature is not a number.
  """
  identity = np.array([record.identity for record in dataset.records], np.int64)
  image_id = identity[features.image_record]
  text_id = identity[features.text_record]
  options = dict(msd_variant=msd_variant, mesh=mesh)
  with _errors(f"{dataset.name}/{dataset.split}"):
    result = streaming.evaluate(
      features.text, features.image, text_id, image_id, top=TOP, **options
    )
    scores: dict[str, Any] = {"t2i": result.summary()}
    if i2t:
      scores["i2t"] = streaming.evaluate(
        features.image, features.text, image_id, text_id, top=1, **options
      ).summary()
  if group_by:
    scores["groups"] = _group_scores(result, features, dataset, group_by)
  scores["broken_images"] = len(features.broken)
  return Evaluation(
    scores,
    {
      "query_record": features.text_record.astype(np.int32),
      "query_caption": features.text_caption.astype(np.int32),
      "top": np.where(result.top >= 0, features.image_record[result.top], -1).astype(
        np.int32
      ),
      "score": result.top_score.astype(np.float32),
      "first_rank": result.first_rank.astype(np.int32),
      "ap": result.ap.astype(np.float32),
    },
  )
