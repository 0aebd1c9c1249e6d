"""From the command to the first step of the embedded run, and `--help`.

The command starts twice in folders of its own and is stopped after its first step; the
second start may use what the first has left (programs that were compiled). Seconds from
the start of the process to the line of step 1.
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from tests.benchmarks import suite

FIRST, HELP = 15.0, 1.0  # seconds
COMMAND = (
  *(sys.executable, "-m", "tpr_jax.main", "--config=configs/cfam.py"),
  "--config.train.log_every=1",
)
_PATIENCE = 1800


def first_step(folder: str, cache: str) -> float:
  """Seconds until the line of the first step is there.

  Args:
    cache: what is kept for the next start.

  Raises:
    RuntimeError: the command ends before.
  """
  started, said = time.perf_counter(), []
  command = [*COMMAND, f"--run={folder}"]
  with subprocess.Popen(
    command,
    env={**os.environ, "TPR_JAX_CACHE": cache},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  ) as process:
    try:
      for line in process.stdout:
        said.append(line)
        if line.startswith("step 1/"):
          return time.perf_counter() - started
    finally:
      process.send_signal(signal.SIGKILL)
  raise RuntimeError(f"{' '.join(command)} ended early:\n{''.join(said)[-2000:]}")


def help_page() -> float:
  """Seconds of `--help`."""
  started = time.perf_counter()
  command = [sys.executable, "-m", "tpr_jax.main", "--help"]
  done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
  if "--config" not in done.stdout + done.stderr:
    raise RuntimeError(f"{' '.join(command)} said:\n{done.stdout}{done.stderr}")
  return time.perf_counter() - started


def rows(options: suite.Options) -> Iterator[suite.Row]:
  """start/first, start/second, start/help."""
  starts = []
  with tempfile.TemporaryDirectory() as folder:
    for number in range(1 + min(options.rounds, 3)):
      place = pathlib.Path(folder)
      starts.append(first_step(str(place / str(number)), str(place / "cache")))
      print(f"start {number + 1}: {starts[-1]:.1f} s", flush=True)
  pages = [help_page() for _ in range(options.rounds)]
  for name, what, values, goal in (
    ("first", "command to first step, embedded run", starts[:1], 0.0),
    ("second", "the same once more", starts[1:], FIRST),
    ("help", "--help", pages, HELP),
  ):
    median = sorted(values)[len(values) // 2]
    yield suite.Row(
      f"start/{name}",
      what,
      f"{median:.1f} s",
      values=values,
      goal=goal,
      most=True,
      unit="s",
    )
