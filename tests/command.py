"""The command line in a process of its own."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(folder, *arguments):
  """`python -m tpr_jax.main ARGUMENTS` in `folder`; -> finished process."""
  return subprocess.run(
    [sys.executable, "-m", "tpr_jax.main", *map(str, arguments)],
    cwd=folder,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    timeout=300,
  )
