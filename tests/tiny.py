"""A model and batches small enough for every test of the training side."""

import functools

import jax.numpy as jnp
import numpy as np

from tests.initialised import Initialised
from tpr_jax import gradients, objectives
from tpr_jax.models import build

VOCAB, LENGTH, CLASSES, SIZE = 40, 12, 6, (32, 16)
SPECIAL = dict(mask_id=VOCAB - 3, special_ids=(VOCAB - 2, VOCAB - 1), vocab_size=VOCAB)
MASKING = dict(SPECIAL, share=0.15, mask=0.8, random=0.1)
LOSSES = dict(infonce=0.0, sdm=1.0, sdm_local=1.0, matching=1.0, identity=1.0)
OBJECTIVE = dict(
  temperature=0.02,
  learn_temperature=False,
  soft_labels=False,
  negatives="local",
  exclude="identity",
  identity="fused",
  mlm_share=0.15,
  mlm_in_place=False,
)
FIELDS = dict(
  variant="tiny",
  image_size=SIZE,
  patch=(8, 8),
  text_length=LENGTH,
  vision_width=16,
  vision_layers=1,
  vision_heads=2,
  text_width=16,
  text_layers=1,
  text_heads=2,
  joint_dim=16,
  part_queries=3,
  part_width=16,
  part_heads=2,
  part_layers=1,
  matcher_heads=2,
  matcher_layers=1,
  mlm_heads=2,
  mlm_layers=1,
)


def batch(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(seed)
  text = rng.integers(1, VOCAB - 3, size=(rows, LENGTH)).astype(np.int32)
  text[:, 0] = VOCAB - 2
  for row, length in enumerate(rng.integers(4, LENGTH, size=rows)):
    text[row, length] = VOCAB - 1
    text[row, length + 1 :] = 0
  return dict(
    image=rng.integers(0, 256, size=(rows, *SIZE, 3), dtype=np.uint8),
    text=text,
    ids=rng.integers(0, CLASSES, size=rows).astype(np.int32),
    image_id=np.arange(rows, dtype=np.int32) // 2,
    example=np.arange(rows, dtype=np.int32),
    replaced=np.full(rows, -1, np.int32),
  )


def model(losses=LOSSES, objective=OBJECTIVE, **fields):
  given = dict(learn_scale=objective["learn_temperature"], initial_scale=50.0)
  return build.build(
    {**FIELDS, **given, **fields},
    vocab_size=VOCAB,
    num_classes=CLASSES,
    heads=objectives.heads(losses, objective),
  )


def init_fn(module):
  image = jnp.zeros((2, *SIZE, 3), jnp.uint8)
  text = jnp.full((2, LENGTH), VOCAB - 1, jnp.int32)
  return lambda key: module.init(key, image, text)["params"]


_initialised = Initialised()  # of FIELDS, whatever the heads


@functools.cache
def _params(module):
  return _initialised.params(init_fn(module))


def loss_and_params(losses=LOSSES, objective=OBJECTIVE, masking=MASKING):
  """(loss_fn, parameters); models share their initialisation."""
  module = model(losses, objective)
  made = objectives.make_objective(module, losses, objective, masking=masking)
  return gradients.loss_fn(made), _params(module)
