"""Scores of an encoded split: the streaming metric kernels, groups and intervals.

Queries are the captions of a split, the gallery its images; a gallery item is a match
when the identities are equal (spec of the field: an image's own captions are among the
queries of its split).
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from tpr_jax import feature_files, rankings
from tpr_jax import groups as grouping
from tpr_jax.data.captions import unusable
from tpr_jax.data.record import Dataset
from tpr_jax.encoding import EvaluationError as EvaluationError
from tpr_jax.encoding import Features
from tpr_jax.metrics import distributions, streaming, uncertainty
from tpr_jax.metrics.per_query import SCORES as SCORES

TOP = 10  # images kept for each query, for the pictures of the report


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Scores of one split, and what its pictures and comparisons need.

  Attributes:
    scores: {"t2i": {...}, "i2t": {...}?, "groups": {...}?, "broken_images": n}: plain
      JSON values, percentages. Where intervals were asked for, each {...} has "ci":
      {"level", "resamples", "seed", "identities", "scores": {"R1": [low, high], ...}},
      without scores where all queries are of one identity. "incomplete", only where
      something is: `incomplete`.
    rankings: arrays for `rankings/NAME.npz` (rankings.py).
    result: the ranking itself, for a second stage.
  """

  scores: dict[str, Any]
  rankings: dict[str, np.ndarray]
  result: streaming.Result


@contextlib.contextmanager
def _errors(where: str) -> Iterator[None]:
  """What the kernels say about features and identities, with the place."""
  try:
    yield
  except ValueError as error:
    raise EvaluationError(f"{where}: {error}") from error


def bootstrap(fields: Mapping[str, Any]) -> uncertainty.Bootstrap | None:
  """How intervals are made, from `config.eval`; None where they are turned off.

  Raises:
    ValueError: a level or a number of resamples that gives no interval.
  """
  how = uncertainty.Bootstrap()  # for runs older than the fields
  resamples = fields.get("ci_resamples", how.resamples)
  if resamples == 0:
    return None
  return uncertainty.Bootstrap(fields.get("ci_level", how.level), resamples)


def _summary(
  result: streaming.Result, ids: np.ndarray, how: uncertainty.Bootstrap | None
) -> dict[str, Any]:
  """The means of `result`, and their intervals where it is said how."""
  found: dict[str, Any] = result.summary()
  if how is None:
    return found
  real = result.matches > 0
  values, ids = result.per_query(), ids[real]
  identities, ends = len(np.unique(ids)), {}
  if identities > 1:
    columns = np.stack([column[real] for column in values.values()], axis=1)
    pairs = 100.0 * uncertainty.interval(columns, ids, how).T
    ends = dict(zip(values, pairs.tolist(), strict=True))
  found["ci"] = dict(dataclasses.asdict(how), identities=identities, scores=ends)
  return found


def score_arrays(
  query: np.ndarray,
  gallery: np.ndarray,
  query_ids: np.ndarray,
  gallery_ids: np.ndarray,
  *,
  where: str,
  groups: Mapping[str, Sequence[str | None]] | None = None,
  i2t: bool = False,
  msd_variant: str = "paper",
  intervals: uncertainty.Bootstrap | None = None,
  top: int = TOP,
  result: streaming.Result | None = None,
  mesh: Mesh | None = None,
) -> Evaluation:
  """Scores features of any origin; the rest of a split's evaluation is `score`.

  Args:
    query: [Q, D] text features, gallery: [G, D] image features.
    query_ids: [Q], gallery_ids: [G] identities; a match where they are equal.
    where: begins every error.
    groups: key -> [Q] names (groups.py); the queries of each name are also reported
      apart, against the whole gallery, those with None in no group.
    i2t: also rank the texts for every image.
    msd_variant: "paper" or "released_script" (metrics/msd.py).
    intervals: how they are made; None: none.
    top: best items that the `result` returned keeps for each query, `TOP` at least.
    result: the ranking, where these features were ranked already (two_stage.py).

  Returns:
    An Evaluation whose scores have no "broken_images", and whose rankings have `top`
    as rows of the gallery, and no digests; without `result` they do have the
    histograms of metrics/distributions.py.

  Raises:
    EvaluationError: no query (of a group) has a match, arrays that don't fit, or a
      feature that is not a number.
  """
  options = dict(msd_variant=msd_variant, mesh=mesh)
  with _errors(where):
    ranked = result or streaming.evaluate(
      query, gallery, query_ids, gallery_ids, top=max(top, TOP), **options
    )
    scores: dict[str, Any] = {"t2i": _summary(ranked, query_ids, intervals)}
    if i2t:
      other = streaming.evaluate(
        gallery, query, gallery_ids, query_ids, top=1, **options
      )
      scores["i2t"] = _summary(other, gallery_ids, intervals)
  for names in (groups or {}).values():
    for group in grouping.ordered(names):
      with _errors(f"{where}, {group}"):
        mask = np.array([name == group for name in names])
        part = _summary(ranked.subset(mask), query_ids[mask], intervals)
        scores.setdefault("groups", {})[group] = part
  kept = _kept(ranked, query_ids, gallery_ids)
  if groups:
    columns = [[name or "" for name in names] for names in groups.values()]
    kept["group"] = np.array(columns).T
  if result is None:  # the cosines of a list that was ordered again are known already
    spread = distributions.count(query, gallery, query_ids, gallery_ids)
    kept |= spread.arrays()
  return Evaluation(scores, kept, ranked)


def _kept(
  result: streaming.Result, query_ids: np.ndarray, gallery_ids: np.ndarray
) -> dict[str, np.ndarray]:
  """What `rankings/NAME.npz` holds of every query and gallery item."""
  return {
    "top": result.top[:, :TOP].astype(np.int32),
    "score": result.top_score[:, :TOP].astype(np.float32),
    "first_rank": result.first_rank.astype(np.int32),
    **{name: getattr(result, name).astype(np.float32) for name in ("ap", "inp", "sd")},
    "identity": query_ids,
    "gallery_identity": gallery_ids,
  }


def groups_of(
  features: Features, dataset: Dataset, group_by: str
) -> dict[str, grouping.Names]:
  """Key -> the group of every query; {} without `group_by` (groups.py).

  Raises:
    EvaluationError: queries that cannot be grouped so.
  """
  queries = zip(features.text_record, features.text_caption, strict=True)
  with _errors(f"{dataset.name}/{dataset.split}"):
    return grouping.of_dataset(dataset, queries, group_by)


def identities(features: Features, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
  """int64 ([m], [n]): identities of the texts and of the images."""
  identity = np.array([record.identity for record in dataset.records], np.int64)
  return identity[features.text_record], identity[features.image_record]


def texts(features: Features, dataset: Dataset) -> list[str]:
  """The caption of every query."""
  queries = zip(features.text_record, features.text_caption, strict=True)
  return [dataset.records[r].captions[c] for r, c in queries]


def image_names(features: Features, dataset: Dataset) -> list[str]:
  """The name of every gallery image."""
  return [dataset.records[r].image for r in features.image_record]


def incomplete(features: Features, dataset: Dataset) -> dict[str, Any]:
  """How the split that was scored differs from the one that is listed; {}: it doesn't.

  {"images": listed, "broken_images": not in the gallery, "queries": scored,
  "empty_queries": scored though they have no words, "lost_queries": not scored, for
  they are no text, "says": [a sentence for each]}. Published numbers are of whole
  splits: broken images make a gallery easier, or take a query's matches away.
  """
  images, broken = len(dataset.records), len(features.broken)
  queries, empty, lost = len(features.text), len(features.empty), unusable(dataset)
  says = []
  if broken:
    says.append(
      f"NOT THE WHOLE GALLERY: {broken:,} of {images:,} images "
      f"({100 * broken / images:.3g} %) could not be read and are left out; the scores "
      "are not comparable to those of the whole split"
    )
  if lost:
    says.append(
      f"NOT ALL QUERIES: {lost:,} captions are no text and could not be asked, beside "
      f"the {queries:,} that were"
    )
  if empty:
    says.append(
      f"{empty:,} of {queries:,} queries have no words; they count, as in the whole "
      "split"
    )
  if not says:
    return {}
  return dict(
    images=images,
    broken_images=broken,
    queries=queries,
    empty_queries=empty,
    lost_queries=lost,
    says=says,
  )


def score(
  features: Features,
  dataset: Dataset,
  *,
  i2t: bool = False,
  group_by: str = "",
  msd_variant: str = "paper",
  intervals: uncertainty.Bootstrap | None = None,
  top: int = TOP,
  result: streaming.Result | None = None,
  mesh: Mesh | None = None,
) -> Evaluation:
  """Ranks the gallery for every query and reduces to the field's numbers.

  Args:
    i2t: also rank the captions for every image.
    group_by: keys, after commas, by which the queries are also reported apart
      (groups.py).
    msd_variant, intervals, top, result: as in `score_arrays`.

  Raises:
    EvaluationError: no query (of a group) has a match, queries that cannot be grouped
      by `group_by`, or a feature that is not a number.
  """
  text_id, image_id = identities(features, dataset)
  found = score_arrays(
    features.text,
    features.image,
    text_id,
    image_id,
    where=f"{dataset.name}/{dataset.split}",
    groups=groups_of(features, dataset, group_by),
    i2t=i2t,
    msd_variant=msd_variant,
    intervals=intervals,
    top=top,
    result=result,
    mesh=mesh,
  )
  best = found.rankings["top"]
  records = {
    "query_record": features.text_record.astype(np.int32),
    "query_caption": features.text_caption.astype(np.int32),
    "top": np.where(best >= 0, features.image_record[best], -1).astype(np.int32),
    "query_digest": rankings.digests(texts(features, dataset)),
    "gallery_digest": rankings.digests(image_names(features, dataset)),
  }
  scores = {**found.scores, "broken_images": len(features.broken)}
  if lacks := incomplete(features, dataset):
    scores["incomplete"] = lacks
  return Evaluation(scores, {**found.rankings, **records}, found.result)


def save(
  features: Features, dataset: Dataset, path: pathlib.Path, *, group_by: str = ""
) -> None:
  """Writes the features as a file for `--mode=eval --features` (feature_files.py).

  Which caption of which record a query is stands in its columns `record` and
  `caption`, and the values of `group_by`, where given, in columns of these names.
  """
  text_id, image_id = identities(features, dataset)
  columns: dict[str, Any] = dict(
    record=features.text_record, caption=features.text_caption
  )
  for key, names in groups_of(features, dataset, group_by).items():
    columns[key] = [(name or "").removeprefix(f"{key}=") for name in names]
  feature_files.write(
    path,
    query=features.text,
    gallery=features.image,
    query_ids=text_id,
    gallery_ids=image_id,
    query_text=texts(features, dataset),
    gallery_path=image_names(features, dataset),
    columns=columns,
  )
