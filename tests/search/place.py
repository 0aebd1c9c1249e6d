"""A model without weights, folders of coloured pictures, and indexes of them."""

import os

import numpy as np
from PIL import Image

from tpr_jax.search import indexing, settings
from tpr_jax.search.index import Index

DIM = 4
COLOURS = dict(red=(250, 20, 20), green=(20, 250, 20), blue=(20, 20, 250))
PAST = 1_700_000_000  # seconds since 1970: files old enough to be told by their times


def _unit(rows):
  rows = np.asarray(rows, np.float32)
  return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


class Encoder:
  """A picture's row is its mean colour, a text's the sum of the colours it names."""

  dim = DIM

  def __init__(self, model):
    self._model = model

  def prepare(self, pixels):
    return np.asarray(Image.fromarray(pixels).resize((2, 4)))

  def encode_images(self, prepared):
    self._model.seen += len(prepared)
    if self._model.stop_at is not None and self._model.seen > self._model.stop_at:
      raise KeyboardInterrupt
    mean = np.stack([each.reshape(-1, 3).mean(axis=0) for each in prepared])
    rows = _unit(np.concatenate([mean, np.full((len(mean), 1), 9.0)], axis=1))
    return rows * (np.nan if self._model.broken else 1)

  def encode_texts(self, texts):
    rows = [
      np.sum([[*COLOURS[w], 0] for w in text.split() if w in COLOURS], axis=0)
      for text in texts
    ]
    return _unit(rows)

  def keep_images(self, prepared):
    """Of a picture the blue of its corner."""
    blues = [dict(blue=each[0, 0, 2:].astype(np.float32)) for each in prepared]
    return self.encode_images(prepared), blues

  def keep_texts(self, texts):
    return self.encode_texts(texts), [dict(words=len(text.split())) for text in texts]

  def pair_scores(self, text, images):
    """How near the blue is to the number of words: steps larger than any cosine."""
    self._model.compared += len(images)
    blues = np.array([each["blue"][0] for each in images], np.float32)
    return -3 * np.abs(blues - text["words"]) * (np.nan if self._model.broken else 1)

  def about(self):
    found = dict(dim=DIM, image_size=self._model.size, tokenizer="words")
    if self._model.by:
      found["second_stage"] = dict(by=self._model.by, kept=dict(blue=[1]))
    return found


class Model:
  """loads: how often it was loaded; seen: pictures encoded; compared: pairs scored.

  Args:
    by: name of its second stage, or "".
  """

  def __init__(self, digest="weights", size=(4, 2), stop_at=None, broken=False, by=""):
    self.digest, self.size, self.stop_at, self.by = digest, list(size), stop_at, by
    self.broken, self.loads, self.seen, self.compared = broken, 0, 0, 0

  def identity(self):
    load = dict(second_stage=self.by) if self.by else {}
    return dict(place=f"runs/{self.digest}", digest=self.digest, step=7, load=load)

  def load(self):
    self.loads += 1
    return Encoder(self)


def pixels(colour="red", number=0):
  """uint8 [12, 6, 3], about of a colour; different for each number."""
  array = np.full((12, 6, 3), COLOURS[colour], np.uint8)
  array[0, 0] = [number % 256, number // 256 % 256, 7]
  return array


def write(path, colour="red", number=0, **options):
  """A picture, of long ago unless it is written again -> its path."""
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels(colour, number)).save(path, **options)
  old(path)
  return path


def reds(root, count):
  """Red pictures 0.png, 1.png, ..., whose blue is their number."""
  root.mkdir(parents=True, exist_ok=True)
  for number in range(count):
    array = np.full((12, 6, 3), (250, 20, number), np.uint8)
    Image.fromarray(array).save(root / f"{number}.png")
    old(root / f"{number}.png")
  return root


def old(path, seconds=PAST):
  """The file's content is of that time. (Its change of status is of now, always.)"""
  os.utime(path, (seconds, seconds))


def folder(root, count=6):
  """count pictures: cam0/000.png (red), cam1/001.png (green), cam0/002.png (blue)..."""
  names = list(COLOURS)
  for i in range(count):
    write(root / f"cam{i % 2}" / f"{i:03}.png", names[i % 3], i)
  return root


def index(images, place, model=None, metadata=None, detector=None):
  """Brings an index up to date -> (what was done, lines told)."""
  said = []
  wanted = detector and detector.wanted
  asked = settings.Indexing("a model", images, place, metadata, detect=wanted)
  indexer = indexing.Indexer(asked, model or Model(), said.append, detector)
  return indexer(), said


def opened(place, model=None):
  return Index(place, model or Model())


def paths(answer):
  return [hit.path for hit in answer.hits]
