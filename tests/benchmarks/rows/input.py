"""JPEG files to training batches: pictures a second and core.

A few hundred rendered people as JPEGs of about 384 x 128, with the whole augmentation
of the recipe (resize, flip, pad and crop, erase) and captions as tokens. PyTorch has a
DataLoader with as many workers as there are cores, ours as many threads. PyTorch's
batches are normalised float32; ours are uint8, which the step normalises (`uint8`), or
normalised float32 too (`float32`). Each turn is a process of its own: a DataLoader
forks, which a process with JAX in it must not.
"""

import itertools
import json
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

PICTURES, SIZE, LENGTH, BATCH = 300, (384, 128), 168, 32
WARM, COUNTED = 4, 24  # batches
PIPE = "resize(384,128)|flip(0.5)|pad_crop(10)|erase(0.5)"
GOAL = 2.0


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


def ours(folder: str, workers: int, normalised: bool) -> Iterable[dict[str, Any]]:
  """Our batches of the files, as a run with these threads reads them."""
  dataset = build.dataset("folder", folder, "train", dict(default_split="train"))
  words = tokenizer.build("instant")
  pipe = PIPE + ("|normalize" if normalised else "")
  return pipeline.train_iterator(
    dataset, words, pipe=pipe, length=LENGTH, batch=BATCH, seed=0, threads=workers
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


def measure(side: str, folder: str, workers: int) -> float:
  """Seconds a picture, in this process."""
  normalised = side == "float32"
  made = (
    theirs(folder, workers) if side == "PyTorch" else ours(folder, workers, normalised)
  )
  reader = iter(made)
  for _ in range(WARM):
    next(reader)
  started = time.perf_counter()
  for _ in range(COUNTED):
    next(reader)
  return (time.perf_counter() - started) / (COUNTED * BATCH)


def apart(side: str, folder: str, workers: int) -> float:
  """The same in a process of its own."""
  command = [sys.executable, "-m", __name__, side, folder, str(workers)]
  done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode:
    raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
  return float(done.stdout.splitlines()[-1])


def rows(options: suite.Options) -> Iterator[suite.Row]:
  """input/uint8, input/float32."""
  suite.torch_or_none()
  workers = suite.cores()
  sides = ("PyTorch", "uint8", "float32")
  found = {side: [] for side in sides}
  with tempfile.TemporaryDirectory() as folder:
    write(pathlib.Path(folder))
    for number in range(options.rounds):
      for side in sides if number % 2 else reversed(sides):
        found[side].append(apart(side, folder, workers))
      shown = (f"{k}: {1000 * v[-1]:.1f} ms" for k, v in found.items())
      print(f"round {number + 1}:", ", ".join(shown), flush=True)
  rate = {
    side: f"{1 / np.median(seconds) / workers:,.0f} pictures/s a core"
    for side, seconds in found.items()
  }
  for side in sides[1:]:
    yield suite.Row(
      f"input/{side}",
      f"JPEG to batches of {side}, {workers} threads beside {workers} workers",
      rate[side],
      rate["PyTorch"],
      [b / a for a, b in zip(found[side], found["PyTorch"], strict=True)],
      goal=GOAL if side == "uint8" else 0.0,
      raw=dict(seconds_a_picture=found),
    )


if __name__ == "__main__":
  print(measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))
