"""APTM from end to end: a tiny run on rendered people and their attributes."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests import test_mra_run
from tests.test_ga_dms_run import lines
from tpr_jax import training
from tpr_jax.experiment import Experiment

STEPS = 4
STREAM = ("attr_itc", "attr_itm", "attr_mlm")


def config():
  c = test_mra_run.config("configs/aptm.py").unlock()
  c.train.steps, c.train.log_every = STEPS, 1
  c.model.vision_depths = (1, 1)
  # tests/test_mra_run.py has the losses of captions and the scores; the fewer things
  # are compiled.
  c.losses.itm = c.losses.mlm = 0.0
  c.data.val, c.evals, c.eval.rerank.by = "", ConfigDict(), ""
  return c


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs") / "aptm"
  training.run(Experiment(config().lock(), folder))
  return folder


def test_every_loss_is_logged_and_adds_up(run):
  logged = lines(run, "train")
  assert [line["step"] for line in logged] == [1, 2, 3, 4]
  for line in logged:
    assert all(np.isfinite(line[name]) and line[name] > 0 for name in STREAM)
    prompts = sum(line[name] for name in STREAM)
    assert line["loss"] == pytest.approx(line["itc"] + 0.8 / 3 * prompts, rel=1e-4)


def test_a_file_of_other_prompts_must_have_as_many(tmp_path):
  path = tmp_path / "own.txt"
  path.write_text("it is red\nit is not red\n")
  c = config()
  c.data.views.attributes = str(path)
  with pytest.raises(Exception, match="expected a list of 1 values"):
    training.Training(Experiment(c.lock(), tmp_path / "run"))
