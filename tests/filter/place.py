"""A scorer without weights, small sets, and filters of them."""

import importlib
import json
import zlib

import numpy as np
from PIL import Image

from tpr_jax import config as configs
from tpr_jax.filter import run, scorers, scoring, settings

DIM, BATCH = 16, 4
WORDS = ("red coat", "blue jeans", "a hat", "long hair", "white shoes", "a bag")


def shipped(argument=None):
  """The config of configs/filter.py for an argument."""
  configs.expose_shipped()
  return importlib.import_module("configs.filter").get_config(argument)


def unit(seed, *shape):
  rows = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
  return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


class Scorer:
  """Rows drawn from what is encoded; two for a picture. `seen`: pictures so far."""

  batch, size = BATCH, None

  def __init__(self, stop_at=None, broken=False):
    self.seen, self._stop, self._broken = 0, stop_at, broken

  def prepare(self, picture):
    return np.zeros(1, np.int64) if picture is None else np.int64([picture.sum()])

  def encode_images(self, prepared):
    self.seen += len(prepared)
    if self._stop is not None and self.seen > self._stop:
      raise KeyboardInterrupt
    rows = np.stack([unit(int(each[0]), 2, DIM) for each in prepared])
    return rows * (np.nan if self._broken else 1)

  def encode_texts(self, texts):
    return np.stack([unit(zlib.crc32(text.encode()), DIM) for text in texts])

  def report(self, texts):
    return f"0 of {len(texts)} captions are cut"


def use(monkeypatch, scorer, part=8):
  """Filters of this test score by it, in parts of so many records."""
  monkeypatch.setattr(scorers, "build", lambda asked: scorer)
  about = dict(kind="towers", weights="w", step=None, batch=BATCH)
  monkeypatch.setattr(scorers, "about", lambda asked: about)
  monkeypatch.setattr(scoring, "PART", part)
  return scorer


def write_pedes(root, images=20, missing=(), again=()):
  """A cuhk_train.json of two captions an image, and its pictures -> entries."""
  entries = []
  folder = root / "CUHK-PEDES" / "imgs"
  folder.mkdir(parents=True)
  for i in range(images):
    name = f"cam/{i:03}.png"
    for j in range(2):
      said = f"Person {i} with {WORDS[(i + j) % 6]} and {WORDS[(i * j + 2) % 6]}."
      entries.append(dict(image=name, caption=said, image_id=100 + i // 2))
    if i not in missing:
      pixels = np.random.default_rng(i).integers(0, 256, (8, 4, 3), np.uint8)
      (folder / "cam").mkdir(exist_ok=True)
      Image.fromarray(pixels).save(folder / name)
  entries += [entries[at] for at in again]
  (root / "cuhk_train.json").write_text(json.dumps(entries))
  return entries


def pedes(root, argument="k=12", **fields):
  """A filter of that set with a pool of 30."""
  c = shipped(f"pedes_json,{argument}")
  c.data.root, c.pool.size, c.scorer.place = str(root), 30, "a model"
  c.scorer.batch, c.threads, c.max_broken = BATCH, 2, 0.2
  for name, value in fields.items():
    group, _, field = name.partition("__")
    c[group][field] = value
  return settings.read(c.lock())


def filtered(asked, out):
  """Runs a filter -> (header, lines) of its manifest."""
  assert run.run(asked, out) == 0
  return manifest(out)


def manifest(out):
  header, *lines = map(json.loads, (out / "filter.jsonl").read_text().splitlines())
  return header, lines
