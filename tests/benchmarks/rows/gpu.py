"""A training step of CFAM on one GPU in bfloat16, batch 64 and 256.

Beside it PyTorch with autocast, eager and under torch.compile. FLOPs are those of the
matrix products of our traced step (tpr_jax/flops.py), and the rate that they are
compared with is measured on the same card: the best of a large bfloat16 product. As
autocast's our residual stream is float32; what a bfloat16 one would save is a row
(`narrow`). A run is also told to repeat its bytes (core/deterministic.py); what that
costs is a row, too.
"""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from tests.benchmarks import steps, suite
from tests.benchmarks.rows import sides
from tpr_jax import flops
from tpr_jax.core import compiling
from tpr_jax.profiling import rate as matrix_rate

BATCHES = (64, 256)
GOALS = {"eager": 1.5, "compile": 1.15}
BUSY = 50.0  # % of the matrix rate


def rows(options: suite.Options) -> Iterator[suite.Row]:
  """gpu/BATCH/eager, /compile, /narrow, /flops, /memory for each batch; /repeats."""
  torch = suite.torch_or_none()
  if jax.default_backend() != "gpu":
    raise suite.NotMeasured("JAX finds no GPU")
  if not torch.cuda.is_available():
    raise suite.NotMeasured("PyTorch finds no GPU")
  rate, _ = matrix_rate.measure("bfloat16")
  for batch in BATCHES:
    try:
      yield from _of(batch, rate, options)
    except (jax.errors.JaxRuntimeError, torch.OutOfMemoryError) as error:
      what = f"CFAM {options.size}, batch {batch}, bfloat16"
      yield suite.not_measured(f"gpu/{batch}", what, str(error).split("\n")[0][:80])
    gc.collect()
    torch.cuda.empty_cache()


def _repeating(runner: steps.Runner) -> Callable[[int], Any]:
  """Our step as a run has it whose bytes repeat."""
  told = compiling.options(runner.mesh) | {"xla_gpu_deterministic_ops": True}
  lowered = runner.built.step.lower(runner.state, runner.batch, runner.key)
  step = lowered.compile(compiler_options=told)
  return lambda count: runner.run(count, step)


def _pytorch(
  runner: steps.Runner, size: str, compiled: bool
) -> tuple[Callable[[int], None], int]:
  """(PyTorch's step, the most bytes that it held)."""
  import torch

  before = torch.cuda.memory_allocated()
  other = sides.theirs(runner, size, device="cuda", autocast=True, compiled=compiled)
  given = other.on_device({k: np.asarray(v) for k, v in runner.batch.items()})

  def act(count: int) -> None:
    other.run(given, count)
    torch.cuda.synchronize()

  act(1)  # the first of them compiles, and makes Adam's moments
  torch.cuda.reset_peak_memory_stats()
  act(1)
  return act, torch.cuda.max_memory_allocated() - before


def _of(batch: int, rate: float, options: suite.Options) -> Iterator[suite.Row]:
  runner = sides.ours(options.size, batch, dtype="bfloat16")
  work = step_flops(runner)
  narrow = sides.ours(options.size, batch, dtype="bfloat16", residual="same")
  acts, peaks = {"ours": runner.run, "narrow": narrow.run}, {}
  if batch == BATCHES[0]:
    acts["repeats"] = _repeating(runner)
  for name in GOALS:
    acts[name], peaks[name] = _pytorch(runner, options.size, name == "compile")
  found = sides.timed(acts, options, warm=3)
  ours = found["ours"][:, 0]
  about = f"CFAM {options.size}, batch {batch}, bfloat16"
  raw = {name: seconds.tolist() for name, seconds in found.items()}
  for name, goal in GOALS.items():
    yield suite.Row(
      f"gpu/{batch}/{name}",
      f"step, {about}, autocast {name}",
      sides.ms(ours),
      sides.ms(found[name][:, 0]),
      (found[name][:, 0] / ours).tolist(),
      goal=goal,
      raw=raw,
    )
  yield suite.Row(
    f"gpu/{batch}/narrow",
    f"our step, {about}, by the time with a bfloat16 residual stream",
    sides.ms(found["narrow"][:, 0]),
    values=(ours / found["narrow"][:, 0]).tolist(),
    raw=raw,
  )
  held = runner.state_bytes + runner.temporary
  yield suite.Row(
    f"gpu/{batch}/memory",
    f"parameters, Adam's moments and what lives in a step, {about}, compiled",
    f"{held / 2**30:.2f} GiB",
    f"{peaks['compile'] / 2**30:.2f} GiB",
    (peaks["compile"] / held,),
    goal=1.0,
    raw=dict(ours=held, **peaks),
  )
  if "repeats" in found:
    yield suite.Row(
      f"gpu/{batch}/repeats",
      f"our step, {about}, by the time where its bytes repeat (train.deterministic)",
      sides.ms(found["repeats"][:, 0]),
      values=(ours / found["repeats"][:, 0]).tolist(),
      raw=raw,
    )
  yield suite.Row(
    f"gpu/{batch}/flops",
    f"share of {rate / 1e12:.0f} TFLOP/s, measured; {work / 1e12:.2f} TFLOP a step",
    f"{work / np.median(ours) / 1e12:.0f} TFLOP/s",
    values=(100 * work / ours / rate).tolist(),
    goal=BUSY,
    unit="%",
    raw=dict(flops=work, rate=rate),
  )


def step_flops(runner: steps.Runner) -> int:
  """FLOPs of the matrix products of a step, forward and backward."""
  return flops.count(runner.built.step, runner.state, runner.batch, runner.key).total
