"""The store is an extra: without it, everything here that needs it is skipped."""

import importlib.util

import pytest

from tests.search import place
from tpr_jax.search import reading

NEED_NONE = ("test_where", "test_sidecar", "test_gallery", "test_walk", "test_absent")


def pytest_collection_modifyitems(items):
  if importlib.util.find_spec("lancedb") is None:
    skip = pytest.mark.skip(reason="lancedb is not installed (the extra search)")
    for item in items:
      own = "tests/search/" in item.nodeid or item.nodeid.startswith("search/")
      if own and item.path.stem not in NEED_NONE:
        item.add_marker(skip)


@pytest.fixture
def images(tmp_path):
  return place.folder(tmp_path / "images")


@pytest.fixture
def trusted(monkeypatch):
  """Times of files are trusted at once: tests write them a moment before."""
  monkeypatch.setattr(reading, "_TICKS", -(1 << 62))
