"""The same run, the same bytes; and one run on changing numbers of devices."""

import json
import re
import shutil
import signal
import time

import pytest

from tests.proofs import runs
from tests.several import Several

pytestmark = pytest.mark.proof
STEPS, HALF = 30, 15
# (processes, devices of each): eight devices, four, one.
LAYOUTS = {"8": (1, 8), "2x4": (2, 4), "4": (1, 4), "1": (1, 1)}
# Largest difference of a parameter after 15 more steps, relative to the largest entry
# of its array: sums of float32 in another order, carried on by the optimizer.
TOLERANCE = 2e-4


class Place:
  """Runs of the same config in folders of their own."""

  def __init__(self, folder):
    self.folder = folder

  def run(self, name, layout, *overrides, wait=True):
    count, devices = LAYOUTS[layout]
    (self.folder / f"{name}-out").mkdir(exist_ok=True)
    several = Several(
      self.folder / f"{name}-out",
      f"--config={runs.CONFIG}",
      f"--run={self.folder / name}",
      f"--config.train.steps={STEPS}",
      "--config.train.keep_last=9",
      *overrides,
      count=count,
      devices=devices,
    )
    if wait:
      assert several.wait() == [0] * count, several.said()
    return several

  def halved(self, name, new):
    """A copy of a run as it was after half of its steps."""
    shutil.copytree(self.folder / name, self.folder / new)
    for path in (self.folder / new / "checkpoints").iterdir():
      if int(path.name) > HALF:
        shutil.rmtree(path)
    return self.folder / new


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  return Place(tmp_path_factory.mktemp("devices"))


@pytest.fixture(scope="module")
def straight(place):
  """The run on eight devices."""
  place.run("straight", "8")
  return place.folder / "straight"


def test_the_same_run_has_the_same_bytes(place, straight):
  place.run("again", "8")
  runs.assert_same_run(place.folder / "again", straight)
  assert runs.results(place.folder / "again") == runs.results(straight)
  assert json.loads((straight / "run.json").read_text())["repeatable"]


def test_two_processes_repeat_each_other_and_equal_one(place, straight):
  for name in ("two", "two-again"):
    place.run(name, "2x4")
  two = place.folder / "two"
  runs.assert_same_run(place.folder / "two-again", two)
  far = runs.furthest(two, straight)
  print(f"two processes of four devices against one of eight: {far:.1e}", flush=True)
  assert far < TOLERANCE
  assert runs.results(two)["evals"].keys() == runs.results(straight)["evals"].keys()


@pytest.mark.parametrize("begun", LAYOUTS)
@pytest.mark.parametrize("resumed", LAYOUTS)
def test_resumed_on_another_number_of_devices(place, straight, begun, resumed, sample):
  if sample and (begun, resumed) != ("8", "1"):
    pytest.skip("a sample was asked for")
  if begun == resumed:
    pytest.skip("nothing changes")
  source = "straight" if begun == "8" else f"from-{begun}"
  if not (place.folder / source).exists():
    place.run(source, begun)
  new = f"{begun}-on-{resumed}"
  folder = place.halved(source, new)
  began = time.monotonic()
  several = place.run(new, resumed)
  took = time.monotonic() - began
  said = several.said()
  assert f"Resuming after step {HALF} of {STEPS}" in said
  assert "Not promised: the same bytes" in said and "devices" in said
  assert not json.loads((folder / "run.json").read_text())["repeatable"]
  # The same rows at the same steps, and the same log but for rounding.
  ours, theirs = runs.log(folder), runs.log(straight)
  assert [(x["step"], x["kind"]) for x in ours] == [
    (x["step"], x["kind"]) for x in theirs
  ]
  far = runs.furthest(folder, straight)
  print(
    f"{begun} -> {resumed}: {far:.1e} from the straight run; {took:.0f} s", flush=True
  )
  assert far < TOLERANCE


@pytest.mark.parametrize("signalled", [0, 1])
def test_a_signal_to_one_process_stops_both_at_one_step(place, signalled):
  name = f"signal-{signalled}"
  several = place.run(name, "2x4", "--config.train.steps=3000", wait=False)
  until(several, lambda: re.search(r"^step 7/", several.said(), re.MULTILINE))
  several.processes[signalled].send_signal(signal.SIGTERM)
  assert several.wait(120) == [143, 143], several.said(0) + several.said(1)
  steps = {
    re.search(r"stopped by SIGTERM after step (\d+); the same", several.said(i))[1]
    for i in (0, 1)
  }
  assert len(steps) == 1
  assert runs.kept(place.folder / name)[0][-1] == int(steps.pop())


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_takes_the_other_along_and_the_run_goes_on(
  place, killed, sample
):
  if sample and killed == 0:
    pytest.skip("a sample was asked for")
  name = f"kill-{killed}"
  several = place.run(name, "2x4", wait=False)
  until(several, lambda: runs_a_checkpoint(place.folder / name))
  several.processes[killed].kill()
  began = time.monotonic()
  codes = several.wait(120)
  took = time.monotonic() - began
  print(f"process {killed} killed: the other ended after {took:.1f} s", flush=True)
  assert codes[killed] == -signal.SIGKILL and codes[1 - killed] not in (0, None)
  assert "another process of this run is gone" in several.said(1 - killed)
  place.run(name, "2x4")
  reference = place.folder / "two"
  if not reference.exists():
    place.run("two", "2x4")
  runs.assert_same_run(place.folder / name, reference)


def runs_a_checkpoint(folder):
  return any(path.name.isdigit() for path in (folder / "checkpoints").glob("*"))


def until(several, condition, seconds=200):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, several.said()
    assert several.processes[0].poll() is None, several.said()
    time.sleep(0.05)
