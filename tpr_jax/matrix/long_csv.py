"""All numbers of a matrix, one a line, for other programs: matrix.csv."""

import csv
import io
from collections.abc import Iterator

from tpr_jax.matrix import results
from tpr_jax.matrix.results import Summary
from tpr_jax.metrics import per_query

HEAD = (
  "row",
  "model",
  "place",
  "column",
  "own",
  "direction",
  "group",
  "score",
  "value",
  "low",
  "high",
  "level",
  "queries",
  "identities",
  "gallery",
)


def text(summary: Summary) -> str:
  """RFC 4180 with a head. One line for every score of every finished cell and group.

  Columns: direction "t2i" or "i2t"; group "" for all queries; low, high, level and
  identities are empty where there is no interval; own is 1 where the column is the
  row's own, else 0. Floats read back as the very same.
  """
  out = io.StringIO()
  writer = csv.DictWriter(out, HEAD, lineterminator="\n")
  writer.writeheader()
  writer.writerows(_lines(summary))
  return out.getvalue()


def _lines(summary: Summary) -> Iterator[dict[str, object]]:
  for row in summary["rows"]:
    for model in row["models"]:
      for column, cell in model["cells"].items():
        about = dict(
          row=row["row"],
          model=model["model"],
          place=model["place"],
          column=column,
          own=int(row["own"] == column),
        )
        if cell["folder"] is not None:
          for part, numbers in results.parts(cell).items():
            yield from _scores(about, part, numbers)


def _scores(about, part, numbers) -> Iterator[dict[str, object]]:
  ci = numbers.get("ci") or {}
  for score in per_query.SCORES:
    low, high = ci.get("scores", {}).get(score, ("", ""))
    yield dict(
      about,
      direction=part[0],
      group=part[1],
      score=score,
      value=repr(float(numbers[score])),
      low=low,
      high=high,
      level=ci.get("level", "") if low != "" else "",
      queries=numbers["queries"],
      identities=ci.get("identities", ""),
      gallery=numbers["gallery"],
    )
