"""The command line, as typed: from another folder, in a process of its own."""

import json
import shutil
import signal
import sys

import pytest
from absl import logging

from tests.command import ROOT, run
from tests.data import layouts
from tpr_jax import cli, experiment, main, train
from tpr_jax import config as configs
from tpr_jax.data import build
from tpr_jax.data.record import DatasetError
from tpr_jax.matrix import problems
from tpr_jax.sweep import processes

CFAM = "--config=configs/cfam.py"
FEW = [
  f"--config.data.options.{option}"
  for option in ("identities=10", "views=1", "twins=0", "granularity=('fine',)")
]


def assert_one_plain_error(done, code, *parts):
  """Nothing but one message for people, and the exit code."""
  assert done.returncode == code, done.stderr
  assert "Traceback" not in done.stderr and "FATAL" not in done.stderr
  last = done.stderr[done.stderr.index("error: ") :]
  for part in parts:
    assert part in last, last
  return last


# ---- what is misspelt


@pytest.mark.parametrize(
  ("arguments", "parts"),
  [
    ([CFAM, "--config.optim.lrr=1"], ["--config.optim.lrr", "--config.optim.lr?"]),
    (["--config", "configs/cfam.py", "--config.lr=1"], ["--config.optim.lr?"]),
    ([CFAM, "--config.optim.lr=fast"], ["--config.optim.lr=fast", "float"]),
    ([f"{CFAM}:ufine6962"], ["'ufine6962'", "Did you mean 'ufine6926'?"]),
    ([f"{CFAM}:ufine6926,varient=tiny"], ["'varient'", "'variant'"]),
    (["--config=configs/cfm.py"], ["configs/cfm.py", "configs/cfam.py"]),
    ([CFAM, "--mode=evl"], ["--mode=evl", "eval"]),
    ([CFAM, "--rnu=x"], ["'rnu'", "run"]),
  ],
  ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_mistakes_on_the_command_line_are_one_line(tmp_path, arguments, parts):
  message = assert_one_plain_error(run(tmp_path, *arguments), 2, *parts)
  assert message.count("\n") == 1
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ("arguments", "parts"),
  [
    ([], ["--mode=train needs --config", "configs/cfam.py"]),
    (["--mode=eval"], ["--mode=eval needs --config", "--run=DIR alone"]),
    (["--mode=eval", "--run=none"], ["none/config.json", "a run's folder"]),
    ([CFAM, "--mode=write"], ["--mode=write needs --out=DIR"]),
    ([CFAM, "--resize=8x8"], ["--resize is for --mode=shards", "--config.data.image"]),
    (
      [CFAM, "--mode=shards", "--out=a", "--resize=8"],
      ["--resize=8: expected HEIGHTxWIDTH, as 384x128"],
    ),
    (["--mode=index", "--run=a"], ["--mode=index needs --images=FOLDER"]),
    (["--mode=search", "--query=x"], ["--mode=search needs --index=DIR"]),
    ([CFAM, "--query=x"], ["--query is for --mode=search"]),
  ],
  ids=[
    *("nothing", "eval", "no run", "no out", "other mode", "no size"),
    *("no images", "no index", "a query elsewhere"),
  ],
)
def test_what_is_lacking_is_named(tmp_path, arguments, parts):
  assert_one_plain_error(run(tmp_path, *arguments), 1, *parts)
  assert list(tmp_path.iterdir()) == []


# ---- before training


def test_a_missing_dataset_is_one_clear_message(tmp_path):
  where = [f"{CFAM}:cuhk_pedes,variant=tiny", "--config.data.root=nowhere"]
  for mode in ("train", "check"):
    message = assert_one_plain_error(
      run(tmp_path, *where, f"--mode={mode}"),
      1,
      "nowhere/CUHK-PEDES",
      "reid_raw.json",
      "imgs",
      "signed",
      "--config=configs/cfam.py",
    )
    assert len(message) < 3000
  # The folder of the run is not claimed by a run that never was.
  assert list(tmp_path.iterdir()) == []


def test_evaluating_without_a_run_says_where_it_looked(tmp_path):
  done = run(tmp_path, CFAM, "--mode=eval", "--config.seed=3")
  message = assert_one_plain_error(done, 1, "has this run been trained")
  assert "runs/cfam-" in message


def test_a_folder_of_another_config_lists_the_fields(tmp_path):
  config = configs.plain(configs.read(str(ROOT / "configs" / "cfam.py")))
  config["optim"]["lr"], config["data"]["batch"] = 0.25, 3
  folder = tmp_path / "mine"
  folder.mkdir()
  configs.write_json(folder / "config.json", config)
  done = run(tmp_path, CFAM, f"--run={folder}", "--config.seed=3")
  message = assert_one_plain_error(done, 1, "another config", "--run=DIR")
  for line in ("optim.lr: 0.25 -> ", "data.batch: 3 -> ", "seed: 0 -> 3"):
    assert line in message


# ---- the modes that look at data


def test_check_finds_a_picture_cut_short(tmp_path):
  layouts.ufine6926(tmp_path)
  where = [f"{CFAM}:ufine6926,variant=tiny", f"--config.data.root={tmp_path}"]
  done = run(tmp_path, *where, "--mode=check", "--out=found")
  assert done.returncode == 0, done.stdout + done.stderr
  assert "ufine6926" in done.stdout and "Traceback" not in done.stderr
  before = json.loads((tmp_path / "found" / "check.json").read_text())
  picture = tmp_path / "UFine6926" / "images" / "1.jpg"
  picture.write_bytes(picture.read_bytes()[:200])
  done = run(tmp_path, *where, "--mode=check", "--out=found")
  assert done.returncode == 1
  assert "1.jpg" in done.stdout
  assert json.loads((tmp_path / "found" / "check.json").read_text()) != before


def test_what_is_written_can_be_checked_and_is_the_same_people(tmp_path):
  done = run(tmp_path, CFAM, *FEW, "--mode=write", "--out=data")
  assert done.returncode == 0, done.stderr
  assert "--config.data.root=data" in done.stdout
  command = done.stdout[done.stdout.index("--config=") :].split()
  checked = run(tmp_path, *command, "--mode=check")
  assert checked.returncode == 0, checked.stdout
  written = build.all_splits("ufine6926", tmp_path / "data")
  options = dict(identities=10, views=1, twins=0, granularity=("fine",))
  for found in written:
    drawn = build.dataset("rendered", None, found.split, options)
    assert [r.captions for r in found.records] == [r.captions for r in drawn.records]
    assert [r.identity for r in found.records] == [r.identity for r in drawn.records]
    assert found.load_image(found.records[0], None).shape == (384, 128, 3)
  assert [found.split for found in written] == ["train", "val", "test"]


def test_what_is_archived_can_be_read_back(tmp_path):
  done = run(tmp_path, CFAM, *FEW, "--mode=archive", "--out=data")
  assert done.returncode == 0, done.stderr
  found = build.all_splits("archive", tmp_path / "data")
  assert [len(split.records) for split in found] == [10, 10, 10]
  assert found[0].load_image(found[0].records[0], None).shape == (96, 40, 3)


def test_what_is_sharded_can_be_read_back_and_goes_on(tmp_path):
  write = [CFAM, *FEW, "--mode=shards", "--out=data", "--shard_mb=0.01"]
  sized = [*write, "--resize=96x40"]
  done = run(tmp_path, *sized)
  assert done.returncode == 0, done.stderr
  assert "rendered/val: 10 images, 10 captions, 10 identities; " in done.stdout
  assert "--config=configs/cfam.py:shards,variant=tiny" in done.stdout
  found = build.all_splits("shards", tmp_path / "data")
  assert [len(split.records) for split in found] == [10, 10, 10]
  assert found[0].load_image(found[0].records[0], None).shape == (96, 40, 3)
  assert_one_plain_error(run(tmp_path, *sized), 1, "are there already")
  parts = ["--mode=shards", "--config.data.root=data", "--out=b", "--quality=9"]
  idle = run(tmp_path, f"{CFAM}:shards,variant=tiny", *parts)
  assert_one_plain_error(idle, 1, "--quality=9 does nothing here")
  shutil.rmtree(tmp_path / "data/rendered/test")
  again = run(tmp_path, *sized)
  assert again.returncode == 0 and "rendered/train: there already" in again.stdout
  other = run(tmp_path, *write, "--resize=48x20")
  assert_one_plain_error(other, 1, "is there already, with", "'resize': (96, 40)")


# ---- how errors end, and names


@pytest.fixture
def ends(monkeypatch, capsys):
  """error -> (exit code, what stderr said), when the work ends with that error."""

  def check(error):
    def work():
      raise error

    monkeypatch.setattr(main, "_dispatch", work)
    monkeypatch.setattr(main.cli, "distributed", lambda: False)
    monkeypatch.setattr(main, "_leave", sys.exit)  # os._exit would end the tests
    level = logging.get_verbosity()
    with pytest.raises(SystemExit) as caught:
      main.main(None)
    logging.set_verbosity(level)
    return caught.value.code, capsys.readouterr().err

  return check


def test_a_stopped_run_says_how_it_goes_on(ends):
  code, text = ends(train.Interrupted(signal.SIGTERM, 7))
  assert code == 143
  assert (
    text == "stopped by SIGTERM after step 7; the same command continues from there.\n"
  )
  assert ends(train.Interrupted(signal.SIGINT, 7))[0] == 130
  assert ends(KeyboardInterrupt()) == (130, "interrupted\n")


@pytest.mark.parametrize(
  ("module", "what"),
  [(processes, "runs"), (problems, "cells")],
  ids=["sweep", "matrix"],
)
def test_a_stopped_table_says_how_far_it_came(ends, module, what):
  code, text = ends(module.Interrupted(signal.SIGTERM, 2, 4))
  assert code == 143
  begins = f"stopped by SIGTERM with 2 of 4 {what} finished; the same command continues"
  assert text.startswith(begins)
  assert ends(module.Interrupted(signal.SIGINT, 2, 4))[0] == 130


@pytest.mark.parametrize(
  "kind",
  [
    configs.ConfigError,
    problems.MatrixError,
    processes.SweepError,
    DatasetError,
    experiment.RunError,
    experiment.ckpt.CheckpointError,
    experiment.evaluate.EvaluationError,
    experiment.transforms.PipeError,
    experiment.tokenizer.TokenizerError,
    train.NonFiniteLoss,
  ],
)
def test_errors_for_people_come_without_a_traceback(ends, kind):
  assert ends(kind("what and why")) == (1, "error: what and why\n")


def test_a_bug_keeps_its_traceback(monkeypatch):
  def work():
    raise ValueError("a bug")

  monkeypatch.setattr(main, "_dispatch", work)
  monkeypatch.setattr(main.cli, "distributed", lambda: False)
  level = logging.get_verbosity()
  with pytest.raises(ValueError, match="a bug"):
    main.main(None)
  logging.set_verbosity(level)


@pytest.mark.parametrize(
  ("argv", "value"),
  [
    (["x", "--config=a.py:b"], "a.py:b"),
    (["x", "-config=a.py"], "a.py"),
    (["x", "--seed", "--config", "a.py"], "a.py"),
    (["x", "--config.optim.lr=3"], None),
    (["x", "--config"], None),
    (["x"], None),
  ],
)
def test_the_config_is_found_among_the_arguments(argv, value):
  assert cli.config_value(argv) == value
