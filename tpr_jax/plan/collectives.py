"""The collectives of a compiled step: kinds, how often, how many bytes.

Bytes of one execution and device, S what a device holds before it (its operands), n the
devices of a group; "wire" is what a device sends by the ring algorithms, the lower
bound of Chan et al., "Collective communication" (2007):

  all-reduce          payload S      wire 2 (n - 1) / n S
  all-gather          payload n S    wire (n - 1) S
  reduce-scatter      payload S      wire (n - 1) / n S
  all-to-all          payload S      wire (n - 1) / n S
  collective-permute  payload S      wire S
"""

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from tpr_jax.plan import hlo

KINDS = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
_OTHERS = ("ragged-all-to-all", "collective-broadcast")  # counted as all-to-all
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=")
# "mesh['a'=8,'b'=2] {'a'}": one group along the named axes; "'a':(2)4" is 4 of its 8.
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}")
_LISTED = re.compile(r"replica_groups=\{(\{[\d,]*\})?")


class Collective(NamedTuple):
  """All executions of one kind with groups of one size and elements of one type.

  Attributes:
    group: devices that take part together.
    count: executions in a step.
    payload, wire: bytes a step and device (see the top of this file).
    known: False if one stands in a loop of unknown length, counted as one turn.
  """

  kind: str
  group: int
  dtype: str
  count: int
  payload: float
  wire: float
  known: bool = True


def found(module: hlo.Module) -> list[Collective]:
  """The collectives of a module, the one that sends most first."""
  sums: dict[tuple[str, int, str], list[Any]] = {}
  for visit in hlo.walk(module):
    one = _one(visit, module)
    if one is None:
      continue
    key = one.kind, one.group, one.dtype
    total = sums.setdefault(key, [0, 0.0, 0.0, True])
    total[0] += one.count
    total[1] += one.payload
    total[2] += one.wire
    total[3] = total[3] and one.known
  made = [Collective(*key, *total) for key, total in sums.items()]
  return sorted(made, key=lambda one: -one.wire)


def by_kind(collectives: Iterable[Collective]) -> dict[str, dict[str, float]]:
  """Kind -> {"count", "payload", "wire"}, in the order of `KINDS`."""
  sums = {}
  for one in collectives:
    total = sums.setdefault(one.kind, dict(count=0, payload=0.0, wire=0.0))
    total["count"] += one.count
    total["payload"] += one.payload
    total["wire"] += one.wire
  return {kind: sums[kind] for kind in KINDS if kind in sums}


def _one(visit: hlo.Visit, module: hlo.Module) -> Collective | None:
  """None for what is no collective, one of a single device, or counted already."""
  instruction = visit.instruction
  kind = instruction.opcode.removesuffix("-start")
  kind = "all-to-all" if kind in _OTHERS else kind
  if kind not in KINDS or instruction.goes_on:
    return None
  group = group_size(instruction, module.devices)
  operands = [
    shape
    for name in instruction.operands
    if name in visit.computation
    for shape in hlo.shapes(visit.computation[name].type)
  ]
  held = sum(shape.bytes for shape in operands)
  if kind == "collective-permute":
    operands = operands[:1]  # in-place forms also name the buffer and offsets
    held = operands[0].bytes if operands else 0
  elif kind == "all-reduce" and _scattered(visit):
    kind = "reduce-scatter"
  if group < 2 or not held:
    return None
  payload, wire = _bytes(kind, held, group)
  return Collective(
    kind,
    group,
    max(operands, key=lambda shape: shape.bytes).dtype,
    visit.times,
    payload * visit.times,
    wire * visit.times,
    visit.known,
  )


def _bytes(kind: str, held: float, n: int) -> tuple[float, float]:
  """(payload, wire) of one execution."""
  if kind == "all-reduce":
    return held, 2 * (n - 1) / n * held
  if kind == "all-gather":
    return n * held, (n - 1) * held
  if kind == "collective-permute":
    return held, held
  return held, (n - 1) / n * held


def _scattered(visit: hlo.Visit) -> bool:
  """TPU's fused reduce-scatter: an all-reduce of which a dynamic-slice alone is kept,
  in a fusion of their own."""
  if not visit.fused:
    return False
  name = visit.instruction.name
  users = [i for i in visit.computation.values() if name in i.operands]
  return bool(users) and all(user.opcode == "dynamic-slice" for user in users)


def group_size(instruction: hlo.Instruction, devices: int) -> int:
  """Devices of one group; an empty list of groups is one group of all.

  Raises:
    ValueError: groups are written in a way that is not known here.
  """
  attributes = instruction.attributes
  if "source_target_pairs=" in attributes:
    return devices
  if iota := _IOTA.search(attributes):
    return int(iota[1].split(",")[-1])
  if named := _MESH.search(attributes):
    sizes = dict(re.findall(r"'([^']*)'=(\d+)", named[1]))
    axes = re.findall(r"'([^']*)'(?::\(\d+\)(\d+))?", named[2])
    return math.prod(int(part or sizes[axis]) for axis, part in axes)
  if listed := _LISTED.search(attributes):
    ids = (listed[1] or "").strip("{}")
    return len(ids.split(",")) if ids else devices
  if "replica_groups=" not in attributes:
    return devices
  raise ValueError(
    f"{instruction.opcode} {instruction.name}: device groups of an unknown form:"
    f" {attributes[:200]}"
  )
