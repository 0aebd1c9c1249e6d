"""launch/tpu.sh and launch/tpu_host.sh, whole, with a gcloud that has two hosts here."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RUN = ("--config=configs/cfam.py", "--note=a 'b'  $HOME", "--steps=30")


class Place:
  """A copy of the scripts, and a fake gcloud and Python first on PATH."""

  def __init__(self, folder):
    self.folder, self.cloud = folder, folder / "cloud"
    for name in ("setup.cfg", "pyproject.toml"):
      shutil.copy(ROOT / name, self._made(folder / "project") / name)
    for path in (ROOT / "launch").glob("*.sh"):
      shutil.copy(path, self._made(folder / "project" / "launch"))
    binaries = self._made(folder / "bin")
    for name in ("gcloud", "python"):
      script = binaries / name
      script.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE}/fake_{name}.py "$@"\n')
      script.chmod(0o755)
    self._made(self.cloud)
    self.provision("WAITING_FOR_RESOURCES PROVISIONING ACTIVE")
    self.run = folder / "run"
    self.environment = {
      **{k: v for k, v in os.environ.items() if k not in ("JAX_PLATFORMS", "PROJECT")},
      "PATH": f"{binaries}:{os.environ['PATH']}",
      "FAKE_GCLOUD": str(self.cloud),
      "TPR_JAX_PYTHON": str(binaries / "python"),
      "SLICE": "cfam",
      "ZONE": "z",
      "TYPE": "v5litepod-8",
      "RUNTIME": "v2-alpha-tpuv5-lite",
      "POLL": "0.2",
    }

  @staticmethod
  def _made(folder):
    folder.mkdir(exist_ok=True)
    return folder

  def provision(self, states):
    (self.cloud / "provision").write_text(states)

  def start(self, *words, **environment):
    return subprocess.Popen(
      ["bash", self.folder / "project" / "launch" / "tpu.sh", *words],
      env={**self.environment, **environment},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  def __call__(self, *words, **environment):
    process = self.start(*words, **environment)
    out, err = process.communicate(timeout=40)
    return process.returncode, out, err

  def calls(self):
    """What was asked of gcloud, in order, without the looks at the state."""
    lines = (self.cloud / "calls.txt").read_text().splitlines()
    return [_short(line) for line in lines if "describe" not in line]

  def starts(self, host):
    return pathlib.Path(f"{self.run}-{host}.starts").read_text().splitlines()

  def step(self, host):
    path = pathlib.Path(f"{self.run}-{host}")
    return int(path.read_text() or 0) if path.exists() else 0

  def until(self, happened):
    end = time.monotonic() + 20
    while not happened():
      assert time.monotonic() < end, "waited 20 s"
      time.sleep(0.05)

  def kill_hosts(self):
    for pid in self.cloud.glob("hosts/*/tpr_jax-run/pid"):
      number = int(pid.read_text())
      parent = pathlib.Path(f"/proc/{number}/stat").read_text().split()[3]
      os.kill(int(parent), signal.SIGKILL)  # the supervisor first: no status is left
      os.kill(number, signal.SIGKILL)


def _short(line):
  """`ssh run`, `scp`, `create --spot`: which command it was, and the price."""
  words = line.split()
  if "tpu_host.sh" in line:
    return f"ssh {words[words.index('tpr_jax/launch/tpu_host.sh') + 1]}"
  if words[1] == "ssh":
    return "ssh tar"
  return " ".join([words[1], *(word for word in words if word == "--spot")])


@pytest.fixture
def place(tmp_path):
  if not pathlib.Path("/proc/self/stat").exists():
    pytest.skip("the hosts' processes are found in /proc")
  made = Place(tmp_path)
  yield made
  for pid in made.cloud.glob("hosts/*/tpr_jax-run/pid"):  # of a test that failed
    try:
      os.kill(int(pid.read_text()), signal.SIGKILL)
    except ProcessLookupError:
      continue


BEGIN = ["create", "ssh idle", "scp", "ssh tar", "ssh install", "ssh run"]


def test_a_run_from_nothing_to_its_end(place):
  status, out, _ = place("watch", *RUN, f"--run={place.run}")
  assert status == 0
  assert place.calls() == BEGIN
  assert out.index("WAITING_FOR_RESOURCES") < out.index("PROVISIONING")
  assert "host 0: finished at 30" in out and "host 1: finished at 30" in out
  assert "Finished" in out and "delete" in out
  for host in (0, 1):
    words = ["--distributed", *RUN, f"--run={place.run}"]
    assert place.starts(host) == [f"{words} from 0 on tpu,cpu"]
  assert place("delete")[0] == 0
  assert place.calls() == [*BEGIN, "delete"]


def test_what_is_asked_for(place):
  place("create", SPOT="1", PROJECT="p")
  line = next(
    line
    for line in (place.cloud / "calls.txt").read_text().splitlines()
    if "queued-resources create" in line
  )
  assert line == (
    "queued-resources create cfam --zone=z --project=p --node-id=cfam"
    " --accelerator-type=v5litepod-8 --runtime-version=v2-alpha-tpuv5-lite --spot"
  )


def test_after_a_preemption_it_asks_again_and_continues(place):
  watching = place.start("watch", *RUN, f"--run={place.run}", SPOT="1")
  place.until(lambda: min(place.step(0), place.step(1)) >= 5)
  (place.cloud / "states").write_text("SUSPENDING SUSPENDING SUSPENDED")
  place.kill_hosts()
  out, err = watching.communicate(timeout=40)
  assert watching.returncode == 0, err
  begin = ["create --spot", *BEGIN[1:]]
  assert place.calls() == [*begin, "delete", *begin]
  first, second = place.starts(0)
  assert " from 0 on " in first and " from 0 on " not in second
  assert place.step(0) == place.step(1) == 30
  assert "taken away" in out


def test_a_slice_that_goes_while_the_connection_hangs(place):
  watching = place.start("watch", *RUN, "--steps=100000", f"--run={place.run}")
  place.until(lambda: min(place.step(0), place.step(1)) >= 5)
  (place.cloud / "states").write_text("SUSPENDED")  # and nothing ends the connection
  place.until(lambda: "delete" in place.calls())
  watching.terminate()
  watching.communicate(timeout=20)


def test_a_program_that_fails_is_not_started_again(place):
  status, out, err = place("watch", *RUN, "--fail", f"--run={place.run}")
  assert status == 1
  assert "exit status 3" in err and "something is wrong" in out
  assert place.calls() == [*BEGIN, "ssh finished", "ssh ended"]
  assert len(place.starts(0)) == 1


def test_a_broken_connection_is_taken_up_again(place):
  (place.cloud / "break").touch()
  status, out, err = place("watch", *RUN, "--steps=120", f"--run={place.run}")
  assert status == 0, err
  asked = ["ssh finished", "ssh ended", "ssh idle", "ssh run"]
  assert place.calls() == [*BEGIN, *asked]
  assert len(place.starts(0)) == len(place.starts(1)) == 1
  assert "still running" in out and "finished at 120" in out


def test_the_end_is_learned_though_the_connection_is_gone(place):
  (place.cloud / "break").touch()
  status, out, err = place("watch", *RUN, "--steps=3", f"--run={place.run}")
  assert status == 0 and "Finished" in out, err
  assert place.calls() == [*BEGIN, "ssh finished"]
  assert len(place.starts(0)) == 1


def test_stop_ends_what_watch_shows(place):
  watching = place.start("watch", *RUN, "--steps=100000", f"--run={place.run}")
  place.until(lambda: min(place.step(0), place.step(1)) >= 5)
  status, out, _ = place("stop")
  assert status == 0 and "asked to save" in out
  _, err = watching.communicate(timeout=40)
  assert watching.returncode == 1 and "exit status 143" in err
  assert place.calls()[-2:] == ["ssh finished", "ssh ended"]
  status, out, _ = place("run", *RUN, f"--run={place.run}")  # the same run continues
  assert status == 0 and len(place.starts(0)) == 2


def test_a_running_program_is_not_mixed_with_another(place):
  place("create")
  place("install")
  running = place.start("run", *RUN, "--steps=100000", f"--run={place.run}")
  place.until(lambda: min(place.step(0), place.step(1)) >= 2)
  status, _, err = place("run", *RUN, "--config.seed=1", f"--run={place.run}")
  assert status == 1 and "still runs with other arguments" in err
  place("stop")
  running.communicate(timeout=20)
  assert running.returncode == 143


def test_an_attempt_that_gcloud_repeats_is_one(place):
  place("create")
  place("install")
  host = place.cloud / "hosts" / "0"
  command = ["bash", "tpr_jax/launch/tpu_host.sh", "run", "7", *RUN, "--fail"]
  for _ in range(2):
    done = subprocess.run(
      [*command, f"--run={place.run}"],
      cwd=host,
      env={**place.environment, "HOME": str(host)},
      capture_output=True,
      text=True,
      timeout=20,
    )
    assert done.returncode == 3 and "something is wrong" in done.stdout
  assert len(place.starts(0)) == 1


def test_a_refused_request_says_why(place):
  place.provision("CREATING FAILED")
  status, _, err = place("watch", *RUN, f"--run={place.run}")
  assert status == 1 and "the request failed" in err
  assert place.calls() == ["create"]


def test_a_dry_run_shows_every_command_and_runs_none(place):
  status, _, err = place("watch", *RUN, "--run=gs://b/r", DRY_RUN="1")
  assert status == 0
  assert not (place.cloud / "calls.txt").exists()
  shown = [line[2:] for line in err.splitlines() if line.startswith("+ ")]
  for line in shown:
    assert subprocess.run(["bash", "-n", "-c", line]).returncode == 0
  names = [" ".join(line.split()[:5]) for line in shown]
  ssh = "gcloud compute tpus tpu-vm ssh"
  assert names[0] == "gcloud compute tpus queued-resources create"
  assert names[3:] == ["gcloud compute tpus tpu-vm scp", ssh, ssh, ssh]
  assert shown[2].startswith("tar ") and "gs://b/r" in shown[-1]


@pytest.mark.parametrize(
  ("words", "environment", "says"),
  [
    ((), {}, "watch ARGS"),
    (("launch",), {}, "watch ARGS"),
    (("watch",), {}, "needs the program's arguments"),
    (("delete", "now"), {}, "takes no arguments"),
    (("create",), {"SLICE": ""}, "SLICE is not set"),
    (("create",), {"TYPE": ""}, "TYPE is not set"),
  ],
)
def test_mistakes_are_told(place, words, environment, says):
  status, _, err = place(*words, **environment)
  assert status != 0 and says in err
  assert not (place.cloud / "states").exists()


def test_without_gcloud(place, tmp_path):
  binaries = tmp_path / "without"
  binaries.mkdir()
  for name in ("bash", "dirname", "sed"):
    (binaries / name).symlink_to(shutil.which(name))
  status, _, err = place("create", PATH=str(binaries))
  assert status == 1 and "gcloud is not on PATH" in err
