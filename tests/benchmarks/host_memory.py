"""What keeping freed memory saves a training step on CPU (core/host_memory.py).

  python -m tests.benchmarks.host_memory [--size=tiny] [--rounds=3]

Every round times a step twice, in processes of their own: as the C library comes, and
with its freed memory kept. Prints both medians and their ratio. The step is that of the
embedded run (tiny), or of CFAM B/16 at batch 8.
"""

import argparse
import json
import subprocess
import sys

import numpy as np

STEPS = dict(tiny=20, **{"B/16": 4})
SIDES = ("as it comes", "kept")


def measure(side: str, size: str) -> dict[str, float]:
  """Seconds (median) and page faults of one step, in this process."""
  from tpr_jax.core import host_memory

  if side == "kept":
    if not host_memory.keep_freed_memory({"JAX_PLATFORMS": "cpu"}):
      raise SystemExit("host_memory: the settings were not taken; is this glibc?")
    host_memory.run_in_caller()
  import resource
  import time

  from tests.benchmarks import embedded
  from tests.benchmarks.rows import sides

  runner = embedded.runner() if size == "tiny" else sides.ours(size, batch=8)
  seconds = []
  for number in range(STEPS[size] + 3):
    if number == 3:  # compiled, and memory grown
      faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    started = time.perf_counter()
    runner.run(1)
    seconds.append(time.perf_counter() - started)
  faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
  return dict(seconds=float(np.median(seconds[3:])), faults=faults / STEPS[size])


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--size", choices=STEPS, default="tiny")
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--measure", choices=SIDES, help="one of the two, alone")
  given = parser.parse_args()
  if given.measure:
    print(json.dumps(measure(given.measure, given.size)))
    return
  found = {name: [] for name in SIDES}
  for _ in range(given.rounds):
    for name in found:
      command = [sys.executable, "-m", __spec__.name, f"--size={given.size}"]
      command.append(f"--measure={name}")
      done = subprocess.run(command, check=True, capture_output=True, text=True)
      found[name].append(json.loads(done.stdout.splitlines()[-1]))
  for name, results in found.items():
    seconds, faults = (np.median([r[k] for r in results]) for k in results[0])
    print(f"{name:12} {1000 * seconds:6.0f} ms a step, {faults:8.0f} page faults")
  ratios = [a["seconds"] / b["seconds"] for a, b in zip(*found.values(), strict=True)]
  print(f"ratio {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
  main()
