"""Curves of a run as PNG, each drawn for light and for dark pages."""

import dataclasses
import io
import itertools
from collections.abc import Callable

from tpr_jax.report import files, tables

# Lines: Okabe and Ito's colours, which colour-blind readers can tell apart; lighter
# on dark paper.
_THEMES = {
  "light": dict(
    paper="#ffffff",
    ink="#1d2129",
    soft="#6b7280",
    grid="#e5e7eb",
    lines=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
  ),
  "dark": dict(
    paper="#171a21",
    ink="#e6e8ec",
    soft="#9aa1ad",
    grid="#2c313b",
    lines=("#4fa8e0", "#f08a45", "#2fc59a", "#e3a3c5", "#f0c24f", "#9cd4f5"),
  ),
}


@dataclasses.dataclass(frozen=True)
class Curve:
  """One figure: its file name, what it shows, and its PNG for both themes."""

  name: str
  title: str
  light: bytes
  dark: bytes


def draw(run: files.RunFiles) -> list[Curve]:
  """The figures that the run's numbers allow: loss, terms, rate, validation."""
  found = []
  weights = run.config.get("losses")
  terms = _numbers(run.train) - {"loss", "lr", "grad_norm", "examples_per_second"}
  if isinstance(weights, dict):
    terms &= set(weights)
  lines = {name: files.series(run.train, name) for name in ("loss", *sorted(terms))}
  losses = {name: line for name, line in lines.items() if line[0]}
  if losses:
    found.append(_curve("loss", "Training loss and its terms", losses))
  rate = files.series(run.train, "lr")
  if rate[0]:
    found.append(_curve("learning_rate", "Learning rate", {"learning rate": rate}))
  scores = {key: files.series(run.val, key) for key in tables.METRICS}
  scores = {key: line for key, line in scores.items() if line[0]}
  if scores:
    selected = run.results.get("selected_step")
    found.append(
      _curve("validation", "Validation scores (%)", scores, selected, percent=True)
    )
  return found


def _numbers(lines) -> set[str]:
  return {
    key
    for line in lines
    for key, value in line.items()
    if isinstance(value, (int, float)) and key != "step"
  }


def _curve(name, title, lines, selected=None, percent=False) -> Curve:
  def paint(axes, theme: dict) -> None:
    few = max(len(steps) for steps, _ in lines.values()) <= 30
    colours = itertools.cycle(theme["lines"])
    for (key, (steps, values)), colour in zip(lines.items(), colours, strict=False):
      main = key in ("loss", "R1", "learning rate")
      axes.plot(
        steps,
        values,
        label=key,
        color=theme["ink"] if key == "loss" else colour,
        linewidth=2.2 if main else 1.5,
        marker="o" if few else None,
        markersize=3.5,
      )
    if selected is not None:
      axes.axvline(selected, color=theme["soft"], linewidth=1, linestyle=(0, (4, 3)))
      axes.annotate(
        f" selected: {selected}",
        (selected, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-3, -4),
        textcoords="offset points",
        color=theme["soft"],
        fontsize=8,
        va="top",
        ha="right",
      )
    low = min(min(values) for _, values in lines.values())
    axes.set_ylim(bottom=0 if percent or low >= 0 else None)
    axes.margins(x=0.02)
    if len(lines) > 1:
      axes.legend(
        frameon=False,
        fontsize=8,
        labelcolor=theme["ink"],
        ncols=min(len(lines), 6),
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        borderaxespad=0.2,
        handlelength=1.0,
        handletextpad=0.5,
        columnspacing=1.0,
      )

  pictures = {theme: _png(paint, colours) for theme, colours in _THEMES.items()}
  return Curve(name, title, **pictures)


def _png(paint: Callable, theme: dict) -> bytes:
  # Lazily: matplotlib takes a second to import, and only the report needs it. Figure
  # and canvas without pyplot: no display, no global state.
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(5.4, 3.3), dpi=150, facecolor=theme["paper"])
  FigureCanvasAgg(figure)
  axes = figure.add_subplot(facecolor=theme["paper"])
  paint(axes, theme)
  axes.set_xlabel("step", color=theme["soft"], fontsize=9)
  axes.tick_params(colors=theme["soft"], labelsize=8.5, length=0)
  axes.yaxis.get_offset_text().set_color(theme["soft"])
  axes.grid(axis="y", color=theme["grid"], linewidth=0.8)
  axes.set_axisbelow(True)
  for side, spine in axes.spines.items():
    spine.set_visible(side == "bottom")
    spine.set_color(theme["grid"])
  figure.tight_layout(pad=0.6)
  out = io.BytesIO()
  figure.savefig(out, format="png", facecolor=theme["paper"])
  return out.getvalue()
