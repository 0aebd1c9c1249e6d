"""How far gradients in bfloat16 are from float32's: ours, and PyTorch's autocast.

  python -m tests.benchmarks.precision

CFAM with six layers of width 128 in each tower, 32 random pictures and texts, on the
CPU, whose bfloat16 is that of any device: sums are float32. Ours twice: as training on
GPUs has it, and where XLA may leave roundings out that float32 follows
(core/compiling.py). PyTorch's autocast keeps the residual stream in float32; ours is
bfloat16. Prints |g - g32| / |g32| over all parameters, and the median of each one's.
"""

import jax
import numpy as np

from tests.benchmarks import sizes, steps
from tests.benchmarks.pytorch import step as pytorch
from tpr_jax import program
from tpr_jax.core import sharding

BATCH, LAYERS, WIDTH, CLASSES = 32, 6, 128, 100


def config(dtype: str):
  """Of "tiny", deeper and wider; a temperature that saturates no loss."""
  c = sizes.config("tiny", dtype=dtype)
  c.data.batch = BATCH
  c.model.vision_layers = c.model.text_layers = LAYERS
  c.model.vision_width = c.model.text_width = WIDTH
  c.objective.temperature = 0.2
  return c


def rows(c):
  words = steps.words_of(c)
  return steps.random_rows(BATCH, c.text.length, c.model.image_size, words)


def ours(dtype: str, excess: bool) -> list[np.ndarray]:
  """Adam's moments after one step: the gradient, and its square, times a constant."""
  c = config(dtype)
  built, mesh = steps.build(c, classes=CLASSES)
  batch = sharding.to_global(rows(c), sharding.batch_sharding(mesh))
  state, key = built.plan.create(jax.random.key(0)), jax.random.key(1)
  told = {"xla_allow_excess_precision": excess}
  run = built.step.lower(state, batch, key).compile(compiler_options=told)
  before = jax.tree.leaves(state.params)
  moments = jax.tree.leaves(run(state, batch, key)[0].opt_state)
  shapes = [x.shape for x in before]
  return [np.float64(x) for x in moments if x.shape in shapes and x.ndim]


def theirs(autocast: bool) -> list[np.ndarray]:
  c = config("float32")
  built, _ = steps.build(c, classes=CLASSES)
  params = built.plan.create(jax.random.key(0)).params
  masking = program.masking(steps.CLIP, c.text)
  made = pytorch.Step(c, built.model, params, masking=masking, autocast=autocast)
  loss, _ = made.loss(made.on_device(rows(c)))
  loss.backward()
  grads = (p.grad for p in made.model.parameters() if p.grad is not None)
  return [g.double().numpy() for g in grads]


def told(name: str, found: list[np.ndarray], true: list[np.ndarray]) -> None:
  off = [np.linalg.norm(a - b) for a, b in zip(found, true, strict=True)]
  size = [np.linalg.norm(b) for b in true]
  each = np.median([a / b for a, b in zip(off, size, strict=True) if b])
  print(
    f"{name:40} {np.linalg.norm(off) / np.linalg.norm(size):.2%}, median {each:.2%}"
  )


def main() -> None:
  true = ours("float32", True)
  told("ours, bfloat16", ours("bfloat16", False), true)
  told("ours, where XLA may leave roundings out", ours("bfloat16", True), true)
  told("PyTorch, autocast", theirs(True), theirs(False))


if __name__ == "__main__":
  main()
