"""Time per query of the second stage at the paper's sizes, on whatever is there.

  python -m tests.benchmarks.two_stage [QUERIES] [--gallery=7629] [--top=100]
    [--block=1024] [--dtype=float32]

Heads of CFAM B/16 (16 parts of 512, a matcher of 2 blocks) with drawn weights and drawn
parts: neither changes the time. It is `pair_scores.scores` as evaluation calls it,
without compilation. What a shortlist costs and gains on a run's test: rerank.py.
"""

import argparse
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from tpr_jax import pair_scores
from tpr_jax.core import sharding
from tpr_jax.models import build
from tpr_jax.second_stage import STAGES

HEADS = ("parts", "matcher")


def model(dtype: str):
  """(module, parameters of its matcher)."""
  fields = dict(variant="B/16", dtype=dtype)
  module = build.build(fields, vocab_size=49_408, heads=HEADS)
  parts = jnp.zeros((1, 16, 512))
  init = jax.jit(lambda key: module.init(key, parts, parts, method="match"))
  return module, init(jax.random.key(0))["params"]


def kept(rows: int, seed: int) -> dict[str, np.ndarray]:
  """Drawn parts."""
  rng = np.random.default_rng(seed)
  return dict(parts=rng.standard_normal((rows, 16, 512), dtype=np.float32))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("queries", type=int, nargs="?", default=32)
  parser.add_argument("--gallery", type=int, default=7629)
  parser.add_argument("--top", type=int, default=100)
  parser.add_argument("--block", type=int, default=1024)
  parser.add_argument("--dtype", default="float32")
  args = parser.parse_args()
  module, params = model(args.dtype)
  images, texts = kept(args.gallery, 0), kept(args.queries, 1)
  rng = np.random.default_rng(2)
  columns = rng.integers(0, args.gallery, (args.queries, args.top))
  mesh = sharding.make_mesh(dict(data=-1))
  device = jax.devices()[0].device_kind
  print(f"{jax.device_count()} x {device}, {args.dtype}, shortlists of {args.top}")
  for by, stage in STAGES.items():
    if not set(stage.heads) <= set(HEADS):
      continue
    stage = dataclasses.replace(stage, block=args.block)
    _, seconds = pair_scores.scores(
      stage, module, params, images, texts, columns, mesh=mesh, say=print
    )
    print(
      f"{by:>14}: {1000 * seconds / args.queries:9.3f} ms per query,"
      f" {columns.size / seconds:12,.0f} pairs per second"
    )


if __name__ == "__main__":
  main()
