"""What is run and resumed, what the table says, and what a signal does."""

import os
import re
import signal
import threading
import time

import pytest
from PIL import Image

from tests.sweep.place import R1
from tpr_jax import config as configs
from tpr_jax.sweep import picture, processes, results, run


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


def test_the_phrases_found_are_those_of_the_first_row(place):
  rows = [dict(name="all", pointing=48.5), dict(name="bag", pointing=10.0)]
  found = dict(evals=dict(test=dict(localise=dict(rows=rows))))
  assert results._score(found, "test/pointing") == 48.5
  with pytest.raises(ValueError, match="no number for test/energy"):
    results._score(found, "test/energy")


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
    # A ends when B is there to be stopped.
    does = {"A-seed0": "meet", "B-seed0": "wait"}
    place.run(does, dict(meet=["B-seed0"]), jobs=2)
  assert "saved B-seed0" in place.starts()


def test_one_sweep_a_folder(place):
  with (
    processes.alone(place.out),
    pytest.raises(processes.SweepError, match="still at work there"),
  ):
    place.run()
  assert place.starts() == []
  assert place.run() == 0
