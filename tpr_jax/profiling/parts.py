"""Which part of the model an operation belongs to, by the text of its program.

The compiler keeps with each instruction the module that asked for it; of one that it
fused from several, that of the last. So times of parts are as exact as its fusions.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tpr_jax import flops
from tpr_jax.plan import hlo
from tpr_jax.profiling.trace import Event

# These hold others, which have events of their own.
_CONTAINERS = ("while", "conditional", "call")
# The last component is the operation itself.
_NAME = re.compile(r'op_name="([^"]*)/[^"/]*"')
UNKNOWN = "not told"


class Operation(NamedTuple):
  """An instruction: part of the model, direction, and where in the model it stands."""

  part: str
  backward: bool
  stack: str


class Spent(NamedTuple):
  """Seconds of all events.

  Attributes:
    forward, backward: part -> seconds.
    operations: (instruction, stack) -> seconds, the longest first.
  """

  forward: dict[str, float]
  backward: dict[str, float]
  operations: dict[tuple[str, str], float]


def of_program(text: str) -> dict[str, Operation | None]:
  """Instruction's name -> what it belongs to; None: it holds others."""
  found: dict[str, Operation | None] = {}
  for computation in hlo.parse(text).computations.values():
    for instruction in computation.values():
      if instruction.opcode in _CONTAINERS:
        found[instruction.name] = None
        continue
      stack = _NAME.search(instruction.attributes)
      if stack is None:
        found[instruction.name] = Operation(UNKNOWN, False, "")
      else:
        part, backward = flops.part(stack[1]), flops.is_backward(stack[1])
        found[instruction.name] = Operation(part, backward, stack[1])
  return found


def spent(
  events: Iterable[Event], programs: Mapping[int, Mapping[str, Operation | None]]
) -> Spent:
  """The time of events by part; programs: number -> `of_program`."""
  forward: dict[str, float] = {}
  backward: dict[str, float] = {}
  operations: dict[tuple[str, str], float] = {}
  for event in events:
    known = programs.get(event.program, {})
    operation = known.get(event.name, Operation(UNKNOWN, False, ""))
    if operation is None:
      continue
    side = backward if operation.backward else forward
    side[operation.part] = side.get(operation.part, 0.0) + event.seconds
    key = (event.name, operation.stack)
    operations[key] = operations.get(key, 0.0) + event.seconds
  order = sorted(operations, key=operations.__getitem__, reverse=True)
  return Spent(forward, backward, {key: operations[key] for key in order})
