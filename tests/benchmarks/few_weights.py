r"""What adapters save of a training: numbers, optimizer state, work. Shapes alone.

  python -m tests.benchmarks.few_weights aptm.py:cuhk_pedes filtering_wora.py:cuhk_pedes

The work is XLA's count for the step as it is handed over, before it was optimised, for
a batch of eight pairs in float32.
"""

import math
import sys

import jax

from tests.benchmarks import steps
from tpr_jax import config as configs
from tpr_jax import freezing, program
from tpr_jax.core import tree

ROWS = 8


def main():
  configs.expose_shipped()
  for value in sys.argv[1:]:
    c = configs.read(configs.resolve(f"configs/{value}")).unlock()
    c.data.batch, c.objective.itm_group, c.model.dtype = ROWS, 0, "float32"
    made, mesh = steps.build(c, classes=11_003, captions=68_126)
    shapes = made.plan.shapes
    size = sum(
      math.prod(leaf.shape) * leaf.dtype.itemsize
      for leaf in jax.tree.leaves(shapes.opt_state)
    )
    batch = program.batch_shapes(c, mesh)[0]
    step = made.step.lower(shapes, batch, jax.random.key(0))
    work = step.cost_analysis()["flops"] / ROWS
    print(
      f"{value}: {freezing.count(made.frozen, shapes.params):,} of"
      f" {tree.count(shapes.params):,} parameters train; optimizer"
      f" {size / 2**20:,.1f} MiB; {work / 1e9:,.1f} GFLOP a pair",
      flush=True,
    )


if __name__ == "__main__":
  main()
