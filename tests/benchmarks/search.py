"""Milliseconds a search, and what an index costs on disk and in memory.

  python -m tests.benchmarks.search                        100,000 pictures
  python -m tests.benchmarks.search --pictures=1000000
  python -m tests.benchmarks.search --pictures=100000 --store --faiss
  python -m tests.benchmarks.search --pictures=1000000 --near
  python -m tests.benchmarks.search --index=DIR --rerank=100

Rows of D numbers are drawn. "one" is a search by one row: its cosines, the best k, and
nothing else; "condition" the same among a tenth of the pictures; "batch" is a row's
share of 64 at once. From 200,000 pictures on copies of eight bits are compared first
("copies": what making them takes), and "in turn" has a search without them, too. With
--store the rows go through the store first, in commits of 1,024 with a thumbnail of
3 kB, and "open" is what reading them back takes, "where" a condition of its own. With
--faiss, IndexFlatIP of the package faiss-cpu is asked in turn with ours, by the same
rows. With --near, rows are of people, 20 pictures each (a center with noise of its
length; people are in groups of 50), they go through the store without thumbnails, its
index of nearest neighbours is made and measured by 64 rows with twice that noise, and a
search of each way is timed in turn. With --index=DIR an index that is there is searched
by words, its model's part included, in turn with and without its second look. Medians;
"peak" is the largest resident memory of the process.
"""

import argparse
import pathlib
import resource
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np

from tpr_jax.search import coarse, gallery, near, nearest
from tpr_jax.search.index import Index
from tpr_jax.search.store import Store

_WORDS = "a woman in a red coat with a black backpack"


class Drawn(gallery.Gallery):
  """A gallery without a store."""

  def __init__(self, count: int, dim: int):
    rng = np.random.default_rng(0)
    self.vectors = np.empty((count, dim), np.float32)
    for start in range(0, count, 65_536):
      part = self.vectors[start : start + 65_536]
      part[:] = rng.standard_normal(part.shape, np.float32)
      part /= np.linalg.norm(part, axis=1, keepdims=True)
    self.ids = self.order = np.arange(count)


def clock(act: Callable[[], object], times: int) -> float:
  """Median milliseconds, after one call that is not counted."""
  act()
  found = []
  for _ in range(times):
    began = time.perf_counter()
    act()
    found.append(1e3 * (time.perf_counter() - began))
  return statistics.median(found)


def through_store(folder: pathlib.Path, drawn: Drawn) -> tuple[gallery.Gallery, Store]:
  began = time.perf_counter()
  store = Store(folder, drawn.vectors.shape[1])
  rng = np.random.default_rng(1)  # thumbnails differ, or the store would fold them
  for start in range(0, len(drawn), 1024):
    rows = [
      dict(
        path=f"{i:09}.jpg",
        hash=f"{i:032x}",
        size=i,
        thumbnail=rng.bytes(3_000),
        vector=row,
      )
      for i, row in enumerate(drawn.vectors[start : start + 1024], start)
    ]
    store.put(rows, replaces=False)
  print(f"store: written in {time.perf_counter() - began:.1f} s")
  began = time.perf_counter()
  store.tidy()
  print(f"store: tidied in {time.perf_counter() - began:.1f} s")
  size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
  print(f"store: {size / 2**20:,.0f} MiB on disk")
  began = time.perf_counter()
  found = gallery.Gallery(store)
  print(f"open: {time.perf_counter() - began:.2f} s")
  condition = f"size < {len(drawn) // 10}"
  asked = lambda: list(store.read(["path"], condition, ids=True))
  print(f"where: {clock(asked, 9):.1f} ms")
  return found, store


def of_people(count: int, dim: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
  """(rows, queries), unit rows that have neighbours, which random ones have not."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape, np.float32)
  groups = draw(max(1, count // 1000), dim)
  people = groups[rng.integers(len(groups), size=max(1, count // 20))]
  people += draw(*people.shape)
  rows = np.empty((count, dim), np.float32)
  for start in range(0, count, 65_536):
    part = rows[start : start + 65_536]
    part[:] = people[rng.integers(len(people), size=len(part))] + draw(*part.shape)
    part /= np.linalg.norm(part, axis=1, keepdims=True)
  asked = people[rng.integers(len(people), size=queries)] + 2 * draw(queries, dim)
  return rows, asked / np.linalg.norm(asked, axis=1, keepdims=True)


def searched(whole: gallery.Gallery, asked: nearest.Rows, top: int, allowed=None):
  """A search of all rows, as an index of so many pictures does it."""
  how = dict(coarse=whole.copies, judged=False)
  return nearest.exact(whole.vectors, whole.order, asked, {}, top, allowed, **how)


def approximately(count: int, dim: int, top: int, times: int) -> None:
  """The store's index of nearest neighbours beside all rows in memory."""
  rows, queries = of_people(count, dim, near.QUERIES)
  with tempfile.TemporaryDirectory() as folder:
    store = Store(pathlib.Path(folder), dim)
    for start in range(0, count, 16_384):
      part = enumerate(rows[start : start + 16_384], start)
      named = [
        dict(path=f"{i:09}.jpg", hash=f"{i:032x}", vector=row) for i, row in part
      ]
      store.put(named, replaces=False)
    began = time.perf_counter()
    store.make_near()
    print(f"near: {store.near_parts():,} parts, {time.perf_counter() - began:.0f} s")
    began = time.perf_counter()
    found = near.measured(store, queries, count)
    print(f"measured: {found} in {time.perf_counter() - began:.0f} s")
    whole, part = gallery.Gallery(store), gallery.Gallery(store, whole=False)
    asked = dict(text=queries[0])
    exact = lambda: searched(whole, asked, top)
    about = lambda: nearest.approximate(
      store, part, found, asked, {}, top, judged=False
    )
    ours, theirs = [], []
    for _ in range(3):
      ours.append(clock(about, times))
      theirs.append(clock(exact, times))
    print(f"in turn: approximate {min(ours):.1f} ms, of all {min(theirs):.1f} ms")


def of_index(place: str, rerank: int, top: int, times: int) -> None:
  """An index by words, with and without its second look."""
  found = Index.open(place)
  found.search(_WORDS, top=top, rerank=rerank)  # loads and compiles
  plain, twice = [], []
  for _ in range(3):
    plain.append(clock(lambda: found.search(_WORDS, top=top), times))
    again = lambda: found.search(_WORDS, top=top, rerank=rerank)
    twice.append(clock(again, times))
  print(f"{place}: {len(found):,} pictures, by words, top {top}")
  print(f"plain: {statistics.median(plain):.1f} ms")
  print(f"the first {rerank} again: {statistics.median(twice):.1f} ms")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--pictures", type=int, default=100_000)
  parser.add_argument("--dim", type=int, default=512)
  parser.add_argument("--top", type=int, default=20)
  parser.add_argument("--times", type=int, default=21)
  parser.add_argument("--store", action="store_true")
  parser.add_argument("--faiss", action="store_true")
  parser.add_argument("--near", action="store_true")
  parser.add_argument("--index", default="")
  parser.add_argument("--rerank", type=int, default=100)
  given = parser.parse_args()
  if given.index:
    of_index(given.index, given.rerank, given.top, given.times)
    return
  if given.near:
    approximately(given.pictures, given.dim, given.top, given.times)
    return
  found: gallery.Gallery = Drawn(given.pictures, given.dim)
  if given.store:
    with tempfile.TemporaryDirectory() as folder:
      found, _ = through_store(pathlib.Path(folder), found)
  queries = Drawn(64, given.dim).vectors + found.vectors[:64]
  queries /= np.linalg.norm(queries, axis=1, keepdims=True)
  asked = dict(image=queries[0])
  whole = lambda: gallery.best(found.vectors @ queries[0], found.order, given.top)
  one = lambda: searched(found, asked, given.top)
  tenth = np.arange(given.pictures) % 10 == 0
  some = lambda: searched(found, asked, given.top, tenth)
  many = lambda: found.best(queries, given.top)
  print(f"{given.pictures:,} x {given.dim}, top {given.top}")
  large = given.pictures >= coarse.LEAST
  if large:
    began = time.perf_counter()
    one()
    print(f"copies: {time.perf_counter() - began:.1f} s")
  print(f"one: {clock(one, given.times):.1f} ms")
  print(f"condition: {clock(some, given.times):.1f} ms")
  print(f"batch: {clock(many, max(3, given.times // 7)) / 64:.2f} ms a query")
  sides = {"ours": one} | ({"without copies": whole} if large else {})
  if given.faiss:
    import faiss

    flat = faiss.IndexFlatIP(given.dim)
    flat.add(found.vectors)
    sides["faiss flat"] = lambda: flat.search(queries[:1], given.top)
  if len(sides) > 1:  # in turn, so that all meet the same neighbours
    times = [{n: clock(act, given.times) for n, act in sides.items()} for _ in range(3)]
    best = {name: min(each[name] for each in times) for name in sides}
    print("in turn: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in best.items()))
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
  print(f"peak: {peak:,.0f} MiB")


if __name__ == "__main__":
  main()
