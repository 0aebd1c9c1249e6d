"""The parent of one of several processes: signals, statuses, the last word."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHILD = """
import os, signal, sys, time
from tpr_jax import supervise
supervise.watch()
what = sys.argv[1]
if what.isdigit():
  os._exit(int(what))
if what == "abort":
  os.abort()
if what == "kill":
  os.kill(os.getpid(), signal.SIGKILL)
caught = []
signal.signal(signal.SIGTERM, lambda number, _: caught.append(number))
signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
print(os.getpid(), flush=True)
end = time.monotonic() + 20
while not caught and time.monotonic() < end:
  time.sleep(0.01)
time.sleep(0.2)
print(len(caught), flush=True)
os._exit(128 + caught[0])
"""


def start(what):
  return subprocess.Popen(
    [sys.executable, "-c", CHILD, what],
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


@pytest.mark.parametrize(
  ("what", "status", "lost"),
  [("0", 0, False), ("3", 3, False), ("kill", 137, False), ("abort", 134, True)],
)
def test_the_status_is_the_childs(what, status, lost):
  process = start(what)
  _, err = process.communicate(timeout=30)
  assert process.returncode == status
  assert ("another process of this run is gone" in err) == lost


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_handed_on_once(number):
  process = start("wait")
  process.stdout.readline()
  process.send_signal(number)
  out, _ = process.communicate(timeout=30)
  assert (process.returncode, out) == (128 + number, "1\n")


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' prctl")
def test_a_killed_parent_takes_the_child_along():
  process = start("wait")
  child = int(process.stdout.readline())
  process.kill()
  process.wait()
  end = time.monotonic() + 10
  while alive(child):
    assert time.monotonic() < end, "the child lives on"
    time.sleep(0.05)


def alive(pid):
  try:
    state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
  except FileNotFoundError:
    return False
  return state != "Z"
