"""A filter by several processes, devices, or killed again and again: the same bytes."""

import os
import signal
import time

import pytest

from tests import written_run
from tests.several import Several

pytestmark = pytest.mark.proof


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
  folder = tmp_path_factory.mktemp("scorer") / "run"
  written_run.write(folder)
  return folder


def start(folder, scorer, **options):
  """Filters 240 pictures, in four parts."""
  folder.mkdir(exist_ok=True)
  return Several(
    folder,
    "--mode=filter",
    "--config=configs/filter.py:rendered,keep_ratio=0.8",
    "--config.data.options.identities=60",
    "--config.data.options.pair_noise=0.3",
    "--config.pool.size=100",
    "--config.scorer.batch=32",
    f"--config.scorer.place={scorer}",
    f"--out={folder / 'out'}",
    module="tests.small_parts",
    **options,
  )


def made(folder):
  return (folder / "out" / "filter.jsonl").read_bytes()


def test_the_bytes_are_those_of_one_device(tmp_path, scorer, sample):
  ways = dict(one=dict(count=1, devices=1), two=dict(count=2, devices=2, timeout=60))
  if not sample:
    ways["eight"] = dict(count=1, devices=8)
  for name, options in ways.items():
    run = start(tmp_path / name, scorer, **options)
    assert set(run.wait(900)) == {0}, run.said(0)
    assert made(tmp_path / name) == made(tmp_path / "one"), name
  both = [(tmp_path / "two" / f"out{i}.txt").read_text() for i in (0, 1)]
  assert "of this process's share" in both[0] and "Written" not in both[1]


def test_it_survives_kills(tmp_path, scorer, sample):
  straight = start(tmp_path / "straight", scorer, count=1, devices=1)
  assert straight.wait(900) == [0], straight.said()
  folder = tmp_path / "killed"
  scores = folder / "out" / "scores"
  for parts in (1,) if sample else (1, 2):
    run = start(folder, scorer, count=1, devices=1)
    while len(list(scores.glob("part-*"))) < parts:
      assert run.processes[0].poll() is None, run.said()
      time.sleep(0.01)
    os.kill(run.processes[0].pid, signal.SIGKILL)
    assert run.wait(60) == [-signal.SIGKILL]
  last = start(folder, scorer, count=1, devices=1)
  assert last.wait(900) == [0], last.said()
  assert "parts are there already" in last.said()
  assert made(folder) == made(tmp_path / "straight")
