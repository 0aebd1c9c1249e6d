"""Sweeps: what is run and in which order, what is resumed, and the table's numbers."""

import importlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from importlib import metadata

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from tpr_jax import config as configs
from tpr_jax import main
from tpr_jax.sweep import picture, plan, processes, results, run, table

ROOT = pathlib.Path(__file__).resolve().parent.parent
CFAM = "configs/cfam.py"
R1 = {"A-seed0": 50.0, "B-seed0": 53.5, "A-seed1": 54.5, "B-seed1": 55.25}


def shipped(file):
  configs.expose_shipped()
  return importlib.import_module(f"configs.{file}")


def sweep_config(**fields):
  """Two rows and two seeds, unless told otherwise."""
  rows = [("A", CFAM, ()), ("B", f"{CFAM}:rendered", ("losses.matching=0",))]
  fields = dict(seeds=(0, 1), base=("train.steps=3",), baseline="A") | fields
  scores = fields.pop("scores", ("test/R1", "test_coarse/mAP"))
  rows = fields.pop("rows", rows)
  return shipped("common").sweep("two", rows, scores, **fields).lock()


class Place:
  """A folder for a sweep whose runs are tests/sweep_child.py."""

  def __init__(self, folder):
    self.folder, self.out = folder, folder / "out"
    self.book = folder / "book.json"

  def plan(self, **fields):
    return plan.build(sweep_config(**fields), self.out)

  def run(self, does=None, book=None, **fields):
    """-> exit status; `does` says what runs do other than finish."""
    made = self.plan(**fields)
    own = {r.folder.name: r.config for r in made.runs}
    scores = {name: R1.get(name, 40.0) for name in own}
    notes = dict(config=own, R1=scores, does=does or {}, **(book or {}))
    self.book.write_text(json.dumps(notes))
    return run.Sweep(made, self.command, "the command")()

  @property
  def command(self):
    return (sys.executable, str(ROOT / "tests" / "sweep_child.py"), str(self.book))

  def starts(self):
    """What the children noted, and an empty page for the next ones."""
    file = self.folder / "starts"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines

  def summary(self):
    return json.loads((self.out / "sweep.json").read_text())


@pytest.fixture
def place(tmp_path, monkeypatch):
  monkeypatch.setattr(run, "_POLL", 0.01)
  return Place(tmp_path)


# ---- the plan


def test_every_row_of_a_seed_comes_before_the_next_seed(place):
  made = place.plan()
  assert [r.folder.name for r in made.runs] == list(R1)
  last = made.runs[-1]
  assert last.arguments == (
    f"--config={CFAM}:rendered",
    "--config.train.steps=3",
    "--config.losses.matching=0",
    "--config.seed=1",
    f"--run={place.out}/B-seed1",
  )
  expected = configs.plain(configs.read(configs.resolve(CFAM)))
  expected["train"]["steps"], expected["losses"]["matching"] = 3, 0.0
  assert last.config == {**expected, "seed": 1}


def test_a_row_wins_over_the_base(place):
  made = place.plan(rows=[("A", CFAM, ("train.steps=7", "optim.lr=1e-3"))])
  assert made.runs[0].config["train"]["steps"] == 7
  assert made.runs[0].config["optim"]["lr"] == 1e-3


def row(*overrides, value=CFAM):
  return dict(rows=[("A", CFAM, ()), ("last row", value, overrides)])


@pytest.mark.parametrize(
  ("fields", "parts"),
  [
    (row("train.stepz=5"), ["'last row'", "--config.train.steps?"]),
    (row("train.steps=some"), ["'last row'", "--config.train.steps=some"]),
    (row(value=f"{CFAM}:rendred"), ["'last row'", "'rendered'"]),
    (row(value="configs/cfm.py"), ["'last row'", "configs/cfam.py"]),
    (row(value="configs/sweeps.py"), ["'last row'", "a sweep itself"]),
    (dict(base=("train.stepz=5",)), ["'A'", "--config.train.steps?"]),
    (row("train.steps"), ["'train.steps'", "FIELD=VALUE"]),
    (row("--config.train.steps=5"), ["FIELD=VALUE", "'train.steps=500'"]),
    (row("seed=5"), ["'seed=5'", "seeds=(0, 1, 2)"]),
    (dict(rows=[("A", CFAM, "train.steps=5")]), ["rows", "(override, ...)"]),
    (dict(rows=[]), ["rows"]),
    (
      dict(rows=[("A b", CFAM, ()), ("a/b", CFAM, ())], baseline=""),
      ["'A b'", "'a/b'"],
    ),
    (dict(rows=[("++", CFAM, ())], baseline=""), ["'++'", "letters"]),
    (dict(scores=("tets/R1",)), ["'tets/R1'", "test, test_coarse"]),
    (dict(scores=("test/R2",)), ["'test/R2'", "R1, R5"]),
    (dict(scores=()), ["scores"]),
    (dict(baseline="C"), ["'C'", "A, B"]),
    (dict(seeds=()), ["seeds"]),
    (dict(seeds=(0, 1, 0)), ["seeds=(0, 1, 0)", "twice"]),
    (dict(seeds=(0.5,)), ["seeds=(0.5,)"]),
    (dict(jobs=0), ["jobs=0"]),
  ],
  ids=lambda value: repr(value)[:60] if isinstance(value, dict) else "",
)
def test_a_mistake_in_any_row_is_found_before_the_first_run(place, fields, parts):
  with pytest.raises(configs.ConfigError) as caught:
    place.run(**fields)
  for part in parts:
    assert part in str(caught.value)
  assert not place.out.exists() and place.starts() == []


def test_a_sweep_that_lacks_a_field_says_so(tmp_path):
  config = ConfigDict(dict(rows=(), seeds=(0,)))
  assert plan.is_sweep(config)
  with pytest.raises(configs.ConfigError, match="no name, scores, base"):
    plan.build(config, tmp_path)


# ---- the numbers


def test_mean_deviation_and_paired_differences_are_numpys(place):
  rng = np.random.default_rng(0)
  seeds = (3, 1, 4, 15)
  values = rng.uniform(20, 70, (2, len(seeds)))
  names = [f"{r}-seed{s}" for r in "AB" for s in seeds]
  made = place.plan(seeds=seeds)
  for single in made.runs:
    single.folder.mkdir(parents=True)
    score = dict(zip(names, values.ravel(), strict=True))[single.folder.name]
    found = {"test": {"t2i": {"R1": score}}, "test_coarse": {"t2i": {"mAP": 1}}}
    configs.write_json(single.folder / "results.json", {"evals": found})
  summary = results.collect(made, {}, "")
  for line, own in zip(summary["rows"], values, strict=True):
    found = line["scores"]["test/R1"]
    assert found["n"] == line["n"] == len(seeds)
    assert found["mean"] == pytest.approx(np.mean(own), rel=1e-12)
    assert found["std"] == pytest.approx(np.std(own, ddof=1), rel=1e-12)
    assert line["scores"]["test_coarse/mAP"]["std"] == 0.0
  a, b = summary["rows"]
  difference = values[1] - values[0]
  assert a["paired"] is None
  assert list(b["paired"]["values"].values()) == pytest.approx(difference)
  assert b["paired"]["mean"] == pytest.approx(difference.mean())
  assert b["paired"]["std"] == pytest.approx(difference.std(ddof=1))


@pytest.mark.parametrize(
  ("values", "signed", "text"),
  [
    ([], False, "–"),
    ([56.04], False, "56.0"),
    ([56.04], True, "+56.0"),
    ([54.0, 58.0], False, "56.0 ± 2.8"),
    ([-0.01, -0.03], True, "+0.0 ± 0.0"),
    ([-1.5, -2.5], True, "-2.0 ± 0.7"),
  ],
)
def test_numbers_as_they_are_printed(values, signed, text):
  assert table.number(results.spread(values), signed) == text


# ---- running


def test_two_rows_with_two_seeds(place, capsys):
  assert place.run() == 0
  assert place.starts() == list(R1)
  said = capsys.readouterr().out
  assert "2 rows x 2 seeds = 4 runs" in said and "[4/4] B, seed 1: finished" in said
  assert re.search(r"\[1/4\] A, seed 0: finished in 0:\d\d; 3 left, about 4:00", said)
  assert said.count("test R1 vs A") == 4  # a table after each run
  summary = place.summary()
  a, b = summary["rows"]
  assert (a["scores"]["test/R1"]["mean"], a["n"]) == (52.25, 2)
  assert b["paired"]["values"] == {"0": 3.5, "1": 0.75}
  assert a["seconds_train"]["mean"] == 75.0
  assert summary["versions"] == {"jax": ["1.0"]} and summary["command"] == "the command"
  assert [r["state"] for r in summary["runs"]] == ["finished"] * 4
  text = (place.out / "sweep.md").read_text()
  assert text.splitlines()[0] == (
    "|  | test R1 | test_coarse mAP | test R1 vs A | n | training |"
  )
  assert "| A | 52.2 ± 3.2 | 50.0 ± 0.0 | baseline | 2 | 1:15 |" in text
  assert "| B | 54.4 ± 1.2 | 50.0 ± 0.0 | +2.1 ± 1.9 | 2 | 1:15 |" in text
  assert "seeds 0, 1." in text and "the command" in text
  with Image.open(place.out / "sweep.png") as image:
    assert image.size[0] > 600
  log = (place.out / "A-seed0" / "log.txt").read_text()
  assert log.startswith("$ ") and "arguments: --config=configs/cfam.py" in log


def test_one_seed_has_no_deviation(place):
  assert place.run(seeds=(0,), baseline="") == 0
  text = (place.out / "sweep.md").read_text()
  assert "| A | 50.0 | 50.0 | 1 | 1:15 |" in text and "±" not in text
  assert place.summary()["rows"][0]["scores"]["test/R1"]["std"] is None


def test_the_same_command_starts_only_what_is_not_finished(place, capsys):
  assert place.run() == 0
  place.starts()
  before = place.summary()
  assert place.run() == 0
  assert place.starts() == [] and place.summary() == before
  assert "4 finished before" in capsys.readouterr().out
  (place.out / "B-seed0" / "results.json").unlink()
  assert place.run() == 0
  assert place.starts() == ["B-seed0"]
  assert "3 finished before; 1 begun before" in capsys.readouterr().out
  assert place.run(seeds=(0, 1, 2)) == 0
  assert place.starts() == ["A-seed2", "B-seed2"]


def test_a_folder_of_another_config_is_refused_with_the_difference(place):
  assert place.run() == 0
  place.starts()
  before = (place.out / "sweep.json").read_text()
  with pytest.raises(configs.ConfigError, match=r"train.steps: 3 -> 4\n.*--run=DIR"):
    place.run(base=("train.steps=4",))
  assert place.starts() == [] and (place.out / "sweep.json").read_text() == before


@pytest.mark.parametrize(
  ("does", "why"),
  [
    ("fail", "ended with exit code 7, see {log}"),
    ("killed", "was killed by SIGKILL (out of memory?), see {log}"),
    ("nothing", "it ended without results, see {log}"),
  ],
)
def test_a_run_that_fails_is_in_the_table_and_the_exit_status(place, capsys, does, why):
  assert place.run({"B-seed0": does}) == 1
  assert place.starts() == list(R1)  # the others are not lost
  said = capsys.readouterr().out
  log = place.out / "B-seed0" / "log.txt"
  assert f"[2/4] B, seed 0: FAILED: {why.format(log=log)}" in said
  assert does != "fail" or "\n  error: no such picture" in said
  text = (place.out / "sweep.md").read_text()
  assert "| B | 55.2 | 50.0 | +0.8 | 1 of 2 seeds | 1:15 |" in text
  assert f"- B, seed 0: failed: {why.format(log=log)}" in text
  states = [r["state"] for r in place.summary()["runs"]]
  assert states == ["finished", "failed", "finished", "finished"]
  assert place.run() == 0  # once the cause is gone
  assert place.starts() == ["B-seed0"]
  assert "failed" not in (place.out / "sweep.md").read_text()


def test_differences_are_of_the_seeds_that_both_have(place):
  assert place.run({"A-seed0": "fail"}) == 1
  text = (place.out / "sweep.md").read_text()
  assert "| B | 54.4 ± 1.2 | 50.0 ± 0.0 | +0.8 (n = 1) | 2 | 1:15 |" in text


def test_a_run_that_fails_after_its_results_counts_and_is_named(place):
  assert place.run({"A-seed1": "fail late"}) == 1
  assert place.summary()["rows"][0]["n"] == 2
  text = (place.out / "sweep.md").read_text()
  assert "A, seed 1: ended with exit code 9 after its results were written" in text


def test_results_without_the_score_are_a_failure(place):
  assert place.run() == 0
  path = place.out / "A-seed1" / "results.json"
  for content, why in (('{"evals": {}}', "no number for test/R1"), ("{", "Expecting")):
    path.write_text(content)
    assert place.run() == 1
    problem = place.summary()["runs"][2]["problem"]
    assert "results.json" in problem and why in problem


def test_when_every_run_fails_there_is_no_picture(place):
  everyone = dict.fromkeys(R1, "fail")
  assert place.run(everyone) == 1
  assert "| A | – | – | baseline | 0 of 2 seeds | – |" in (
    (place.out / "sweep.md").read_text()
  )
  assert not (place.out / "sweep.png").exists()
  assert picture.draw(place.summary()) is None


def test_runs_of_other_versions_are_remarked(place):
  assert place.run(book=dict(jax={"B-seed1": "2.0"})) == 0
  assert "The runs differ in jax: 1.0, 2.0." in (place.out / "sweep.md").read_text()


def test_two_jobs_run_at_once(place):
  pair = ["A-seed0", "B-seed0"]
  assert place.run(dict.fromkeys(pair, "meet"), dict(meet=pair), jobs=2) == 0
  assert len(place.starts()) == 4


# ---- interruption


class Signaller(threading.Thread):
  """Sends a signal to this process whenever the children's notes hold a line."""

  def __init__(self, place, *after):
    super().__init__(daemon=True)
    self._file, self._after = place.folder / "starts", after

  def run(self):
    for line, number in self._after:
      deadline = time.monotonic() + 20
      while not self._file.exists() or line not in self._file.read_text().split("\n"):
        if time.monotonic() > deadline:
          return
        time.sleep(0.02)
      os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_passed_on_and_the_sweep_waits(place, capsys, number):
  before = signal.getsignal(number)
  Signaller(place, ("B-seed0", number)).start()
  with pytest.raises(processes.Interrupted) as caught:
    place.run({"B-seed0": "wait"})
  assert caught.value.signum == number and signal.getsignal(number) is before
  assert "with 1 of 4 runs finished" in str(caught.value)
  heard = ["heard B-seed0", "saved B-seed0"]
  assert place.starts() == ["A-seed0", "B-seed0", *heard]  # nothing was started after
  passed = 130 if number == signal.SIGINT else 143
  said = capsys.readouterr()
  assert f"stopped, to be continued (ended with exit code {passed}" in said.out
  assert "passed on to 1 run(s)" in said.err
  assert [r["state"] for r in place.summary()["runs"]] == ["finished"] + ["waiting"] * 3
  assert place.run() == 0
  assert place.starts() == ["B-seed0", "A-seed1", "B-seed1"]


def test_a_second_signal_is_passed_on_too(place):
  Signaller(
    place, ("A-seed0", signal.SIGTERM), ("heard A-seed0", signal.SIGTERM)
  ).start()
  with pytest.raises(processes.Interrupted, match="0 of 4"):
    place.run({"A-seed0": "wait for two signals"})
  assert place.starts() == ["A-seed0", "heard A-seed0", "saved A-seed0"]


def test_a_mistake_of_ours_leaves_no_run_behind(place, monkeypatch):
  def spoilt(*_):
    raise OSError("disk full")

  monkeypatch.setattr(run.Sweep, "_ended", spoilt)
  with pytest.raises(OSError, match="disk full"):
    place.run({"B-seed0": "wait"}, jobs=2)
  assert "saved B-seed0" in place.starts()


def test_one_sweep_a_folder(place):
  with (
    processes.alone(place.out),
    pytest.raises(processes.SweepError, match="still at work there"),
  ):
    place.run()
  assert place.starts() == []
  assert place.run() == 0


# ---- the command line


def command_line(folder, *arguments):
  flags = ["--xla_backend_optimization_level=0"]
  if metadata.version("jaxlib").startswith("0.10."):
    flags.append("--xla_cpu_use_fusion_emitters=false")
  return subprocess.run(
    [sys.executable, "-m", "tpr_jax.main", *arguments],
    cwd=folder,
    env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": " ".join(flags)},
    capture_output=True,
    text=True,
    timeout=300,
  )


SWEEP = "--config=configs/sweeps.py:ablation"


@pytest.mark.parametrize(
  ("arguments", "code", "parts"),
  [
    ([SWEEP], 1, ["configs/sweeps.py:ablation is a sweep", "--mode=sweep"]),
    ([f"--config={CFAM}", "--mode=sweep"], 1, ["one run", "sweeps.py:ablation"]),
    (["--mode=sweep"], 1, ["needs --config", "configs/sweeps.py:ablation"]),
    ([SWEEP, "--mode=sweep", "--config.seed=3"], 2, ["--config.seeds?"]),
    ([f"{SWEEP}s", "--mode=sweep"], 2, ["Did you mean 'ablation'?"]),
    ([SWEEP, "--mode=sweep", "--out=x"], 1, ["--out", "--run=DIR"]),
    ([SWEEP, "--mode=sweep", "--config.jobs=0"], 1, ["jobs=0"]),
  ],
)
def test_mistakes_on_the_command_line(tmp_path, arguments, code, parts):
  done = command_line(tmp_path, *arguments)
  assert done.returncode == code, done.stderr
  assert "Traceback" not in done.stderr
  for part in parts:
    assert part in done.stderr
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ("error", "code", "text"),
  [
    (
      processes.Interrupted(signal.SIGTERM, 2, 4),
      143,
      "stopped by SIGTERM with 2 of 4 runs finished; the same command continues",
    ),
    (processes.Interrupted(signal.SIGINT, 2, 4), 130, "stopped by SIGINT"),
    (processes.SweepError("at work"), 1, "error: at work"),
  ],
)
def test_how_an_interrupted_sweep_leaves(monkeypatch, capsys, error, code, text):
  def work():
    raise error

  monkeypatch.setattr(main, "_dispatch", work)
  monkeypatch.setattr(main.logging, "set_verbosity", lambda _: None)
  with pytest.raises(SystemExit) as caught:
    main.main(None)
  assert caught.value.code == code
  assert text in capsys.readouterr().err


TINY = """
from configs import cfam, common


def get_config(arg=None):
  if arg == "run":
    c = cfam.get_config("overfit=True")
    del c.evals["test_coarse"], c.evals["test_shuffled"], c.evals["train"]
    c.evals.test.group_by = ""
    return c
  rows = [("only", "tiny.py:run", ("losses.identity=0", "optim.lr=1e-3"))]
  return common.sweep("tiny", rows, ("test/R1",), base=BASE, seeds=(0, 1))


BASE = (
  "model.image_size=(32,16)", "model.patch=(8,8)", "model.stride=(8,8)",
  "model.vision_width=16", "model.vision_layers=1", "model.vision_heads=2",
  "model.text_width=16", "model.text_layers=1", "model.text_heads=2",
  "model.joint_dim=16", "text.length=32", "text.buckets=()", "text.short_first=0",
  "data.image=resize(32,16)", "data.eval_image=resize(32,16)", "data.cache_mb=0",
  "data.batch=8", "eval.batch=16", "data.options.identities=10",
  "data.options.views=1", "data.options.granularity=('fine',)", "train.steps=2",
  "losses.sdm=0", "losses.sdm_local=0", "losses.matching=0",
  "evals.test.options.identities=10", "evals.test.options.views=1",
)
"""


def test_a_real_run_and_the_same_command_again(tmp_path):
  (tmp_path / "tiny.py").write_text(TINY)
  words = ["--mode=sweep", "--config=tiny.py", "--config.seeds=(5,)"]
  done = command_line(tmp_path, *words)
  folder = tmp_path / "runs" / "tiny-sweep"
  log = folder / "only-seed5" / "log.txt"
  assert done.returncode == 0, done.stdout + (log.read_text() if log.exists() else "")
  found = json.loads((folder / "sweep.json").read_text())
  (single,) = found["runs"]
  real = json.loads((folder / "only-seed5" / "results.json").read_text())
  assert single["scores"]["test/R1"] == real["evals"]["test"]["t2i"]["R1"]
  assert single["seconds"]["train"] > 0 and "jax" in single["versions"]
  assert "--config.seed=5" in single["command"]
  assert found["command"].endswith(
    "--mode=sweep --config=tiny.py '--config.seeds=(5,)'"
  )
  config = json.loads((folder / "only-seed5" / "config.json").read_text())
  assert (config["seed"], config["optim"]["lr"], config["train"]["steps"]) == (
    5,
    1e-3,
    2,
  )
  assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")
  again = command_line(tmp_path, *words)
  assert again.returncode == 0 and "1 finished before" in again.stdout
  assert len(log.read_text().split("$ ")) == 2  # the child was started once


def test_the_parent_leaves_jax_alone(place):
  code = f"""
import pathlib, sys
from tpr_jax import config as configs, main
from tpr_jax.sweep import plan, run
configs.expose_shipped()
from configs import common
main._known_errors()
rows = [("A", "{CFAM}", ())]
config = common.sweep("x", rows, ("test/R1",), seeds=(0,))
made = plan.build(config, pathlib.Path("x"))
assert run.Sweep(made, ({sys.executable!r}, "-c", "raise SystemExit(4)"))() == 1
print(sorted({{"jax", "flax", "torch"}} & set(sys.modules)))
"""
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=place.folder,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1] == "[]", done.stdout


# ---- the sweeps that ship


def shipped_sweeps():
  module = shipped("sweeps")
  return {name: module.get_config(name) for name in module.NAMES}


SHIPPED = shipped_sweeps()
NEEDED = {
  value.partition(":")[0] for sweep in SHIPPED.values() for _, value, _ in sweep.rows
}
MISSING = sorted(file for file in NEEDED if not (ROOT / file).is_file())


@pytest.mark.skipif(bool(MISSING), reason=f"not here: {', '.join(MISSING)}")
@pytest.mark.parametrize(
  ("name", "row"), [(name, r[0]) for name, s in SHIPPED.items() for r in s.rows]
)
def test_every_row_that_ships_builds(tmp_path, name, row):
  sweep = SHIPPED[name].copy_and_resolve_references()
  sweep.rows = tuple(r for r in sweep.rows if r[0] == row)
  sweep.baseline = ""
  made = plan.build(sweep, tmp_path)
  assert [r.seed for r in made.runs] == [0, 1, 2]
  assert all(r.config["data"]["name"] == "rendered" for r in made.runs)


def test_what_ships():
  rows = {name: [r[0] for r in sweep.rows] for name, sweep in SHIPPED.items()}
  assert rows == {
    "ablation": ["InfoNCE", "+ L_gs", "+ L_ls", "+ L_m", "+ L_cid"],
    "baselines": ["CLIP", "IRRA", "CFAM"],
    "granularity": [f"trained on {text}" for text in ("fine", "medium", "coarse")],
  }
  numbered = [value for _, value, _ in SHIPPED["ablation"].rows]
  assert numbered == [f"{CFAM}:rendered,ablation={number}" for number in range(5)]
  assert SHIPPED["granularity"].scores[-1] == "test_mixed/R1"
  assert shipped("sweeps").get_config() == SHIPPED["ablation"]
