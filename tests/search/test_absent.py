"""Without the extra: everything else works, and the message names it."""

import subprocess
import sys

import pytest

from tests.search import place
from tpr_jax.search.problems import SearchError


def test_the_message_names_the_extra(images, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "lancedb", None)
  with pytest.raises(SearchError, match=r'pip install "tpr_jax\[search\]"'):
    place.index(images, tmp_path / "index")


def test_neither_lancedb_nor_jax_is_imported_by_asking():
  code = (
    "import sys\n"
    "from tpr_jax.search import run, settings, indexing, index, store, showing\n"
    "print({'lancedb', 'jax'} & set(sys.modules))"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == "set()"
