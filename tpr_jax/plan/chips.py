"""The numbers of the chips, and how the chips of a slice are connected.

Peak rates: core/peaks.py. HBM, ports and inter-chip bandwidth: Google Cloud's pages
"TPU v4", "TPU v5e", "TPU v5p" and "TPU v6e" (cloud.google.com/tpu/docs, read in
November 2026). They give the inter-chip (ICI) bandwidth of a chip over all its ports
and in both directions (v5e 400, v5p 1,200, v6e 800 GB/s; v4 2,400 Gbit/s in one
direction, from the page's earlier editions); `link` is one direction of one port.
Nothing here was measured by this project.
"""

import math
import re
from typing import NamedTuple

from tpr_jax.core import peaks
from tpr_jax.plan.problems import PlanError

GIB = 2**30


class Chip(NamedTuple):
  """Of one chip, in FLOP/s, bytes and bytes/s.

  Attributes:
    peak: bfloat16 products with float32 sums.
    hbm: the size in print; the compiler, which decides what fits, keeps some of it.
    ring: an axis of a slice closes to a ring where its length is a multiple of this;
      other axes are lines.
  """

  peak: float
  hbm: float
  hbm_bandwidth: float
  axes: int
  link: float
  ring: int
  devices: int = 1  # as JAX sees a chip of a described topology


CHIPS: dict[str, Chip] = {
  "v4": Chip(peaks.TPUS["v4"], 32 * GIB, 1.20e12, 3, 50e9, 4, devices=2),
  "v5e": Chip(peaks.TPUS["v5e"], 16 * GIB, 0.819e12, 2, 50e9, 16),
  "v5p": Chip(peaks.TPUS["v5p"], 95 * GIB, 2.765e12, 3, 100e9, 4),
  "v6e": Chip(peaks.TPUS["v6e"], 32 * GIB, 1.638e12, 2, 100e9, 16),
}


class Slice(NamedTuple):
  """Some chips of one kind, e.g. v5e:4x4; or virtual devices of a CPU, cpu:8.

  Attributes:
    name: as typed.
    kind: a key of `CHIPS`, or "cpu".
    shape: chips along each axis of the torus.
  """

  name: str
  kind: str
  shape: tuple[int, ...]

  @property
  def chips(self) -> int:
    return math.prod(self.shape)

  @property
  def chip(self) -> Chip | None:
    """None for a CPU."""
    return CHIPS.get(self.kind)

  @property
  def hbm(self) -> float | None:
    """Bytes of one device; None for a CPU."""
    return self.chip.hbm / self.chip.devices if self.chip else None

  @property
  def devices(self) -> int:
    """As many as JAX will see."""
    return self.chips * (self.chip.devices if self.chip else 1)

  def links(self, size: int) -> int:
    """Ports of a chip that a collective over `size` chips can send by.

    A group of the whole slice uses all axes; a smaller one is taken to lie along the
    shortest axes that hold it, one after the other. An axis gives two ports where it
    closes to a ring and is used whole, one where it is a line, or 2 chips.
    """
    used, covered = 0, 1
    for length in sorted(n for n in self.shape if n > 1):
      if covered >= size:
        break
      whole = covered * length <= size
      used += 2 if whole and length > 2 and length % self.chip.ring == 0 else 1
      covered *= length
    return max(used, 1)


def parse(text: str) -> Slice:
  """ "v5e:4x4", "v5p:4x4x4" or "cpu:8" -> Slice.

  Raises:
    PlanError: an unknown chip, or a shape that its slices do not have.
  """
  found = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", text.strip())
  known = (*CHIPS, "cpu")
  if found is None or found[1] not in known:
    raise PlanError(
      f"--topology: {text!r}: expected CHIP:SHAPE with a chip of {', '.join(known)},"
      " for example v5e:4x4, v5p:4x4x4 or cpu:8"
    )
  kind, shape = found[1], tuple(int(n) for n in found[2].split("x"))
  axes = 1 if kind == "cpu" else CHIPS[kind].axes
  if len(shape) != axes or not all(shape):
    raise PlanError(
      f"--topology: {text!r}: the shape of {kind} has {axes} number(s), each 1 or more,"
      f" for example {kind}:{'x'.join(['4'] * axes)}"
    )
  return Slice(text.strip(), kind, shape)
