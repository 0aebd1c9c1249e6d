"""A run folder, read: what is there, and a plain sentence for what is not.

Only `results.json` must exist. Everything else may be missing (a run that was copied,
evaluated elsewhere, or stopped), and is then said to be missing. A file that exists
and cannot be understood is an error that names it.
"""

import dataclasses
import json
import math
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tpr_jax import localise_files, saliency_files, word_files
from tpr_jax.report import tables


class ReportError(Exception):
  """The report cannot be made: names the file and what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Histograms of cosines (metrics/distributions.py); B bins.

  Attributes:
    edges: float64 [B + 1]; matched, unmatched: int64 [B].
    unmatched_queries: number of queries whose unmatched pairs were counted.
    scale: what makes counts of unmatched pairs those of all queries.
    means: float64 [2], of matched and of unmatched pairs; NaN: not known.
  """

  edges: np.ndarray
  matched: np.ndarray
  unmatched: np.ndarray
  unmatched_queries: int
  scale: float
  means: np.ndarray


@dataclasses.dataclass(frozen=True)
class Ranking:
  """One `rankings/NAME.npz`; Q queries, K best images each; G images in the gallery.

  Attributes:
    query_record, query_caption: int32 [Q], which caption of which record.
    top: int32 [Q, K] gallery records, best first; -1 = fewer than K in the gallery.
    score: float32 [Q, K] cosines.
    first_rank: int32 [Q] rank of the first right image, 0 = none in the gallery.
    ap: float32 [Q] average precision, NaN where first_rank is 0.
    identity: [Q], gallery_identity: [G], pairs: None in older files.
  """

  query_record: np.ndarray
  query_caption: np.ndarray
  top: np.ndarray
  score: np.ndarray
  first_rank: np.ndarray
  ap: np.ndarray
  identity: np.ndarray | None = None
  gallery_identity: np.ndarray | None = None
  pairs: Pairs | None = None

  def matches(self) -> np.ndarray:
    """int64 [n]: gallery items that match, of each query that has any."""
    ordered = np.sort(self.gallery_identity)
    asked = self.identity[self.first_rank > 0]
    ends = [np.searchsorted(ordered, asked, side) for side in ("left", "right")]
    return ends[1] - ends[0]


@dataclasses.dataclass(frozen=True)
class RunFiles:
  """Everything the report needs from a run folder.

  Attributes:
    folder: the run folder.
    results, config, run: the JSON files; config and run are {} where missing.
    train, val, words: lines of `metrics.jsonl`, by step.
    rankings: name of the evaluation -> Ranking, where its file exists.
    saliency: name of the evaluation -> Saliency, where its file exists.
    looks: name of the evaluation -> Looks, where its file exists.
    word_scores: the last of them; None: there are none.
    missing: sentences on what is not there.
  """

  folder: pathlib.Path
  results: Mapping[str, Any]
  config: Mapping[str, Any]
  run: Mapping[str, Any]
  train: Sequence[Mapping[str, Any]]
  val: Sequence[Mapping[str, Any]]
  words: Sequence[Mapping[str, Any]]
  rankings: Mapping[str, Ranking]
  saliency: Mapping[str, saliency_files.Saliency]
  looks: Mapping[str, localise_files.Looks]
  word_scores: word_files.WordScores | None
  missing: Sequence[str]


def read(folder: pathlib.Path) -> RunFiles:
  """Reads a run folder.

  Raises:
    ReportError: no `results.json`, or a file that cannot be understood.
  """
  path = folder / "results.json"
  if not path.is_file():
    raise ReportError(
      f"{path} does not exist: there is nothing to report before an evaluation;"
      " run --mode=eval first"
    )
  results, missing = _json(path), []
  try:
    tables.rows(results)
  except ValueError as error:
    raise ReportError(f"{path}: {error}") from error
  optional = {}
  for name, what in (
    ("config.json", "the configuration of the run"),
    ("run.json", "the command, versions, devices and times"),
  ):
    optional[name] = _json(folder / name) if (folder / name).is_file() else {}
    if not optional[name]:
      missing.append(f"{name} is not in the run folder: {what} is not known.")
  train, val, words = _metrics(folder / "metrics.jsonl")
  if not train:
    missing.append("metrics.jsonl has no training step: there are no loss curves.")
  if not val:
    missing.append(
      "No validation scores were logged (no validation split, or stopped before the"
      " first validation): there is no validation curve."
    )
  rankings = {}
  for name in results["evals"]:
    path = folder / "rankings" / f"{name}.npz"
    if path.is_file():
      rankings[name] = ranking(path)
    else:
      missing.append(f"rankings/{name}.npz is not in the run folder: no pictures.")
  saliency = _each(folder / "saliency", rankings, saliency_files.read)
  looks = _each(folder / "localise", rankings, localise_files.read)
  return RunFiles(
    folder=folder,
    results=results,
    config=optional["config.json"],
    run=optional["run.json"],
    train=train,
    val=val,
    words=words,
    rankings=rankings,
    saliency=saliency,
    looks=looks,
    word_scores=_word_scores(folder, words),
    missing=missing,
  )


def _each(
  folder: pathlib.Path, names: Iterable[str], read: Callable[[pathlib.Path], Any]
) -> dict[str, Any]:
  """Name -> what its file in the folder holds, where there is one."""
  found = {}
  for name in names:
    path = folder / f"{name}.npz"
    if path.is_file():
      try:
        found[name] = read(path)
      except (saliency_files.SaliencyError, localise_files.LocaliseError) as error:
        raise ReportError(str(error)) from error
  return found


def _word_scores(
  folder: pathlib.Path, lines: Sequence[Mapping[str, Any]]
) -> word_files.WordScores | None:
  """The last file of a step that the log knows; without a log, the last one."""
  logged = {line["step"] for line in lines}
  # A run that went back to an earlier checkpoint has files of steps it did not reach.
  steps = [s for s in word_files.steps(folder) if s in logged or not logged]
  if not steps:
    return None
  try:
    return word_files.read(word_files.path(folder, steps[-1]))
  except word_files.WordFileError as error:
    raise ReportError(str(error)) from error


def _json(path: pathlib.Path) -> Mapping[str, Any]:
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise ReportError(f"{path} cannot be read as JSON: {error}") from error
  if not isinstance(value, dict):
    raise ReportError(f"{path} holds a {type(value).__name__}; expected an object")
  return value


def _metrics(path: pathlib.Path) -> tuple[list[dict], list[dict], list[dict]]:
  """(train, val, words) lines by step; a last line cut off by a kill is left out."""
  if not path.is_file():
    return [], [], []
  lines = path.read_text(encoding="utf-8").splitlines()
  by_kind: dict[str, list[dict]] = {
    kind: [] for kind in ("train", "val", "legacy", "words")
  }
  for number, line in enumerate(lines, start=1):
    try:
      entry = json.loads(line)
      by_kind[entry["kind"]].append({**entry, "step": int(entry["step"])})
    except (ValueError, KeyError, TypeError) as error:
      if number == len(lines):
        continue
      raise ReportError(
        f"{path}, line {number}: expected an object with step and kind"
        f" ({', '.join(by_kind)}), found {line[:60]!r}"
      ) from error
  by_step = lambda kind: sorted(by_kind[kind], key=lambda entry: entry["step"])
  return by_step("train"), by_step("val"), by_step("words")


def ranking(path: pathlib.Path) -> Ranking:
  """One `rankings/NAME.npz` of a run.

  Raises:
    ReportError: it cannot be read, or its arrays don't fit each other.
  """
  names = ("query_record", "query_caption", "top", "score", "first_rank", "ap")
  try:
    with np.load(path, allow_pickle=False) as archive:
      every = {name: archive[name] for name in archive.files}
  except (OSError, ValueError, zipfile.BadZipFile) as error:
    raise ReportError(f"{path} cannot be read: {error}") from error
  found = {name: every[name] for name in names if name in every}
  absent = [name for name in names if name not in found]
  if absent:
    raise ReportError(f"{path} has no array {absent[0]!r}; expected {', '.join(names)}")
  queries = len(found["query_record"])
  two = {"top", "score"}
  for name in names:
    shape = found[name].shape
    if len(shape) != 1 + (name in two) or shape[0] != queries:
      raise ReportError(
        f"{path}: {name!r} has shape {shape}, with {queries} entries in 'query_record'"
      )
  if found["top"].shape != found["score"].shape:
    raise ReportError(
      f"{path}: 'top' {found['top'].shape} and 'score' {found['score'].shape} differ"
    )
  if {"identity", "gallery_identity"} <= set(every):
    found["identity"] = every["identity"]
    found["gallery_identity"] = every["gallery_identity"]
    shape = found["identity"].shape
    if shape != (queries,):
      raise ReportError(
        f"{path}: 'identity' has shape {shape}, with {queries} entries in"
        " 'query_record'"
      )
  return Ranking(**found, pairs=_pairs(every, queries, path))


def _pairs(
  found: Mapping[str, np.ndarray], queries: int, path: pathlib.Path
) -> Pairs | None:
  names = ("bins", "matched", "unmatched", "unmatched_queries", "mean_cosine")
  if not all(name in found for name in names) or not queries:
    return None
  bins = len(found["bins"]) - 1
  shapes = {"matched": (bins,), "unmatched": (bins,), "mean_cosine": (2,)}
  for name, shape in shapes.items():
    if found[name].shape != shape:
      raise ReportError(
        f"{path}: {name!r} has shape {found[name].shape}, expected {shape}"
      )
  used = int(found["unmatched_queries"])
  if not found["matched"].sum() + found["unmatched"].sum() or used < 1:
    raise ReportError(f"{path}: 'matched' and 'unmatched' count no pair")
  return Pairs(
    edges=found["bins"].astype(np.float64),
    matched=found["matched"],
    unmatched=found["unmatched"],
    unmatched_queries=used,
    scale=queries / used,
    means=found["mean_cosine"].astype(np.float64),
  )


def series(lines: Sequence[Mapping[str, Any]], key: str) -> tuple[list, list]:
  """(steps, values) of the lines that hold a finite number under `key`."""
  steps, values = [], []
  for line in lines:
    value = line.get(key)
    if isinstance(value, (int, float)) and math.isfinite(value):
      steps.append(line["step"])
      values.append(value)
  return steps, values
