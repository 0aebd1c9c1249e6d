"""What the rows of the suite share: a row, its goal, its table, and the machine.

A ratio is of two sides that ran in turn: its median and range over the rounds stand in
the table, every number of every round in the JSON file.
"""

import dataclasses
import functools
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow", "grain", "torch")


class NotMeasured(Exception):
  """This machine cannot measure a row: says what it lacks."""


@dataclasses.dataclass(frozen=True)
class Options:
  """What is measured, and how often.

  size: of the towers (sizes.py). batch: rows of a step. rounds: turns of each side.
  steps: that a turn has.
  """

  size: str = "B/16"
  batch: int = 8
  rounds: int = 5
  steps: int = 2


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the table.

  Attributes:
    name: "train/equal".
    what: what was measured, for people.
    ours, theirs: for people, with their unit; theirs "": nothing to compare with.
    values: the number that the goal is about, one of each round.
    goal: of the median; 0: none. most: it is a limit, not the least.
    unit: of the values: "x" (PyTorch's time by ours), "%", "s".
    of_processor: the same ratios of the processor's time, which other programs on the
      machine disturb less (where a thread waits by turning, that counts as work).
    raw: every number that was measured.
  """

  name: str
  what: str
  ours: str
  theirs: str = ""
  values: Sequence[float] = ()
  goal: float = 0.0
  most: bool = False
  unit: str = "x"
  of_processor: Sequence[float] = ()
  raw: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def median(self) -> float:
    return float(np.median(self.values))

  @property
  def met(self) -> bool | None:
    """None: there is no goal, or nothing was measured."""
    if not self.goal or not len(self.values):
      return None
    return self.median < self.goal if self.most else self.median >= self.goal

  def cells(self) -> list[str]:
    value = low = "-"
    if len(self.values):
      value = f"{self.median:.2f} {self.unit}"
      low = f"{min(self.values):.2f} to {max(self.values):.2f}"
    processor = "-"
    if len(self.of_processor):
      processor = f"{np.median(self.of_processor):.2f} {self.unit}"
    goal = f"{'<' if self.most else '>='} {self.goal:g} {self.unit}"
    met = {True: "yes", False: "NO", None: "-"}[self.met]
    return [
      self.name,
      self.what,
      self.ours,
      self.theirs or "-",
      value,
      low,
      processor,
      goal if self.goal else "-",
      met,
    ]


HEADER = [
  "row",
  "what",
  "ours",
  "PyTorch",
  "measured",
  "range",
  "processor's time",
  "goal",
  "met",
]


def table(rows: Sequence[Row]) -> str:
  """A Markdown table, its columns aligned."""
  cells = [HEADER, *(row.cells() for row in rows)]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = [
    "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
    for line in cells
  ]
  lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
  return "\n".join(lines)


def not_measured(name: str, what: str, why: object) -> Row:
  return Row(name, what, f"not measured: {why}")


def torch_or_none() -> Any:
  """The module torch with as many threads as this process has cores.

  Raises:
    NotMeasured: it is not installed.
  """
  try:
    import torch
  except ImportError:
    raise NotMeasured("PyTorch is not installed (pip install torch)") from None
  torch.set_num_threads(cores())
  return torch


@functools.cache
def cores() -> int:
  """Cores that this process may use, as it was when this was first asked."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def load() -> str:
  """Load average of the last 1, 5 and 15 minutes."""
  return " ".join(f"{x:.1f}" for x in os.getloadavg())


def machine() -> dict[str, Any]:
  """Processor, cores, versions, load and accelerators, as plain values."""
  import jax

  found = {}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = "none"
  return dict(
    processor=_processor(),
    cores=cores(),
    system=platform.platform(terse=True),
    python=platform.python_version(),
    packages=found,
    load=load(),
    devices=[f"{d.platform} {d.device_kind}" for d in jax.devices()],
  )


def _processor() -> str:
  path = pathlib.Path("/proc/cpuinfo")
  lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
  names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
  return names[0] if names else platform.processor() or "unknown"
