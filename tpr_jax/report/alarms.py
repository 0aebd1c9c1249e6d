"""How far the probabilities of hits can be trusted: a table, and reliability curves."""

import itertools
from collections.abc import Mapping
from typing import Any

from tpr_jax.core import text
from tpr_jax.report import drawing
from tpr_jax.report.drawing import Figure

_ABOUT = (
  "Every query is asked twice, with the pictures of its person in the gallery and"
  " without. A threshold chosen on validation lets {asked:.0%} of those without pass."
)
_HEAD = (
  "threshold on",
  "answers without",
  "with",
  "and right",
  "error of p",
  "queries",
)


def lines(results: Mapping[str, Any]) -> list[str]:
  """The table of all evaluations that have it, for a terminal; [] where none has."""
  found = _found(results)
  if not found:
    return []
  rows = []
  for name, one in found.items():
    for by, shares in one["presence"].items():
      own = by == "probability"
      rows.append(
        [
          name if own else "",
          by,
          *(f"{100 * shares[k]:.1f}" for k in ("false_alarms", "detected", "correct")),
          f"{100 * one['hits']['error']:.1f}" if own else "–",
          f"{one['queries']:,}",
        ]
      )
  asked = next(iter(found.values()))["asked"]
  said = _ABOUT.format(asked=asked)
  return [
    "",
    f"Is the person there at all? {said}",
    *text.aligned([["", *_HEAD], *rows]),
  ]


def figure(results: Mapping[str, Any]) -> Figure | None:
  """Shares of matches beside what was said, of all evaluations; None where none is."""
  found = _found(results)
  if not found:
    return None

  def paint(axes, theme: dict) -> None:
    axes.plot([0, 1], [0, 1], color=theme["soft"], linewidth=1, linestyle=(0, (4, 3)))
    colours = itertools.cycle(theme["lines"])
    for (name, one), colour in zip(found.items(), colours, strict=False):
      hits = one["hits"]
      axes.plot(
        hits["said"],
        hits["true"],
        label=name,
        color=colour,
        marker="o",
        markersize=3.5,
        linewidth=1.5,
      )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    if len(found) > 1:
      drawing.legend(axes, theme, ncols=min(len(found), 4))
    drawing.label_x(axes, theme, "probability that was said")

  caption = (
    "Share of true matches among hits of each probability; on the dashed line they are"
    " equal. Half of the people asked for are absent."
  )
  title = "Probabilities of hits against the truth"
  return drawing.figure("reliability", title, paint, caption=caption)


def _found(results: Mapping[str, Any]) -> dict[str, Any]:
  return {
    name: scores["calibration"]
    for name, scores in results.get("evals", {}).items()
    if "calibration" in scores
  }
