"""What a plan says beside its table, and its files: plan.md and plan.json."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from tpr_jax import config as configs
from tpr_jax.core import text
from tpr_jax.plan import chips, estimate, programs, table
from tpr_jax.plan.settings import Settings


@dataclasses.dataclass(frozen=True)
class Page:
  """A finished plan.

  Attributes:
    rows: what plan/run.py found, with their estimates.
    classes, counted: training identities, and where that number is from.
  """

  config: ConfigDict
  settings: Settings
  rows: Sequence[Mapping[str, Any]]
  classes: int
  counted: str

  def notes(self) -> list[str]:
    """Assumptions, and what a reader must know of single rows; none said twice."""
    kinds = [place.kind for place in self.settings.slices]
    found = []
    if any(place.chip for place in self.settings.slices):
      found += estimate.said(self.settings.assumptions, kinds)
    if "cpu" in kinds:
      found.append(
        "cpu: virtual devices; its memory and collectives are those of XLA's CPU"
        ' compiler (dtype "auto" is float32 there), and no time is estimated'
      )
    if effort := self.settings.effort:
      found.append(
        f"compiled with effort {effort:g} (--effort), not with the 0 of a training run:"
        " other fusions, and little or no prefetching to the fast memory"
      )
    for row in self.rows:
      found += self._of_row(row)
    return list(dict.fromkeys(found))

  def _of_row(self, row: Mapping[str, Any]) -> Iterator[str]:
    name = f"{row['slice']}, batch {row['batch']:,}"
    if row["status"] != "compiled":
      yield f"{name}: {row['status']}: {row['message']}"
      return
    shards = row["mesh"]["data"] * row["mesh"]["fsdp"]
    if self.config.eval.batch % shards:
      yield (
        f"{row['slice']}: a run there also needs --config.eval.batch to be a multiple"
        f" of {shards} (it is {self.config.eval.batch})"
      )
    repeated = estimate.repeated(chips.parse(row["slice"]), row)
    if repeated > 1.02:
      yield (
        f"{name}: a device runs {repeated:.2f} times its even share of the products:"
        " the compiler repeats some"
      )
    if not all(one["known"] for one in row["collectives"]):
      yield f"{name}: a loop of unknown length was counted as one turn"

  def record(self) -> dict[str, Any]:
    """plan.json: everything that was found."""
    return dict(
      command=text.command(),
      config=configs.plain(self.config),
      classes=self.classes,
      versions=programs.versions(),
      effort=self.settings.effort,
      assumptions=dataclasses.asdict(self.settings.assumptions),
      rows=list(self.rows),
    )

  def markdown(self) -> str:
    """plan.md."""
    used = ", ".join(f"{k} {v}" for k, v in programs.versions().items() if v)
    compiled = [row for row in self.rows if row["status"] == "compiled"]
    size = f"{compiled[0]['parameters']:,} parameters, " if compiled else ""
    blocks = [
      f"# Plan of {self.config.name}",
      f"```\n{text.command()}\n```",
      f"{size}{self.classes:,} identities ({self.counted}); {used}.",
      table.markdown(table.lines(self.rows)),
      f"{table.LEGEND}.",
      "\n".join(f"- {line}" for line in self.notes()),
      "## Work of the model, forward + backward",
      table.markdown(table.work(self.rows)),
      "## Collectives of a step, each device",
      table.markdown(table.traffic(self.rows), left=3),
    ]
    return "\n\n".join(blocks) + "\n"
