"""One tiny run from end to end, and what happens around it."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests import small_run
from tpr_jax import config as configs
from tpr_jax import feature_eval, saliency, saliency_files, seal, training
from tpr_jax.checkpoints import CheckpointError
from tpr_jax.core import tree
from tpr_jax.data import build as data_build
from tpr_jax.data import pipeline
from tpr_jax.experiment import Experiment, RunError
from tpr_jax.meter import CLOCK
from tpr_jax.train import Interrupted

STEPS = small_run.STEPS
FILES = {
  "config.json",
  "run.json",
  "metrics.jsonl",
  "results.json",
  "report.html",
  "checkpoints",
  "rankings",
  "saliency",
  "tensorboard",
}


class Diary:
  """What happened in which order: ("split", name), ("step", n)."""

  def __init__(self, patch):
    self.events = []
    load, log = data_build.dataset, training.RunLog.train

    def dataset(name, root, split, options):
      self.events.append(("split", split))
      return load(name, root, split, options)

    def record(this, step, numbers):
      self.events.append(("step", step))
      log(this, step, numbers)

    patch.setattr(data_build, "dataset", dataset)
    patch.setattr(training.RunLog, "train", record)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """(folder, config, diary) of a finished run; not to be changed."""
  folder, config = tmp_path_factory.mktemp("runs") / "cfam", small_run.config()
  with pytest.MonkeyPatch.context() as patch:
    diary = Diary(patch)
    training.run(Experiment(config, folder))
  return folder, config, diary.events


@pytest.fixture
def copy(finished, tmp_path):
  """(folder, config) of a finished run, a copy to change."""
  folder = tmp_path / "cfam"
  shutil.copytree(finished[0], folder)
  return folder, finished[1]


def read(folder, name):
  return json.loads((folder / name).read_text(encoding="utf-8"))


def lines(folder):
  return [json.loads(line) for line in (folder / "metrics.jsonl").open()]


def trained(folder, step):
  """The whole state of one checkpoint, as numpy."""
  path = folder / "checkpoints" / str(step) / "state"
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
    leaves = reader.metadata(path).item_metadata.tree
    numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), leaves)
    return reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=numpy))


# ---- the run folder


def test_the_folder_has_every_file(finished):
  folder = finished[0]
  assert {path.name for path in folder.iterdir()} >= FILES
  assert not list(folder.rglob("*.tmp"))
  assert {p.name for p in (folder / "rankings").iterdir()} == {
    "test.npz",
    "test_coarse.npz",
  }
  page = (folder / "report.html").read_text(encoding="utf-8")
  assert "near twins" in page and "data:image/png" in page


def test_the_log_has_every_step_and_two_validations(finished):
  found = lines(finished[0])
  steps = [line["step"] for line in found if line["kind"] == "train"]
  assert steps[-1] == STEPS and steps == sorted(set(steps))
  val = [line for line in found if line["kind"] == "val"]
  assert [line["step"] for line in val] == [3, 6]
  assert {"R1", "R5", "R10", "mAP", "mINP", "mSD", "queries", "gallery"} <= set(val[0])
  train_line = next(line for line in found if line["kind"] == "train")
  terms = {"sdm", "sdm_local", "matching", "identity", "loss", "lr", "grad_norm"}
  assert terms | {"examples_per_second", "replaced_images"} <= set(train_line)


def test_results_hold_every_evaluation(finished):
  results = read(finished[0], "results.json")
  val = {v["step"]: v["R1"] for v in lines(finished[0]) if v["kind"] == "val"}
  best = max(sorted(val, reverse=True), key=val.get)
  assert results["selected_step"] == best
  assert results["selection"] == f"best validation R1 ({val[best]:.2f})"
  assert set(results["evals"]) == {"test", "test_coarse"}
  for name, found in results["evals"].items():
    assert set(found) == {"t2i", "groups", "broken_images", "note"} | (
      {"i2t"} if name == "test" else set()
    )
    assert set(found["groups"]) == {"near twins", "others"}
    for scores in (found["t2i"], *found["groups"].values()):
      assert {"R1", "R5", "R10", "mAP", "mINP", "mSD", "unmatched"} <= set(scores)
      assert scores["gallery"] == 10
    assert found["t2i"]["queries"] == 10
    assert sum(g["queries"] for g in found["groups"].values()) == 10
    assert found["broken_images"] == 0


def test_the_ranking_files_agree_with_the_table(finished):
  results = read(finished[0], "results.json")
  for name in ("test", "test_coarse"):
    ranking = np.load(finished[0] / "rankings" / f"{name}.npz")
    assert ranking["top"].shape == ranking["score"].shape == (10, 10)
    assert {k: ranking[k].dtype.name for k in ranking} == dict(
      query_record="int32",
      query_caption="int32",
      top="int32",
      score="float32",
      first_rank="int32",
      ap="float32",
      inp="float32",
      sd="float32",
      identity="int64",
      group=ranking["group"].dtype.name,
      query_digest="uint64",
      gallery_identity="int64",
      gallery_digest="uint64",
      bins="float32",
      matched="int64",
      unmatched="int64",
      unmatched_queries="int64",
      mean_cosine="float64",
    )
    assert set(ranking["group"][:, 0]) == {"near twins", "others"}
    rank1 = 100 * np.mean(ranking["first_rank"] == 1)
    assert results["evals"][name]["t2i"]["R1"] == pytest.approx(rank1)


def test_every_score_has_its_interval(finished):
  found = read(finished[0], "results.json")
  assert found["msd_variant"] == "paper"
  test = found["evals"]["test"]
  for scores in (test["t2i"], test["i2t"], *test["groups"].values()):
    ci = scores["ci"]
    assert (ci["level"], ci["resamples"], ci["seed"]) == (0.95, 2000, 0)
    assert set(ci["scores"]) == {"R1", "R5", "R10", "mAP", "mINP", "mSD"}
    for name, (low, high) in ci["scores"].items():
      assert 0 <= low <= scores[name] <= high <= 100
    assert ci["identities"] == scores["queries"]  # a view and a text for each person
  low, high = test["t2i"]["ci"]["scores"]["mAP"]
  assert high - low > 1


def test_run_json_tells_how_it_was_made(finished):
  folder, config, _ = finished
  run = read(folder, "run.json")
  assert run["seed"] == config.seed and run["num_classes"] == 12
  assert set(run["seconds"]) == {"train", "evaluate"}
  assert run["versions"].keys() >= {"python", "jax", "flax", "optax", "grain"}
  assert "python" in run["command"] and "-m tpr_jax.main" in run["command"]
  assert run["parameters"] > 1000 and not (folder / "bad_data.json").exists()
  assert run["started"] <= run["finished"]
  assert read(folder, "config.json") == configs.plain(config)


def test_the_test_split_is_asked_for_after_the_last_step(finished):
  events = finished[2]
  last = events.index(("step", STEPS))
  assert {e for e in events[:last] if e[0] == "split"} == {
    ("split", "train"),
    ("split", "val"),
  }
  assert events[last + 1 :] == [("split", "test"), ("split", "test")]


# ---- again


def test_the_same_command_again_trains_nothing_and_finds_the_same(copy, monkeypatch):
  folder, config = copy
  before, log = read(folder, "results.json"), (folder / "metrics.jsonl").read_text()
  diary = Diary(monkeypatch)
  training.run(Experiment(config, folder))
  assert not [event for event in diary.events if event[0] == "step"]
  assert read(folder, "results.json") == before
  assert (folder / "metrics.jsonl").read_text() == log


def test_evaluating_again_gives_the_same_numbers(copy):
  folder = copy[0]
  before = read(folder, "results.json")
  rankings = {
    path.name: dict(np.load(path)) for path in (folder / "rankings").iterdir()
  }
  (folder / "results.json").unlink()
  shutil.rmtree(folder / "rankings")
  Experiment(configs.load(folder / "config.json"), folder).evaluate()
  assert read(folder, "results.json") == before
  for path in (folder / "rankings").iterdir():
    for key, value in np.load(path).items():
      np.testing.assert_array_equal(value, rankings[path.name][key])


def test_a_few_queries_are_weighed_word_by_word(finished):
  folder, config = finished[:2]
  files = sorted((folder / "saliency").iterdir())
  assert [path.name for path in files] == ["test.npz", "test_coarse.npz"]
  for path in files:
    ranking = np.load(folder / "rankings" / path.name)
    data = Experiment(config, folder).eval_data(path.stem)
    found = saliency_files.read(path)
    assert found.size == (32, 16) and found.grid == (12, 6)
    assert [one.query for one in found.queries] == saliency.choose(10, 4)
    for one in found.queries:
      assert one.image == ranking["top"][one.query, 0]
      assert one.cosine == pytest.approx(ranking["score"][one.query, 0], abs=1e-4)
      assert one.words == tuple(data.records[one.record].captions[0].split())
      assert one.word.any() and one.patch.any() and np.isfinite(one.pairs).all()
  page = (folder / "report.html").read_text(encoding="utf-8")
  assert page.count("Words and patches that matter") == 2


def test_no_weights_where_none_are_wanted_or_for_a_control(copy, monkeypatch):
  folder, config = copy
  monkeypatch.setattr(Experiment, "report", lambda self, datasets: None)  # slow
  (folder / "saliency" / "test.npz").write_text("of another evaluation")
  config = config.copy_and_resolve_references()
  config.evals.test_coarse.note = "control: nothing"
  config.eval.saliency = 1
  Experiment(config.lock(), folder).evaluate()
  (path,) = (folder / "saliency").iterdir()
  assert path.name == "test.npz" and len(saliency_files.read(path).queries) == 1
  with config.unlocked():
    config.eval.saliency = 0
    del config.evals["test_coarse"]
  Experiment(config, folder).evaluate()
  assert not list((folder / "saliency").iterdir())
  with config.unlocked():
    config.eval.saliency = -3
  with pytest.raises(configs.ConfigError, match=r"eval\.saliency=-3: expected"):
    Experiment(config, folder).evaluate()


def test_kept_features_give_the_same_scores_without_the_run(copy):
  folder, config = copy
  config = config.copy_and_resolve_references()
  config.eval.save_features, config.eval.ci_resamples = True, 0
  before = read(folder, "results.json")["evals"]
  Experiment(config.lock(), folder).evaluate()
  assert {p.name for p in (folder / "features").iterdir()} == {
    "test.npz",
    "test_coarse.npz",
  }
  after = read(folder, "results.json")["evals"]["test"]
  assert "ci" not in after["t2i"] and "ci" in before["test"]["t2i"]
  found = feature_eval.run(
    str(folder / "features" / "test.npz"),
    None,
    feature_eval.Options(group_by="twin_group", i2t=True),
  )["evals"]["test"]
  assert found["t2i"] == before["test"]["t2i"] and found["i2t"] == before["test"]["i2t"]
  assert found["groups"] == {
    f"twin_group={name}": scores for name, scores in before["test"]["groups"].items()
  }


def test_the_best_checkpoint_is_evaluated_and_not_the_last(copy, monkeypatch, capsys):
  folder, config = copy
  for step, value in ((3, 99.0), (6, 98.0)):
    path = folder / "checkpoints" / str(step) / "metrics" / "metrics"
    path.write_text(json.dumps({**json.loads(path.read_text()), "score": value}))
    seal.write(folder / "checkpoints" / str(step))

  class Seen(Exception):
    pass

  def encode(_, model, params, dataset, stage):
    raise Seen(jax.device_get(params))

  monkeypatch.setattr(Experiment, "_evaluate", encode)
  with pytest.raises(Seen) as caught:
    Experiment(config, folder).evaluate()
  for step in (3, 6):
    pairs = zip(
      jax.tree.leaves(caught.value.args[0]),
      jax.tree.leaves(trained(folder, step)["params"]),
      strict=True,
    )
    assert all(np.array_equal(a, b) for a, b in pairs) == (step == 3)
  assert "step 3: best validation R1 (99.00)" in capsys.readouterr().out


def test_the_best_scores_on_test_stand_beside_the_selected_ones(copy, capsys):
  folder, config = copy
  before = read(folder, "results.json")["evals"]
  config = config.copy_and_resolve_references().unlock()
  config.eval.legacy = True
  with (folder / "metrics.jsonl").open("a") as file:
    for step, r1 in ((3, 50.0), (6, 70.0), (9, 70.0)):
      line = {"step": step, "kind": "legacy", "R1": r1, "entry": "test"}
      file.write(json.dumps(line) + "\n")
  Experiment(config.lock(), folder).evaluate()
  after = read(folder, "results.json")["evals"]
  assert after["test"].pop("legacy") == {"step": 6, "R1": 70.0}  # the first of equals
  assert after == before  # beside the others, and nothing else
  told = capsys.readouterr().out
  assert "legacy (best on test, step 6)" in told
  assert "No legacy scores of test_coarse" in told
  assert "legacy (best on test, step 6)" in (folder / "report.html").read_text()


def test_the_report_alone(copy):
  folder, config = copy
  (folder / "report.html").unlink()
  Experiment(config, folder).report()
  assert (folder / "report.html").stat().st_size > 1000


def test_another_config_in_the_folder_is_an_error_that_lists_the_fields(copy):
  folder, config = copy
  with config.unlocked():
    changed = config.copy_and_resolve_references()
    changed.optim.lr, changed.train.steps = 0.5, 7
  with pytest.raises(RunError) as caught:
    training.run(Experiment(changed.lock(), folder))
  message = str(caught.value)
  assert f"optim.lr: {config.optim.lr} -> 0.5" in message
  assert f"train.steps: {STEPS} -> 7" in message and "--run=DIR" in message


def test_a_checkpoint_of_another_model_is_named(copy):
  folder, config = copy
  changed = config.copy_and_resolve_references()
  changed.model.joint_dim = 24
  with pytest.raises(CheckpointError, match=r"identity_fused.*\(16, 13\).*\(24, 13\)"):
    Experiment(changed.lock(), folder).evaluate()


def test_evaluating_what_was_never_trained_is_an_error(tmp_path):
  with pytest.raises(RunError, match="has this run been trained"):
    Experiment(small_run.config(), tmp_path / "none").evaluate()


def test_a_run_killed_before_its_first_checkpoint_says_so(copy):
  folder, config = copy
  for path in (folder / "checkpoints").iterdir():
    shutil.rmtree(path)
  with pytest.raises(RunError, match="no checkpoint to evaluate"):
    Experiment(config, folder).evaluate()


# ---- interrupted


def trained_lines(log):
  """The lines on training, without what depends on the clock."""
  return [
    {k: v for k, v in line.items() if k not in CLOCK}
    for line in log
    if line["kind"] == "train"
  ]


def test_stopped_in_the_middle_and_run_again_ends_with_the_same_bytes(
  tmp_path, monkeypatch, capsys
):
  config = small_run.config()
  config.losses.update(sdm_local=0.0, matching=0.0, identity=0.0)  # fast to compile
  # What other small runs leave out: a program for each text length, and Muon.
  config.text.update(buckets=(16,), short_first=2)
  config.optim.muon = "kernel$"
  config.data.val, config.data.val_share = "", 0.0
  # What is compared here is the training alone.
  monkeypatch.setattr(Experiment, "evaluate", lambda self: None)
  training.run(Experiment(config, tmp_path / "straight"))

  # Watching the tests on the way changes no byte either.
  config.eval.legacy = True
  asked, following = [], pipeline.TrainIterator.__next__

  def stop_at_the_fourth(batches):
    asked.append(None)
    if len(asked) == 4:
      os.kill(os.getpid(), signal.SIGTERM)
    return following(batches)

  monkeypatch.setattr(pipeline.TrainIterator, "__next__", stop_at_the_fourth)
  with pytest.raises(Interrupted, match="SIGTERM after step 4"):
    training.run(Experiment(config, tmp_path / "stopped"))
  run = read(tmp_path / "stopped", "run.json")
  assert run["num_classes"] == 12 and run["seconds"]["train"] > 0
  training.run(Experiment(config, tmp_path / "stopped"))
  assert len(asked) == STEPS
  expected, found = (
    trained(tmp_path / name, STEPS) for name in ("straight", "stopped")
  )
  assert tree.names(found) == tree.names(expected)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    assert a.tobytes() == b.tobytes()
  logs = {name: lines(tmp_path / name) for name in ("straight", "stopped")}
  for log in logs.values():
    assert [x["step"] for x in log if x["kind"] == "train"] == [2, 3, 4, 6]
  assert trained_lines(logs["stopped"]) == trained_lines(logs["straight"])
  watched = [x for x in logs["stopped"] if x["kind"] == "legacy"]
  assert [(x["step"], x["entry"]) for x in watched] == [
    (step, name) for step in (3, 6) for name in ("test", "test_coarse")
  ]
  assert all(0 <= x["R1"] <= 100 and x["queries"] == 10 for x in watched)

  # The newest is damaged while nobody looks: the one before it leads to the same end.
  newest = tmp_path / "stopped" / "checkpoints" / str(STEPS)
  harmed = max((newest / "state").rglob("*"), key=lambda path: path.stat().st_size)
  harmed.write_bytes(harmed.read_bytes()[:-1] + b"?")
  monkeypatch.setattr(pipeline.TrainIterator, "__next__", following)
  training.run(Experiment(config, tmp_path / "stopped"))
  said = capsys.readouterr().out
  assert f"Checkpoint {STEPS} is not used: state/" in said
  assert "Resuming after step 4 of 6" in said
  found = trained(tmp_path / "stopped", STEPS)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    assert a.tobytes() == b.tobytes()
  again = trained_lines(lines(tmp_path / "stopped"))
  assert again == trained_lines(logs["straight"])
