"""The run's numbers on disk, in TensorBoard and on the terminal."""

import io
import json
import struct
import sys

import pytest
from tensorboardX.proto.event_pb2 import Event

from tpr_jax import meter, run_log
from tpr_jax.meter import CLOCK, Meter
from tpr_jax.run_log import RunLog


def open_log(folder, first_step=0, **options):
  given = dict(first_step=first_step, steps=100, meter=Meter(8))
  return RunLog(folder, **{**given, **options})


def lines(folder):
  text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
  assert text.endswith("\n")
  return [json.loads(line) for line in text.splitlines()]


def events(folder):
  """(tag, step, value) of every scalar in the event files, oldest file first."""
  for path in sorted((folder / "tensorboard").glob("events.*")):
    data, at = path.read_bytes(), 0
    while at < len(data):
      # A record: length, checksum of the length, the event, its checksum.
      (length,) = struct.unpack_from("<Q", data, at)
      event = Event.FromString(data[at + 12 : at + 12 + length])
      at += 12 + length + 4
      for value in event.summary.value:
        yield value.tag, event.step, value.simple_value


def test_a_line_for_each_call_and_an_event_for_each_number(tmp_path):
  log = open_log(tmp_path)
  log.train(10, {"loss": 1.5, "lr": 0.25, "sdm": 0.5})
  log.validation(10, {"R1": 12.5, "mAP": 6.25, "queries": 40})
  log.close()
  train, val = lines(tmp_path)
  rate, waited = (train.pop(name) for name in CLOCK[:2])
  assert waited == 0
  assert train == {"step": 10, "kind": "train", "loss": 1.5, "lr": 0.25, "sdm": 0.5}
  assert rate > 0
  assert val == {"step": 10, "kind": "val", "R1": 12.5, "mAP": 6.25, "queries": 40}
  found = {tag: (step, value) for tag, step, value in events(tmp_path)}
  assert found.pop("train/examples_per_second")[1] == pytest.approx(rate)
  assert found.pop("train/input_wait") == (10, 0.0)
  assert found == {
    "train/loss": (10, 1.5),
    "train/lr": (10, 0.25),
    "train/sdm": (10, 0.5),
    "val/R1": (10, 12.5),
    "val/mAP": (10, 6.25),
    "val/queries": (10, 40.0),
  }


def test_words_have_lines_of_their_own_and_leave_out_what_is_undefined(
  tmp_path, capsys
):
  log = open_log(tmp_path)
  log.words(10, {"auc_gass": 0.75, "auc_cosine": float("nan"), "wrong_tokens": 7})
  log.words(20, {"auc_gass": float("nan")})
  log.train(20, {"loss": 1.5, "lr": 0.25})
  log.close()
  first, second, _ = lines(tmp_path)
  assert first == {"step": 10, "kind": "words", "auc_gass": 0.75, "wrong_tokens": 7}
  assert second == {"step": 20, "kind": "words"}
  found = [event for event in events(tmp_path) if event[0].startswith("words/")]
  assert found == [("words/auc_gass", 10, 0.75), ("words/wrong_tokens", 10, 7.0)]
  said = capsys.readouterr().out.splitlines()
  assert said[0] == "step 10: AUC of wrong words gass 0.750"
  assert said[1] == "step 20: AUC of wrong words undefined"
  log = open_log(tmp_path, first_step=10)  # resumed: what came after is dropped
  log.close()
  assert [line["step"] for line in lines(tmp_path)] == [10]


def test_lines_are_on_disk_before_the_log_is_closed(tmp_path):
  log = open_log(tmp_path)
  log.train(5, {"loss": 1.0, "lr": 0.1})
  assert [line["step"] for line in lines(tmp_path)] == [5]
  log.close()


def test_resuming_drops_what_came_after_the_checkpoint(tmp_path):
  log = open_log(tmp_path)
  for step in (10, 20, 30):
    log.train(step, {"loss": float(step), "lr": 0.1})
  log.validation(20, {"R1": 1.0})
  log.validation(30, {"R1": 2.0})
  log.close()
  log = open_log(tmp_path, first_step=20)
  log.train(30, {"loss": -30.0, "lr": 0.1})
  log.close()
  found = [(line["step"], line["kind"], line.get("loss")) for line in lines(tmp_path)]
  assert found == [
    (10, "train", 10.0),
    (20, "train", 20.0),
    (20, "val", None),
    (30, "train", -30.0),
  ]


def test_starting_anew_in_a_folder_leaves_no_old_line(tmp_path):
  log = open_log(tmp_path)
  log.train(10, {"loss": 1.0, "lr": 0.1})
  log.close()
  log = open_log(tmp_path)
  log.train(10, {"loss": 2.0, "lr": 0.1})
  log.close()
  assert [line["loss"] for line in lines(tmp_path)] == [2.0]


@pytest.mark.parametrize("tail", ['{"step": 20, "kin', "\x00\x00\x00", "[1]", '"x"'])
def test_a_last_line_cut_by_a_kill_is_dropped(tmp_path, tail):
  whole = json.dumps({"step": 10, "kind": "train", "loss": 1.0})
  (tmp_path / "metrics.jsonl").write_text(f"{whole}\n{tail}", encoding="utf-8")
  log = open_log(tmp_path, first_step=50)
  log.validation(50, {"R1": 3.0})
  log.close()
  assert [line["step"] for line in lines(tmp_path)] == [10, 50]


def test_a_whole_last_line_without_its_newline_is_kept(tmp_path):
  whole = json.dumps({"step": 10, "kind": "train", "loss": 1.0})
  (tmp_path / "metrics.jsonl").write_text(whole, encoding="utf-8")
  log = open_log(tmp_path, first_step=50)
  log.validation(50, {"R1": 3.0})
  log.close()
  assert [line["step"] for line in lines(tmp_path)] == [10, 50]


def test_processes_but_the_first_write_and_print_nothing(tmp_path, capsys):
  folder = tmp_path / "run"
  log = open_log(folder, active=False)
  log.train(10, {"loss": 1.0, "lr": 0.1})
  log.validation(10, {"R1": 1.0})
  log.words(10, {"auc_gass": 1.0})
  log.say("a line")
  log.close()
  assert not folder.exists()
  assert capsys.readouterr() == ("", "")


class Clock:
  def __init__(self, monkeypatch):
    self.now = 1000.0
    for module in (run_log, meter):
      monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)


def test_plain_lines_tell_rate_and_time_left(tmp_path, capsys, monkeypatch):
  clock = Clock(monkeypatch)
  log = open_log(tmp_path, first_step=20)
  clock.now += 5
  log.train(30, {"loss": 1.23456, "lr": 1e-3})
  clock.now += 60  # a validation, which must not count as training
  log.validation(30, {"R1": 12.5, "R5": 40.0, "mAP": 9.25, "queries": 7})
  log.meter.restart()
  clock.now += 2
  log.train(40, {"loss": 1.0, "lr": 1e-3})
  log.close()
  first, second, third = capsys.readouterr().out.splitlines()
  # 10 steps of 8 in 5 s; 70 steps left at half a second each.
  assert first == "step 30/100  loss 1.2346  lr 1.00e-03  16 examples/s  0:35 left"
  assert second == "step 30: validation R1 12.50  mAP 9.25"
  assert "40 examples/s" in third
  rates = [line.get("examples_per_second") for line in lines(tmp_path)]
  assert rates == [pytest.approx(16.0), None, pytest.approx(40.0)]
  # Validations are part of what is still to come: 67 s for 20 steps, 60 to go.
  assert third.endswith(f"{run_log.duration(67 / 20 * 60)} left")


def test_waiting_for_input_and_the_share_of_the_peak_are_told(
  tmp_path, capsys, monkeypatch
):
  clock = Clock(monkeypatch)
  log = open_log(tmp_path, meter=meter.Meter(8, peak=4e12))
  log.meter.work(10**12)
  with log.meter.waiting():
    clock.now += 0.3
  clock.now += 0.7
  log.train(1, {"loss": 1.0, "lr": 1e-3})
  log.close()
  said = capsys.readouterr().out
  assert "  8 examples/s, 25% of peak, 30% waiting for input  " in said
  (line,) = lines(tmp_path)
  assert line["tflops"] == pytest.approx(1.0)
  assert line["flop_utilisation"] == pytest.approx(0.25)


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_a_terminal_gets_a_bar_and_the_lines_above_it(tmp_path, capsys, monkeypatch):
  terminal = Terminal()
  monkeypatch.setattr(sys, "stderr", terminal)
  log = open_log(tmp_path, first_step=20)
  log.train(100, {"loss": 1.5, "lr": 1e-3})
  log.validation(100, {"R1": 12.0})
  log.close()
  shown = terminal.getvalue()
  assert "20/100" in shown and "100/100" in shown
  assert "loss 1.5000" in shown and "lr 1.00e-03" in shown and "examples/s" in shown
  assert capsys.readouterr().out == "step 100: validation R1 12.00\n"


@pytest.mark.parametrize(
  ("seconds", "text"),
  [
    (0, "0:00"),
    (-3, "0:00"),
    (59.6, "1:00"),
    (75, "1:15"),
    (3599.4, "59:59"),
    (3599.5, "1:00:00"),
    (3675, "1:01:15"),
    (360_000, "100:00:00"),
  ],
)
def test_duration(seconds, text):
  assert run_log.duration(seconds) == text
