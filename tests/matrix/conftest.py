"""The runs, written once for each file; not to be changed."""

import pytest

from tests.matrix import place


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  return place.Runs(tmp_path_factory.mktemp("runs"))
