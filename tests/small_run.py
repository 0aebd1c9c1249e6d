"""The smallest experiment that has everything: 12 people, 6 steps, 2 validations."""

import os
import signal

from ml_collections import ConfigDict

from tests import tiny
from tpr_jax import config as configs
from tpr_jax.data import pipeline
from tpr_jax.experiment import Experiment

STEPS = 6


def config(value="configs/cfam.py"):
  """An embedded run, made tiny."""
  configs.expose_shipped()
  c = configs.read(configs.resolve(value))
  c.model.update({k: v for k, v in tiny.FIELDS.items() if k in c.model})
  c.model.image_size, c.model.patch, c.model.stride = (32, 16), (8, 8), (8, 8)
  c.text.length, c.text.buckets, c.text.short_first = 32, (), 0  # one program a run
  c.data.image, c.data.eval_image = "resize(32,16)|erase(0.3)", "resize(32,16)"
  c.data.batch, c.eval.batch, c.data.cache_mb = 16, 16, 16
  c.data.options.update(identities=12, views=1, granularity=("fine",))
  c.data.val_options = ConfigDict(dict(identities=10, views=1, granularity=("fine",)))
  c.train.steps, c.train.eval_every, c.train.log_every = STEPS, 3.0, 2
  c.optim.muon = ""  # a quarter of what there is to compile
  for entry in c.evals.values():
    entry.options.update(identities=10, views=1)
  c.evals.test.i2t = True
  del c.evals["test_shuffled"]  # twelve people: chance is no small number
  return c.lock()


def stop_at(step, monkeypatch):
  """Runs of this process get SIGTERM once, at this step, and evaluate nothing."""
  asked, following = [], pipeline.TrainIterator.__next__

  def counted(batches):
    asked.append(None)
    if len(asked) == step:
      os.kill(os.getpid(), signal.SIGTERM)
    return following(batches)

  monkeypatch.setattr(Experiment, "evaluate", lambda self: None)
  monkeypatch.setattr(pipeline.TrainIterator, "__next__", counted)
