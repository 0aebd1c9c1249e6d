"""The page of a comparison: the same queries under two models, one above the other.

The layout of UFineBench's Figure 4 (arXiv:2312.03441): rows of ten with green and red
frames. Everything comes from the two ranking files and from the dataset; neither model
nor features are needed, nor JAX.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tpr_jax import rankings
from tpr_jax.data.record import Dataset
from tpr_jax.report import drawing, pages, queries, sheet
from tpr_jax.report.drawing import Figure
from tpr_jax.report.files import Ranking, ReportError
from tpr_jax.report.spread import rank_bins


@dataclasses.dataclass(frozen=True)
class Sides:
  """One evaluation of both models.

  Attributes:
    name: of the evaluation. paths: its ranking file for A and for B.
    dataset: what both scored; None: not at hand, and `why` says why not.
  """

  name: str
  paths: tuple[pathlib.Path, pathlib.Path]
  dataset: Dataset | None
  why: str = ""


def write(
  out: pathlib.Path,
  sides: Sequence[Sides],
  table: Sequence[Sequence[str]],
  notes: Sequence[str],
  models: tuple[str, str],
  *,
  seed: int = 0,
  shown: int = 6,
  extremes: int = 3,
) -> list[pathlib.Path]:
  """Writes `compare.html`, and `compare_NAME.png` where there are pictures.

  Args:
    out: an existing folder.
    table: the head and the lines of the scores. notes: sentences below it.
    models: what A and B are.
    seed: draws `shown` queries of each evaluation.
    extremes: queries for which either model is most ahead of the other.

  Returns:
    The paths written, the page first.
  """
  written, sections = [out / "compare.html"], []
  for side in sides:
    path = out / f"compare_{pages.file_name(side.name)}.png"
    path.unlink(missing_ok=True)  # of another comparison
    section = _section(side, seed, shown, extremes)
    if section["random"]:
      rows = [(row.a, row.b) for row in section["random"]]
      footer = _footer(section, models, seed)
      path.write_bytes(sheet.encode(sheet.draw_rows(rows, ("A", "B"), footer)))
      written.append(path)
    sections.append(section)
  head, *lines = table
  pages.write(
    written[0],
    "compare.html",
    head=head,
    lines=lines,
    notes=notes,
    models=models,
    sections=sections,
    seed=seed,
  )
  return written


def _footer(section: Mapping[str, Any], models: tuple[str, str], seed: int) -> str:
  return (
    f"A: {models[0]}; B: {models[1]}. {len(section['random'])} of"
    f" {section['total']:,} queries ({section['name']}), drawn at random with seed"
    f" {seed}. Green ✓: the right person; red ✗: somebody else."
  )


@dataclasses.dataclass(frozen=True)
class Row:
  """One query under both models."""

  a: queries.Query
  b: queries.Query


def _section(side: Sides, seed: int, shown: int, extremes: int) -> dict[str, Any]:
  arrays = [_arrays(path) for path in side.paths]
  first = [found["first_rank"] for found in arrays]
  section: dict[str, Any] = dict(
    name=side.name,
    total=len(first[0]),
    figures=figures(*first),
    random=[],
    ahead=[],
    behind=[],
    why=side.why,
    twins=False,
    broken=[],
  )
  if side.dataset is None:
    return section
  try:
    ranked = aligned(arrays, side.paths, side.dataset)
  except ReportError as error:
    return dict(section, why=str(error))
  pictures = queries.Pictures(side.dataset)

  def gather(chosen: np.ndarray) -> list[Row]:
    found = [queries.gather(chosen, r, side.dataset, pictures) for r in ranked]
    return [Row(*pair) for pair in zip(*found, strict=True)]

  section["random"] = gather(rankings.draw(section["total"], shown, seed))
  ahead, behind = (gather(rows) for rows in choose_apart(*ranked, extremes))
  every = section["random"] + ahead + behind
  section.update(
    ahead=ahead,
    behind=behind,
    twins=any(hit.twin for row in every for hit in (*row.a.hits, *row.b.hits)),
    broken=list(pictures.broken.values()),
  )
  return section


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
  rankings.read(path)  # says what is wrong with it
  with np.load(path, allow_pickle=False) as archive:
    return {name: archive[name] for name in archive.files}


def aligned(
  arrays: Sequence[Mapping[str, np.ndarray]],
  paths: Sequence[pathlib.Path],
  dataset: Dataset,
) -> list[Ranking]:
  """Both rankings with their queries and images as records of the dataset.

  A file of features knows its queries and gallery by row alone. Compared with a run,
  its rows are the run's: their identities, and where known their texts and names, are
  equal. So the run says which records these are.

  Raises:
    ReportError: no run among the two, or another dataset; says so.
  """
  known = next((found for found in arrays if "query_record" in found), None)
  if known is None:
    raise ReportError("neither was made by a run, so the images are not known")
  for each, path in zip(arrays, paths, strict=True):
    absent = [name for name in ("top", "score") if name not in each]
    if absent:
      raise ReportError(f"{path} has no array {absent[0]!r}")
  texts = {name: known[name] for name in ("query_record", "query_caption")}
  found = []
  for each, path in zip(arrays, paths, strict=True):
    top = each["top"]
    if "query_record" not in each:
      records = _gallery_records(known, dataset)
      top = np.where(top >= 0, records[top], -1)
    numbers = {name: each[name] for name in ("score", "first_rank", "ap")}
    ranking = Ranking(**texts, top=top, **numbers)
    queries.check(ranking, dataset, path)
    found.append(ranking)
  if "query_digest" in known:
    asked = [
      dataset.records[r].captions[c] for r, c in zip(*texts.values(), strict=True)
    ]
    if (rankings.digests(asked) != known["query_digest"]).any():
      raise ReportError(
        f"the texts of {dataset.name}/{dataset.split} are not those that were scored"
      )
  return found


def _gallery_records(known: Mapping[str, np.ndarray], dataset: Dataset) -> np.ndarray:
  """int [G]: the record of every row of the gallery."""
  size, names = len(known["gallery_identity"]), [r.image for r in dataset.records]
  if size == len(names):
    return np.arange(size)
  if "gallery_digest" in known:  # some images were unreadable
    place = {code: at for at, code in enumerate(rankings.digests(names).tolist())}
    records = [place.get(code, -1) for code in known["gallery_digest"].tolist()]
    if min(records) >= 0:
      return np.array(records)
  raise ReportError(
    f"the gallery has {size:,} images, {dataset.name}/{dataset.split} has"
    f" {len(names):,}, and which of them they are is not known"
  )


def choose_apart(a: Ranking, b: Ranking, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Queries that (A, B) ranks most ahead of the other, at most one per record.

  By the ratio of the two ranks of the first right image: 1 against 50 is more than 51
  against 100. Among equals, the lower rank of the better model, then the lower query.
  """
  real = np.flatnonzero((a.first_rank > 0) & (b.first_rank > 0))
  found = []
  for one, other in ((a, b), (b, a)):
    better = real[one.first_rank[real] < other.first_rank[real]]
    low, high = one.first_rank[better], other.first_rank[better]
    order = better[np.lexsort((better, low, -(high / low)))]
    found.append(queries.one_per_record(order, a, count))
  return found[0], found[1]


# --- figures ----------------------------------------------------------------------


def figures(a: np.ndarray, b: np.ndarray) -> list[Figure]:
  """Of the ranks of the first right images; queries without one are left out."""
  real = (a > 0) & (b > 0)
  if not real.any():
    return []
  return [_differences(a[real], b[real]), _scatter(a[real], b[real])]


def difference_bins(
  a: np.ndarray, b: np.ndarray
) -> tuple[list[tuple[int, int]], np.ndarray, int, np.ndarray]:
  """(bins of |a - b|, queries in them where B is ahead, equal ones, where A is)."""
  apart = b.astype(np.int64) - a
  bins = rank_bins(max(int(np.abs(apart).max()), 1))
  counts = [
    np.array([((side >= low) & (side <= high)).sum() for low, high in bins])
    for side in (-apart, apart)
  ]
  return bins, counts[0], int((apart == 0).sum()), counts[1]


def _differences(a: np.ndarray, b: np.ndarray) -> Figure:
  bins, behind, equal, ahead = difference_bins(a, b)
  counts = np.concatenate([behind[::-1], [equal], ahead])
  names = [f"{low:,}" if low == high else f"{low:,}–{high:,}" for low, high in bins]

  def paint(axes, theme):
    at = np.arange(len(counts)) - len(bins)
    colours = [theme["lines"][1], theme["soft"], theme["lines"][0]]
    labels = ("B ahead", "equal", "A ahead")
    for sign, colour, label in zip((-1, 0, 1), colours, labels, strict=True):
      some = np.sign(at) == sign
      total = f"{label}: {counts[some].sum():,}"
      axes.bar(at[some], counts[some], width=0.8, color=colour, label=total)
    for x, number in zip(at, counts, strict=True):
      axes.annotate(
        f"{number:,}", (x, number), xytext=(0, 2), textcoords="offset points",
        ha="center", fontsize=7.5, color=theme["ink"],
      )  # fmt: skip
    axes.set_xticks(at, [*names[::-1], "0", *names], rotation=40, ha="right")
    axes.margins(y=0.12)
    drawing.legend(axes, theme)
    drawing.label_x(axes, theme, "ranks between the two")

  return drawing.figure(
    "rank_differences",
    "How far the models lie apart, query by query",
    paint,
    caption="Queries by the number of ranks between the first right image of the one"
    " model and of the other: bars at the right are queries for which A is ahead.",
    size=(5.4, 3.6),
  )


def _scatter(a: np.ndarray, b: np.ndarray) -> Figure:
  points, counts = np.unique(np.stack([a, b], axis=1), axis=0, return_counts=True)

  def paint(axes, theme):
    limit = max(int(points.max()), 2) * 1.3
    axes.plot((0.8, limit), (0.8, limit), color=theme["grid"], linewidth=1.2)
    side = np.sign(points[:, 1].astype(np.int64) - points[:, 0])
    for sign, colour in ((-1, theme["lines"][1]), (0, theme["soft"]), (1, None)):
      some = side == sign
      axes.scatter(
        *points[some].T, s=12 * counts[some] ** 0.75, alpha=0.55, linewidth=0,
        color=colour or theme["lines"][0],
      )  # fmt: skip
    for axis in (axes.set_xscale, axes.set_yscale):
      axis("log")
    axes.set_xlim(0.7, limit)
    axes.set_ylim(0.7, limit)
    for axis in (axes.xaxis, axes.yaxis):
      drawing.plain(axis)
    axes.set_ylabel("rank under B", color=theme["soft"], fontsize=9)
    drawing.label_x(axes, theme, "rank of the first right image under A")

  return drawing.figure(
    "rank_scatter",
    "Rank under A, rank under B",
    paint,
    caption="Every dot is one query, a larger one several; above the diagonal A finds"
    " the right person earlier, below it B does.",
    size=(5.4, 3.6),
  )
