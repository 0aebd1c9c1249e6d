"""Without the extra the message names it, and asking imports nothing heavy."""

import subprocess
import sys

import pytest

from tests.serve import place
from tpr_jax.serve.problems import ServeError


def test_the_message_names_the_extra(folder, monkeypatch):
  monkeypatch.setitem(sys.modules, "uvicorn", None)
  with (
    pytest.raises(ServeError, match=r'pip install "tpr_jax\[search\]"'),
    place.served(folder / "index"),
  ):
    pass


def test_nothing_heavy_is_imported_by_asking():
  code = (
    "import sys\n"
    "from tpr_jax import search_flags, cli\n"
    "print({'lancedb', 'jax', 'starlette', 'uvicorn', 'PIL'} & set(sys.modules))\n"
    "from tpr_jax.serve import run\n"
    "print({'lancedb', 'jax', 'starlette', 'uvicorn'} & set(sys.modules))"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.split() == ["set()", "set()"]
