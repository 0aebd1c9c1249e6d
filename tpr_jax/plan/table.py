"""The plan as text and as Markdown: one row for each slice and batch."""

from collections.abc import Mapping, Sequence
from typing import Any

from tpr_jax import flops
from tpr_jax.core import text
from tpr_jax.plan import chips, collectives

_HEAD = (
  "slice",
  "batch",
  "micro",
  "GiB",
  "of HBM",
  "TFLOP",
  "reduce",
  "gather",
  "other",
  "compute",
  "HBM",
  "links",
  "step ms",
  "pairs/s",
  "MFU",
  "effic.",
)
_OTHER = ("all-to-all", "collective-permute")
LEGEND = (
  "A row is one device's share of one step (a chip; v4: one of its two cores). micro:"
  " micro-batches; GiB: arguments, temporaries and code by the compiler's account;"
  " TFLOP: products as run; reduce, gather, other: GB that it sends in all-reduce and"
  " reduce-scatter, in all-gather, and in the other collectives; compute, HBM, links:"
  " ms by each roofline; MFU: the model's FLOPs against the peak; effic.: pairs a"
  " second and chip against the smallest slice, at as many pairs a chip where it has"
  " such a row"
)


def lines(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
  """Head and cells; a row that was not compiled says why in its first columns."""
  return [list(_HEAD), *(_cells(row) for row in rows)]


def _cells(row: Mapping[str, Any]) -> list[str]:
  first = [row["slice"], f"{row['batch']:,}", str(row["micro_batches"] or "-")]
  if row["status"] != "compiled":
    needed, hbm = row.get("needed"), row.get("hbm")
    share = [
      f"{needed / chips.GIB:.1f}" if needed else "-",
      f"{needed / hbm:.0%}" if needed and hbm else row["status"],
    ]
    return first + share + ["-"] * (len(_HEAD) - 5)
  needed, hbm = row["memory"]["needed"], row["hbm"]
  sent = {kind: found["wire"] for kind, found in row["by_kind"].items()}
  reduced = sent.get("all-reduce", 0.0) + sent.get("reduce-scatter", 0.0)
  gathered = sent.get("all-gather", 0.0)
  middle = [
    f"{needed / chips.GIB:.3g}",
    f"{needed / hbm:.0%}" if hbm else "-",
    f"{row['device_flops'] / 1e12:.3g}",
    *(f"{x / 1e9:.3g}" for x in (reduced, gathered)),
    f"{sum(f for kind, f in sent.items() if kind in _OTHER) / 1e9:.2g}",
  ]
  found = row["estimate"]
  if found is None:
    return first + middle + ["-"] * (len(_HEAD) - len(first) - len(middle))
  times = [f"{1e3 * found[k]:,.0f}" for k in ("compute", "memory", "network", "step")]
  efficiency = row["efficiency"]
  return [
    *first,
    *middle,
    *times,
    f"{found['examples']:,.0f}",
    f"{found['mfu']:.1%}",
    "-" if efficiency is None else f"{efficiency:.2f}",
  ]


def work(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
  """The model's FLOPs by part, of the first compiled row of each batch."""
  batches = {}
  for row in rows:
    if row["status"] == "compiled":
      batches.setdefault(row["batch"], row)
  head = ["GFLOP a pair", *(f"batch {batch:,}" for batch in batches)]
  parts: dict[str, None] = {}
  for row in batches.values():
    parts |= dict.fromkeys(row["flops"]["forward"])
    parts |= dict.fromkeys(row["flops"]["backward"])
  # The two towers first, what is no module last.
  order = sorted(parts, key=lambda p: (p in (flops.OTHER, flops.UPDATE), p))
  table = [head]
  for part in order:
    table.append([part, *(_of_part(row, part) for row in batches.values())])
  totals = [
    sum(sum(side.values()) for side in row["flops"].values()) / row["batch"] / 1e9
    for row in batches.values()
  ]
  return [*table, ["all", *(f"{total:.2f}" for total in totals)]]


def _of_part(row: Mapping[str, Any], part: str) -> str:
  sides = [row["flops"][side].get(part, 0) for side in ("forward", "backward")]
  one, two = (value / row["batch"] / 1e9 for value in sides)
  return f"{one:.3g} + {two:.3g}"


def traffic(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
  """Every kind of collective of every compiled row."""
  head = ["slice", "batch", "collective", "times a step", "GB", "GB sent", "groups of"]
  table = [head]
  for row in rows:
    for kind, found in row.get("by_kind", {}).items():
      groups = {one["group"] for one in row["collectives"] if one["kind"] == kind}
      table.append(
        [
          row["slice"],
          f"{row['batch']:,}",
          kind,
          f"{found['count']:,}",
          f"{found['payload'] / 1e9:.3g}",
          f"{found['wire'] / 1e9:.3g}",
          ", ".join(map(str, sorted(groups))),
        ]
      )
  return table


def by_kind(row: Mapping[str, Any]) -> dict[str, dict[str, float]]:
  """Sums of the collectives of one compiled row."""
  return collectives.by_kind(
    collectives.Collective(**one) for one in row["collectives"]
  )


def markdown(table: Sequence[Sequence[str]], left: int = 1) -> str:
  """A Markdown table; the first `left` columns stand at the left."""
  head, *rest = [[text.escaped(cell) for cell in line] for line in table]
  rule = [":---" if place < left else "---:" for place in range(len(head))]
  return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rest))
