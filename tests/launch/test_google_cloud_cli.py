"""The commands of launch/tpu.sh and the real gcloud's parser; nothing is sent."""

import json
import os
import shutil
import subprocess

import pytest

from tests.launch.cloud import RUN


def test_the_parser_of_the_google_cloud_cli_takes_every_command(tpu, tmp_path):
  """It is an inner command of gcloud's, without an account or a network."""
  gcloud = shutil.which("gcloud")
  if gcloud is None:
    pytest.skip("the Google Cloud CLI is not installed")
  _, _, err = tpu("watch", *RUN, "--run=r", DRY_RUN="1", SPOT="1", PROJECT="p")
  shown = [line[2:] for line in err.splitlines() if line.startswith("+ gcloud ")]
  _, _, err = tpu("delete", DRY_RUN="1")
  shown += [err.strip()[2:], shown[0] + " --no-such-flag"]
  shown.append("gcloud compute tpus queued-resources describe a --zone=z --format=b")
  (tmp_path / "commands").write_text(
    json.dumps([{"command_string": line} for line in shown])
  )
  done = subprocess.run(
    [gcloud, "meta", "lint-gcloud-commands", f"--commands-file={tmp_path}/commands"],
    env={**os.environ, "CLOUDSDK_CONFIG": str(tmp_path / "configuration")},
    capture_output=True,
    text=True,
    timeout=60,
  )
  if "Invalid choice" in done.stderr:
    pytest.skip("this Google Cloud CLI has no lint-gcloud-commands")
  found = {r["command_string"]: r["success"] for r in json.loads(done.stdout)}
  assert found == {line: "no-such-flag" not in line for line in shown}
