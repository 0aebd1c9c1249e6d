"""FLOPs of the matrix products that one device runs in a compiled step, from its text.

The traced program says what has to be computed (flops.py); this says what a device
does: more than its share where the compiler repeats work, in several devices or in
several fusions. TPUs write products as convolutions, batched ones with windows that
step over the batch, where most positions of the window meet no element and count for
nothing.
"""

import math
import re

import numpy as np

from tpr_jax.plan import hlo

_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_WINDOW = re.compile(r"window=\{([^}]*)\}")
_CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")


def flops(module: hlo.Module) -> int:
  """2 for every multiply-add of the products and convolutions of a step and device."""
  total = 0
  for visit in hlo.walk(module):
    instruction = visit.instruction
    if instruction.opcode not in ("dot", "convolution"):
      continue
    found = [visit.computation.get(name) for name in instruction.operands]
    if None in found:
      continue
    out, left, right = (
      dims(one.type) for one in (instruction, *found[:2]) if one is not None
    )
    if instruction.opcode == "dot":
      each = _dot(instruction.attributes, out, left)
    else:
      each = _convolution(instruction.attributes, out, left, right)
    total += visit.times * each
  return total


def dims(kind: str) -> tuple[int, ...]:
  """ "f32[8,4]{1,0}" -> (8, 4)."""
  found = re.search(r"\[([\d,]*)\]", kind)
  return tuple(int(n) for n in found[1].split(",") if n) if found else ()


def _dot(attributes: str, out: tuple[int, ...], left: tuple[int, ...]) -> int:
  found = _CONTRACTED.search(attributes)
  axes = [int(n) for n in found[1].split(",") if n] if found else []
  return 2 * math.prod(out) * math.prod(left[axis] for axis in axes)


def _convolution(attributes, out, left, right) -> int:
  """Multiply-adds at the positions where the window meets an element."""
  labels = _LABELS.search(attributes)
  window = _window(attributes)
  batch = left[labels[1].index("b")]
  features = right[labels[2].index("i")] * right[labels[2].index("o")]
  groups = re.search(r"batch_group_count=(\d+)", attributes)
  batch //= int(groups[1]) if groups else 1
  met = 1
  for digit in filter(str.isdigit, labels[2]):
    axis = int(digit)
    met *= _met(
      left[labels[1].index(digit)],
      right[labels[2].index(digit)],
      out[labels[3].index(digit)],
      *(
        window.get(key, {}).get(axis, default)
        for key, default in (
          ("stride", (1,)),
          ("pad", (0, 0)),
          ("lhs_dilate", (1,)),
          ("rhs_dilate", (1,)),
        )
      ),
    )
  return 2 * batch * features * met


def _window(attributes: str) -> dict[str, dict[int, tuple[int, ...]]]:
  """ "stride=15x7 pad=0_0x1_1" -> {"stride": {0: (15,), 1: (7,)}, "pad": ...}."""
  found = _WINDOW.search(attributes)
  parsed = {}
  for part in (found[1] if found else "").split():
    key, _, value = part.partition("=")
    parsed[key] = {
      axis: tuple(int(n) for n in one.split("_"))
      for axis, one in enumerate(value.split("x"))
      if re.fullmatch(r"-?\d+(_-?\d+)?", one)
    }
  return parsed


def _met(length, size, outputs, stride, pad, spread, gap) -> int:
  """Pairs (output, position of the window) that meet an element along one axis."""
  at = np.arange(outputs)[:, None] * stride[0] + np.arange(size) * gap[0] - pad[0]
  inside = (at >= 0) & (at <= (length - 1) * spread[0]) & (at % spread[0] == 0)
  return int(inside.sum())
