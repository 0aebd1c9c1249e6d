"""launch/tpu.sh in a place where gcloud's two hosts are folders (fake_gcloud.py)."""

import os
import pathlib
import signal
import subprocess
import time

from tests.launch import project

RUN = ("--config=configs/cfam.py", "--note=a 'b'  $HOME", "--steps=30")


class Slice:
  """A copy of the scripts, and a fake gcloud and Python first on PATH."""

  def __init__(self, folder):
    self.folder, self.cloud = folder, folder / "cloud"
    self.cloud.mkdir()
    self.provision("WAITING_FOR_RESOURCES PROVISIONING ACTIVE")
    self.run, self.started = folder / "run", []
    environment = project.copy(folder)
    fake = project.HERE / "fake_gcloud.py"
    project.command(folder, "gcloud", f"{project.BARE} {fake}")
    self.environment = {
      **environment,
      "FAKE_GCLOUD": str(self.cloud),
      "SLICE": "cfam",
      "ZONE": "z",
      "TYPE": "v5litepod-8",
      "RUNTIME": "v2-alpha-tpuv5-lite",
      "POLL": "0.2",
    }

  def provision(self, states):
    (self.cloud / "provision").write_text(states)

  def start(self, *words, **environment):
    process = subprocess.Popen(
      ["bash", self.folder / "project" / "launch" / "tpu.sh", *words],
      env={**self.environment, **environment},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    self.started.append(process)
    return process

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

  def close(self):
    """Ends what a test that failed may have left."""
    for process in self.started:
      process.kill()
    for path in self.cloud.glob("hosts/*/tpr_jax-run/pid"):
      command = pathlib.Path("/proc", path.read_text().strip() or "0", "cmdline")
      if command.exists() and str(self.run) in command.read_text():
        os.kill(int(command.parent.name), signal.SIGKILL)

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


BEGIN = ["create", "ssh idle", "scp", "ssh tar", "ssh install", "ssh run"]
