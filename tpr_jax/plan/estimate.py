"""A step's time by rooflines: nothing here has run on the chips.

  compute  FLOPs, weighed by passes of the matrix unit / (chips x peak x mfu), times
           what a device runs of its even share where the compiler repeats work
  memory   bytes to and from HBM of a chip / (bandwidth x share)
  network  bytes that a chip sends in the collectives / (ports x link x share)
  step     max(compute, memory) + (1 - overlap) x network

Collectives are taken to run one after the other, each
by rings over all ports that its group gives a chip (chips.Slice.links), each chip
sending as fast as it receives. Latency, input from the host, and the network between
slices are left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tpr_jax.plan import chips
from tpr_jax.plan.collectives import Collective
from tpr_jax.plan.settings import Assumptions


class Estimate(NamedTuple):
  """Seconds of a step, and what follows from them.

  Attributes:
    examples: image-text pairs a second, of the whole slice.
    mfu: the model's FLOPs (nothing computed twice) a second, of the chips' peak.
  """

  compute: float
  memory: float
  network: float
  step: float
  examples: float
  mfu: float


def of(
  place: chips.Slice,
  batch: int,
  facts: Mapping[str, Any],
  traffic: float,
  collectives: Sequence[Collective],
  assume: Assumptions,
) -> Estimate | None:
  """The estimate for one compiled program; None for a CPU, whose speed is not known.

  Args:
    facts: of plan/program.py.
    traffic: bytes a step and device (plan/traffic.py).
  """
  chip = place.chip
  if chip is None:
    return None
  compute = facts["matrix_passes"] / (place.chips * chip.peak * assume.mfu)
  compute *= max(repeated(place, facts), 1.0)
  memory = traffic * chip.devices / (chip.hbm_bandwidth * assume.hbm)
  network = 0.0
  for one in collectives:
    ports = place.links(max(one.group // chip.devices, 1))
    network += one.wire * chip.devices / (ports * chip.link * assume.ici)
  step = max(compute, memory) + (1 - assume.overlap) * network
  model = sum(sum(side.values()) for side in facts["flops"].values())
  return Estimate(
    compute,
    memory,
    network,
    step,
    batch / step,
    model / (step * place.chips * chip.peak),
  )


def repeated(place: chips.Slice, facts: Mapping[str, Any]) -> float:
  """FLOPs that a device runs, of its even share of those that were asked for."""
  return facts["device_flops"] * place.devices / facts["hardware_flops"]


def efficiencies(
  rows: Sequence[tuple[chips.Slice, int, Estimate | None]],
) -> list[float | None]:
  """Pairs a second and chip, over those of the smallest slice of the same chips.

  Of several batches there the one with as many pairs a chip counts, or else the
  fastest. None for a row without an estimate.
  """
  found = []
  for place, batch, estimate in rows:
    same = [row for row in rows if row[2] and row[0].kind == place.kind]
    if estimate is None:
      found.append(None)
      continue
    fewest = min(row[0].chips for row in same)
    smallest = [row for row in same if row[0].chips == fewest]
    alike = [row for row in smallest if row[1] / fewest == batch / place.chips]
    base = max(row[2].examples / fewest for row in alike or smallest)
    found.append(estimate.examples / place.chips / base)
  return found


def said(assume: Assumptions, kinds: Sequence[str]) -> list[str]:
  """The assumptions, one to a line."""
  lines = [
    f"matrix products at {assume.mfu:.0%} of peak (--mfu), HBM at {assume.hbm:.0%} and"
    f" links at {assume.ici:.0%} of what is published; {assume.overlap:.0%} of the"
    " collectives' time hidden (--overlap)",
    "step = max(compute, HBM) + the collectives' time that is not hidden; rings over"
    " the ports of the axes that a group lies along (one port for an axis that is a"
    " line, two where it closes to a ring); no latency, no input from the host",
    "a float32 product at highest precision counts as six passes of the matrix unit",
  ]
  for kind in dict.fromkeys(kinds):
    if chip := chips.CHIPS.get(kind):
      lines.append(
        f"{kind}: {chip.peak / 1e12:.0f} TFLOP/s bfloat16,"
        f" {chip.hbm / chips.GIB:g} GiB HBM at {chip.hbm_bandwidth / 1e9:,.0f} GB/s,"
        f" {2 * chip.axes} ports of {chip.link / 1e9:.0f} GB/s in each direction;"
        f" an axis is a ring where its length is a multiple of {chip.ring}"
      )
  return lines
