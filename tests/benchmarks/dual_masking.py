"""What GA-DMS's masks cost a step of training, in time and in memory.

  python -m tests.benchmarks.dual_masking [--rounds=7] [--size=tiny | B/16] [--batch=N]

Steps with masks by each kind of score against the same losses without (SDM and masked
words: two text passes and an image pass), in turn within one process; medians, and the
median and range of the ratio over the rounds, of the time that passed and of the
processor's time. "tiny" is the embedded run's step (48 rows of 152 tokens), "B/16" that
of pre-training (384 x 128, 77 tokens) on random weights. Temporary memory is XLA's own
account of the compiled step.
"""

import argparse
import time
import types

import jax
import numpy as np

from configs import ga_dms
from tpr_jax import program, run_weights
from tpr_jax.core import host_memory, sharding
from tpr_jax.data import tokenizer

KINDS = ("none", "gass", "cosine", "random")
STEPS, WARM = 3, 2


def config(size: str, kind: str, batch: int):
  c = ga_dms.get_config("rendered" if size == "tiny" else f"mals,variant={size}")
  c.objective.dual.score = kind
  c.data.batch = batch
  return c


def made(size: str, kind: str, batch: int):
  """(compiled step, state, batch, key) on random numbers, for one device."""
  c = config(size, kind, batch)
  words = (
    tokenizer.build(run_weights.tokenizer_spec(c, "")) if size == "tiny" else _CLIP
  )
  mesh = sharding.make_mesh({}, jax.devices()[:1])
  built = program.build(
    c,
    run_weights.model_fields(c, {}),
    tokenizer=words,
    num_classes=1000,
    mesh=mesh,
    steps=1000,
    steps_per_epoch=100,
    captions=1000,
  )
  state, key = built.plan.create(jax.random.key(0)), jax.random.key(1)
  rng = np.random.default_rng(0)
  text = rng.integers(1, words.mask_id, (batch, c.text.length)).astype(np.int32)
  text[:, 0] = words.start_id
  for row, end in enumerate(rng.integers(c.text.length // 3, c.text.length, batch)):
    text[row, end], text[row, end + 1 :] = words.end_id, 0
  rows = dict(
    image=rng.integers(0, 256, (batch, *c.model.image_size, 3), dtype=np.uint8),
    text=text,
    replaced=np.full(batch, -1, np.int32),
    **{k: np.arange(batch, dtype=np.int32) for k in ("ids", "image_id", "example")},
  )
  rows = sharding.to_global(rows, sharding.batch_sharding(mesh))
  return built.step.lower(state, rows, key).compile(), state, rows, key


_CLIP = types.SimpleNamespace(
  vocab_size=49_408, mask_id=49_405, start_id=49_406, end_id=49_407
)


class Runner:
  """Steps of one kind of score; its state goes on from call to call."""

  def __init__(self, size: str, kind: str, batch: int):
    self._step, self._state, self._rows, self._key = made(size, kind, batch)
    self.temporary = self._step.memory_analysis().temp_size_in_bytes

  def seconds(self, steps: int) -> np.ndarray:
    """float64 [2]: time passed and processor's time of one step, mean of `steps`."""
    started = np.array([time.perf_counter(), time.process_time()])
    for _ in range(steps):
      self._state, metrics = self._step(self._state, self._rows, self._key)
    jax.block_until_ready((self._state, metrics))
    return (np.array([time.perf_counter(), time.process_time()]) - started) / steps


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument("--size", default="tiny")
  parser.add_argument("--batch", type=int, default=0)
  options = parser.parse_args()
  batch = options.batch or (48 if options.size == "tiny" else 4)
  host_memory.keep_freed_memory()
  runners = {kind: Runner(options.size, kind, batch) for kind in KINDS}
  found = {kind: [] for kind in KINDS}
  for runner in runners.values():
    runner.seconds(WARM)
  for number in range(options.rounds):
    # Who goes first changes, so that none always follows another.
    for kind in KINDS if number % 2 else reversed(KINDS):
      found[kind].append(runners[kind].seconds(STEPS))
    shown = (f"{k}: {1000 * found[k][-1][0]:.0f} ms" for k in KINDS)
    print(f"round {number + 1}:", ", ".join(shown), flush=True)
  base = np.array(found["none"])
  for kind in KINDS:
    times = np.array(found[kind])
    ratio = times / base
    print(
      f"{kind:7} {1000 * np.median(times[:, 0]):6.0f} ms,"
      f" {runners[kind].temporary / 2**20:7.0f} MiB temporary; ratio of time"
      f" {np.median(ratio[:, 0]):.2f} ({ratio[:, 0].min():.2f} to"
      f" {ratio[:, 0].max():.2f}), of the processor's {np.median(ratio[:, 1]):.2f}"
      f" ({ratio[:, 1].min():.2f} to {ratio[:, 1].max():.2f})",
      flush=True,
    )


if __name__ == "__main__":
  main()
