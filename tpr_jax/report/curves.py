"""Curves of a run as PNG, each drawn for light and for dark pages."""

import itertools

from tpr_jax import meter
from tpr_jax.report import alarms, drawing, files, tables
from tpr_jax.report.drawing import Figure


def draw(run: files.RunFiles) -> list[Figure]:
  """The figures that the run's numbers allow: loss and terms, rate, validation,
  reliability of probabilities."""
  found = []
  weights = run.config.get("losses")
  terms = _numbers(run.train) - {"loss", "lr", "grad_norm", *meter.CLOCK}
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
  reliability = alarms.figure(run.results)
  if reliability is not None:
    found.append(reliability)
  return found


def _numbers(lines) -> set[str]:
  return {
    key
    for line in lines
    for key, value in line.items()
    if isinstance(value, (int, float)) and key != "step"
  }


def _curve(name, title, lines, selected=None, percent=False) -> Figure:
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
      drawing.legend(axes, theme, ncols=min(len(lines), 6))
    drawing.label_x(axes, theme, "step")

  return drawing.figure(name, title, paint)
