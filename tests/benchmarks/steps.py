"""Training steps of several configs in turn, on random numbers: time and memory.

What the benchmarks of a step share: `build` makes the program of a config, `Runner`
runs it, `compare` times several in turn, `main` is the command of those that compare a
few configs of two sizes.
"""

import argparse
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tpr_jax import program, run_weights
from tpr_jax.core import host_memory, sharding
from tpr_jax.data import tokenizer
from tpr_jax.models import build as model_build

STEPS, WARM = 3, 2
MIB = 2**20
# CLIP's numbers and BERT's, of vocabularies that are no files here.
CLIP = types.SimpleNamespace(
  vocab_size=49_408, mask_id=49_405, start_id=49_406, end_id=49_407
)
BERT = types.SimpleNamespace(vocab_size=30_522, mask_id=103, start_id=101, end_id=102)


def words_of(config) -> Any:
  """The tokenizer of a config, or the numbers of one: vocab_size, mask_id, ..."""
  if model_build.is_cross(config.model):
    return BERT
  spec = run_weights.tokenizer_spec(config, "")
  return tokenizer.build(spec) if spec.startswith("people") else CLIP


def build(config, *, classes: int = 1000, captions: int = 1000):
  """(program.Program, mesh of one device) of a config, with nothing compiled."""
  mesh = sharding.make_mesh({}, jax.devices()[:1])
  built = program.build(
    config,
    run_weights.model_fields(config, {}),
    tokenizer=words_of(config),
    num_classes=classes,
    mesh=mesh,
    steps=1000,
    steps_per_epoch=100,
    captions=captions,
  )
  return built, mesh


class Runner:
  """Steps of one config on one device; its state goes on from call to call.

  Args:
    config: of a run of CLIP's family.
    batch: rows of a step.
    rows: its arrays (core/types.py: Batch); None: random ones, whose captions fill a
      third to all of `text.length`.
    classes: identities.

  Attributes:
    built, step: the program, and its step as it was compiled.
    state, batch, key: what `step` is given next.
    state_bytes: parameters and the optimizer's state.
    temporary: bytes that live within one step, by XLA's account.
  """

  def __init__(
    self,
    config,
    batch: int,
    *,
    rows: Mapping[str, np.ndarray] | None = None,
    classes: int = 1000,
  ):
    config.data.batch = batch
    self.built, self.mesh = build(config, classes=classes)
    if rows is None:
      rows = random_rows(
        batch, config.text.length, config.model.image_size, words_of(config)
      )
    self.batch = self.on_device(rows)
    self.state = self.built.plan.create(jax.random.key(0))
    self.key = jax.random.key(1)
    self.step = self.compiled(self.batch)
    self.temporary = self.step.memory_analysis().temp_size_in_bytes
    self.state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self.state))

  def on_device(self, rows: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    return sharding.to_global(dict(rows), sharding.batch_sharding(self.mesh))

  def compiled(self, batch: Mapping[str, jax.Array]) -> Any:
    """The step's program for batches of these shapes."""
    return self.built.step.lower(self.state, batch, self.key).compile()

  def run(self, steps: int, step=None, batch=None) -> dict[str, jax.Array]:
    """Metrics of the last of so many steps, once it has ended.

    Args:
      step, batch: another program of `compiled`, and what it is for.
    """
    step, batch = step or self.step, self.batch if batch is None else batch
    for _ in range(steps):
      self.state, metrics = step(self.state, batch, self.key)
    return jax.block_until_ready((self.state, metrics))[1]

  def seconds(self, steps: int) -> np.ndarray:
    """float64 [2]: time passed and processor's time of one step, mean of `steps`."""
    return clocked(lambda: self.run(steps)) / steps


def now() -> np.ndarray:
  """float64 [2]: a clock, and the processor's time of this process so far; seconds."""
  return np.array([time.perf_counter(), time.process_time()])


def clocked(act: Callable[[], Any]) -> np.ndarray:
  """float64 [2]: time passed and processor's time of this process while it acts."""
  started = now()
  act()
  return now() - started


def random_rows(batch: int, length: int, size: tuple[int, int], words, least=None):
  """A batch of random pictures and texts of `least` (a third of all) to all tokens."""
  rng = np.random.default_rng(0)
  text = rng.integers(1, words.mask_id, (batch, length)).astype(np.int32)
  text[:, 0] = words.start_id
  least = length // 3 if least is None else least - 1
  for row, end in enumerate(rng.integers(least, length, batch)):
    text[row, end], text[row, end + 1 :] = words.end_id, 0
  return dict(
    image=rng.integers(0, 256, (batch, *size, 3), dtype=np.uint8),
    text=text,
    replaced=np.full(batch, -1, np.int32),
    **{k: np.arange(batch, dtype=np.int32) for k in ("ids", "image_id", "example")},
  )


def in_turn(
  sides: Mapping[Any, Callable[[], np.ndarray]], rounds: int
) -> dict[Any, np.ndarray]:
  """Calls every side once a round: name -> float64 [rounds, ...] of what it gives.

  Who goes first changes, so that none always follows another; each round is printed.
  """
  found = {name: [] for name in sides}
  for number in range(rounds):
    for name in sides if number % 2 else reversed(sides):
      found[name].append(np.asarray(sides[name]()))
    shown = (f"{k}: {1000 * np.ravel(v[-1])[0]:.0f} ms" for k, v in found.items())
    print(f"round {number + 1}:", ", ".join(shown), flush=True)
  return {name: np.array(values) for name, values in found.items()}


def spread(ratio: np.ndarray) -> str:
  """Median and range, for people."""
  return f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})"


def compare(runners: Mapping[Any, Runner], rounds: int, steps: int = STEPS) -> None:
  """Prints medians, and the ratio to the first runner over the rounds."""
  for runner in runners.values():
    runner.seconds(WARM)
  sides = {name: lambda r=r: r.seconds(steps) for name, r in runners.items()}
  found = in_turn(sides, rounds)
  base = found[next(iter(runners))]
  for name, runner in runners.items():
    ratio = found[name] / base
    print(
      f"{name!s:7} {1000 * np.median(found[name][:, 0]):6.0f} ms,"
      f" {runner.state_bytes / MIB:7.1f} MiB of state,"
      f" {runner.temporary / MIB:7.0f} MiB temporary; ratio of time"
      f" {spread(ratio[:, 0])}, of the processor's {spread(ratio[:, 1])}",
      flush=True,
    )


def main(
  doc: str,
  names: Sequence[str],
  config: Callable[..., Any],
  extra: Mapping[str, int] | None = None,
) -> None:
  """The command of a benchmark that compares configs in one of two sizes.

  Args:
    doc: of its module. names: of the configs, the first is what others are compared to.
    config: (size, name, **extra options) -> config.
    extra: further options, whole numbers, with their defaults.
  """
  parser = argparse.ArgumentParser(description=doc.split("\n")[0])
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument("--size", choices=("tiny", "B/16"), default="tiny")
  parser.add_argument("--batch", type=int, default=0)
  for name, default in (extra or {}).items():
    parser.add_argument(f"--{name}", type=int, default=default)
  given = vars(parser.parse_args())
  rounds, size, batch = (given.pop(name) for name in ("rounds", "size", "batch"))
  batch = batch or (48 if size == "tiny" else 4)
  host_memory.keep_freed_memory()
  host_memory.run_in_caller()
  runners = {name: Runner(config(size, name, **given), batch) for name in names}
  compare(runners, rounds)
