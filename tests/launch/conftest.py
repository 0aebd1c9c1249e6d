import os
import pathlib
import signal

import pytest

from tests.launch import cloud


@pytest.fixture
def tpu(tmp_path):
  if not pathlib.Path("/proc/self/stat").exists():
    pytest.skip("the hosts' processes are found in /proc")
  made = cloud.Slice(tmp_path)
  yield made
  for pid in made.cloud.glob("hosts/*/tpr_jax-run/pid"):  # of a test that failed
    try:
      os.kill(int(pid.read_text()), signal.SIGKILL)
    except ProcessLookupError:
      continue
