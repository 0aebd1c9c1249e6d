"""Pairs a second, and memory, of the filter's rule: features in, s0 and c out.

  python -m tests.benchmarks.filter                              a million pairs
  python -m tests.benchmarks.filter --pairs=20000 --queries=32 --pools=10000
  python -m tests.benchmarks.filter --pairs=20000 --folder=DIR   features from files

Features of D numbers are drawn part by part, as a scorer gives them, or written below
DIR first and mapped from there (removed at the end): Q rows for an image, one for its
caption. Each part of 2,048 pairs goes through `rule.Counter`, on all devices that there
are; then all pairs are cut by keep_ratio. "counting" is the time within `Counter`
alone; "pairs/s" counts making or reading the features, too. "peak" is the largest
resident memory of the process so far: for a smaller pool alone, give --pools one size.
"""

import argparse
import pathlib
import resource
import time
from collections.abc import Iterator

import jax
import numpy as np

from tpr_jax.filter import cut, rule
from tpr_jax.filter.scoring import PART
from tpr_jax.filter.settings import Cut


def unit(seed: list[int], *shape: int) -> np.ndarray:
  rng = np.random.default_rng(seed)
  rows = rng.standard_normal(shape, np.float32)
  return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def drawn(pairs: int, queries: int, dim: int) -> Iterator[tuple[np.ndarray, ...]]:
  """Parts of (images [n, Q, D], texts [n, D]); a text is near one row of its image."""
  for start in range(0, pairs, PART):
    n = min(PART, pairs - start)
    image = unit([1, start], n, queries, dim)
    text = image[:, 0] + 8 * unit([2, start], n, dim)
    yield image, text / np.linalg.norm(text, axis=-1, keepdims=True)


def mapped(
  folder: pathlib.Path, pairs: int, queries: int, dim: int
) -> Iterator[tuple[np.ndarray, ...]]:
  """The same through files."""
  shapes = dict(image=(pairs, queries, dim), text=(pairs, dim))
  for name, shape in shapes.items():
    np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, shape)
  files = [np.load(folder / f"{name}.npy", mmap_mode="r+") for name in shapes]
  for at, part in enumerate(drawn(pairs, queries, dim)):
    for file, rows in zip(files, part, strict=True):
      file[at * PART : at * PART + len(rows)] = rows
  del files
  for start in range(0, pairs, PART):  # mapped anew, so that no file stays in memory
    yield tuple(
      np.array(np.load(folder / f"{name}.npy", mmap_mode="r")[start : start + PART])
      for name in shapes
    )
  for name in shapes:
    (folder / f"{name}.npy").unlink()


def peak() -> float:
  """GiB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(given: argparse.Namespace, size: int) -> None:
  pairs, queries, dim = given.pairs, given.queries, given.dim
  counter = rule.Counter(unit([0], size, dim))
  warm = next(drawn(PART, queries, dim))
  counter(*warm, np.ones(PART, np.int64))  # compiles
  found = cut.Scored(
    np.zeros(pairs, np.float32), np.zeros(pairs, np.int32), np.arange(pairs)
  )
  parts = (
    mapped(given.folder, pairs, queries, dim)
    if given.folder
    else drawn(pairs, queries, dim)
  )
  began, counting, at = time.perf_counter(), 0.0, 0
  for image, text in parts:
    clock = time.perf_counter()
    own, c = counter(image, text, np.ones(len(text), np.int64))
    counting += time.perf_counter() - clock
    found.s0[at : at + len(c)], found.c[at : at + len(c)] = own, c
    at += len(c)
    if at // PART % 50 == 0:
      print(f"  {at:,} of {pairs:,}, peak {peak():.2f} GiB", flush=True)
  keep = cut.decide(found, Cut("keep_ratio", 0.9, 0), size)
  spent = time.perf_counter() - began
  # Three products of whole numbers for each (rule.py).
  work = 2 * 3 * pairs * queries * dim * size / counting / 1e9
  print(
    f"pool {size:>7,}: {pairs / spent:9,.0f} pairs/s, counting {counting:8.1f} s"
    f" ({work:,.0f} GFLOP/s), peak {peak():.2f} GiB, kept {keep.mean():.3f}, median c"
    f" {int(np.median(found.c)):,}",
    flush=True,
  )


def main() -> None:
  flags = argparse.ArgumentParser()
  flags.add_argument("--pairs", type=int, default=1_000_000)
  flags.add_argument("--queries", type=int, default=1)
  flags.add_argument("--dim", type=int, default=256)
  flags.add_argument("--pools", default="10000", help="sizes, after commas")
  flags.add_argument("--folder", type=pathlib.Path)
  given = flags.parse_args()
  print(
    f"{given.pairs:,} pairs, {given.queries} x {given.dim}, {jax.device_count()}"
    f" {jax.devices()[0].device_kind}"
  )
  for size in map(int, given.pools.split(",")):
    measure(given, size)


if __name__ == "__main__":
  main()
