"""What a second process changes in the encoding of a split on this machine.

  python -m tests.benchmarks.several_processes [rounds [people]]

The embedded run's test (its towers with random weights, two pictures a person) is
encoded in turn by one process with two CPU devices and by two with one each; all stay
alive and wait for their turn. Prints seconds, pictures read by each process, and the
ratio of the times. Warm-up rounds are not counted.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

from tests import several

WARM_UP = 1


def encode(people: int, join: list[str]) -> None:
  """Encodes once for every line of standard input, and prints what it took."""
  from tpr_jax.core import processes, sharding

  if join:
    coordinator, count, index = join
    processes.join(coordinator, int(count), int(index))
  import jax

  from tpr_jax import config as configs
  from tpr_jax import encoding
  from tpr_jax.data import transforms
  from tpr_jax.experiment import Experiment

  configs.expose_shipped()
  config = configs.read(configs.resolve("configs/cfam.py"))
  config.evals.test.options.identities = people
  made = Experiment(config, pathlib.Path("no run"))
  data, model = made.eval_data("test"), made.model(1)
  params = jax.jit(made.init_fn(model))(jax.random.key(0))
  params = sharding.put(jax.device_get(params), sharding.replicated(made.mesh))
  encoder, load, asked = encoding.Encoder(model, made.mesh), data.load_image, []

  def counted(record, size):
    asked.append(record.image)
    return load(record, size)

  object.__setattr__(data, "load_image", counted)
  for _ in sys.stdin:
    asked.clear()
    processes.barrier("start")
    started = time.perf_counter()
    encoder(
      params,
      data,
      tokenizer=made.tokenizer,
      pipe=transforms.build(config.data.eval_image),
      length=config.text.length,
      batch=config.eval.batch,
      threads=config.data.threads,
    )
    seconds = time.perf_counter() - started
    print(json.dumps(dict(seconds=seconds, read=len(asked))), flush=True)
  processes.leave()


class Group:
  """`count` processes that encode together when told to; two devices in all."""

  def __init__(self, count: int, people: int):
    flags = f"--xla_force_host_platform_device_count={2 // count}"
    env = dict(os.environ, XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    where = f"localhost:{several.free_port()}"
    self._processes = []
    for index in range(count):
      join = [where, str(count), str(index)] if count > 1 else []
      command = [sys.executable, "-m", __spec__.name, "--encode", str(people), *join]
      pipe = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
      self._processes.append(subprocess.Popen(command, env=env, **pipe))

  def __call__(self) -> tuple[float, list[int]]:
    """(seconds of the slowest, pictures read by each)."""
    for process in self._processes:
      process.stdin.write("\n")
      process.stdin.flush()
    found = [_answer(process.stdout) for process in self._processes]
    return max(f["seconds"] for f in found), [f["read"] for f in found]

  def close(self) -> None:
    for process in self._processes:
      process.stdin.close()
    for process in self._processes:
      process.wait(60)


def _answer(lines) -> dict:
  """The next line of JSON; the C++ runtime writes others."""
  for line in lines:
    if line.startswith("{"):
      return json.loads(line)
  raise SystemExit("several_processes: a process ended early; see its error above")


def main(rounds: int, people: int) -> None:
  groups = {1: Group(1, people), 2: Group(2, people)}
  seconds = {count: [] for count in groups}
  for number in range(WARM_UP + rounds):
    for count, group in groups.items():
      took, read = group()
      if number >= WARM_UP:
        seconds[count].append(took)
        print(f"{count} process(es): {took:6.2f} s, pictures read {read}", flush=True)
  for group in groups.values():
    group.close()
  ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
  for count, took in seconds.items():
    print(f"{count} process(es): median {np.median(took):.2f} s")
  print(f"two / one: {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
  if sys.argv[1:2] == ["--encode"]:
    encode(int(sys.argv[2]), sys.argv[3:])
  else:
    main(*map(int, [*sys.argv[1:], *("5", "200")[len(sys.argv) - 1 :]]))
