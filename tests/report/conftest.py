import shutil

import pytest

from tests.report import run_folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
  """(folder, datasets) of a finished run; not to be changed."""
  folder = tmp_path_factory.mktemp("runs") / "cfam-blocks"
  return folder, run_folder.make(folder)


@pytest.fixture
def run(finished, tmp_path):
  """(folder, datasets) of a finished run, a copy to change."""
  folder, datasets = finished
  # Without the log no curve is drawn, which most tests don't look at.
  copy = tmp_path / "cfam-blocks"
  shutil.copytree(
    folder, copy, ignore=shutil.ignore_patterns("metrics.jsonl", "report*")
  )
  return copy, dict(datasets)
