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

from tpr_jax.core import host_memory

STEPS = 5
PIECES = (1, 4)


def runner(micro_batches: int):
  """embedded.runner in a process set up as `tpr_jax.main` does it."""
  # Imports JAX: the process that starts the others has none (see `child`).
  from tests.benchmarks import embedded

  host_memory.keep_freed_memory()
  host_memory.run_in_caller()
  return embedded.runner(micro_batches)


def _peak() -> int:
  """Bytes; Linux counts kilobytes, macOS bytes."""
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak(micro_batches: int) -> dict[str, int]:
  """Peak resident bytes of this process before its first step, and in the end."""
  made = runner(micro_batches)
  before = _peak()
  made.run(STEPS)
  return dict(before=before, end=_peak())


def times(rounds: int) -> None:
  """Prints every round as it ends, then the ratios to the whole batch."""
  from tests.benchmarks import steps

  steps.compare({count: runner(count) for count in PIECES}, rounds, STEPS)


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
