"""Runs tests/gpu where JAX can have a GPU: all other tests are of the CPU."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")


@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="no NVIDIA GPU")
@pytest.mark.skipif(
  not any(map(importlib.util.find_spec, PLUGINS)), reason="needs the extra `cuda`"
)
def test_what_only_a_gpu_can_show():
  environment = os.environ | {
    "JAX_PLATFORMS": "cuda,cpu",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
  }
  environment.pop("XLA_FLAGS", None)
  for name in [name for name in environment if name.startswith("PYTEST_")]:
    del environment[name]
  done = subprocess.run(
    [sys.executable, "-m", "pytest", "-q", "tests/gpu"],
    env=environment,
    cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert "skipped" not in done.stdout, done.stdout
