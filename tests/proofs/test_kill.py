"""Killed at any moment and started again: the same bytes as never stopped."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.proofs import runs
from tests.several import ROOT

pytestmark = pytest.mark.proof
STEP = re.compile(rb"^step \d+/", re.MULTILINE)
SEED = 5  # of the moments; what a machine does until then differs each time


class Attempts:
  """Starts the same command in the same folder, again and again."""

  def __init__(self, folder, cache, steps):
    self.folder, self.run, self.steps = folder, folder / "run", steps
    flags = "--xla_backend_optimization_level=0"
    self.env = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
    self.env["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    self.env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    folder.mkdir(parents=True)

  def start(self):
    self.out = self.folder / "out.txt"
    with self.out.open("wb") as out:
      self.process = subprocess.Popen(
        [sys.executable, "-m", "tpr_jax.main", f"--config={runs.CONFIG}"]
        + [f"--run={self.run}", f"--config.train.steps={self.steps}"],
        cwd=self.folder,
        env=self.env,
        stdout=out,
        stderr=subprocess.STDOUT,
      )

  def until(self, condition, pause=0.002):
    """Waits for it; False if the process ended before."""
    while not condition():
      if self.process.poll() is not None:
        return False
      time.sleep(pause)
    return True

  def training(self):
    return STEP.search(self.out.read_bytes()) is not None

  def saving(self):
    return any((self.run / "checkpoints").glob("*tmp*"))

  def finish(self):
    self.start()
    assert self.process.wait(300) == 0, self.out.read_text()
    return self.out.read_text()


class Place:
  """An undisturbed run, and runs to disturb, which find its programs compiled."""

  def __init__(self, folder, steps):
    self.folder, self.steps = folder, steps
    self.straight = self.attempts("straight")
    self.straight.finish()

  def attempts(self, name):
    return Attempts(self.folder / name, self.folder / "cache", self.steps)


@pytest.fixture(scope="module")
def place(tmp_path_factory, sample):
  return Place(tmp_path_factory.mktemp("kill"), 150 if sample else 600)


def kill_somewhere(attempts, kind, rng):
  """Starts and kills; -> what was going on then."""
  began = time.monotonic()
  attempts.start()
  if kind == "starting":
    time.sleep(rng.uniform(0, 6))
  elif kind == "training":
    attempts.until(attempts.training)
    time.sleep(rng.uniform(0, 4))
  else:
    # One of the next saves, at any point of it.
    attempts.until(attempts.training)
    for _ in range(rng.randint(1, 3)):
      attempts.until(lambda: not attempts.saving())
      attempts.until(attempts.saving, pause=0.0002)
    time.sleep(rng.uniform(0, 0.03))
  alive = attempts.process.poll() is None
  attempts.process.send_signal(signal.SIGKILL)
  attempts.process.wait()
  there = sorted(path.name for path in (attempts.run / "checkpoints").glob("*"))
  return kind, alive, round(time.monotonic() - began, 2), there


def test_killed_at_random_moments(place, sample):
  rng, killed = random.Random(SEED), place.attempts("killed")
  kinds = ["training", "saving"] * (1 if sample else 9) + ["starting"] * (
    not sample
  ) * 2
  rng.shuffle(kinds)
  for number, kind in enumerate(kinds):
    what = kill_somewhere(killed, kind, rng)
    print(f"kill {number + 1} of {len(kinds)}: {what}", flush=True)
  assert "Resuming after step" in killed.finish() or sample
  runs.assert_same_run(killed.run, place.straight.run)
  assert runs.results(killed.run) == runs.results(place.straight.run)


def test_terminated_saves_at_once_and_leaves(place, sample):
  """SIGTERM and SIGINT while it trains: a clean exit, and nothing is repeated."""
  rng, stopped = random.Random(SEED), place.attempts("stopped")
  for number in range(1 if sample else 4):
    stopped.start()
    assert stopped.until(stopped.training)
    time.sleep(rng.uniform(0, 2))
    signum = (signal.SIGTERM, signal.SIGINT)[number % 2]
    asked = time.monotonic()
    stopped.process.send_signal(signum)
    assert stopped.process.wait(60) == 128 + signum, stopped.out.read_text()
    took = time.monotonic() - asked
    said = stopped.out.read_text()
    step = int(re.search(r"after step (\d+); the same command", said)[1])
    assert runs.kept(stopped.run)[0][-1] == step  # nothing of it is lost
    print(f"{signum.name}: saved step {step} and left in {took:.2f} s", flush=True)
  stopped.finish()
  runs.assert_same_run(stopped.run, place.straight.run)
