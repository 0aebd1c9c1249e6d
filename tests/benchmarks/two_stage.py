"""Time per query of the second stage at the paper's sizes, on whatever is there.

  python -m tests.benchmarks.two_stage [QUERIES] [--gallery=7629] [--top=100]
    [--block=1024] [--dtype=float32]

Heads of CFAM B/16 (16 parts of 512, a matcher of 2 blocks) with drawn weights and drawn
parts: neither changes the time. It is `two_stage.second_scores` as evaluation calls it,
without compilation.
"""

import argparse
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from tpr_jax import encoding, two_stage
from tpr_jax.core import sharding
from tpr_jax.models import build
from tpr_jax.second_stage import STAGES


def model(dtype: str):
  """(module, parameters of its matcher)."""
  fields = dict(variant="B/16", dtype=dtype)
  module = build.build(fields, vocab_size=49_408, heads=("parts", "matcher"))
  parts = jnp.zeros((1, 16, 512))
  init = jax.jit(lambda key: module.init(key, parts, parts, method="match"))
  return module, init(jax.random.key(0))["params"]


def features(queries: int, gallery: int) -> encoding.Features:
  """Drawn parts; what else `Features` has is not looked at."""
  rng = np.random.default_rng(0)
  draw = lambda n: dict(parts=rng.standard_normal((n, 16, 512), dtype=np.float32))
  fields = {field.name: None for field in dataclasses.fields(encoding.Features)}
  fields |= dict(image_kept=draw(gallery), text_kept=draw(queries))
  return encoding.Features(**fields)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("queries", type=int, nargs="?", default=32)
  parser.add_argument("--gallery", type=int, default=7629)
  parser.add_argument("--top", type=int, default=100)
  parser.add_argument("--block", type=int, default=1024)
  parser.add_argument("--dtype", default="float32")
  args = parser.parse_args()
  module, params = model(args.dtype)
  some, rng = features(args.queries, args.gallery), np.random.default_rng(1)
  columns = rng.integers(0, args.gallery, (args.queries, args.top))
  mesh = sharding.make_mesh(dict(data=-1))
  device = jax.devices()[0].device_kind
  print(f"{jax.device_count()} x {device}, {args.dtype}, shortlists of {args.top}")
  for by, stage in STAGES.items():
    stage = dataclasses.replace(stage, block=args.block)
    _, seconds = two_stage.second_scores(
      stage, module, params, some, columns, mesh=mesh, say=print
    )
    print(
      f"{by:>14}: {1000 * seconds / args.queries:9.3f} ms per query,"
      f" {columns.size / seconds:12,.0f} pairs per second"
    )


if __name__ == "__main__":
  main()
