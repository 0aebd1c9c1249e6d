"""Floating-point operations of a traced program, by the module that asked for them.

Counted in the jaxpr, before any compiler: 2 for each multiply-add of every matrix
product and convolution, a loop's body as often as the loop runs. Nothing else is
counted (norms, softmax, optimizer, products with a single vector), as is usual for
transformers: on a matrix unit those are a matter of memory. XLA's own `cost_analysis`
counts the body of a loop once, and on TPUs what its fusions happen to hold; a test
compares the two on a CPU program without loops.

What a program computes a second time to save memory (rematerialised blocks, the second
encoding of micro-batches) is kept apart: it is the hardware's work, not the model's.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax

from tpr_jax.core import jaxprs

# Parts are the fields of models/dual_encoder.py and models/cross_encoder.py, and these
# two, which are no modules.
OTHER, UPDATE = "similarities", "update"
# Names of the scopes whose products repeat others: gradients.py's, and JAX's own.
REPEATED = "computed_again"
_AGAIN = (REPEATED, "rematted_computation")
_MODULE = re.compile(r"(?:Dual|Cross)Encoder\.\w+\)*/(\w+)(?![\w(])")
# Passes of a bfloat16 matrix unit for one float32 product at each precision (XLA's
# bf16_3x and bf16_6x).
_PASSES = {lax.Precision.HIGHEST: 6, lax.Precision.HIGH: 3}


class Product(NamedTuple):
  """One matrix product: `flops` of the whole batch, `times` it runs in a step."""

  part: str
  backward: bool
  again: bool
  flops: int
  times: int
  passes: int


class Flops(NamedTuple):
  """Sums over a step of the whole (global) batch.

  Attributes:
    forward, backward: part -> FLOPs, of what is computed for the first time.
    again: FLOPs of what is computed again.
    passes: all, weighed by the passes that a bfloat16 matrix unit needs for them.
  """

  forward: dict[str, int]
  backward: dict[str, int]
  again: int
  passes: int

  @property
  def model(self) -> int:
    """Nothing counted twice."""
    return sum(self.forward.values()) + sum(self.backward.values())

  @property
  def total(self) -> int:
    """All that the hardware is asked for."""
    return self.model + self.again


def count(fn: Any, *args: Any) -> Flops:
  """FLOPs of `fn(*args)`; arguments may be shapes."""
  return count_jaxpr(jax.make_jaxpr(fn)(*args).jaxpr)


def count_jaxpr(jaxpr: Any) -> Flops:
  """FLOPs of one run of a jaxpr."""
  forward, backward, again, passes = {}, {}, 0, 0
  for product in products(jaxpr):
    found = product.flops * product.times
    passes += found * product.passes
    if product.again:
      again += found
      continue
    side = backward if product.backward else forward
    side[product.part] = side.get(product.part, 0) + found
  return Flops(forward, backward, again, passes)


def products(jaxpr: Any, outer: str = "", times: int = 1) -> Iterator[Product]:
  """Every product below a jaxpr.

  Raises:
    ValueError: a product inside a `while` whose number of turns is not known.
  """
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    stack = f"{outer}//{equation.source_info.name_stack}"
    if name == "dot_general" and _with_a_vector(equation):
      continue
    if name in ("dot_general", "conv_general_dilated"):
      yield Product(
        part=part(stack),
        backward=is_backward(stack),
        again=any(name in stack for name in _AGAIN),
        flops=_flops(equation),
        times=times,
        passes=_passes(equation),
      )
    elif name == "cond":  # the branches of one platform are taken: the largest counts
      branches = [
        list(products(branch.jaxpr, stack, times))
        for branch in equation.params["branches"]
      ]
      yield from max(branches, key=lambda found: sum(p.flops * p.times for p in found))
    else:
      turns = _turns(equation)
      for inner in jaxprs.inner(equation):
        for product in products(inner, stack, times * turns):
          if name == "while":
            raise ValueError(
              f"a matrix product of {product.part} runs in a `while` of unknown length;"
              " write the loop as lax.scan, lax.map or a fori_loop of constant bounds"
            )
          yield product


def _turns(equation: Any) -> int:
  """How often what is inside runs: of a loop, or on so many devices with other rows."""
  params = equation.params
  if equation.primitive.name == "shard_map":
    sizes = params["mesh"].shape
    split = [sizes[axis] for axis in params["newly_manual_axes"]]
    return int(np.prod(split, dtype=np.int64))
  return params["length"] if equation.primitive.name == "scan" else 1


def is_backward(stack: str) -> bool:
  """Whether a name stack is of the backward pass."""
  return "transpose(" in stack


def part(stack: str) -> str:
  """The innermost module of the model that a name stack names."""
  found = _MODULE.findall(stack)
  if found:
    return found[-1]
  return OTHER if "jvp(" in stack else UPDATE


def _with_a_vector(equation: Any) -> bool:
  """Whether an operand has no axis but those that are summed, or in both."""
  summed, both = equation.params["dimension_numbers"]
  return any(
    operand.aval.ndim == len(over) + len(shared)
    for operand, over, shared in zip(equation.invars, summed, both, strict=True)
  )


def _flops(equation: Any) -> int:
  out = int(np.prod(equation.outvars[0].aval.shape, dtype=np.int64))
  if equation.primitive.name == "dot_general":
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return 2 * out * int(np.prod([shape[axis] for axis in contracted], dtype=np.int64))
  kernel = equation.invars[1].aval.shape
  dims = equation.params["dimension_numbers"].rhs_spec
  per_output = np.prod([kernel[axis] for axis in dims[1:]], dtype=np.int64)
  return 2 * out * int(per_output)


def _passes(equation: Any) -> int:
  """1 for bfloat16 operands and for TPU's default of float32 ones."""
  precision = equation.params["precision"]
  if equation.invars[0].aval.dtype != np.float32 or precision is None:
    return 1
  given = precision if isinstance(precision, tuple) else (precision,)
  return max(_PASSES.get(item, 1) for item in given)
