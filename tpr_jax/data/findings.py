"""What a check found: plain data that goes to JSON, and a table for people."""

import dataclasses
import textwrap
from collections.abc import Mapping
from typing import Any

SEVERITIES = ("error", "warning", "info")  # worst first


@dataclasses.dataclass(frozen=True)
class Finding:
  """One kind of thing found in one split.

  Attributes:
    severity: "error": training or a published number would be wrong; "warning": look
      at it; "info": good to know.
    kind: a fixed short name, "missing-images", "shared-identities", ...
    dataset, split: where; split is "train+test" for what lies between two splits and
      "all" for what concerns the whole.
    count: how many images, captions or identities it concerns.
    message: one sentence for people.
    examples: a few of them.
  """

  severity: str
  kind: str
  dataset: str
  split: str
  count: int
  message: str
  examples: tuple[str, ...] = ()

  def __post_init__(self):
    if self.severity not in SEVERITIES:
      raise ValueError(f"severity {self.severity!r}, expected one of {SEVERITIES}")


@dataclasses.dataclass(frozen=True)
class Findings:
  """All findings, worst first, and a row of statistics for every split.

  A row of statistics holds dataset, split, images, captions, identities, and
  `words` {longest, shortest, mean, unique}; `sizes` {height, width: [least, median,
  largest]} where images were decoded; `published`: True for a row copied from a paper.
  """

  findings: tuple[Finding, ...]
  statistics: tuple[Mapping[str, Any], ...]

  @property
  def worst(self) -> str | None:
    """The worst severity found, or None if there is nothing to say."""
    found = {finding.severity for finding in self.findings}
    return next((severity for severity in SEVERITIES if severity in found), None)

  def of(self, kind: str) -> tuple[Finding, ...]:
    """The findings of one kind."""
    return tuple(finding for finding in self.findings if finding.kind == kind)

  def to_json(self) -> dict[str, Any]:
    """Plain lists, dictionaries, numbers and text."""
    return {
      "worst": self.worst,
      "counts": {s: sum(f.severity == s for f in self.findings) for s in SEVERITIES},
      "statistics": [dict(row) for row in self.statistics],
      "findings": [dataclasses.asdict(f) for f in self.findings],
    }

  def render(self, width: int = 88) -> str:
    """The statistics as a table, then the findings, worst first."""
    return "\n".join([*_table(self.statistics), "", *self._lines(width)])

  def _lines(self, width):
    if not self.findings:
      return ["Nothing found."]
    lines = []
    for finding in self.findings:
      head = f"{finding.severity.upper():7} {finding.dataset}/{finding.split}  "
      body = f"{finding.kind}: {finding.message}"
      lines += textwrap.wrap(
        head + body, width, subsequent_indent=" " * 8, break_long_words=False
      )
      lines += [
        f"          {_cut(example, width - 10)}" for example in finding.examples
      ]
      if finding.examples and finding.count > len(finding.examples):
        lines.append(f"          ... of {finding.count:,}")
    total = self.to_json()["counts"]
    plural = {s: "s" if s != "info" and total[s] != 1 else "" for s in SEVERITIES}
    lines += ["", ", ".join(f"{total[s]} {s}{plural[s]}" for s in SEVERITIES)]
    return lines


def _table(rows):
  titles = ("dataset", "split", "images", "captions", "identities")
  titles += ("longest", "shortest", "mean words", "unique words")
  body = [titles]
  for row in rows:
    words = row["words"] or {}
    numbers = [row["images"], row["captions"], row["identities"]]
    numbers += [words.get("longest"), words.get("shortest")]
    mean, unique = words.get("mean"), words.get("unique")
    body.append(
      (row["dataset"], row["split"] + (" (published)" if row.get("published") else ""))
      + tuple("-" if n is None else f"{n:,}" for n in numbers)
      + ("-" if mean is None else f"{mean:.1f}",)
      + ("-" if unique is None else f"{unique:,}",)
    )
  widths = [max(len(line[i]) for line in body) for i in range(len(titles))]
  return [
    "  ".join(
      cell.ljust(w) if i < 2 else cell.rjust(w)
      for i, (cell, w) in enumerate(zip(line, widths, strict=True))
    ).rstrip()
    for line in body
  ]


def _cut(text, width):
  return text if len(text) <= width else text[: width - 3] + "..."
