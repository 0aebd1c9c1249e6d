"""Small towers with drawn weights, and the rows that a library must give."""

import jax
import numpy as np

from tests.models import weights as drawing
from tpr_jax.core import tree
from tpr_jax.data import tokenizer as tokenizers
from tpr_jax.models import build
from tpr_jax.pretrained import Pretrained

SMALL = dict(
  variant="tiny",
  vision_width=32,
  vision_layers=2,
  vision_heads=4,
  text_width=24,
  text_layers=2,
  text_heads=2,
  joint_dim=16,
)
CAPTIONS = [
  "A woman in a dark-green coat, with a backpack.",
  "a man",
  "two words, THREE   commas, and 17 digits; it's the man's umbrella " * 20,
]


def random(
  image_size=(32, 16), patch=(8, 8), length=32, words="people", scale=None, **fields
):
  """A `Pretrained` whose weights nobody trained."""
  given = dict(SMALL, image_size=image_size, patch=patch, text_length=length)
  fields = build.settings({**given, **fields})
  tokenizer = tokenizers.build(words)
  model = build.build(fields, vocab_size=tokenizer.vocab_size)
  image = np.zeros((1, *fields["image_size"], 3), np.uint8)
  text = np.zeros((1, length), np.int32)
  params = drawing.drawn(model, image, text)["params"]
  return Pretrained(params, fields, tokenizer, logit_scale=scale, batch=4)


def images(model, count=3):
  """uint8 [count, H, W, 3] of the model's own size."""
  rng = np.random.default_rng(1)
  return rng.integers(0, 256, (count, *model.image_size, 3), dtype=np.uint8)


def normalised(model, batch):
  """float32 [count, 3, H, W], as PyTorch models take them."""
  mean, std = (np.float32(model.fields[k]) for k in ("pixel_mean", "pixel_std"))
  return ((batch.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)


def ids(model, captions=CAPTIONS):
  return model.tokenizer.encode(captions, model.text_length)[0]


def expected(model, batch, captions):
  """(image rows, text rows) of the model itself; cut texts are meant."""
  return (
    np.asarray(model.image_tower(model.params, batch)),
    np.asarray(model.text_tower(model.params, ids(model, captions))),
  )


def assert_same(found, params):
  """Two trees of parameters, bit for bit."""
  assert tree.names(found) == tree.names(params)
  for name, a, b in zip(
    tree.names(found), jax.tree.leaves(found), jax.tree.leaves(params), strict=True
  ):
    assert np.asarray(a).dtype == np.float32
    np.testing.assert_array_equal(a, b, err_msg=name)
