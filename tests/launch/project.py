"""A copy of the launch scripts in a folder of its own, with commands that stand in."""

import os
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BARE = f"exec {sys.executable} -E -S"  # without site-packages it starts at once


def copy(folder):
  """Makes folder/project and folder/bin (on PATH); -> the scripts' environment."""
  project, binaries = folder / "project", folder / "bin"
  (project / "launch").mkdir(parents=True)
  binaries.mkdir()
  for name in ("setup.cfg", "pyproject.toml"):
    shutil.copy(ROOT / name, project)
  for path in (ROOT / "launch").glob("*.sh"):
    shutil.copy(path, project / "launch")
  python = command(folder, "python", f"{BARE} {HERE}/fake_python.py")
  return {"PATH": f"{binaries}:/usr/bin:/bin", "TPR_JAX_PYTHON": str(python)}


def tool(name):
  """Where a command is, on PATH or beside the interpreter, or None."""
  beside = os.path.dirname(sys.executable)
  return shutil.which(name, path=f"{beside}{os.pathsep}{os.environ['PATH']}")


def command(folder, name, line):
  """A command folder/bin/NAME that runs `line` with its own arguments."""
  script = folder / "bin" / name
  script.write_text(f'#!/bin/sh\n{line} "$@"\n')
  script.chmod(0o755)
  return script
