"""What the training loop costs beside the bare step: logging, placing, checks.

`tpr_jax/train.py: fit` with the log of a run (lines, metrics.jsonl, TensorBoard), a
line every 50 steps as the configs have it, on batches that are ready; the step is that
of the embedded run. Timed from the request of one batch to that of another, 50 steps
later: one line of the log is in it, no checkpoint and no validation.
"""

import contextlib
import io
import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np

from tests.benchmarks import embedded, steps, suite
from tpr_jax import train
from tpr_jax.run_log import RunLog

EVERY = 50
LIMIT = 2.0  # %


class Ready:
  """Batches of `fit` that are there; notes the time at which each is asked for."""

  def __init__(self, rows):
    self._rows, self.asked = rows, []

  def __next__(self):
    self.asked.append(steps.now())
    return self._rows

  def get_state(self):
    return {}


class Nowhere:
  """Checkpoints that are not written: they are no part of a step."""

  folder = pathlib.Path("nowhere")

  def latest(self):
    return None

  def save(self, step, state, meta, score=None):
    self.state = state

  def wait(self):
    pass


def looped(runner: steps.Runner, folder: pathlib.Path) -> np.ndarray:
  """float64 [2]: seconds of a step within `fit` (steps.now), mean of EVERY."""
  first = int(runner.state.step)
  rows = {name: np.asarray(value) for name, value in runner.batch.items()}
  ready, kept, last = Ready(rows), Nowhere(), first + EVERY + 2
  log = RunLog(folder, first_step=first, steps=last, examples=len(rows["text"]))
  with contextlib.redirect_stdout(io.StringIO()), contextlib.closing(log):
    runner.state = train.fit(
      state=runner.state,
      train_step=runner.step,
      batches=ready,
      mesh=runner.mesh,
      seed=1,
      steps=last,
      log=log,
      log_every=EVERY,
      checkpoints=kept,
      save_every=0,
      meta={},
    )
  return (ready.asked[EVERY + 1] - ready.asked[1]) / EVERY


def rows(options: suite.Options) -> Iterator[suite.Row]:
  """overhead."""
  runner = embedded.runner()
  runner.run(steps.WARM)
  with tempfile.TemporaryDirectory() as folder:
    found = steps.in_turn(
      {
        "loop": lambda: looped(runner, pathlib.Path(folder)),
        "bare": lambda: runner.seconds(EVERY),
      },
      options.rounds,
    )
  bare = f"{1000 * np.median(found['bare'][:, 0]):.0f} ms"
  more = found["loop"] / found["bare"] - 1
  cost = 1000 * (found["loop"] - found["bare"])
  yield suite.Row(
    "overhead",
    "the loop with its log beside the bare step of the embedded run",
    f"{np.median(cost[:, 0]):+.2f} ms a step of {bare}",
    values=(100 * more[:, 0]).tolist(),
    goal=LIMIT,
    most=True,
    unit="%",
    of_processor=(100 * more[:, 1]).tolist(),
    raw={name: seconds.tolist() for name, seconds in found.items()},
  )
