"""What keeping freed memory saves a training step on CPU (core/host_memory.py).

  python -m tests.benchmarks.host_memory [rounds]

Every round times the embedded run's step twice, in processes of their own: as the C
library comes, and with its freed memory kept. Prints both medians and their ratio.
"""

import json
import subprocess
import sys

import numpy as np

STEPS = 20


def measure(keep: bool) -> dict[str, float]:
  """Seconds (median) and page faults of one step, in this process."""
  from tpr_jax.core import host_memory

  if keep and not host_memory.keep_freed_memory({"JAX_PLATFORMS": "cpu"}):
    raise SystemExit("host_memory: the settings were not taken; is this glibc?")
  import resource
  import time

  from tests.benchmarks import embedded

  runner = embedded.runner()
  seconds = []
  for number in range(STEPS + 3):
    if number == 3:  # compiled, and memory grown
      faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    started = time.perf_counter()
    runner.run(1)
    seconds.append(time.perf_counter() - started)
  faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
  return dict(seconds=float(np.median(seconds[3:])), faults=faults / STEPS)


def main(rounds: int) -> None:
  found = {"as it comes": [], "kept": []}
  for _ in range(rounds):
    for name in found:
      command = [sys.executable, "-m", __spec__.name, "--measure", name]
      done = subprocess.run(command, check=True, capture_output=True, text=True)
      found[name].append(json.loads(done.stdout.splitlines()[-1]))
  for name, results in found.items():
    seconds, faults = (np.median([r[k] for r in results]) for k in results[0])
    print(f"{name:12} {1000 * seconds:6.0f} ms a step, {faults:8.0f} page faults")
  ratios = [a["seconds"] / b["seconds"] for a, b in zip(*found.values(), strict=True)]
  print(f"ratio {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
  if sys.argv[1:2] == ["--measure"]:
    print(json.dumps(measure(sys.argv[2] == "kept")))
  else:
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
