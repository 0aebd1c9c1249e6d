"""Training steps of several configs in turn, on random numbers: time and memory."""

import time
import types
from collections.abc import Mapping

import jax
import numpy as np

from tpr_jax import program, run_weights
from tpr_jax.core import sharding
from tpr_jax.data import tokenizer

STEPS, WARM = 3, 2
MIB = 2**20
# CLIP's numbers, of a vocabulary that is no file here.
CLIP = types.SimpleNamespace(
  vocab_size=49_408, mask_id=49_405, start_id=49_406, end_id=49_407
)


class Runner:
  """Steps of one config on one device; its state goes on from call to call.

  Args:
    config: of a run of CLIP's family.
    batch: rows of a step; their captions fill a third to all of `text.length`.

  Attributes:
    state_bytes: parameters and the optimizer's state.
    temporary: bytes that live within one step, by XLA's account.
  """

  def __init__(self, config, batch: int):
    config.data.batch = batch
    spec = run_weights.tokenizer_spec(config, "")
    words = tokenizer.build(spec) if spec.startswith("people") else CLIP
    mesh = sharding.make_mesh({}, jax.devices()[:1])
    built = program.build(
      config,
      run_weights.model_fields(config, {}),
      tokenizer=words,
      num_classes=1000,
      mesh=mesh,
      steps=1000,
      steps_per_epoch=100,
      captions=1000,
    )
    rows = _rows(batch, config.text.length, config.model.image_size, words)
    self._rows = sharding.to_global(rows, sharding.batch_sharding(mesh))
    self._state, self._key = built.plan.create(jax.random.key(0)), jax.random.key(1)
    self._step = built.step.lower(self._state, self._rows, self._key).compile()
    self.temporary = self._step.memory_analysis().temp_size_in_bytes
    self.state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self._state))

  def seconds(self, steps: int) -> np.ndarray:
    """float64 [2]: time passed and processor's time of one step, mean of `steps`."""
    started = np.array([time.perf_counter(), time.process_time()])
    for _ in range(steps):
      self._state, metrics = self._step(self._state, self._rows, self._key)
    jax.block_until_ready((self._state, metrics))
    return (np.array([time.perf_counter(), time.process_time()]) - started) / steps


def _rows(batch: int, length: int, size: tuple[int, int], words) -> dict:
  rng = np.random.default_rng(0)
  text = rng.integers(1, words.mask_id, (batch, length)).astype(np.int32)
  text[:, 0] = words.start_id
  for row, end in enumerate(rng.integers(length // 3, length, batch)):
    text[row, end], text[row, end + 1 :] = words.end_id, 0
  return dict(
    image=rng.integers(0, 256, (batch, *size, 3), dtype=np.uint8),
    text=text,
    replaced=np.full(batch, -1, np.int32),
    **{k: np.arange(batch, dtype=np.int32) for k in ("ids", "image_id", "example")},
  )


def compare(runners: Mapping[str, Runner], rounds: int) -> None:
  """Prints medians, and the ratio to the first runner over the rounds."""
  found = {name: [] for name in runners}
  for runner in runners.values():
    runner.seconds(WARM)
  for number in range(rounds):
    # Who goes first changes, so that none always follows another.
    for name in runners if number % 2 else reversed(runners):
      found[name].append(runners[name].seconds(STEPS))
    shown = (f"{k}: {1000 * found[k][-1][0]:.0f} ms" for k in runners)
    print(f"round {number + 1}:", ", ".join(shown), flush=True)
  base = np.array(found[next(iter(runners))])
  for name, runner in runners.items():
    times = np.array(found[name])
    ratio = times / base
    print(
      f"{name:7} {1000 * np.median(times[:, 0]):6.0f} ms,"
      f" {runner.state_bytes / MIB:7.1f} MiB of state,"
      f" {runner.temporary / MIB:7.0f} MiB temporary; ratio of time"
      f" {np.median(ratio[:, 0]):.2f} ({ratio[:, 0].min():.2f} to"
      f" {ratio[:, 0].max():.2f}), of the processor's {np.median(ratio[:, 1]):.2f}"
      f" ({ratio[:, 1].min():.2f} to {ratio[:, 1].max():.2f})",
      flush=True,
    )
