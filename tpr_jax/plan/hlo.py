"""Compiled programs as text: instructions, computations, and how often each one runs.

The text is XLA's own dump (`compiled.as_text()`), for CPU and TPU alike: one line an
instruction, `%name = type opcode(operands), attributes`.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

# Bytes of an element; types that are not listed (token, opaque) hold no data.
_BYTES = {
  **dict.fromkeys(("pred", "s8", "u8", "s4", "u4", "s2", "u2"), 1),
  **dict.fromkeys(("s16", "u16", "bf16", "f16"), 2),
  **dict.fromkeys(("s32", "u32", "f32"), 4),
  **dict.fromkeys(("s64", "u64", "f64", "c64"), 8),
  "c128": 16,
}
_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,<= ]*)\](\{[^{}]*\})?")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{\s*$")
_START = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = ")
_NAME = re.compile(r"%([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"?(\d+)"?\}')
_CALLED = re.compile(
  r"\b(calls|to_apply|body|condition|called_computations|branch_computations"
  r"|true_computation|false_computation)=(\{[^{}]*\}|%?[\w.\-]+)"
)


class Shape(NamedTuple):
  """One array: its element type, bytes, and whether it lies in the main memory (HBM);
  TPUs mark what is kept in a faster one by S(1) in the layout."""

  dtype: str
  bytes: int
  main: bool


# A collective that TPUs run beside fusions stands in each of them, and once in the one
# that starts it, whose flag is -1.
_GOES_ON = re.compile(r'"async_collective_fusion_config":\{"flag_start":"\d')


class Instruction(NamedTuple):
  """One line. `operands`: names; `literal`: what stands between the parentheses, where
  a constant has its value; `attributes`: what follows them, as text."""

  name: str
  opcode: str
  type: str
  operands: tuple[str, ...]
  literal: str
  attributes: str
  root: bool

  @property
  def goes_on(self) -> bool:
    """Whether it is a collective that has been started elsewhere."""
    return bool(_GOES_ON.search(self.attributes))

  def called(self, *keys: str) -> list[str]:
    """Names of computations that the attributes name under `keys`."""
    found = []
    for key, value in _CALLED.findall(self.attributes):
      if key in keys:
        found += [name.strip().lstrip("%") for name in value.strip("{}").split(",")]
    return found


class Module(NamedTuple):
  """computations: name -> {instruction's name -> instruction}, in the text's order."""

  computations: dict[str, dict[str, Instruction]]
  entry: str
  devices: int


class Visit(NamedTuple):
  """An instruction, the computation it stands in, and its runs in one execution.

  `known`: False below a loop whose number of turns the text does not tell (counted as
  one turn). `fused`: inside a fusion, where results are not written to memory."""

  instruction: Instruction
  computation: dict[str, Instruction]
  times: int
  known: bool
  fused: bool


def shapes(text: str) -> list[Shape]:
  """The arrays of a type, those of a tuple one after the other."""
  found = []
  for dtype, dims, layout in _SHAPE.findall(text):
    size = _BYTES.get(dtype, 1 if dtype.startswith("f8") else 0)
    for dim in filter(None, dims.replace("<=", "").split(",")):
      size *= int(dim)
    found.append(Shape(dtype, size, not re.search(r"S\([1-9]", layout)))
  return found


def parse(text: str) -> Module:
  """The text of a module -> `Module`.

  Raises:
    ValueError: there is no entry computation in it.
  """
  computations, entry, current = {}, None, None
  for line in text.splitlines():
    head = _HEAD.match(line)
    if head and not _START.match(line):
      current = computations.setdefault(head[2], {})
      entry = head[2] if head[1] else entry
    elif line.startswith("}"):
      current = None
    elif current is not None and (found := _instruction(line)):
      current[found.name] = found
  if entry is None:
    raise ValueError(f"no entry computation in HLO text of {len(text):,} characters")
  counts = [re.search(rf"\b{key}=(\d+)", text) for key in _COUNTS]
  devices = max([1, *(int(found[1]) for found in counts if found)])
  return Module(computations, entry, devices)


_COUNTS = ("num_partitions", "replica_count")


def _instruction(line: str) -> Instruction | None:
  start = _START.match(line)
  if start is None:
    return None
  rest = line[start.end() :]
  end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
  kind, rest = rest[:end], rest[end:].lstrip()
  opcode, _, _ = rest.partition("(")
  close = _closing(rest, len(opcode))
  inside, after = rest[len(opcode) + 1 : close], rest[close + 1 :]
  operands = tuple(_NAME.findall(inside))
  return Instruction(
    start[2], opcode, kind, operands, inside[:80], after, bool(start[1])
  )


def _closing(text: str, at: int) -> int:
  """Where the parenthesis that opens at `at` closes."""
  depth = 0
  for found in re.compile(r"[()]").finditer(text, at):
    depth += 1 if found[0] == "(" else -1
    if not depth:
      return found.start()
  return len(text)


def walk(module: Module) -> Iterator[Visit]:
  """Every instruction that runs, from the entry down.

  Both branches of a condition are visited: an upper bound.
  """
  yield from _walk(module, module.entry, 1, True, False)


def _walk(module, name, times, known, fused) -> Iterator[Visit]:
  computation = module.computations.get(name, {})
  for instruction in computation.values():
    yield Visit(instruction, computation, times, known, fused)
    if instruction.opcode == "while":
      trips = trip_count(module, instruction)
      inner = times * (1 if trips is None else trips), known and trips is not None
      for body in instruction.called("body"):
        yield from _walk(module, body, *inner, fused)
      continue
    keys = _ENTERED.get(instruction.opcode, ())
    for called in instruction.called(*keys):
      inside = fused or instruction.opcode == "fusion"
      yield from _walk(module, called, times, known, inside)


# Where an instruction's computations run once with it. Those of a reduction or a sort
# run for every element and hold neither collectives nor memory traffic; those of
# async-update and async-done are the ones that async-start has started.
_ENTERED = {
  "fusion": ("calls",),
  "call": ("to_apply", "calls"),
  "async-start": ("calls",),
  "conditional": ("branch_computations", "true_computation", "false_computation"),
  "custom-call": ("called_computations",),
}


def trip_count(module: Module, loop: Instruction) -> int | None:
  """Turns of a `while`; None where neither XLA nor the condition tells.

  XLA writes `known_trip_count` once it has found it. Otherwise: a condition whose root
  is `counter < constant`, for a counter that starts at 0 as JAX's loops do.
  """
  noted = _TRIPS.search(loop.attributes)
  if noted:
    return int(noted[1])
  for name in loop.called("condition"):
    condition = module.computations.get(name, {})
    for found in condition.values():
      if found.root and found.opcode == "compare":
        limit = condition.get(found.operands[-1]) if found.operands else None
        below = "direction=LT" in found.attributes
        return _constant(limit) if below and limit is not None else None
  return None


def _constant(instruction: Instruction) -> int | None:
  """The value of a scalar integer constant, which stands where operands stand."""
  value = instruction.literal
  return int(value) if re.fullmatch(r"\d+", value) else None
