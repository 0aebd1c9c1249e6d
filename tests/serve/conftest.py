"""The server is an extra: without it, everything here that needs it is skipped."""

import importlib.util

import pytest

from tests.search import place as searching
from tests.serve import place

EXTRA = ("lancedb", "starlette", "uvicorn")
NEED_NONE = ("test_flags", "test_fields", "test_tokens", "test_openapi")


def pytest_collection_modifyitems(items):
  absent = [name for name in EXTRA if importlib.util.find_spec(name) is None]
  if absent:
    reason = f"{', '.join(absent)} not installed (the extra search)"
    for item in items:
      own = "tests/serve/" in item.nodeid or item.nodeid.startswith("serve/")
      if own and item.path.stem not in NEED_NONE:
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """images/: six pictures, two each of red, green and blue; index/: theirs."""
  root = tmp_path_factory.mktemp("served")
  images = searching.folder(root / "images")
  lines = [f"cam{i % 2}/{i:03}.png,{'gate' if i < 3 else 'yard'}" for i in range(6)]
  (root / "table.csv").write_text("\n".join(["path,camera", *lines]))
  searching.index(images, root / "index", metadata=root / "table.csv")
  return root


@pytest.fixture(scope="module")
def model():
  return place.Model()


@pytest.fixture(scope="module")
def client(folder, model):
  with place.served(folder / "index", model) as port:
    yield place.Client(port)
