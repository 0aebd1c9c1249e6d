"""The loop around any rewriter, and the line that tells how far it is."""

import importlib.util
import io
import threading

import pytest

from tests.curate import fake
from tpr_jax.curate import ask
from tpr_jax.curate.answers import Answer
from tpr_jax.curate.local import Local
from tpr_jax.curate.problems import CurateError, Interrupted, NoAnswer
from tpr_jax.curate.progress import Progress


class Stub:
  """Answers in batches; `bad` captions raise."""

  def __init__(self, error=None, bad=(), workers=2, batch=3):
    self.workers, self.batch = workers, batch
    self.error, self.bad, self.batches = error, bad, []

  def answer(self, requests, stop):
    self.batches.append([request.caption for request in requests])
    if any(request.caption in self.bad for request in requests):
      raise self.error
    return [Answer(request.caption.upper()) for request in requests]


def run(stub, count=8, caught=()):
  requests = [fake.request(f"Man {i}.") for i in range(count)]
  kept = {}
  keep = lambda request, answer: kept.update({request.caption: answer.text})
  progress = Progress("rewrites", count, stream=io.StringIO())
  return kept, ask.ask_all(stub, requests, keep, progress, caught)


def test_everything_is_asked_once_in_batches():
  stub = Stub()
  kept, failed = run(stub)
  assert kept == {f"Man {i}.": f"MAN {i}." for i in range(8)} and failed == []
  assert sorted(map(len, stub.batches)) == [2, 3, 3]


def test_a_batch_without_an_answer_is_told_and_the_others_go_on():
  kept, failed = run(Stub(NoAnswer("too long"), bad={"Man 4."}, workers=1))
  assert [request.caption for request, _ in failed] == ["Man 3.", "Man 4.", "Man 5."]
  assert {why for _, why in failed} == {"too long"} and len(kept) == 5


def test_several_failures_in_a_row_end_it():
  everybody = {f"Man {i}." for i in range(3, 30)}
  stub = Stub(NoAnswer("nobody there"), bad=everybody, workers=1, batch=1)
  with pytest.raises(CurateError, match="nobody there\n3 answers were kept"):
    run(stub, 30)
  assert len(stub.batches) <= 3 + 6


def test_an_error_of_the_program_is_not_swallowed():
  with pytest.raises(ZeroDivisionError):
    run(Stub(ZeroDivisionError(), bad={"Man 0."}))


def test_a_signal_from_before_asks_nothing():
  stub = Stub()
  with pytest.raises(Interrupted, match="SIGTERM; 0 answers"):
    run(stub, caught=[15])
  assert stub.batches == []


def test_without_pytorch_a_local_model_says_what_to_install(monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, "find_spec", lambda name: None if name == "torch" else find(name)
  )
  with pytest.raises(CurateError, match=r"pip install 'tpr_jax\[torch\]'"):
    Local(fake.rewriter(kind="local"))


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_progress_tells_rate_and_time_left():
  clock, out = fake.Clock(), io.StringIO()
  progress = Progress("rewrites", 100, before=40, stream=out, clock=clock)
  for _ in range(10):
    clock.sleep(2.0, threading.Event())
    progress.step(1)
  # In a log: a line every ten seconds, not one for each answer.
  assert out.getvalue().splitlines() == [
    "rewrites: 45 of 100, 0.5/s, 1:50 left",
    "rewrites: 50 of 100, 0.5/s, 1:40 left",
  ]
  progress.end(failed=2)
  assert out.getvalue().endswith("0.5/s, 1:36 left, 2 failed\n")


def test_on_a_terminal_the_line_is_written_over():
  clock, out = fake.Clock(), Terminal()
  progress = Progress("pictures", 3, stream=out, clock=clock)
  for _ in range(3):
    clock.sleep(1.0, threading.Event())
    progress.step(1)
  progress.note("something")
  assert out.getvalue().count("\r") == 4 and out.getvalue().count("\n") == 1


def test_complaints_are_not_repeated_at_every_try():
  heard = []
  say = ask.seldom(heard.append)
  for wait in (1, 2, 4):
    say(f"the server is busy; trying again in {wait} s")
  say("no route; trying again in 1 s")
  assert heard == [
    "the server is busy; trying again in 1 s",
    "no route; trying again in 1 s",
  ]
