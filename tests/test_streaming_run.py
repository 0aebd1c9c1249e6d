"""A run on shards: the same bytes whether it was stopped or not."""

import dataclasses
import json

import jax
import pytest
from ml_collections import ConfigDict

from tests import small_run
from tests.test_bad_data_run import config
from tests.test_experiment import trained
from tpr_jax import bad_data, training
from tpr_jax.data import build, pipeline
from tpr_jax.data.shards.write import Recipe, write_shards
from tpr_jax.experiment import Experiment

EMPTY = (2, 9)  # training records whose caption has no words


class Stop(Exception):
  """What ends the run between two steps."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """Shards of rendered people, as in tests/small_run.py; one record is damaged."""
  root, options = tmp_path_factory.mktemp("set"), dict(views=1, granularity=("fine",))
  for split, identities in (("train", 12), ("val", 10), ("test", 10)):
    data = build.dataset("rendered", None, split, dict(options, identities=identities))
    records = tuple(
      dataclasses.replace(r, captions=(" ",)) if i in EMPTY and split == "train" else r
      for i, r in enumerate(data.records)
    )
    data = dataclasses.replace(data, records=records)
    write_shards(data, root, Recipe(resize=(32, 16), shard_bytes=5_000))
  path = sorted((root / "rendered/train").glob("*.array_record"))[0]
  good = path.read_bytes()
  at = good.index(b'"identity"')
  path.write_bytes(good[:at] + b"?" + good[at + 1 :])
  return root


def streamed(root):
  c = config(name="shards", root=str(root), max_broken=1.0).unlock()
  c.data.options, c.data.val_options = ConfigDict(), ConfigDict()
  for entry in c.evals.values():
    entry.options = ConfigDict()
  return c.lock()


def result(folder):
  """(bytes of the last state, losses by step, what was bad)."""
  leaves = jax.tree.leaves(trained(folder, small_run.STEPS))
  lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
  losses = [(x["step"], x["loss"]) for x in lines if x["kind"] == "train"]
  bad = json.loads((folder / bad_data.FILE).read_text())
  return [leaf.tobytes() for leaf in leaves], losses, bad


@pytest.mark.proof
def test_a_run_on_shards_that_is_stopped_ends_like_one_that_is_not(
  root, tmp_path, monkeypatch
):
  monkeypatch.setattr(Experiment, "evaluate", lambda self: None)
  training.run(Experiment(streamed(root), tmp_path / "straight"))
  given, following = [], pipeline.TrainIterator.__next__

  def stop_after_four(self):
    if len(given) == 4:
      raise Stop
    given.append(1)
    return following(self)

  monkeypatch.setattr(pipeline.TrainIterator, "__next__", stop_after_four)
  with pytest.raises(Stop):
    training.run(Experiment(streamed(root), tmp_path / "stopped"))
  monkeypatch.setattr(pipeline.TrainIterator, "__next__", following)
  training.run(Experiment(streamed(root), tmp_path / "stopped"))
  expected = result(tmp_path / "straight")
  assert result(tmp_path / "stopped") == expected
  bad = expected[2]["train"]
  assert len(bad["found"]["damaged"]) == 1 and bad["replaced"] > 3
  assert sorted(bad["found"]["caption"]) == [f"train/{i:06}/0" for i in EMPTY]
