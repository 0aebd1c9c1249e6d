"""The folder for sweeps, with short waits."""

import pytest

from tests.sweep.place import Place
from tpr_jax.sweep import run


@pytest.fixture
def place(tmp_path, monkeypatch):
  monkeypatch.setattr(run, "_POLL", 0.01)
  return Place(tmp_path)
