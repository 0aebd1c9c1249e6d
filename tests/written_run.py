"""A run folder with drawn weights: everything that a trained one has, no training."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from tests import small_run
from tests.models import weights as drawing
from tpr_jax import checkpoints as ckpt
from tpr_jax import config as configs
from tpr_jax.core.types import TrainState
from tpr_jax.experiment import Experiment

RESULTS = {
  "selected_step": 3,
  "selection": "best validation R1 (20.00)",
  "evals": {
    "test": {
      "t2i": {"R1": 61.25, "mAP": 50.5, "queries": 40, "gallery": 20},
      "broken_images": 0,
      "note": "a control",
    }
  },
}
SCORES = {3: 20.0, 6: 10.0}


def write(folder, scores=SCORES, config=None, weights=None):
  """(config, {step: parameters}) of a run with a checkpoint for each of `scores`."""
  config = config or small_run.config()
  made = Experiment(config, folder)
  model = made.model(12)
  image = np.zeros((1, *config.model.image_size, 3), np.uint8)
  text = np.zeros((1, config.text.length), np.int32)
  params = {
    step: drawing.drawn(model, image, text, seed=step)["params"] for step in scores
  }
  made.files.claim(config)
  record = made.files.record(
    seed=0,
    parameters=1,
    num_classes=12,
    started=time.time(),
    weights=weights or made.initial.record(),
  )
  made.files.write(record)
  saved = ckpt.Checkpoints(folder / "checkpoints")
  for step, score in scores.items():
    state = TrainState(
      step=jnp.asarray(step, jnp.int32),
      params=jax.tree.map(jnp.asarray, params[step]),
      opt_state={"mu": jnp.zeros(3)},
    )
    saved.save(step, state, {"step": step}, score)
  saved.wait()
  saved.close()
  configs.write_json(folder / "results.json", RESULTS)
  return config, params
