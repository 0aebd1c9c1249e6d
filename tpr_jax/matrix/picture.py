"""The heat map of a matrix: one panel a score."""

import io

from tpr_jax.matrix import table
from tpr_jax.matrix.results import Summary

_INK, _SOFT, _PAPER, _EMPTY = "#1d2129", "#6b7280", "#ffffff", "#f3f4f6"
_FRAME = "#d55e00"
_DARK = 0.21  # luminance below which white stands out more than ink


def draw(summary: Summary) -> bytes | None:
  """A PNG of all scores; None as long as no cell is finished.

  Darker is better, on a scale of its own in each panel (its ends stand below it). The
  row's own test set is framed; a cell that is not there is grey.
  """
  panels = [score for score in summary["scores"] if _means(summary, score)]
  if not panels:
    return None
  # Lazily, and without pyplot: as in report/curves.py.
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  columns, rows = table.columns_of(summary), summary["rows"]
  several = any(
    (table.at(row, column, score) or {}).get("std") is not None
    for row in rows
    for column in columns
    for score in panels
  )
  cell = 1.15 if several else 0.95
  labels = 0.085 * max(len(row["row"]) for row in rows)
  size = (0.5 + labels + cell * len(columns), 1.35 + 0.5 * len(rows))
  # Beside each other while they fit a page, else below each other.
  wide = size[0] * len(panels) <= 14
  across, down = (len(panels), 1) if wide else (1, len(panels))
  figure = Figure(figsize=(size[0] * across, size[1] * down), dpi=150, facecolor=_PAPER)
  FigureCanvasAgg(figure)
  for place, score in enumerate(panels):
    _panel(figure.add_subplot(down, across, place + 1), summary, score)
  figure.tight_layout(pad=0.7)
  out = io.BytesIO()
  figure.savefig(out, format="png")
  return out.getvalue()


def _means(summary: Summary, score: str) -> list[float]:
  found = [
    table.at(row, column, score)
    for row in summary["rows"]
    for column in table.columns_of(summary)
  ]
  return [cell["mean"] for cell in found if cell and cell["mean"] is not None]


def _panel(axes, summary: Summary, score: str) -> None:
  from matplotlib import colormaps
  from matplotlib.colors import to_rgb
  from matplotlib.patches import Rectangle

  columns, rows, decimals = (
    table.columns_of(summary),
    summary["rows"],
    summary["decimals"],
  )
  means = _means(summary, score)
  low, high = min(means), max(means)
  shades = colormaps["Blues"]
  for y, row in enumerate(rows):
    for x, column in enumerate(columns):
      found = table.at(row, column, score)
      share = None
      if found and found["mean"] is not None:
        share = (found["mean"] - low) / (high - low) if high > low else 0.5
      # The palest tenth is too near to paper, the darkest too near to ink.
      colour = _EMPTY if share is None else shades(0.08 + 0.8 * share)
      box = dict(width=1, height=1, facecolor=colour, edgecolor=_PAPER, linewidth=1.5)
      axes.add_patch(Rectangle((x - 0.5, y - 0.5), **box))
      ink = _PAPER if _luminance(to_rgb(colour)) < _DARK else _INK
      text = table.number(_without_interval(found), decimals)
      axes.text(x, y, text, ha="center", va="center", fontsize=9, color=ink)
      if row["own"] == column:
        frame = dict(fill=False, edgecolor=_FRAME, linewidth=1.8, zorder=3)
        axes.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, **frame))
  axes.set_xlim(-0.5, len(columns) - 0.5)
  axes.set_ylim(len(rows) - 0.5, -0.5)  # the first row on top
  long = max(map(len, columns)) > 11
  turned = dict(rotation=30, ha="left", rotation_mode="anchor") if long else {}
  axes.set_xticks(range(len(columns)), columns, color=_INK, fontsize=9, **turned)
  axes.xaxis.tick_top()
  axes.set_yticks(range(len(rows)), [r["row"] for r in rows], color=_INK, fontsize=9)
  axes.tick_params(length=0)
  axes.set_ylabel(summary["title"], color=_SOFT, fontsize=9)
  axes.set_title(f"{score} (%)", color=_INK, fontsize=10, loc="left", pad=10)
  own = "; framed: the row's own" if any(row["own"] for row in rows) else ""
  axes.set_xlabel(
    f"{low:.{decimals}f} (pale) to {high:.{decimals}f} (dark){own}",
    color=_SOFT,
    fontsize=8,
  )
  for spine in axes.spines.values():
    spine.set_visible(False)


def _luminance(rgb) -> float:
  """Relative luminance of sRGB in [0, 1]^3 (WCAG 2)."""
  linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _without_interval(found):
  return found and {name: value for name, value in found.items() if name != "ci"}
