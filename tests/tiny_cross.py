"""A Swin + BERT model and batches small enough for every test of the training side."""

import functools

import jax.numpy as jnp
import numpy as np

from tests.initialised import Initialised
from tpr_jax import gradients, objectives
from tpr_jax.core import tree
from tpr_jax.data.prompts import Encoded
from tpr_jax.models import build

VOCAB, LENGTH, SIZE, CELLS = 40, 12, (32, 16), 8
START, END, MASK = 1, 2, 3
LOSSES = dict(
  itc=1.0, itm=1.0, mlm=1.0, eda_itc=0.8, eda_itm=0.8, region_itc=0.8, region_itm=0.8
)
OBJECTIVE = dict(
  temperature=0.07,
  label_smoothing=0.0,
  itm_smoothing=0.0,
  itc_grad_scale=1.0,
  itm_group=0,
  itm_pieces=1,
  region_feature="region",
  region_mean=True,
  region_positives="phrase",
  attr_smoothing=0.4,
  attr_prompts=3,
)
ATTRIBUTES, PROMPT_LENGTH = 4, 6
FIELDS = dict(
  variant="swin_tiny",
  image_size=SIZE,
  patch=4,
  window=2,
  vision_width=8,
  vision_depths=(1, 2),
  vision_heads=(2, 2),
  text_length=LENGTH,
  text_positions=LENGTH,
  text_width=16,
  text_hidden=32,
  text_layers=2,
  text_heads=2,
  fusion_layer=1,
  joint_dim=16,
  initial_temperature=0.07,
)


def _texts(rng: np.random.Generator, rows: int, most: int = LENGTH) -> np.ndarray:
  text = rng.integers(4, VOCAB, size=(rows, most)).astype(np.int32)
  text[:, 0] = START
  for row, length in enumerate(rng.integers(4, most, size=rows)):
    text[row, length] = END
    text[row, length + 1 :] = 0
  return text


@functools.cache
def prompts() -> Encoded:
  """Two texts for each attribute, of different lengths, with two ways to mask them."""
  ids = _texts(np.random.default_rng(7), 2 * ATTRIBUTES, PROMPT_LENGTH)
  labels = np.full((2, *ids.shape), -1, np.int32)
  labels[0, :, 1], labels[1, :, 2] = ids[:, 1], ids[:, 2]
  labels[1, ::2, 3] = ids[::2, 3]  # some with two words
  labels[labels == 0] = -1
  masked = np.where(labels >= 0, MASK, ids).astype(np.int32)
  return Encoded(ids, masked, labels)


def batch(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(seed)
  text = _texts(rng, rows)
  labels = np.full_like(text, -1)
  labels[:, 1:3] = text[:, 1:3]
  masked = np.where(labels >= 0, MASK, text).astype(np.int32)
  region = rng.random((rows, CELLS)) < 0.4
  region[:, 3] = True
  return dict(
    image=rng.integers(0, 256, size=(rows, *SIZE, 3), dtype=np.uint8),
    text=text,
    eda=_texts(rng, rows),
    phrase=_texts(rng, rows),
    phrase_id=rng.integers(0, max(rows // 2, 2), size=rows).astype(np.int32),
    region=region,
    masked=masked,
    labels=labels,
    ids=(np.arange(rows) // 2).astype(np.int32),
    image_id=np.arange(rows, dtype=np.int32),
    example=np.arange(rows, dtype=np.int32),
    replaced=np.full(rows, -1, np.int32),
    attributes=rng.integers(-1, 2, size=(rows, ATTRIBUTES)).astype(np.int32),
  )


def model(losses=LOSSES, **fields):
  heads = objectives.heads(losses, OBJECTIVE)
  return build.build(dict(FIELDS, **fields), vocab_size=VOCAB, heads=heads)


def init_fn(module):
  image = jnp.zeros((2, *SIZE, 3), jnp.uint8)
  text = jnp.full((2, LENGTH), END, jnp.int32)
  return lambda key: module.init(key, image, text)["params"]


@functools.cache
def _initialised(*towers):
  return Initialised()


@functools.cache
def params(module):
  """Fresh parameters, those behind the text tower ten times as large: what an image or
  its mask changes in a pair would else drown in rounding."""

  def larger(name, leaf):
    mixing = name.startswith(("text/layer", "itm/")) and name.endswith("kernel")
    return 10.0 * leaf if mixing else leaf

  made = _initialised(module.visual, module.text).params(init_fn(module))
  return tree.map_named(larger, made)


def objective(losses=LOSSES, choices=OBJECTIVE, **fields):
  module = model(losses, **fields)
  return objectives.make_objective(
    module, losses, choices, masking={}, most_masked=3, prompts=prompts()
  )


def loss_and_params(losses=LOSSES, choices=OBJECTIVE, **fields):
  made = objective(losses, choices, **fields)
  return gradients.loss_fn(made), params(made.model)
