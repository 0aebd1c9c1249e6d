"""The training step of the embedded run on random numbers, for benchmarks of it."""

import pathlib

import numpy as np


def step(**train_fields):
  """(jitted step, state, batch of the longest texts, key); fields of config.train.

  Imports JAX here: whoever measures processes has none in its own.
  """
  import jax

  from configs import cfam
  from tpr_jax import experiment, training
  from tpr_jax.core import sharding

  config = cfam.get_config()
  config.data.options.identities = 100
  config.train.update(train_fields)
  made = experiment.Experiment(config, pathlib.Path("unused"))
  made.say = lambda text: None
  parts = training.Training(made)
  rows, length = config.data.batch, config.text.length
  rng = np.random.default_rng(0)
  text = rng.integers(1, 2000, (rows, length)).astype(np.int32)
  text[:, -1] = made.tokenizer.end_id
  image = rng.integers(0, 256, (rows, *config.model.image_size, 3), dtype=np.uint8)
  ids = np.arange(rows, dtype=np.int32)
  batch = sharding.to_global(
    dict(image=image, text=text, ids=ids, image_id=ids),
    sharding.batch_sharding(made.mesh),
  )
  key = jax.random.key(0)
  return parts.train_step, parts.plan.create(key), batch, key
