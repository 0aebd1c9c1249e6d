"""How far gradients in bfloat16 are from float32's: ours, and PyTorch's autocast.

  python -m tests.benchmarks.precision

CFAM with six layers of width 128 in each tower, 32 random pictures and texts, on the
CPU, whose bfloat16 is that of any device: sums are float32. Ours as training has it on
GPUs; where XLA may leave roundings out that float32 follows (core/compiling.py); and
with a bfloat16 residual stream (`model.residual`), which autocast has in float32.
Prints |g - g32| / |g32| over all parameters, of four draws of them, and the median of
single parameters'.
"""

import jax
import numpy as np

from tests.benchmarks import sizes, steps
from tests.benchmarks.pytorch import step as pytorch
from tpr_jax import program
from tpr_jax.core import sharding, tree

BATCH, LAYERS, WIDTH, CLASSES, SEEDS = 32, 6, 128, 100, 4


def config(dtype: str, residual: str = "float32"):
  """Of "tiny", deeper and wider; a temperature that saturates no loss."""
  c = sizes.config("tiny", dtype=dtype, residual=residual)
  c.data.batch = BATCH
  c.model.vision_layers = c.model.text_layers = LAYERS
  c.model.vision_width = c.model.text_width = WIDTH
  c.objective.temperature = 0.2
  return c


def rows(c):
  words = steps.words_of(c)
  return steps.random_rows(BATCH, c.text.length, c.model.image_size, words)


def biased(params, seed: int):
  """The same with biases of a standard deviation of 0.1, as trained models have them:
  to add them is one rounding more."""
  rng = np.random.default_rng(seed)

  def value(name, leaf):
    if not name.endswith("/bias"):
      return leaf
    return leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32)

  return tree.map_named(value, params)


def ours(
  seed: int, dtype: str, excess: bool, residual: str = "float32"
) -> list[np.ndarray]:
  """Adam's moments after one step: the gradient, and its square, times a constant."""
  c = config(dtype, residual)
  built, mesh = steps.build(c, classes=CLASSES)
  batch = sharding.to_global(rows(c), sharding.batch_sharding(mesh))
  state, key = built.plan.create(jax.random.key(seed)), jax.random.key(1)
  state = state.replace(params=biased(state.params, seed))
  told = {"xla_allow_excess_precision": excess}
  run = built.step.lower(state, batch, key).compile(compiler_options=told)
  before = jax.tree.leaves(state.params)
  moments = jax.tree.leaves(run(state, batch, key)[0].opt_state)
  shapes = [x.shape for x in before]
  return [np.float64(x) for x in moments if x.shape in shapes and x.ndim]


def theirs(seed: int, autocast: bool) -> list[np.ndarray]:
  c = config("float32")
  built, _ = steps.build(c, classes=CLASSES)
  params = biased(built.plan.create(jax.random.key(seed)).params, seed)
  masking = program.masking(steps.CLIP, c.text)
  made = pytorch.Step(c, built.model, params, masking=masking, autocast=autocast)
  loss, _ = made.loss(made.on_device(rows(c)))
  loss.backward()
  grads = (p.grad for p in made.model.parameters() if p.grad is not None)
  return [g.double().numpy() for g in grads]


def distance(found: list[np.ndarray], true: list[np.ndarray]) -> tuple[float, float]:
  """|g - g32| / |g32| over all parameters, and the median of each one's."""
  off = [np.linalg.norm(a - b) for a, b in zip(found, true, strict=True)]
  size = [np.linalg.norm(b) for b in true]
  each = np.median([a / b for a, b in zip(off, size, strict=True) if b])
  return np.linalg.norm(off) / np.linalg.norm(size), each


def main() -> None:
  found: dict[str, list[tuple[float, float]]] = {}
  for seed in range(SEEDS):
    true, other = ours(seed, "float32", True), theirs(seed, False)
    sides = {
      "ours, bfloat16": (ours(seed, "bfloat16", False), true),
      "ours, XLA may leave roundings out": (ours(seed, "bfloat16", True), true),
      "ours, residual stream bfloat16": (ours(seed, "bfloat16", False, "same"), true),
      "PyTorch, autocast": (theirs(seed, True), other),
    }
    for name, (side, exact) in sides.items():
      found.setdefault(name, []).append(distance(side, exact))
  for name, numbers in found.items():
    all_of_it, each = np.array(numbers).T
    single = ", ".join(f"{number:.2%}" for number in all_of_it)
    print(f"{name:34} {all_of_it.mean():.2%} ({single}), median {each.mean():.2%}")


if __name__ == "__main__":
  main()
