"""launch/tpu.sh and launch/tpu_host.sh: single commands, failures and mistakes."""

import shutil
import subprocess

import pytest

from tests.launch.cloud import BEGIN, RUN

pytestmark = pytest.mark.proof


def test_what_is_asked_for(tpu):
  tpu("create", SPOT="1", PROJECT="p")
  line = next(
    line
    for line in (tpu.cloud / "calls.txt").read_text().splitlines()
    if "queued-resources create" in line
  )
  assert line == (
    "queued-resources create cfam --zone=z --project=p --node-id=cfam"
    " --accelerator-type=v5litepod-8 --runtime-version=v2-alpha-tpuv5-lite --spot"
  )


def test_a_program_that_fails_is_not_started_again(tpu):
  status, out, err = tpu("watch", *RUN, "--fail", f"--run={tpu.run}")
  assert status == 1
  assert "exit status 3" in err and "something is wrong" in out
  assert tpu.calls() == [*BEGIN, "ssh finished", "ssh ended"]
  assert len(tpu.starts(0)) == 1


def test_stop_ends_what_watch_shows(tpu):
  watching = tpu.start("watch", *RUN, "--steps=100000", f"--run={tpu.run}")
  tpu.until(lambda: min(tpu.step(0), tpu.step(1)) >= 5)
  status, out, _ = tpu("stop")
  assert status == 0 and "asked to save" in out
  _, err = watching.communicate(timeout=40)
  assert watching.returncode == 1 and "exit status 143" in err
  assert tpu.calls()[-2:] == ["ssh finished", "ssh ended"]
  status, out, _ = tpu("run", *RUN, f"--run={tpu.run}")  # the same run continues
  assert status == 0 and len(tpu.starts(0)) == 2


def test_a_running_program_is_not_mixed_with_another(tpu):
  tpu("create")
  tpu("install")
  running = tpu.start("run", *RUN, "--steps=100000", f"--run={tpu.run}")
  tpu.until(lambda: min(tpu.step(0), tpu.step(1)) >= 2)
  status, _, err = tpu("run", *RUN, "--config.seed=1", f"--run={tpu.run}")
  assert status == 1 and "still runs with other arguments" in err
  tpu("stop")
  running.communicate(timeout=20)
  assert running.returncode == 143


def test_an_attempt_that_gcloud_repeats_is_one(tpu):
  tpu("create")
  tpu("install")
  host = tpu.cloud / "hosts" / "0"
  command = ["bash", "tpr_jax/launch/tpu_host.sh", "run", "7", *RUN, "--fail"]
  for _ in range(2):
    done = subprocess.run(
      [*command, f"--run={tpu.run}"],
      cwd=host,
      env={**tpu.environment, "HOME": str(host)},
      capture_output=True,
      text=True,
      timeout=20,
    )
    assert done.returncode == 3 and "something is wrong" in done.stdout
  assert len(tpu.starts(0)) == 1


def test_a_refused_request_says_why(tpu):
  tpu.provision("CREATING FAILED")
  status, _, err = tpu("watch", *RUN, f"--run={tpu.run}")
  assert status == 1 and "the request failed" in err
  assert tpu.calls() == ["create"]


def test_a_dry_run_shows_every_command_and_runs_none(tpu):
  status, _, err = tpu("watch", *RUN, "--run=gs://b/r", DRY_RUN="1")
  assert status == 0
  assert not (tpu.cloud / "calls.txt").exists()
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
def test_mistakes_are_told(tpu, words, environment, says):
  status, _, err = tpu(*words, **environment)
  assert status != 0 and says in err
  assert not (tpu.cloud / "states").exists()


def test_without_gcloud(tpu, tmp_path):
  binaries = tmp_path / "without"
  binaries.mkdir()
  for name in ("bash", "dirname", "sed"):
    (binaries / name).symlink_to(shutil.which(name))
  status, _, err = tpu("create", PATH=str(binaries))
  assert status == 1 and "gcloud is not on PATH" in err
