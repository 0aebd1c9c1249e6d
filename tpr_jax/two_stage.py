"""Two-stage ranking: the global shortlist of each query, ordered again.

First stage: the cosine of the global features ranks the whole gallery. Second stage:
the first `top` images of every query are scored again, pair by pair, by one of
`second_stage.STAGES`, and sorted by one of `COMBINE`, ties by the first ranking;
whatever lies beyond the shortlist keeps its place:

  "sum"     second + global_weight * cosine
  "single"  both scaled to [0, 1] over all pairs (metrics/rerank.py, `scaled`)
  "dist"    the same as `processes` processes do it that each scale their own rows: the
            cosine counts about 200 times as much with 4 of them as with one

With a sum and global_weight 1, the default, both count, as in the code of BLIP
(arXiv:2201.12086); with 0 the second score alone decides, as in that of ALBEF
(arXiv:2107.07651). "single" and "dist", with global_weight 0.002, are what APTM's and
MRA's evaluation (arXiv:2306.02898, 2507.10195) makes on one GPU and on several. With
`eval.flip` the second scores of each image and of its mirror image are averaged. CFAM's
matcher should not decide alone: in training it meets pairs that belong together and the
most similar wrong ones, never a very unlike pair, and its probability of such pairs
rises again. On 100 validation people of the embedded run (README) the median
probability of wrong images was 0.28 at ranks 1-5, 0.11 at 11-20 and 0.45 at 51-100;
alone over the first 100 it took Rank-1 from 66.5 to 9, with the cosine to 55.

Text to image only. mSD is not defined for the new list (metrics/rerank.py) and missing.

Pairs are scored by pair_scores.py: neither `eval.batch` nor the number of devices or
processes changes a score but by float32 rounding.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from tpr_jax import encoding, evaluate, objectives, pair_scores
from tpr_jax.core.types import Params
from tpr_jax.data import captions
from tpr_jax.data.record import Dataset
from tpr_jax.metrics import extremes, rerank, streaming, uncertainty
from tpr_jax.pair_scores import Say
from tpr_jax.second_stage import STAGES, SecondStage

COMBINE = ("sum", "single", "dist")


@dataclasses.dataclass(frozen=True)
class Rerank:
  """`config.eval.rerank`, checked.

  Attributes:
    by: name of a second stage.
    top: images of the shortlist of each query.
    global_weight: of the global cosine in what sorts the shortlist.
    combine: of `COMBINE`.
    processes: that "dist" stands for; nothing to do with those that evaluate.
    cache: of `pair_scores.CACHES`, for stages that make images ready.
  """

  by: str
  top: int = 100
  global_weight: float = 1.0
  combine: str = "sum"
  processes: int = 4
  cache: str = "auto"

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
    ValueError: a value that its field cannot have, or losses that did not train what
      the second stage needs.
  """
  given = fields.get("rerank", {})  # for runs older than the field
  if not given.get("by", ""):
    return None
  found = Rerank(**{k: given[k] for k in _FIELDS if k in given})
  _check(found)
  absent = set(found.stage.heads) - objectives.heads(losses, objective)
  if absent:
    wanted = " or ".join(f"losses.{name}" for name in found.stage.trained_by)
    raise ValueError(
      f"eval.rerank.by={found.by!r} needs the head {sorted(absent)[0]!r}, which this"
      f" config does not train: it takes {wanted} above 0 in training (active here:"
      f" {', '.join(objectives.active(losses))}); for this run set"
      " --config.eval.rerank.by=''"
    )
  return found


def _check(found: Rerank) -> None:
  """Every field by itself, and those that only mean something together."""
  by, weight = found.by, found.global_weight
  if by not in STAGES:
    raise ValueError(
      f"eval.rerank.by={by!r}: expected one of {', '.join(STAGES)}, or '' (off)"
    )
  if found.top < 1:
    raise ValueError(
      f"eval.rerank.top={found.top}: expected the number of images of a shortlist, 1 at"
      " least, for example 100"
    )
  if not np.isfinite(weight):
    raise ValueError(
      f"eval.rerank.global_weight={weight}: expected a number, 0 for the second score"
      " alone"
    )
  for name, known in (("combine", COMBINE), ("cache", pair_scores.CACHES)):
    if getattr(found, name) not in known:
      raise ValueError(
        f"eval.rerank.{name}={getattr(found, name)!r}: expected one of"
        f" {', '.join(known)}"
      )
  if found.combine != "sum" and weight < 0:
    raise ValueError(
      f"eval.rerank.global_weight={weight}: with combine={found.combine!r} expected 0"
      " or more, for example 0.002: with less, images beyond the shortlist would"
      " overtake it"
    )
  if found.processes < 1:
    raise ValueError(
      f"eval.rerank.processes={found.processes}: expected the number of processes that"
      " combine='dist' stands for, 1 at least, for example 4"
    )
  if found.cache != "auto" and found.stage.ready is None:
    ready = ", ".join(name for name, stage in STAGES.items() if stage.ready is not None)
    raise ValueError(
      f"eval.rerank.cache={found.cache!r} would do nothing with by={by!r}, which makes"
      f" nothing of an image that could be kept ready (those that do: {ready}); leave"
      " it at 'auto'"
    )


def memory(
  how: Rerank,
  model: nn.Module,
  params: Params,
  dataset: Dataset,
  image_size: tuple[int, int],
  length: int,
  flip: bool = False,
) -> str:
  """A sentence on what is kept of every image and caption of `dataset`, and its size.

  Args:
    image_size: (height, width), length: of the texts.
    flip: whether the mirror images are kept too.
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
  size = ((1 + flip) * images * each[0] + texts * each[1]) / 2**30
  more = ", their mirror images" if flip else ""
  whole = {
    k: jax.ShapeDtypeStruct((images, *x.shape[1:]), x.dtype)
    for k, x in shapes[0].items()
  }
  stage = pair_scores.cached(how.stage, how.cache, model, params, whole)
  number, _ = pair_scores.pieces(stage, model, params, whole)
  return (
    f"re-ranking by {how.by} keeps {size:.3f} GiB on the host for {images:,} images"
    f"{more} and {texts:,} captions"
    + (f"; images go to a device in {number} pieces" if number > 1 else "")
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
    shortlist, at most the gallery), "global_weight", "combine", "processes" (where they
    count), "cache" (where there is a choice: what was chosen), "views" of each image,
    "pairs", "seconds_per_query"} and the start of a "note". The time is that of the
    second stage alone, from the shortlists to their new order, without compilation.

  Raises:
    EvaluationError: a second score that is not a number.
  """
  ranked, top = first.result, min(how.top, first.result.gallery)
  columns, cosine = ranked.top[:, :top], ranked.top_score[:, :top]
  stage = pair_scores.cached(how.stage, how.cache, model, params, features.image_kept)
  views, seconds = [], 0.0
  for images in filter(None, (features.image_kept, features.mirrored_kept)):
    scored, more = pair_scores.scores(
      stage, model, params, images, features.text_kept, columns, mesh=mesh, say=say
    )
    views.append(scored)
    seconds += more
  started = time.perf_counter()
  with _errors(f"{dataset.name}/{dataset.split}"):
    final = _final(how, views, cosine, features)
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
  about = dict(dataclasses.asdict(how), top=top, views=len(views))
  if how.combine != "dist":
    del about["processes"]
  about["cache"] = "tokens" if stage.ready is None else "keys"
  if how.stage.ready is None:
    del about["cache"]
  about |= dict(
    pairs=columns.size * len(views), seconds_per_query=seconds / len(columns)
  )
  scores = {**found.scores, "rerank": about, "note": _note(name, about)}
  return dataclasses.replace(found, scores=scores)


def _final(
  how: Rerank,
  views: list[np.ndarray],
  cosine: np.ndarray,
  features: encoding.Features,
) -> np.ndarray:
  """float64 [Q, T]: what sorts the shortlist."""
  if how.combine == "sum":
    return rerank.summed(views, cosine, how.global_weight)
  lowest = extremes.lowest(features.text, features.image)
  processes = how.processes if how.combine == "dist" else 1
  return rerank.scaled(views, cosine, how.global_weight, lowest, processes)


def _note(name: str, about: Mapping[str, Any]) -> str:
  weight, by = about["global_weight"], about["by"]
  if weight:
    by += f" + {weight:g} x cosine" if weight != 1 else " + cosine"
  if about["combine"] == "single":
    by += ", scaled over all pairs"
  if about["combine"] == "dist":
    by += f", scaled as {about['processes']} processes do"
  if about["views"] > 1:
    by += ", mean of image and mirror image"
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
