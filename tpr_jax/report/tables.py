"""The results as rows, and as a plain table for a terminal or a README."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tpr_jax.core import text
from tpr_jax.metrics import per_query

METRICS = per_query.SCORES
_COUNTS = ("queries", "gallery", "unmatched")


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the table.

  Attributes:
    name: name of the evaluation, or of the group of queries.
    kind: "eval" (all its queries, text to image), "group", or "i2t" (image to text).
    values: column -> number, or None where the results don't have it.
    intervals: score -> (low, high); empty where the results have none.
  """

  name: str
  kind: str
  values: Mapping[str, float | int | None]
  intervals: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)


def rows(results: Mapping[str, Any]) -> list[Row]:
  """Rows of `results.json`: each evaluation, its groups, its image-to-text numbers.

  Raises:
    ValueError: the results hold no evaluation, or one without "t2i".
  """
  evals = results.get("evals")
  if not isinstance(evals, Mapping) or not evals:
    raise ValueError('results hold no evaluation: expected {"evals": {name: ...}}')
  found = []
  for name, scores in evals.items():
    if not isinstance(scores, Mapping) or "t2i" not in scores:
      raise ValueError(f'results of {name!r} have no "t2i" (text to image) numbers')
    found.append(_row(name, "eval", scores["t2i"]))
    for group, numbers in (scores.get("groups") or {}).items():
      found.append(_row(group, "group", numbers))
    if legacy := scores.get("legacy"):
      label = f"legacy (best on test, step {legacy['step']:,})"
      found.append(_row(label, "group", legacy))
    if scores.get("i2t"):
      found.append(_row(f"{name}, image to text", "i2t", scores["i2t"]))
  return found


def _row(name: str, kind: str, numbers: Mapping[str, Any]) -> Row:
  keys = (*METRICS, "chance", *_COUNTS)
  ends = (numbers.get("ci") or {}).get("scores") or {}
  intervals = {key: (low, high) for key, (low, high) in ends.items()}
  return Row(name, kind, {key: numbers.get(key) for key in keys}, intervals)


def columns(table: list[Row]) -> list[str]:
  """Columns worth showing: "chance" and "unmatched" only where a row has them."""
  chance = ["chance"] if any(row.values["chance"] is not None for row in table) else []
  lost = ["unmatched"] if any(row.values["unmatched"] for row in table) else []
  return [*METRICS, *chance, "queries", "gallery", *lost]


def cell(column: str, value: float | int | None) -> str:
  """The number as it is printed: percentages with two decimals, counts with commas."""
  if value is None:
    return "–"
  return f"{value:,.0f}" if column in _COUNTS else f"{value:.2f}"


def span(row: Row, column: str) -> str:
  """The interval as it is printed, "51.2–60.9"; "–" where there is none."""
  if column not in row.intervals:
    return "–"
  low, high = row.intervals[column]
  return f"{low:.1f}–{high:.1f}"


def results_table(results: Mapping[str, Any]) -> str:
  """`results.json` -> aligned tables of plain text, without a final line break.

  Percentages; groups are indented below their evaluation; "chance" is the Rank-1 of a
  random ranking. A second table has the intervals, where there are any. Notes and
  queries without a match follow.
  """
  table = rows(results)
  shown = columns(table)
  name = lambda row: ("  " if row.kind == "group" else "") + row.name
  values = [[name(row), *(cell(k, row.values[k]) for k in shown)] for row in table]
  found = text.aligned([["", *shown], *values])
  if any(row.intervals for row in table):
    spans = [[name(row), *(span(row, key) for key in METRICS)] for row in table]
    found += ["", *text.aligned([[f"{_level(results)} interval", *METRICS], *spans])]
  return "\n".join(found + remarks(results))


def _summaries(results: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
  """(name, numbers) of all rows."""
  found = []
  for name, scores in results["evals"].items():
    found.append((name, scores["t2i"]))
    groups = scores.get("groups") or {}
    found += [(f"{name}, {group}", numbers) for group, numbers in groups.items()]
    if scores.get("i2t"):
      found.append((f"{name}, image to text", scores["i2t"]))
  return found


def _level(results: Mapping[str, Any]) -> str:
  return next(
    f"{100 * numbers['ci']['level']:g} %"
    for _, numbers in _summaries(results)
    if numbers.get("ci")
  )


def _about_intervals(results: Mapping[str, Any]) -> list[str]:
  """How they were made, and which could not be."""
  made = [(name, n["ci"]) for name, n in _summaries(results) if n.get("ci")]
  if not made:
    return []
  first = made[0][1]
  alone = [name for name, ci in made if not ci["scores"]]
  return [
    f"Intervals ({100 * first['level']:g} %): identities drawn with replacement,"
    f" {first['resamples']:,} times (seed {first['seed']}); gallery and weights as they"
    " are."
  ] + [f"{name}: all queries are of one identity: no interval." for name in alone]


def remarks(results: Mapping[str, Any]) -> list[str]:
  """What has to be said beside the numbers, one sentence each."""
  found = []
  for name, scores in results["evals"].items():
    if scores.get("note"):
      found.append(f"{name}: {scores['note']}")
    for kind, what in (("t2i", "queries"), ("i2t", "image queries")):
      numbers = scores.get(kind) or {}
      if numbers.get("unmatched"):
        found.append(
          f"{name}: {numbers['unmatched']:,} of {numbers['queries']:,} {what} have no"
          " match in the gallery and are left out of every mean."
        )
    says = scores.get("incomplete", {}).get("says", ())
    found += [f"{name}: {sentence}." for sentence in says]
    if scores.get("broken_images") and not says:  # results from before "incomplete"
      found.append(
        f"{name}: {scores['broken_images']:,} images could not be read and are not in"
        " the gallery."
      )
  return found + _about_intervals(results)
