"""What a compiled program sends between devices, read from its text (`as_text()`)."""

import re
from typing import NamedTuple

_BYTES = dict(pred=1, s8=1, u8=1, bf16=2, f16=2, s32=4, u32=4, f32=4, s64=8, u64=8)
_KINDS = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute"
_LINE = re.compile(rf"= (\S.*?) ({_KINDS})(?:-start)?\(")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")
_SOURCE = re.compile(r'op_name="([^"]*)"')


class Collective(NamedTuple):
  """One operation: what one device gets from it, and where it comes from."""

  kind: str
  shapes: tuple[tuple[int, ...], ...]
  bytes: int
  source: str


def find(text: str) -> list[Collective]:
  """Every collective of a program; one within a loop is found once.

  Raises:
    KeyError: an element type of unknown size.
  """
  found = []
  for line in text.splitlines():
    match = _LINE.search(line)
    if not match:
      continue
    shapes, total = [], 0
    for dtype, sizes in _SHAPE.findall(match[1]):
      shapes.append(tuple(int(size) for size in sizes.split(",") if size))
      count = 1
      for size in shapes[-1]:
        count *= size
      total += count * _BYTES[dtype]
    source = _SOURCE.search(line)
    found.append(
      Collective(match[2], tuple(shapes), total, source[1] if source else "")
    )
  return found
