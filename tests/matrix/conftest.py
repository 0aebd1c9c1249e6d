"""The runs, written once; not to be changed."""

import pytest

from tests.matrix import place


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
  return place.Runs(tmp_path_factory.mktemp("runs"))
