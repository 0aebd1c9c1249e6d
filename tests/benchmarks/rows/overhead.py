"""What the training loop costs beside the bare step: logging, placing, checks.

`tpr_jax/train.py: fit` with the log of a run (lines, metrics.jsonl, TensorBoard), a
line every 50 steps as the configs have it, on batches that are ready. Its step does
nothing but count, with the state and the metrics of the embedded run: what is left is
the loop, and dispatching a step, set beside a bare step of that run. In a real run the
loop works while the device does, so that this is the most that it can cost. Timed from
the request of one batch to that of another, 50 steps later: one line of the log is in
it, no checkpoint and no validation.
"""

import contextlib
import io
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks import embedded, steps, suite
from tpr_jax import train
from tpr_jax.meter import Meter
from tpr_jax.run_log import RunLog

EVERY = 50
LIMIT = 2.0  # %


class Ready:
  """Batches of `fit` that are there; notes when those of two numbers are asked for.

  Of no others: to ask for the processor's time can take 10 ms where a kernel is
  emulated."""

  def __init__(self, rows, first: int, last: int):
    self._rows, self._noted, self._number = rows, (first, last), 0
    self.asked = []

  def __next__(self):
    if self._number in self._noted:
      self.asked.append(steps.now())
    self._number += 1
    return self._rows

  def get_state(self):
    return {}


class Nowhere:
  """Checkpoints that are not written: they are no part of a step."""

  folder = pathlib.Path("nowhere")

  def latest(self):
    return None

  def save(self, step, state, meta, score=None):
    pass

  def wait(self):
    pass


def counting(runner: steps.Runner) -> Callable[..., Any]:
  """A step of the runner's state and metrics that only counts; the state is donated."""
  _, metrics = jax.eval_shape(runner.built.step, runner.state, runner.batch, runner.key)

  def step(state, batch, key):
    ones = {name: jnp.ones(x.shape, x.dtype) for name, x in metrics.items()}
    return state.replace(step=state.step + 1), ones

  return jax.jit(step, donate_argnums=0, keep_unused=True)


def looped(runner: steps.Runner, step: Any, folder: pathlib.Path) -> np.ndarray:
  """float64 [2]: seconds of a step within `fit` (steps.now), mean of EVERY."""
  first = int(runner.state.step)
  rows = {name: np.asarray(value) for name, value in runner.batch.items()}
  # The first lines of the log are not counted: they compile what reads the metrics.
  start = -first % EVERY
  last = first + start + EVERY + 1
  ready = Ready(rows, start, start + EVERY)
  meter = Meter(len(rows["text"]))
  log = RunLog(folder, first_step=first, steps=last, meter=meter)
  with contextlib.redirect_stdout(io.StringIO()), contextlib.closing(log):
    runner.state = train.fit(
      state=runner.state,
      train_step=step,
      batches=ready,
      mesh=runner.mesh,
      seed=1,
      steps=last,
      log=log,
      log_every=EVERY,
      checkpoints=Nowhere(),
      save_every=0,
      meta={},
    )
  return (ready.asked[1] - ready.asked[0]) / EVERY


def rows(options: suite.Options) -> Iterator[suite.Row]:
  """overhead."""
  runner = embedded.runner()
  runner.run(steps.WARM)
  step = counting(runner)
  with tempfile.TemporaryDirectory() as folder:
    place = pathlib.Path(folder)
    looped(runner, step, place)
    found = steps.in_turn(
      {
        "loop": lambda: looped(runner, step, place),
        "bare": lambda: runner.seconds(options.steps),
      },
      options.rounds,
    )
  share = 100 * found["loop"] / found["bare"]
  loop, bare = (1000 * np.median(found[name][:, 0]) for name in ("loop", "bare"))
  yield suite.Row(
    "overhead",
    "all that the loop does beside the step, by the bare step of the embedded run",
    f"{loop:.2f} ms beside {bare:,.0f} ms",
    values=share[:, 0].tolist(),
    goal=LIMIT,
    most=True,
    unit="%",
    of_processor=share[:, 1].tolist(),
    raw={name: seconds.tolist() for name, seconds in found.items()},
  )
