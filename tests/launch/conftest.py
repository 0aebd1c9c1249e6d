"""A Cloud TPU slice without a cloud, for the tests of launch/tpu.sh."""

import pathlib

import pytest

from tests.launch import cloud


@pytest.fixture
def tpu(tmp_path):
  if not pathlib.Path("/proc/self/stat").exists():
    pytest.skip("the hosts' processes are found in /proc")
  made = cloud.Slice(tmp_path)
  yield made
  made.close()
