"""What saving and resuming cost, on this machine's disk.

  python -m tests.benchmarks.saving                 the state of CFAM B/16: 2 GB
  python -m tests.benchmarks.saving --variant=tiny --rounds=5

The state is that of `configs/cfam.py:cuhk_pedes` (parameters and Adam's two moments),
filled with random numbers. "blocked": seconds until the loop goes on; "written": until
the checkpoint is visible, digests and all, in the background; "digests": reading it all
again for its digests, alone; "restored": digests checked, then read into place;
"unchecked": the same without checking. Medians of the rounds, and their range.
"""

import argparse
import pathlib
import shutil
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import cfam
from tpr_jax import checkpoints, program, run_weights, seal
from tpr_jax.core import sharding
from tpr_jax.core.types import TrainState

IDENTITIES, VOCAB = 11_003, 49_408


def state_of(variant: str) -> TrainState:
  config = cfam.get_config(f"cuhk_pedes,variant={variant}").lock()
  fields = run_weights.model_fields(config, {})
  module = program.model(config, fields, vocab_size=VOCAB, num_classes=IDENTITIES)
  shapes = jax.eval_shape(program.init_fn(config, module, VOCAB - 1), jax.random.key(0))
  rng = np.random.default_rng(0)

  def filled(leaf):
    if leaf.dtype != jnp.float32:
      return jnp.zeros(leaf.shape, leaf.dtype)
    return jnp.asarray(rng.standard_normal(leaf.shape, np.float32))

  params = jax.tree.map(filled, shapes)
  moments = jax.tree.map(filled, jax.eval_shape(optax.adam(1e-5).init, shapes))
  return TrainState(step=jnp.int32(0), params=params, opt_state=moments)


def one_round(folder: pathlib.Path, state: TrainState) -> dict[str, float]:
  mesh = sharding.make_mesh(dict(data=-1))
  rules = ((".*", "replicate"),)
  wanted = checkpoints.abstract(state, sharding.state_shardings(state, mesh, rules))
  saved, found = checkpoints.Checkpoints(folder / "checkpoints"), {}

  def timed(name, work):
    began = time.perf_counter()
    work()
    found[name] = time.perf_counter() - began

  began = time.perf_counter()
  timed("blocked", lambda: saved.save(1, state, {"step": 1}))
  saved.wait()
  found["written"] = time.perf_counter() - began
  saved.close()
  reader = checkpoints.Checkpoints(folder / "checkpoints", read_only=True)
  timed("digests", lambda: seal.problem(folder / "checkpoints" / "1"))
  timed("restored", lambda: jax.block_until_ready(reader.restore(1, wanted)))
  timed("unchecked", lambda: jax.block_until_ready(reader.restore(1, wanted)))
  reader.close()
  return found


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--variant", default="B/16")
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--folder", default=None, help="on the disk to be measured")
  given = parser.parse_args()
  state = state_of(given.variant)
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 2**20
  print(f"{given.variant}: {size:,.0f} MiB of state", flush=True)
  rounds = []
  for _ in range(given.rounds):
    folder = pathlib.Path(tempfile.mkdtemp(dir=given.folder))
    try:
      rounds.append(one_round(folder, state))
    finally:
      shutil.rmtree(folder)
  for name in rounds[0]:
    values = sorted(each[name] for each in rounds)
    print(
      f"  {name:10} {np.median(values):7.2f} s  ({values[0]:.2f} to {values[-1]:.2f})"
    )


if __name__ == "__main__":
  main()
