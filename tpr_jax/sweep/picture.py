"""The picture of a sweep: every run a dot, every row's mean a bar."""

import io

from tpr_jax.sweep import table
from tpr_jax.sweep.results import Summary

_INK, _SOFT, _GRID, _BAR, _DOT = "#1d2129", "#6b7280", "#e5e7eb", "#a9cfe6", "#0072b2"


def draw(summary: Summary) -> bytes | None:
  """A PNG of the first score; None as long as no run has one."""
  score = summary["scores"][0]
  rows = [(row["row"], row["scores"][score]) for row in summary["rows"]]
  if not any(found["n"] for _, found in rows):
    return None
  # Lazily, and without pyplot: as in report/curves.py.
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(6.4, 1.0 + 0.5 * len(rows)), dpi=150, facecolor="#ffffff")
  FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  for place, (name, found) in enumerate(rows):
    if not found["n"]:
      axes.annotate("no run", (0, place), (4, 0), textcoords="offset points",
                    va="center", fontsize=8.5, color=_SOFT)  # fmt: skip
      continue
    values = list(found["values"].values())
    axes.barh(place, found["mean"], height=0.62, color=_BAR, zorder=1)
    # A little apart, so that equal values are still two dots.
    apart = [0.09 * (i - (len(values) - 1) / 2) for i in range(len(values))]
    axes.scatter(values, [place + a for a in apart], s=16, color=_DOT, zorder=3)
    baseline = name == summary["baseline"]
    if baseline:
      axes.axvline(found["mean"], color=_SOFT, linewidth=0.8, linestyle=":", zorder=2)
    right = max(*values, found["mean"], 0)
    axes.annotate(table.number(found), (right, place), (7, 0),
                  textcoords="offset points", va="center", fontsize=9,
                  color=_INK)  # fmt: skip
  names = [f"{name} (baseline)" if name == summary["baseline"] else name
           for name, _ in rows]  # fmt: skip
  axes.set_yticks(range(len(rows)), names, color=_INK, fontsize=9)
  axes.set_ylim(len(rows) - 0.4, -0.6)  # the first row on top
  axes.margins(x=0.18)  # room for the numbers
  axes.set_xlabel(
    f"{score.replace('/', ' ')} (%); dots: runs, bars: means", color=_SOFT, fontsize=9
  )
  axes.tick_params(axis="x", colors=_SOFT, labelsize=8.5, length=0)
  axes.tick_params(axis="y", length=0)
  axes.grid(axis="x", color=_GRID, linewidth=0.8)
  axes.set_axisbelow(True)
  for spine in axes.spines.values():
    spine.set_visible(False)
  figure.tight_layout(pad=0.6)
  out = io.BytesIO()
  figure.savefig(out, format="png")
  return out.getvalue()
