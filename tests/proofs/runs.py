"""What two runs have to have in common, to the byte."""

import json
import pathlib

import numpy as np

from tpr_jax.checkpoints import Checkpoints
from tpr_jax.core import tree
from tpr_jax.meter import CLOCK

CONFIG = pathlib.Path(__file__).parent / "config.py"


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
  """The largest difference of a parameter, in units of its array's largest entry.

  Without the biases of attention's keys: softmax does not see them, so their gradient
  is rounding alone, which Adam makes as large as any other.
  """
  ours, theirs = params(found), params(expected)
  return max(
    float(np.abs(ours[name] - array)[_seen(name, array)].max() / np.abs(array).max())
    for name, array in theirs.items()
    if np.abs(array).max() > 0
  )


def _seen(name, array):
  """Which entries of a parameter the model's outputs depend on."""
  keys = {"qkv/bias": (1, 3), "kv/bias": (0, 2)}.get("/".join(name.split("/")[-2:]))
  seen = np.ones(array.shape, bool)
  if keys is not None:
    part, parts = keys
    size = len(array) // parts
    seen[part * size : (part + 1) * size] = False
  return seen


def results(folder):
  """results.json: the scores of the selected checkpoint."""
  return json.loads((folder / "results.json").read_text())
