"""Two processes train, validate and evaluate: what they find is what one would."""

import json

import jax
import pytest

from tests import several
from tpr_jax import checkpoints as ckpt
from tpr_jax import config as configs
from tpr_jax.core import sharding
from tpr_jax.experiment import Experiment

pytestmark = pytest.mark.proof


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A run that two processes trained and evaluated."""
  root = tmp_path_factory.mktemp("trained")
  config = f"--config={several.ROOT / 'tests' / 'several_config.py'}"
  run = several.Several(root, config, f"--run={root / 'run'}", timeout=60)
  assert run.wait() == [0, 0], run.said(0) + run.said(1)
  return root / "run"


def test_scores_of_validation_and_test_are_those_of_one_process(folder):
  lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
  seen = {line["step"]: line for line in lines if line["kind"] == "val"}
  config = configs.load(folder / "config.json")
  made = Experiment(config, folder)
  made.mesh = sharding.make_mesh({"data": -1}, jax.devices()[:4])
  model = made.model(made.files.read()["num_classes"])
  shapes = jax.eval_shape(made.init_fn(model), jax.random.key(0))
  where = sharding.state_shardings(shapes, made.mesh, config.shardings)
  saved = ckpt.Checkpoints(folder / "checkpoints", read_only=True)
  _, val = made.training_data()
  assert saved.steps() == sorted(seen)[-len(saved.steps()) :]
  for step in saved.steps():
    params = saved.restore_params(step, ckpt.abstract(shapes, where))
    for name, value in made.validate(model, params, val).items():
      assert seen[step][name] == pytest.approx(value, rel=2e-6), name
