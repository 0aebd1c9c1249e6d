"""The tables of a matrix: for a terminal, and in Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tpr_jax.core import text
from tpr_jax.matrix.results import ALL, I2T, T2I, Summary

Lines = list[list[str]]


def number(found: Mapping[str, Any] | None, decimals: int) -> str:
  """{"mean": 56.03, "std": 2.1} -> "56.0 ± 2.1"; "58.0 [52.5–63.7]" of one model."""
  if not found or found["mean"] is None:
    return "–"
  text = f"{found['mean']:.{decimals}f}"
  if found["std"] is not None:
    return f"{text} ± {found['std']:.{decimals}f}"
  if "ci" in found:
    low, high = found["ci"]
    return f"{text} [{low:.{decimals}f}–{high:.{decimals}f}]"
  return text


def at(row: Mapping[str, Any], column: str, score: str, part=(T2I, ALL)) -> Any:
  """The summary of one score in one cell of a row; None where there is none."""
  direction, group = part
  return row["cells"][column].get(direction, {}).get(group, {}).get(score)


def best(summary: Summary, column: str, score: str) -> str | None:
  """The highest mean of a column as it is printed; None where there is no contest."""
  found = [at(row, column, score) for row in summary["rows"]]
  means = [cell["mean"] for cell in found if cell and cell["mean"] is not None]
  return f"{max(means):.{summary['decimals']}f}" if len(means) > 1 else None


def is_best(summary: Summary, row: Mapping[str, Any], column: str, score: str) -> bool:
  """Equal numbers, as printed, are all the best."""
  found = at(row, column, score)
  if not found or found["mean"] is None:
    return False
  return f"{found['mean']:.{summary['decimals']}f}" == best(summary, column, score)


def _main(summary: Summary, score: str, bold: Callable[[str], str]) -> Lines:
  """Head and rows of one score: all queries, text to image."""
  columns = [column["column"] for column in summary["columns"]]
  lines = [[f"{score}, {summary['title']}", *columns]]
  for row in summary["rows"]:
    line = [row["row"]]
    for column in columns:
      text = number(at(row, column, score), summary["decimals"])
      text = bold(text) if is_best(summary, row, column, score) else text
      line.append(text + "*" * (row["own"] == column))
    lines.append(line)
  return lines


def _parts(summary: Summary, column: str) -> list[tuple[str, str]]:
  """What a column has beside all its queries: groups, and image to text."""
  found: dict[tuple[str, str], None] = {}
  for row in summary["rows"]:
    for direction, groups in row["cells"][column].items():
      found |= dict.fromkeys((direction, group) for group in groups)
  return [part for part in found if part != (T2I, ALL)]


def _below(summary: Summary, score: str) -> list[Lines]:
  """A table for each column with groups or image to text."""
  tables = []
  for column in (c["column"] for c in summary["columns"]):
    parts = _parts(summary, column)
    if not parts:
      continue
    names = ["image to text" if d == I2T else group for d, group in parts]
    lines = [[f"{score}, {column} by group", "all", *names]]
    for row in summary["rows"]:
      cells = [at(row, column, score, part) for part in [(T2I, ALL), *parts]]
      lines.append([row["row"], *(number(c, summary["decimals"]) for c in cells)])
    tables.append(lines)
  return tables


def _all(summary: Summary, bold: Callable[[str], str]) -> list[Lines]:
  scores = summary["scores"]
  below = [lines for score in scores for lines in _below(summary, score)]
  return [_main(summary, score, bold) for score in scores] + below


def _sizes(summary: Summary) -> str:
  """How large the test sets are."""
  known = [c for c in summary["columns"] if c["queries"]]
  said = (f"{c['column']} {c['queries']:,} in {c['gallery']:,}" for c in known)
  return f"Queries in images: {', '.join(said)}." if known else ""


def notes(summary: Summary) -> list[str]:
  """Sentences that belong below every table."""
  return [text for text in (_sizes(summary), *summary["remarks"]) if text]


def terminal(summary: Summary) -> str:
  """Aligned tables and remarks, without a final line break."""
  found = []
  for lines in _all(summary, bold=lambda cell: cell):
    if any(cell.endswith("*") for line in lines for cell in line):
      lines = [[line[0], *(c if c[-1:] == "*" else f"{c} " for c in line[1:])]
               for line in lines]  # fmt: skip
    found += [*text.aligned(lines), ""]
  return "\n".join(found + notes(summary))


def markdown(summary: Summary) -> str:
  """Tables (the best of a column bold), remarks, and the command."""
  found = [f"# {text.escaped(summary['name'])}\n"]
  for lines in _all(summary, bold=lambda cell: f"**{cell}**"):
    head, *body = ([text.escaped(cell) for cell in line] for line in lines)
    rows = [head, ["---", *["--:"] * (len(head) - 1)], *body]
    found.append("\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n")
  found.append("\n".join(f"- {text.escaped(note)}" for note in notes(summary)) + "\n")
  return "\n".join([*found, f"```bash\n{summary['command']}\n```\n"])


def columns_of(summary: Summary) -> Sequence[str]:
  return [column["column"] for column in summary["columns"]]
