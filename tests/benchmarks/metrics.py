"""Retrieval metrics against the way the field computes them: time and memory.

  pip install torch
  python -m tests.benchmarks.metrics [QUERIESxGALLERY ...] [--rounds=3]

The baseline is what most PyTorch projects of the field do after IRRA, written anew
here: the whole matrix of similarities, its argsort, a matrix of match flags, a running
sum, and a Python loop over ranks for the precision and over queries for INP. Ours is
`metrics/streaming.evaluate`, which also computes mSD; the baseline does not.

Every round runs both, each in a process of its own, on the same random features of 512
dimensions with about as many matches a query as the real set has. Time is that of the
first evaluation, compilation included, with the features already in memory, and then of
the same once more; memory is by how much the first raises the peak of the process. The
numbers of both are compared too.

  python -m tests.benchmarks.metrics --growth
  python -m tests.benchmarks.metrics --only=ours 100000x1000000

The first shows how our time grows with queries, gallery and matches a query; the second
is one machine's limit.
"""

import json
import resource
import subprocess
import sys
import time

import numpy as np

from tpr_jax.core import host_memory

DIMENSIONS = 512
# UFine6926's test split, and ICFG-PEDES's: queries, gallery, people.
REAL = {(15_258, 7_629): 1_998, (19_848, 19_848): 1_000}


def features(queries: int, gallery: int, people: int, seed: int = 0):
  """(query, gallery, query ids, gallery ids): unit rows around one centre a person."""
  rng = np.random.default_rng(seed)
  of_gallery = rng.integers(0, people, gallery)
  ids = [rng.choice(of_gallery, queries), of_gallery]  # the baseline needs a match
  centres = rng.standard_normal((people, DIMENSIONS), dtype=np.float32)
  rows = []
  for which in ids:
    x = np.empty((len(which), DIMENSIONS), np.float32)
    for at in range(0, len(which), 50_000):  # no second copy of a large gallery
      some = which[at : at + 50_000]
      noise = rng.standard_normal((len(some), DIMENSIONS), dtype=np.float32)
      part = centres[some] + 3.0 * noise
      x[at : at + 50_000] = part / np.linalg.norm(part, axis=1, keepdims=True)
    rows.append(x)
  return *rows, *ids


def baseline(query, gallery, query_ids, gallery_ids) -> dict[str, float]:
  """Rank-k, mAP, mINP in percent; everything at once, as [Q, G] tensors."""
  import torch

  query, gallery, query_ids, gallery_ids = map(
    torch.from_numpy, (query, gallery, query_ids, gallery_ids)
  )
  similarity = query @ gallery.t()
  order = torch.argsort(similarity, dim=1, descending=True)
  matches = gallery_ids[order].eq(query_ids.view(-1, 1))
  found = matches.cumsum(1)
  number = matches.sum(1)
  scores = {f"R{k}": float((found[:, k - 1] > 0).float().mean()) for k in (1, 5, 10)}
  inp = []
  for row, flags in enumerate(matches):
    last = flags.nonzero()[-1]
    inp.append(found[row][last] / (last + 1.0))
  scores["mINP"] = float(torch.cat(inp).mean())
  precision = [found[:, rank] / (rank + 1.0) for rank in range(found.shape[1])]
  precision = torch.stack(precision, 1) * matches
  scores["mAP"] = float((precision.sum(1) / number).mean())
  return {name: 100 * value for name, value in scores.items()}


def ours(query, gallery, query_ids, gallery_ids) -> dict[str, float]:
  from tpr_jax.metrics import streaming

  found = streaming.evaluate(query, gallery, query_ids, gallery_ids).summary()
  return {name: found[name] for name in ("R1", "R5", "R10", "mINP", "mAP", "mSD")}


SIDES = {"ours": ours, "baseline": baseline}


def run(side: str, queries: int, gallery: int, people: int) -> dict:
  """In this process: seconds, MB above the features, scores; seconds once more."""
  if side == "ours":
    host_memory.keep_freed_memory()  # as main does; the baseline needs all there is
    host_memory.run_in_caller()
    import jax

    jax.device_put(0.0)  # the libraries are no part of it
  else:
    import torch

    torch.zeros(1)
  arrays = features(queries, gallery, people)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  start = time.perf_counter()
  scores = SIDES[side](*arrays)
  seconds = time.perf_counter() - start
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  found = dict(seconds=seconds, extra_mb=(peak - before) / 1024, scores=scores)
  if found["extra_mb"] < 10_000 and seconds < 120:
    start = time.perf_counter()
    SIDES[side](*arrays)
    found["again"] = time.perf_counter() - start
  return found


def apart(side: str, queries: int, gallery: int, people: int) -> dict:
  """The same in a new process, whose peak of memory is its own."""
  words = [side, *map(str, (queries, gallery, people))]
  command = [sys.executable, "-m", "tests.benchmarks.metrics", "--child", *words]
  done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode:
    raise SystemExit(f"{side} {queries}x{gallery} failed:\n{done.stderr[-2000:]}")
  return json.loads(done.stdout.splitlines()[-1])


def median(values) -> float:
  return float(np.median(list(values)))


def compare(queries: int, gallery: int, rounds: int, sides: list[str]) -> None:
  people = REAL.get((queries, gallery), max(gallery // 10, 1))
  print(f"{queries:,} x {gallery:,}, {people:,} people", flush=True)
  found = {side: [] for side in sides}
  for _ in range(rounds):
    for side in sides:
      found[side].append(apart(side, queries, gallery, people))
  for side, results in found.items():
    seconds = [r["seconds"] for r in results]
    memory = median(r["extra_mb"] for r in results)
    scores = "  ".join(f"{k} {v:.3f}" for k, v in results[0]["scores"].items())
    spread = f"({min(seconds):.1f} to {max(seconds):.1f})"
    again = [r["again"] for r in results if "again" in r]
    warm = f"  again {median(again):.1f} s" if again else ""
    print(
      f"  {side:8s} {median(seconds):8.1f} s {spread}{warm}  {memory:8.0f} MB  {scores}"
    )
  if len(sides) == 2:
    pairs = list(zip(found["ours"], found["baseline"], strict=True))
    faster = [b["seconds"] / a["seconds"] for a, b in pairs]
    warm = [b["again"] / a["again"] for a, b in pairs if "again" in a and "again" in b]
    warm = f"; {median(warm):.1f} times when asked again" if warm else ""
    smaller = median(b["extra_mb"] / a["extra_mb"] for a, b in pairs)
    apart_by = max(
      abs(a["scores"][k] - b["scores"][k]) for a, b in pairs for k in b["scores"]
    )
    print(
      f"  {median(faster):.1f} times as fast ({min(faster):.1f} to {max(faster):.1f})"
      f"{warm},"
      f" {smaller:.1f} times less memory, scores within {apart_by:.1e}",
      flush=True,
    )


def growth() -> None:
  """Our time, one size doubled at a time."""
  start = dict(queries=5_000, gallery=10_000, people=1_000)
  changes = [
    {},
    *(dict(queries=5_000 * n) for n in (2, 4)),
    *(dict(gallery=10_000 * n, people=1_000 * n) for n in (2, 4)),
    *(dict(people=1_000 // n) for n in (4, 16, 64)),
  ]
  print(" queries  gallery  matches  seconds")
  for change in changes:
    size = {**start, **change}
    result = apart("ours", **size)
    matches = size["gallery"] / size["people"]
    print(
      f"{size['queries']:8,} {size['gallery']:8,} {matches:8.0f}"
      f" {result['seconds']:8.1f}",
      flush=True,
    )


def main(words: list[str]) -> None:
  if words[:1] == ["--child"]:
    side, *sizes = words[1:]
    print(json.dumps(run(side, *map(int, sizes))))
    return
  options = dict(w[2:].partition("=")[::2] for w in words if w.startswith("--"))
  if unknown := set(options) - {"rounds", "only", "growth"}:
    raise SystemExit(f"unknown option --{sorted(unknown)[0]}\n{__doc__}")
  if "growth" in options:
    growth()
    return
  sizes = [tuple(map(int, w.split("x"))) for w in words if not w.startswith("--")]
  sides = [options["only"]] if "only" in options else list(SIDES)
  for queries, gallery in sizes or list(REAL):
    compare(queries, gallery, int(options.get("rounds", 3)), sides)


if __name__ == "__main__":
  main(sys.argv[1:])
