"""How fast this is: our programs beside plain PyTorch ones of the same work, in turn.

  python -m tests.benchmarks                          every row, at full size
  python -m tests.benchmarks --only=train,embed --rounds=5 --json=FILE
  python -m tests.benchmarks --size=tiny --rounds=2   tries the suite itself

Rows:
  train       a step of CFAM: equal work, and with the padding spared that need not be
  gpu         the same on one GPU in bfloat16, and the share of its matrix rate
  embed       a gallery and queries to features
  input       JPEG files to training batches
  overhead    the training loop beside the bare step
  start       from the command to the first step; --help
  memory      what lives within a step
  remat       a step whose blocks are computed again on the way back
  operations  a block's matrix products and its attention, by themselves
  growth      cost by batch, length of texts and size of a gallery

The PyTorch programs are tests/benchmarks/pytorch; that loss, gradient and steps are
equal is held by tests/benchmarks/test_pytorch.py. Both sides have the same shapes, data
and precision, as many threads as there are cores, and take turns within one process
(input pipelines: a process each, in turn); the optimizer is Adam for both (our Muon is
off). A ratio is PyTorch's time by ours, of one round: the table has its median and
range. What a machine cannot measure is named. On a machine that is busy with other
programs use --cores=1: PyTorch's threads wait for each other after every operation, and
one that lost its core to another program stops both.
"""

import argparse
import dataclasses
import importlib
import json
import os
import time

# JAX and PyTorch share a GPU: neither may take all of it at its start.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

from tests.benchmarks import sizes, suite
from tpr_jax.core import host_memory

ROWS = (
  "train",
  "gpu",
  "embed",
  "input",
  "overhead",
  "start",
  "memory",
  "remat",
  "operations",
  "growth",
)


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog="python -m tests.benchmarks",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--only", default=",".join(ROWS), help="NAME,... of the rows")
  parser.add_argument("--size", choices=sizes.SIZES, default="B/16")
  parser.add_argument("--batch", type=int, default=8, help="of the CPU's steps")
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--steps", type=int, default=2, help="of a round")
  parser.add_argument("--cores", type=int, default=0, help="that may be used; 0: all")
  parser.add_argument("--json", default="", help="FILE for every number")
  given = parser.parse_args()
  given.only = given.only.split(",")
  if unknown := [name for name in given.only if name not in ROWS]:
    parser.error(f"--only={unknown[0]}: expected names out of {', '.join(ROWS)}")
  for name in ("batch", "rounds", "steps"):
    if getattr(given, name) < 1:
      parser.error(f"--{name}={getattr(given, name)}: expected 1 or more")
  return given


def measure(name: str, options: suite.Options) -> list[suite.Row]:
  """The rows of one module of tests/benchmarks/rows; what cannot be measured is one."""
  module = importlib.import_module(f"tests.benchmarks.rows.{name}")
  found = []
  try:
    for row in module.rows(options):
      found.append(row)
      print(" | ".join(row.cells()), flush=True)
  except suite.NotMeasured as error:
    found.append(suite.not_measured(name, module.__doc__.split("\n")[0], error))
  return found


def main() -> None:
  given = parse()
  if given.cores:  # before any thread starts; both libraries count what is left
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
  suite.cores()  # for all that follows
  host_memory.keep_freed_memory()
  host_memory.run_in_caller()
  options = suite.Options(given.size, given.batch, given.rounds, given.steps)
  rows, loads, started = [], {}, time.time()
  for name in given.only:
    print(f"# {name} (load {suite.load()})", flush=True)
    loads[name] = [suite.load()]
    rows += measure(name, options)
    loads[name].append(suite.load())
  about = suite.machine()
  print(f"\n{suite.table(rows)}\n")
  print(f"{about['processor']}, {about['cores']} cores, {', '.join(about['devices'])}")
  versions = ", ".join(f"{k} {v}" for k, v in about["packages"].items())
  print(f"Python {about['python']}, {versions}")
  print(
    f"load (1, 5, 15 minutes) {about['load']}; {time.time() - started:.0f} s in all"
  )
  if given.json:
    document = dict(
      options=dataclasses.asdict(options),
      machine=about,
      loads=loads,
      rows=[dict(dataclasses.asdict(row), met=row.met) for row in rows],
    )
    with open(given.json, "w", encoding="utf-8") as file:
      json.dump(document, file, indent=1, default=float)


if __name__ == "__main__":
  main()
