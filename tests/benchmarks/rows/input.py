"""JPEG files to training batches: pictures a second and core.

A few hundred rendered people as JPEGs of about 384 x 128, with the whole augmentation
of the recipe (resize, flip, pad and crop, erase) and captions as tokens. PyTorch has a
DataLoader with as many workers as there are cores, ours as many threads. PyTorch's
batches are normalised float32; ours are uint8, which the step normalises. `cached` is
of every epoch but the first, as recipes have it: decoded and resized pictures are kept
in memory (data.cache_mb). The others decode every picture, as the first epoch does, and
all do of a set that no memory holds: by threads (`uint8`), by as many processes as
PyTorch has (`workers`, data.workers), and to normalised float32 (`float32`). Each turn
is a process of its own: a DataLoader forks, which a process with JAX in it must not.

`feed`: does a GPU wait for pictures? What takes a batch of 64 waits, as a host does for
its device, for as long as an H200 takes for a step of CFAM B/16 (README, "On a GPU").
The batches come from JPEGs as in `cached`, and, beside it, from a list of them.
"""

import itertools
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmarks import suite
from tpr_jax.data import build, pipeline, tokenizer

PICTURES, SIZE, LENGTH, BATCH = 200, (384, 128), 168, 32
WARM, COUNTED = 2, 24  # batches
PIPE = "resize(384,128)|flip(0.5)|pad_crop(10)|erase(0.5)"
GOAL = 2.0
FED, STEP, FED_GOAL = 64, 0.0347, 5.0  # pictures, seconds a step; %


def write(folder: pathlib.Path) -> None:
  """Pictures of 300 to 460 pixels' height, and captions.json, into a folder."""
  people = dict(identities=PICTURES, views=1, granularity=("coarse",))
  dataset = build.dataset("rendered", None, "train", people)
  rng, entries = np.random.default_rng(0), []
  for number, record in enumerate(dataset.records):
    height = int(rng.integers(300, 461))
    pixels = dataset.load_image(record, SIZE)
    image = Image.fromarray(pixels).resize(
      (round(height / rng.uniform(2.4, 3)), height)
    )
    name = f"{number:04}.jpg"
    image.save(folder / name, quality=92)
    entries.append(dict(image=name, identity=number, captions=list(record.captions)))
  text = json.dumps([dict(entry, split="train") for entry in entries])
  (folder / "captions.json").write_text(text, encoding="utf-8")


SIDES = {  # of ours: what train_iterator is told beside the usual
  "uint8": dict(pipe=PIPE),
  "workers": dict(pipe=PIPE),
  "float32": dict(pipe=f"{PIPE}|normalize"),
  "cached": dict(pipe=PIPE, cache_mb=256),
}
FEEDS = ("feed", "list")  # JPEG files, and batches that are in memory


def ours(
  side: str, folder: str, cores: int, batch: int = BATCH
) -> Iterable[dict[str, Any]]:
  """Our batches of the files, as a run that has so many cores for them reads them."""
  dataset = build.dataset("folder", folder, "train", dict(default_split="train"))
  words = tokenizer.build("instant")
  readers = dict(threads=1, workers=cores) if side == "workers" else dict(threads=cores)
  return pipeline.train_iterator(
    dataset,
    words,
    length=LENGTH,
    batch=batch,
    seed=0,
    **SIDES[side],
    **readers,
  )


def theirs(folder: str, workers: int) -> Iterable[dict[str, Any]]:
  """PyTorch's batches of the same files, endless."""
  import torch

  from tests.benchmarks.pytorch import loader

  torch.set_num_threads(1)  # workers have one each by default
  entries = json.loads(pathlib.Path(folder, "captions.json").read_text())
  texts = [entry["captions"][0] for entry in entries]
  tokens = tokenizer.build("instant").encode(texts, LENGTH)[0]
  paths = [f"{folder}/{entry['image']}" for entry in entries]
  made = loader.batches(loader.Pairs(paths, tokens, SIZE), BATCH, workers)
  return itertools.chain.from_iterable(itertools.repeat(made))


def now() -> np.ndarray:
  """float64 [2]: a clock, and the processor's time of this process and its workers."""
  ticks = 0
  for worker in multiprocessing.active_children():
    stat = pathlib.Path(f"/proc/{worker.pid}/stat").read_text()
    user, system = stat.rpartition(")")[2].split()[11:13]
    ticks += int(user) + int(system)
  of_workers = ticks / os.sysconf("SC_CLK_TCK")
  return np.array([time.perf_counter(), time.process_time() + of_workers])


def measure(side: str, folder: str, workers: int) -> np.ndarray:
  """float64 [2]: seconds a picture, in this process, and the processor's."""
  if side == "PyTorch":
    reader = iter(theirs(folder, workers))
  else:
    reader = iter(ours(side, folder, workers))
  for _ in range(PICTURES // BATCH + WARM):  # an epoch: what is kept is there
    next(reader)
  started = now()
  for _ in range(COUNTED):
    next(reader)
  return (now() - started) / (COUNTED * BATCH)


def fed(side: str, folder: str, workers: int) -> np.ndarray:
  """float64 [2] as `measure`, of a device that takes its batches from us; of FEEDS."""
  reader = iter(ours("cached", folder, workers, FED))
  epoch = [next(reader) for _ in range(-(-PICTURES // FED) + WARM)]
  if side == "list":
    reader = itertools.cycle(epoch)
  started = now()
  for _ in range(COUNTED):
    next(reader)
    time.sleep(STEP)
  return (now() - started) / (COUNTED * FED)


def apart(side: str, folder: str, workers: int) -> np.ndarray:
  """The same in a process of its own."""
  command = [sys.executable, "-m", __name__, side, folder, str(workers)]
  done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode:
    raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
  return np.array(json.loads(done.stdout.splitlines()[-1]))


def rows(options: suite.Options) -> Iterator[suite.Row]:
  """input/uint8, input/workers, input/float32, input/cached, input/feed."""
  from tests.benchmarks import steps  # and with it JAX, which the turns have not

  suite.torch_or_none()
  workers = suite.cores()
  with tempfile.TemporaryDirectory() as folder:
    write(pathlib.Path(folder))
    turns = {
      side: lambda side=side: apart(side, folder, workers)
      for side in ("PyTorch", *SIDES, *FEEDS)
    }
    found = steps.in_turn(turns, options.rounds)
  feeds = {side: found.pop(side) for side in FEEDS}
  rate = {
    side: f"{1 / np.median(seconds[:, 0]) / workers:,.0f} pictures/s a core"
    for side, seconds in found.items()
  }
  for side in SIDES:
    ratio = found["PyTorch"] / found[side]
    yield suite.Row(
      f"input/{side}",
      f"JPEG to batches, {side}, on {workers} cores",
      rate[side],
      rate["PyTorch"],
      ratio[:, 0].tolist(),
      goal=GOAL if side != "float32" else 0.0,
      of_processor=ratio[:, 1].tolist(),
      raw={name: seconds.tolist() for name, seconds in found.items()},
    )
  rate = {
    side: f"{1 / np.median(seconds[:, 0]):,.0f}" for side, seconds in feeds.items()
  }
  yield suite.Row(
    "input/feed",
    f"time more from JPEGs than from memory, at {FED} in {1000 * STEP:.1f} ms",
    f"{rate['feed']} pictures/s, from memory {rate['list']}",
    values=(100 * (feeds["feed"] / feeds["list"])[:, 0] - 100).tolist(),
    goal=FED_GOAL,
    most=True,
    unit="%",
    raw={name: seconds.tolist() for name, seconds in feeds.items()},
  )


if __name__ == "__main__":
  turn = fed if sys.argv[1] in FEEDS else measure
  print(json.dumps(turn(sys.argv[1], sys.argv[2], int(sys.argv[3])).tolist()))
