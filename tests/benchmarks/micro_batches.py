"""What gradient caching costs the embedded run's step in time, and saves in memory.

  python -m tests.benchmarks.micro_batches [rounds]

Times the step of configs/cfam.py (batch 48, 152 tokens) whole and in four
micro-batches, in turn within one process, so that whatever else the machine does meets
both; prints the medians, and the median and range of the ratio over the rounds, of the
time that passed and of the processor's time, which other programs disturb less. Then
each runs in a process of its own for the peak of its resident memory, of which a
process that stops before its first step has the base; these read their programs from
a cache, so that the compiler's memory is not counted.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from tests.benchmarks import embedded

STEPS, WARM = 5, 5
PIECES = (1, 4)


def made(micro_batches: int):
  """(compiled step, state, batch, key) of the embedded run on random numbers."""
  step, state, batch, key = embedded.step(micro_batches=micro_batches)
  return step.lower(state, batch, key).compile(), state, batch, key


class Runner:
  """Steps of one configuration; its state goes on from call to call."""

  def __init__(self, micro_batches: int):
    self._step, self._state, self._batch, self._key = made(micro_batches)

  def seconds(self, steps: int) -> np.ndarray:
    """float64 [2]: time passed and processor's time of one step, mean of `steps`."""
    import jax

    started = np.array([time.perf_counter(), time.process_time()])
    for _ in range(steps):
      self._state, metrics = self._step(self._state, self._batch, self._key)
    jax.block_until_ready((self._state, metrics))
    return (np.array([time.perf_counter(), time.process_time()]) - started) / steps


def _settings() -> None:
  """As `tpr_jax.main` sets the process up."""
  from tpr_jax.core import host_memory

  host_memory.keep_freed_memory()


def _peak() -> int:
  """Bytes; Linux counts kilobytes, macOS bytes."""
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak(micro_batches: int) -> dict[str, int]:
  """Peak resident bytes of this process before its first step, and in the end."""
  _settings()
  runner = Runner(micro_batches)
  before = _peak()
  runner.seconds(STEPS)
  return dict(before=before, end=_peak())


def times(rounds: int) -> None:
  """Prints every round as it ends, then the ratios."""
  _settings()
  runners = {count: Runner(count) for count in PIECES}
  found = {count: [] for count in PIECES}
  for runner in runners.values():
    runner.seconds(WARM)
  for number in range(rounds):
    # Who goes first changes, so that neither always follows the other.
    for count in PIECES if number % 2 else reversed(PIECES):
      found[count].append(runners[count].seconds(STEPS))
    shown = (f"{n}: {1000 * found[n][-1][0]:.0f} ms" for n in PIECES)
    print(f"round {number + 1}:", ", ".join(shown), flush=True)
  whole, pieces = (np.array(found[count]) for count in PIECES)
  for column, name in enumerate(("time passed", "processor's time")):
    a, b = whole[:, column], pieces[:, column]
    print(
      f"{name}: {1000 * np.median(a):.0f} ms a step whole, {1000 * np.median(b):.0f} ms"
      f" in {PIECES[1]} pieces; ratio {np.median(b / a):.2f}"
      f" ({min(b / a):.2f} to {max(b / a):.2f})",
      flush=True,
    )


def child(*words: str, **options) -> subprocess.CompletedProcess:
  """This module in a process of its own.

  A process begins with the peak of the one that started it, so that one must stay
  small: it never imports JAX."""
  command = [sys.executable, "-m", __spec__.name, *words]
  return subprocess.run(command, check=True, text=True, **options)


def main(rounds: str) -> None:
  with tempfile.TemporaryDirectory() as cache:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    child("--times", rounds)
    for count in PIECES:
      done = child("--peak", str(count), stdout=subprocess.PIPE)
      found = json.loads(done.stdout.splitlines()[-1])
      print(
        f"micro_batches {count}: peak {found['end'] / 2**20:.0f} MiB resident,"
        f" {found['before'] / 2**20:.0f} MiB of them before the first step",
        flush=True,
      )


if __name__ == "__main__":
  if sys.argv[1:2] == ["--peak"]:
    print(json.dumps(peak(int(sys.argv[2]))))
  elif sys.argv[1:2] == ["--times"]:
    times(int(sys.argv[2]))
  else:
    main(sys.argv[1] if len(sys.argv) > 1 else "7")
