"""Pairs a second, and memory, of training input from shards: against a dataset in RAM.

  python -m tests.benchmarks.streaming --folder=DIR                  a million records
  python -m tests.benchmarks.streaming --folder=DIR --records=10000 --read=20000

Writes a set of shards below DIR (removed at the end, unless --keep): `records` pictures
of 384 x 128, JPEGs of 64 rendered people, with two captions each of some 60 words, each
its own identity. Then reads batches of 64 through `pipeline.train_iterator` with the
augmentation of configs/cfam.py for real data (B/16), the shards taken out of the page
cache first, and at last, in turn, the same from 20,000 of those records and pictures in
RAM. "pairs/s" is by the clock, "a core" by the CPU time of this process, which other
programs on the machine change less. "anonymous" is RAM that this process alone accounts
for; "mapped" is files (libraries, the index), which the system takes back when it needs
room.
"""

import argparse
import dataclasses
import functools
import os
import pathlib
import shutil
import time
from collections.abc import Sequence

from configs import cfam
from tpr_jax.data import build, images, pipeline, tokenizer
from tpr_jax.data.record import Dataset, Record
from tpr_jax.data.shards.write import Recipe, write_shards

DISTINCT, IN_RAM, BATCH, LENGTH = 64, 20_000, 64, 77


def drawn() -> Dataset:
  options = dict(identities=DISTINCT, views=1, twins=0, granularity=("fine", "coarse"))
  return build.dataset("rendered", None, "train", options)


class Synthetic(Sequence):
  """`count` records over the drawn pictures and texts; none is held."""

  def __init__(self, count: int, texts: list[tuple[str, ...]]):
    self._count, self._texts = count, texts

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, index: int) -> Record:
    at = range(self._count)[index]
    said = tuple(f"Number {at}. {text}" for text in self._texts[at % DISTINCT])
    return Record(f"{at // 1000:04}/{at:07}.jpg", at, said, "train", "synthetic")


@dataclasses.dataclass(frozen=True)
class Encoded:
  """`Dataset.load_image` of the synthetic records: JPEG bytes in RAM."""

  pictures: tuple[bytes, ...]

  def read_bytes(self, record: Record) -> bytes:
    return self.pictures[record.identity % DISTINCT]

  def __call__(self, record: Record, size=None):
    return images.decode(self.read_bytes(record), record.image)


def synthetic(count: int, quality: int) -> Dataset:
  people = drawn()
  encode = functools.partial(images.encode_jpeg, quality=quality)
  pictures = tuple(
    encode(people.load_image(record, (384, 128))) for record in people.records
  )
  texts = [record.captions for record in people.records]
  return Dataset("synthetic", "train", Synthetic(count, texts), Encoded(pictures))


def memory() -> tuple[float, float]:
  """(anonymous, mapped) MiB of this process."""
  lines = pathlib.Path("/proc/self/status").read_text().splitlines()
  found = dict(line.split(":", 1) for line in lines)
  return tuple(int(found[key].split()[0]) / 1024 for key in ("RssAnon", "RssFile"))


def said(what: str, more: str = "") -> None:
  anonymous, mapped = memory()
  print(f"{what:34} {anonymous:9.0f} {mapped:8.0f}  {more}", flush=True)


def forget(folder: pathlib.Path) -> None:
  """Takes the shards out of the page cache: they come from the disk again."""
  for path in folder.glob("*.array_record"):
    with path.open("rb") as file:
      os.fsync(file.fileno())
      os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def iterate(dataset: Dataset, words: str, threads: int) -> pipeline.TrainIterator:
  return pipeline.train_iterator(
    dataset,
    tokenizer.build(words),
    pipe=cfam.get_config("shards").data.image,
    length=LENGTH,
    batch=BATCH,
    seed=0,
    threads=threads,
  )


def rate(batches: pipeline.TrainIterator, pairs: int) -> str:
  """Reads so many pairs -> how fast."""
  clock, cpu = time.perf_counter(), time.process_time()
  for _ in range(pairs // BATCH):
    next(batches)
  clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
  pairs = pairs // BATCH * BATCH
  return f"{pairs / clock:7.0f} pairs/s {pairs / cpu:7.0f} a core"


def write(folder: pathlib.Path, dataset: Dataset, threads: int) -> None:
  began = time.perf_counter()
  made = write_shards(dataset, folder, Recipe(), threads=threads)
  seconds, size = time.perf_counter() - began, sum(s.bytes for s in made.shards)
  index = sum(
    path.stat().st_size for path in (folder / "synthetic/train").glob("*.npy")
  )
  said(
    "written",
    f"{made.records:,} records, {made.captions:,} captions, {len(made.shards)} shards,"
    f" {size / 1e9:.2f} GB, index {index / 1e6:.0f} MB; {seconds:.0f} s,"
    f" {made.records / seconds:,.0f} records/s",
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--folder", type=pathlib.Path, required=True)
  parser.add_argument("--records", type=int, default=1_000_000)
  parser.add_argument("--read", type=int, default=120_000, help="pairs from the shards")
  parser.add_argument("--threads", type=int, default=2)
  parser.add_argument("--quality", type=int, default=90)
  parser.add_argument("--tokenizer", default="instant")
  parser.add_argument("--keep", action="store_true")
  options = parser.parse_args()
  print(f"{'':34} anonymous   mapped  (MiB)")
  said("begun")
  source = synthetic(options.records, options.quality)
  folder = options.folder / "synthetic/train"
  if not folder.exists():
    write(options.folder, source, options.threads)
  forget(folder)
  began = time.perf_counter()
  stream = build.dataset("shards", options.folder, "train")
  batches = iterate(stream, options.tokenizer, options.threads)
  said("opened", f"{time.perf_counter() - began:.1f} s; {batches.captions}")
  rate(batches, 10 * BATCH)
  said("after the first batches")
  for part in range(4):
    speed = rate(batches, options.read // 4)
    said(f"shards, {(part + 1) * (options.read // 4):,} pairs read", speed)
  few = tuple(source.records[i] for i in range(min(IN_RAM, options.records)))
  held = dataclasses.replace(source, records=few)
  in_ram = iterate(held, options.tokenizer, options.threads)
  rate(in_ram, 10 * BATCH)
  for _ in range(3):
    for name, each in (("RAM", in_ram), ("shards", batches)):
      said(f"{name}, in turn", rate(each, options.read // 8))
  batches.close()
  in_ram.close()
  if not options.keep:
    shutil.rmtree(options.folder / "synthetic")


if __name__ == "__main__":
  main()
