"""What two runs have to have in common, to the byte."""

import json
import pathlib

import numpy as np

from tpr_jax.checkpoints import Checkpoints
from tpr_jax.core import tree

CONFIG = pathlib.Path(__file__).parent / "config.py"
CLOCK = ("examples_per_second",)  # what a log has of the clock


def log(folder):
  """metrics.jsonl without what depends on the clock."""
  lines = (folder / "metrics.jsonl").read_text().splitlines()
  return [
    {key: value for key, value in json.loads(line).items() if key not in CLOCK}
    for line in lines
  ]


def kept(folder):
  """(steps on disk, their scores)"""
  saved = Checkpoints(folder / "checkpoints", read_only=True)
  return saved.steps(), saved.scores()


def params(folder, step=None):
  """name -> array of the newest checkpoint, or of one step."""
  saved = Checkpoints(folder / "checkpoints", read_only=True)
  return tree.flat(saved.read_params(saved.latest() if step is None else step))


def assert_same_run(found, expected):
  """Parameters, log, checkpoints kept and their scores."""
  assert log(found) == log(expected)
  assert kept(found) == kept(expected)
  for step in kept(expected)[0]:
    ours, theirs = params(found, step), params(expected, step)
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
      assert ours[name].tobytes() == array.tobytes(), (step, name)


def furthest(found, expected):
  """The largest difference of a parameter, in units of its array's largest entry."""
  ours, theirs = params(found), params(expected)
  return max(
    float(np.abs(ours[name] - array).max() / max(np.abs(array).max(), 1e-6))
    for name, array in theirs.items()
  )


def results(folder):
  """results.json: the scores of the selected checkpoint."""
  return json.loads((folder / "results.json").read_text())
