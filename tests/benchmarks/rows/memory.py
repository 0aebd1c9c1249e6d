"""What lives within a step of CFAM at batch 64, with and without rematerialisation.

On a CPU, where neither step has to run: ours is XLA's own account of the compiled step
(`temp_size_in_bytes`), PyTorch's the most bytes that storages hold at once between the
start of the step and its end (fake tensors; tests/benchmarks/pytorch/peak.py). Both are
beside the parameters and Adam's moments, which are equal, and have the gradients in
them.
On a GPU it is not measured yet.
"""

from collections.abc import Iterator

import jax

from tests.benchmarks import sizes, steps, suite
from tpr_jax import program

BATCH = 64
GIB = 2**30


def ours(size: str, remat: bool) -> int:
  """Temporary bytes of our compiled step."""
  config = sizes.config(size, remat=remat)
  config.data.batch = BATCH
  built, mesh = steps.build(config, classes=sizes.CLASSES[size])
  batch = program.batch_shapes(config, mesh)[0]
  lowered = built.step.lower(built.plan.shapes, batch, jax.random.key(0))
  return lowered.compile().memory_analysis().temp_size_in_bytes


def theirs(size: str, remat: bool) -> int:
  """Bytes of PyTorch's step beside parameters and moments."""
  import torch

  from tests.benchmarks.pytorch import cfam, peak
  from tpr_jax import objectives

  config = sizes.config(size)
  built, _ = steps.build(config, classes=sizes.CLASSES[size])

  def make():
    active = objectives.active(config.losses)
    model = cfam.Cfam(built.model, active, config.objective.temperature)
    model.remat(remat)
    height, width = config.model.image_size
    image = torch.zeros(BATCH, height, width, 3, dtype=torch.uint8)
    text = torch.zeros(BATCH, config.text.length, dtype=torch.long)
    ids = torch.zeros(BATCH, dtype=torch.long)
    before = [*model.parameters(), *model.buffers(), image, text, ids]
    return (lambda: model(image, text, ids)[0].backward()), before

  return peak.of_step(make)


def rows(options: suite.Options) -> Iterator[suite.Row]:
  """memory/plain, memory/remat."""
  suite.torch_or_none()
  if jax.default_backend() != "cpu":
    raise suite.NotMeasured("of a GPU only the whole peak of a process is known yet")
  for name, remat in (("plain", False), ("remat", True)):
    a, b = ours(options.size, remat), theirs(options.size, remat)
    yield suite.Row(
      f"memory/{name}",
      f"within a step, CFAM {options.size}, batch {BATCH}, float32, {name}",
      f"{a / GIB:.2f} GiB",
      f"{b / GIB:.2f} GiB",
      [b / a],
      raw=dict(ours=a, theirs=b),
    )
