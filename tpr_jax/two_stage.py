"""Two-stage ranking: the global shortlist of each query, ordered again.

First stage: the cosine of the global features ranks the whole gallery. Second stage:
the first `top` images of every query are scored again, pair by pair, by one of
`second_stage.STAGES`, and sorted by

  second + global_weight * cosine

ties by the first ranking; whatever lies beyond the shortlist keeps its place. With
global_weight 1, the default, both count, as in the code of BLIP (arXiv:2201.12086);
with 0 the second score alone decides, as in that of ALBEF (arXiv:2107.07651). CFAM's
matcher should not decide alone: in training it meets pairs that belong together and the
most similar wrong ones, never a very unlike pair, and its probability of such pairs
rises again. On 100 validation people of the embedded run (README) the median
probability of wrong images was 0.28 at ranks 1-5, 0.11 at 11-20 and 0.45 at 51-100;
alone over the first 100 it took Rank-1 from 66.5 to 9, with the cosine to 55.

Text to image only. mSD is not defined for the new list (metrics/rerank.py) and missing.

Pairs are scored in blocks of a fixed number on each device, whatever `eval.batch` and
the number of devices are, so these change no score but by float32 rounding.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding

from tpr_jax import encoding, evaluate, objectives
from tpr_jax.core import sharding
from tpr_jax.core.times import duration
from tpr_jax.core.types import Params
from tpr_jax.data import captions
from tpr_jax.data.record import Dataset
from tpr_jax.metrics import rerank, streaming, uncertainty
from tpr_jax.second_stage import STAGES, SecondStage

# The largest gallery, in bytes of what is kept of it, that every device gets whole.
REPLICATED = 2 << 30
_QUIET = 15.0  # seconds between two lines of progress

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Rerank:
  """`config.eval.rerank`, checked.

  Attributes:
    by: name of a second stage.
    top: images of the shortlist of each query.
    global_weight: of the global cosine in the sum that sorts the shortlist.
  """

  by: str
  top: int = 100
  global_weight: float = 1.0

  @property
  def stage(self) -> SecondStage:
    return STAGES[self.by]


_FIELDS = tuple(field.name for field in dataclasses.fields(Rerank))


def settings(
  fields: Mapping[str, Any],
  losses: Mapping[str, float],
  objective: Mapping[str, Any],
) -> Rerank | None:
  """What `config.eval` asks for; None where it is off, or older than the fields.

  Raises:
    ValueError: an unknown `by`, a `top` below 1, a weight that is no number, or losses
      that did not train what the second stage needs.
  """
  given = fields.get("rerank", {})  # for runs older than the field
  by = given.get("by", "")
  if not by:
    return None
  if by not in STAGES:
    raise ValueError(
      f"eval.rerank.by={by!r}: expected one of {', '.join(STAGES)}, or '' (off)"
    )
  found = Rerank(**{k: given[k] for k in _FIELDS if k in given})
  if found.top < 1:
    raise ValueError(
      f"eval.rerank.top={found.top}: expected the number of images of a shortlist, 1 at"
      " least, for example 100"
    )
  if not np.isfinite(found.global_weight):
    raise ValueError(
      f"eval.rerank.global_weight={found.global_weight}: expected a number, 0 for the"
      " second score alone"
    )
  absent = set(found.stage.heads) - objectives.heads(losses, objective)
  if absent:
    wanted = " or ".join(f"losses.{name}" for name in found.stage.trained_by)
    raise ValueError(
      f"eval.rerank.by={by!r} needs the head {sorted(absent)[0]!r}, which this config"
      f" does not train: it takes {wanted} above 0 in training (active here:"
      f" {', '.join(objectives.active(losses))}); for this run set"
      " --config.eval.rerank.by=''"
    )
  return found


def memory(
  how: Rerank,
  model: nn.Module,
  params: Params,
  dataset: Dataset,
  image_size: tuple[int, int],
  length: int,
) -> str:
  """A sentence on what is kept of every image and caption of `dataset`, and its size.

  Args:
    image_size: (height, width), length: of the texts.
  """

  def kept(module, image, text):
    return (
      how.stage.image(module, module.encode_image(image)),
      how.stage.text(module, module.encode_text(text)),
    )

  shapes = jax.eval_shape(
    lambda params, *x: model.apply({"params": params}, *x, method=kept),
    params,
    jax.ShapeDtypeStruct((1, *image_size, 3), jnp.uint8),
    jax.ShapeDtypeStruct((1, length), jnp.int32),
  )
  images, texts = len(dataset.records), len(captions.index(dataset)[0])
  each = [sum(x.size * x.dtype.itemsize for x in side.values()) for side in shapes]
  size = (images * each[0] + texts * each[1]) / 2**30
  return (
    f"re-ranking by {how.by} keeps {size:.3f} GiB on the host for {images:,} images"
    f" and {texts:,} captions"
  )


def score(
  how: Rerank,
  first: evaluate.Evaluation,
  features: encoding.Features,
  dataset: Dataset,
  model: nn.Module,
  params: Params,
  *,
  name: str,
  mesh: Mesh,
  group_by: str = "",
  intervals: uncertainty.Bootstrap | None = None,
  say: Say = lambda text: None,
) -> evaluate.Evaluation:
  """The evaluation of the re-ranked lists, beside that of the first stage.

  Args:
    first: of the same features, made with `top=how.top` at least.
    features: encoded with `stage=how.stage`.
    name: of the first evaluation, for the note.
    say: gets lines of progress, where it takes long.

  Returns:
    As `evaluate.score`, without "mSD", and with "rerank": {"by", "top" (images of the
    shortlist, at most the gallery), "global_weight", "pairs", "seconds_per_query"} and
    the start of a "note". The time is that of the second stage alone, from the
    shortlists to their new order, without compilation.

  Raises:
    EvaluationError: a second score that is not a number.
  """
  ranked, top = first.result, min(how.top, first.result.gallery)
  columns = ranked.top[:, :top]
  scored, seconds = second_scores(
    how.stage, model, params, features, columns, mesh=mesh, say=say
  )
  started = time.perf_counter()
  final = scored + how.global_weight * ranked.top_score[:, :top].astype(np.float64)
  with _errors(f"{dataset.name}/{dataset.split}"):
    order = rerank.order(final)
  changed = reordered(ranked, features, dataset, columns, final, order)
  seconds += time.perf_counter() - started
  found = evaluate.score(
    features,
    dataset,
    group_by=group_by,
    intervals=intervals,
    result=changed,
    mesh=mesh,
  )
  about = dict(dataclasses.asdict(how), top=top, pairs=columns.size)
  about["seconds_per_query"] = seconds / len(columns)
  scores = {**found.scores, "rerank": about, "note": _note(name, about)}
  return dataclasses.replace(found, scores=scores)


def _note(name: str, about: Mapping[str, Any]) -> str:
  weight, by = about["global_weight"], about["by"]
  if weight:
    by += f" + {weight:g} x cosine" if weight != 1 else " + cosine"
  return (
    f"the first {about['top']:,} of each query of {name} ordered again by {by},"
    f" {1000 * about['seconds_per_query']:.2f} ms per query (such a list has no mSD)"
  )


def reordered(
  ranked: streaming.Result,
  features: encoding.Features,
  dataset: Dataset,
  columns: np.ndarray,
  final: np.ndarray,
  order: np.ndarray,
) -> streaming.Result:
  """The result of the new order; `top` and `top_score` are those of the shortlist."""
  text_id, image_id = evaluate.identities(features, dataset)
  flags = image_id[columns] == text_id[:, None]
  values = rerank.ranks(
    ranked.matches, ranked.first_rank, ranked.ap, ranked.inp, flags, order
  )
  return streaming.Result(
    matches=ranked.matches,
    sd=np.full(len(columns), np.nan, np.float32),
    top=np.take_along_axis(columns, order, axis=1),
    top_score=np.take_along_axis(final, order, axis=1).astype(np.float32),
    gallery=ranked.gallery,
    **values,
  )


@contextlib.contextmanager
def _errors(where: str) -> Iterator[None]:
  try:
    yield
  except ValueError as error:
    raise evaluate.EvaluationError(f"{where}: {error}") from error


# --- scoring of pairs --------------------------------------------------------------


def second_scores(
  stage: SecondStage,
  model: nn.Module,
  params: Params,
  features: encoding.Features,
  columns: np.ndarray,
  *,
  mesh: Mesh,
  say: Say = lambda text: None,
) -> tuple[np.ndarray, float]:
  """(float32 [Q, T], seconds): the score of query i with image columns[i, j].

  Blocks of `stage.block` pairs on each device. What is kept of the gallery lies whole
  on every device up to `REPLICATED` bytes; beyond that the rows of each block travel.

  Args:
    columns: int [Q, T] rows of `features.image`, the shortlists.

  Returns:
    Seconds: without compilation, the first block having been scored once before.
  """
  images, texts = dict(features.image_kept), dict(features.text_kept)
  blocks = _Blocks(columns, stage.block * sharding.batch_shards(mesh))
  rows, whole = sharding.batch_sharding(mesh), sharding.replicated(mesh)
  resident = sum(array.nbytes for array in images.values()) <= REPLICATED
  if resident:
    gallery = sharding.put(images, whole)

  run = _compiled(stage, model, mesh, resident)

  def launch(block: "_Block") -> jax.Array:
    text = {name: array[block.queries] for name, array in texts.items()}
    at, query = sharding.put((block.columns, block.query), rows)
    if resident:
      image = gallery
    else:
      image = {k: _chosen(array, block.columns, rows) for k, array in images.items()}
    return run(params, image, at, sharding.put(text, whole), query)

  jax.block_until_ready(launch(blocks[0]))  # compiles
  return _all(launch, blocks, say)


def _chosen(array: np.ndarray, at: np.ndarray, where: NamedSharding) -> jax.Array:
  """array[at] onto the mesh; a process copies the rows of its own devices alone."""
  return jax.make_array_from_callback(
    (len(at), *array.shape[1:]), where, lambda index: array[at[index[0]]]
  )


@functools.lru_cache(maxsize=8)
def _compiled(
  stage: SecondStage, model: nn.Module, mesh: Mesh, resident: bool
) -> Callable[..., jax.Array]:
  """Jitted (params, images, columns [P], texts, query [P]) -> float32 [P]."""
  rows = sharding.batch_sharding(mesh)
  spread = lambda x: jax.lax.with_sharding_constraint(x, rows)

  def run(params, image, columns, text, query):
    if resident:
      image = {name: array[columns] for name, array in image.items()}
    text = {name: array[query] for name, array in text.items()}
    pair = jax.tree.map(spread, (image, text))
    return model.apply({"params": params}, *pair, method=stage.pairs)

  return jax.jit(run, out_shardings=sharding.replicated(mesh))


def _all(
  launch: Callable[["_Block"], jax.Array], blocks: "_Blocks", say: Say
) -> tuple[np.ndarray, float]:
  """Walks the blocks, two ahead of what is read back."""
  scores = np.empty(blocks.pairs, np.float32)
  started = told = time.perf_counter()
  pending: list[tuple[int, jax.Array]] = []

  def store():
    at, values = pending.pop(0)
    stop = min(at + blocks.size, blocks.pairs)
    scores[at:stop] = np.asarray(values)[: stop - at]
    return stop

  for number in range(len(blocks)):
    pending.append((number * blocks.size, launch(blocks[number])))
    if len(pending) > 2:
      done, now = store(), time.perf_counter()
      if now - told > _QUIET:
        told, left = now, (now - started) * (blocks.pairs - done) / done
        say(f"    {done:,} of {blocks.pairs:,} pairs, {duration(left)} to go")
  while pending:
    store()
  return scores.reshape(blocks.shape), time.perf_counter() - started


@dataclasses.dataclass(frozen=True)
class _Block:
  """Pairs of one fixed number P, those of the last block filled up.

  Attributes:
    columns: int32 [P] rows of the gallery.
    queries: int [R] rows of the texts, R as fixed as P.
    query: int32 [P] which of `queries`.
  """

  columns: np.ndarray
  queries: np.ndarray
  query: np.ndarray


class _Blocks:
  """The pairs of int [Q, T] shortlists, query by query, `size` at a time."""

  def __init__(self, columns: np.ndarray, size: int):
    self.shape, self.size, self.pairs = columns.shape, size, columns.size
    self._columns = columns.ravel()
    self._texts = min(size, -(-size // columns.shape[1]) + 1)  # touched by one block

  def __len__(self) -> int:
    return -(-self.pairs // self.size)

  def __getitem__(self, number: int) -> _Block:
    at = np.minimum(
      np.arange(number * self.size, (number + 1) * self.size), self.pairs - 1
    )
    query = at // self.shape[1]
    queries = np.minimum(query[0] + np.arange(self._texts), self.shape[0] - 1)
    return _Block(
      self._columns[at].astype(np.int32), queries, (query - query[0]).astype(np.int32)
    )
