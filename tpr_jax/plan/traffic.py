"""Bytes that a compiled step moves to and from main memory (HBM), from its text.

Every instruction outside fusions reads its operands and writes its result once, unless
they are kept in a faster memory. Inside a fusion nothing is written; an operand of
which only slices are read counts as those slices, and a result that updates a slice in
place as that slice (so a loop over pieces does not count the whole array at each turn).
An estimate: what a kernel reads twice is counted once, and padding of tiles not at all.
"""

import re

from tpr_jax.plan import hlo

# Neither read nor write, or counted elsewhere: bodies of loops and calls are walked.
_FREE = {
  "parameter",
  "constant",
  "tuple",
  "get-tuple-element",
  "bitcast",
  "while",
  "conditional",
  "call",
  "after-all",
  "opt-barrier",
  "partition-id",
  "replica-id",
  "iota",
  "domain",
  "add-dependency",
}
_SLICES = ("dynamic-slice", "slice", "gather")
_ALIASED = re.compile(r"\{(\d*)\}: \((\d+), \{")  # result: (operand, part of it)
_LOOKS_THROUGH = ("bitcast", "copy", "convert", "reshape")


def moved(module: hlo.Module) -> float:
  """Bytes a step and device; both branches of a condition count."""
  total = 0.0
  for visit in hlo.walk(module):
    opcode = visit.instruction.opcode
    if visit.fused or opcode in _FREE or opcode.endswith(("-done", "-update")):
      continue
    total += visit.times * _moved_by(visit, module)
  return total


def _moved_by(visit: hlo.Visit, module: hlo.Module) -> float:
  instruction = visit.instruction
  if instruction.opcode == "async-start":
    return 0.0  # its computation is walked
  operands = [visit.computation.get(name) for name in instruction.operands]
  types = [found.type if found else "" for found in operands]
  result = instruction.type
  if instruction.opcode in _SLICES:
    return 2.0 * _main(result)
  if instruction.opcode == "dynamic-update-slice":
    return 2.0 * _main(types[1])
  if instruction.opcode.endswith("-start"):
    # The result is a tuple of the target, the operands again, and a context.
    reads = sum(map(_main, types))
    return reads + max(_main(result) - reads, 0.0)
  if instruction.opcode == "fusion":
    return _fusion(instruction, types, module)
  return sum(map(_main, types)) + _main(result)


def _fusion(
  instruction: hlo.Instruction, types: list[str], module: hlo.Module
) -> float:
  (name,) = instruction.called("calls")
  inside = module.computations.get(name, {})
  passed_in, passed_out = _passed_on(instruction, inside)
  parameters = [i for i in inside.values() if i.opcode == "parameter"]
  order = {i.literal: i for i in parameters}
  total = 0.0
  for position, kind in enumerate(types):
    if position in passed_in:
      continue
    parameter = order.get(str(position))
    sliced = None if parameter is None else _sliced(parameter, inside)
    whole = _main(kind)
    total += whole if sliced is None else min(whole, sliced)
  updated = [
    _size(inside[i.operands[1]].type)
    for i in inside.values()
    if i.opcode == "dynamic-update-slice" and i.operands[1] in inside
  ]
  written = sum(
    shape.bytes
    for at, shape in enumerate(hlo.shapes(instruction.type))
    if shape.main and at not in passed_out
  )
  return total + (min(written, sum(updated)) if updated else written)


def _passed_on(instruction: hlo.Instruction, inside: dict) -> tuple[set[int], set[int]]:
  """(operands, results) of a fusion that are only handed on to the next one: the two
  sides of a collective that runs beside them. Their bytes count where it is started."""
  if not any(found.goes_on for found in inside.values()):
    return set(), set()
  pairs = _ALIASED.findall(instruction.attributes)
  return {int(at) for _, at in pairs}, {int(at or 0) for at, _ in pairs}


def _sliced(parameter: hlo.Instruction, inside: dict) -> float | None:
  """Bytes of the slices that are read of a parameter; None where all of it is."""
  total, names = 0.0, [parameter.name]
  while names:
    name = names.pop()
    for user in inside.values():
      if name not in user.operands:
        continue
      if user.opcode in _SLICES and user.operands[0] == name:
        total += _size(user.type)
      elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
        continue  # the array that is updated in place is not read
      elif user.opcode in _LOOKS_THROUGH and not user.root:
        names.append(user.name)
      else:
        return None
  return total


def _main(kind: str) -> float:
  return float(sum(shape.bytes for shape in hlo.shapes(kind) if shape.main))


def _size(kind: str) -> float:
  return float(sum(shape.bytes for shape in hlo.shapes(kind)))
