"""Words and their scores: how well these find wrong words, and captions shaded by them.

One hue from faint (the lowest score of a caption's row) to strong (its highest): it
reads without colour vision, on dark paper and in print. Wrong words are underlined.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tpr_jax import rankings
from tpr_jax.data.record import Dataset
from tpr_jax.report import drawing, files
from tpr_jax.report.drawing import Figure
from tpr_jax.report.queries import Picture, Pictures
from tpr_jax.word_files import Caption, WordScores

SHOWN = 4  # captions that are drawn
_PREFIX = "auc_"


@dataclasses.dataclass(frozen=True)
class Word:
  """A word; `share` 0 at the lowest, 1 at the highest score of its row."""

  text: str
  share: float
  score: float
  wrong: bool


@dataclasses.dataclass(frozen=True)
class Row:
  """A caption by one kind of score. low, high: of its words; NaN without words."""

  kind: str
  words: tuple[Word, ...]
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Shown:
  """One caption, a row for each kind of score. picture: None where not at hand."""

  name: str
  picture: Picture | None
  rows: tuple[Row, ...]


@dataclasses.dataclass(frozen=True)
class Drawn:
  """The captions that were drawn, and of how many.

  Attributes:
    shown: the captions. total: how many there were to draw from.
    noisy: whether these were the captions with a wrong word; else all of them.
    missing: sentences on what cannot be shown.
  """

  shown: tuple[Shown, ...]
  total: int
  noisy: bool
  missing: tuple[str, ...]


def gather(
  found: WordScores, datasets: Iterable[Dataset], seed: int, count: int = SHOWN
) -> Drawn:
  """Draws captions by `seed`, of those with a wrong word where there are any.

  Args:
    datasets: where the pictures may be: in the one that the scores were taken from.
  """
  noisy = [one for one in found.captions if one.wrong.any()]
  pool = noisy or list(found.captions)
  chosen = [pool[at] for at in rankings.draw(len(pool), count, seed)]
  named = (each for each in datasets if f"{each.name}/{each.split}" == found.data)
  data = next(named, None)
  pictures = None if data is None else Pictures(data)
  shown, missing = [], []
  for one in chosen:
    picture = None
    if pictures is not None and _is_there(one, data):
      picture = pictures[one.record]
    elif data is not None:
      missing.append(
        f"Words: {found.data} has no {one.image} as record {one.record}: the scores"
        " were taken from other data."
      )
    rows = zip(found.kinds, one.scores, strict=True)
    rows = tuple(_row(kind, one, scores) for kind, scores in rows)
    shown.append(Shown(one.image, picture, rows))
  if data is None and chosen:
    missing.append(f"Words: the data {found.data!r} is not at hand: no pictures of it.")
  if pictures is not None:
    missing += [f"Words: cannot be shown: {why}" for why in pictures.broken.values()]
  return Drawn(tuple(shown), len(pool), bool(noisy), tuple(missing))


def _is_there(one: Caption, data: Dataset) -> bool:
  records = data.records
  return 0 <= one.record < len(records) and records[one.record].image == one.image


def _row(kind: str, one: Caption, scores: np.ndarray) -> Row:
  low, high = (
    (float(scores.min()), float(scores.max())) if len(scores) else (math.nan, math.nan)
  )
  share = lambda score: (score - low) / (high - low) if high > low else 0.5
  words = tuple(
    Word(text, share(float(score)), float(score), bool(wrong))
    for text, score, wrong in zip(one.words, scores, one.wrong, strict=True)
  )
  return Row(kind, words, low, high)


def table(found: WordScores) -> list[dict[str, str]]:
  """A row of texts for each kind: kind, auc, ci, by_caption, captions."""
  return [
    dict(
      kind=kind,
      auc=_number(area.auc),
      ci="" if math.isnan(area.low) else f"{area.low:.3f}–{area.high:.3f}",
      by_caption=_number(area.by_caption),
      captions=f"{area.captions:,}",
    )
    for kind, area in found.areas.items()
  ]


def notes(found: WordScores) -> list[str]:
  """Sentences on the tokens that were measured, and on what is undefined."""
  counts = {(area.wrong, area.right): area.note for area in found.areas.values()}
  said = [
    f"{wrong:,} wrong and {right:,} right tokens of {found.data} at step"
    f" {found.step:,}."
    for wrong, right in counts
  ]
  return said + [
    f"{note[0].upper()}{note[1:]}." for note in dict.fromkeys(counts.values()) if note
  ]


def _number(value: float) -> str:
  return "–" if math.isnan(value) else f"{value:.3f}"


def curve(lines: Sequence[Mapping[str, Any]]) -> Figure | None:
  """AUC against the step, a line for each kind with its interval; None: no numbers."""
  names = dict.fromkeys(key for line in lines for key in line)
  kinds = [name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX)]
  areas = {kind: files.series(lines, f"{_PREFIX}{kind}") for kind in kinds}
  areas = {kind: series for kind, series in areas.items() if series[0]}
  if not areas:
    return None

  def paint(axes: Any, theme: Mapping[str, Any]) -> None:
    few = max(len(steps) for steps, _ in areas.values()) <= 30
    colours = itertools.cycle(theme["lines"])
    for (kind, (steps, values)), colour in zip(areas.items(), colours, strict=False):
      axes.plot(
        steps,
        values,
        label=kind,
        color=colour,
        linewidth=1.8,
        marker="o" if few else None,
        markersize=3.5,
      )
      low, high = (files.series(lines, f"{end}_{kind}") for end in ("low", "high"))
      if low[0] and low[0] == high[0]:
        axes.fill_between(low[0], low[1], high[1], color=colour, alpha=0.16, lw=0)
    dashes = (0, (4, 3))
    axes.axhline(0.5, color=theme["soft"], lw=1, linestyle=dashes, label="chance")
    low, high = axes.get_ylim()
    axes.set_ylim(max(min(low, 0.44), 0), min(max(high, 0.56), 1.005))
    axes.margins(x=0.02)
    drawing.legend(axes, theme, ncols=min(len(areas) + 1, 6))
    drawing.label_x(axes, theme, "step")

  return drawing.figure(
    "word_auc", "How well a low score finds wrong words (AUC)", paint
  )
