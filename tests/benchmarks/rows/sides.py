"""Both sides of a training step, ready to take turns."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.benchmarks import sizes, steps, suite
from tpr_jax import program


def ours(size: str, batch: int, rows=None, **fields) -> steps.Runner:
  """Our step; `fields` as of `sizes.config`."""
  config = sizes.config(size, **fields)
  return steps.Runner(config, batch, rows=rows, classes=sizes.CLASSES[size])


def theirs(runner: steps.Runner, size: str, *, device: str = "cpu", **how) -> Any:
  """The PyTorch step of the runner's parameters; `how` as of `pytorch.step.Step`.

  Raises:
    NotMeasured: there is no PyTorch.
  """
  suite.torch_or_none()
  from tests.benchmarks.pytorch import step

  config = sizes.config(size, length=runner.batch["text"].shape[1])
  config.model.remat = runner.built.model.visual.remat
  masking = program.masking(steps.CLIP, config.text)
  params = runner.state.params
  made = dict(masking=masking, device=device, **how)
  return step.Step(config, runner.built.model, params, **made)


def turn(act: Callable[[int], Any], count: int) -> Callable[[], np.ndarray]:
  """A side of `steps.in_turn`: float64 [2] seconds of one of `count` steps."""
  return lambda: steps.clocked(lambda: act(count)) / count


def timed(
  sides: Mapping[Any, Callable[[int], Any]], options: suite.Options, warm: int = 1
) -> dict[Any, np.ndarray]:
  """Name -> float64 [rounds, 2]: seconds a step, after `warm` uncounted ones."""
  for act in sides.values():
    act(warm)
  turns = {name: turn(act, options.steps) for name, act in sides.items()}
  return steps.in_turn(turns, options.rounds)


def ms(seconds: np.ndarray) -> str:
  """Median, for people."""
  return f"{1000 * np.median(seconds):,.0f} ms"
