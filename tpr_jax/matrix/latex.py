"""The table of a matrix in LaTeX, for `booktabs`."""

from collections.abc import Mapping
from typing import Any

from tpr_jax.matrix import table
from tpr_jax.matrix.results import Summary

_SPECIAL = {
  "\\": r"\textbackslash{}",
  "~": r"\textasciitilde{}",
  "^": r"\textasciicircum{}",
  "–": "--",
  "±": r"$\pm$",
  **{mark: f"\\{mark}" for mark in "&%$#_{}"},
  "[": "{[}",  # after a line break it would begin an option
  "]": "{]}",
  "<": r"\textless{}",
  ">": r"\textgreater{}",
  "|": r"\textbar{}",
}


def escaped(text: str) -> str:
  """Text that LaTeX prints as it stands, on one line."""
  return "".join(_SPECIAL.get(mark, mark) for mark in " ".join(text.split()))


def tabular(summary: Summary) -> str:
  """A `tabular`: rows x (test sets x scores), the best of a column bold.

  ± is the deviation over the models of a row; * marks the row's own test set. Remarks
  and the command are comments.
  """
  columns, scores = table.columns_of(summary), summary["scores"]
  width = len(scores)
  head = " & ".join(
    rf"\multicolumn{{{width}}}{{c}}{{{escaped(column)}}}" for column in columns
  )
  rules = " ".join(
    rf"\cmidrule(lr){{{2 + width * i}-{1 + width * (i + 1)}}}"
    for i in range(len(columns))
  )
  names = " & ".join(escaped(score) for _ in columns for score in scores)
  lines = [
    rf"\begin{{tabular}}{{l{'c' * width * len(columns)}}}",
    r"\toprule",
    rf"& {head} \\",
    rules,
    rf"{escaped(summary['title'])} & {names} \\",
    r"\midrule",
    *(_line(summary, row) for row in summary["rows"]),
    r"\bottomrule",
    r"\end{tabular}",
  ]
  said = [r"Needs \usepackage{booktabs}.", *table.notes(summary), summary["command"]]
  comments = [f"% {' '.join(text.split())}" for text in said]
  return "\n".join([*comments, *lines]) + "\n"


def _line(summary: Summary, row: Mapping[str, Any]) -> str:
  cells = [escaped(row["row"])]
  for column in table.columns_of(summary):
    for score in summary["scores"]:
      cells.append(_cell(summary, row, column, score))
  return " & ".join(cells) + r" \\"


def _cell(summary: Summary, row: Mapping[str, Any], column: str, score: str) -> str:
  found, decimals = table.at(row, column, score), summary["decimals"]
  if not found or found["mean"] is None:
    return "--"
  text = f"{found['mean']:.{decimals}f}"
  if table.is_best(summary, row, column, score):
    text = rf"\textbf{{{text}}}"
  if row["own"] == column:
    text += "$^{*}$"
  if found["std"] is not None:
    text += rf" {{\scriptsize$\pm${found['std']:.{decimals}f}}}"
  elif "ci" in found:
    low, high = (f"{end:.{decimals}f}" for end in found["ci"])
    text += rf" {{\scriptsize[{low}--{high}]}}"
  return text
