"""What --mode=inspect says about a run."""

import pytest

from tests.test_checkpoints import make_state, write
from tests.test_seal import files, flip
from tpr_jax import inspect_run
from tpr_jax.checkpoints import CheckpointError, Checkpoints
from tpr_jax.run_folder import RunError


@pytest.fixture
def run(tmp_path):
  saved = Checkpoints(tmp_path / "run" / "checkpoints")
  write(saved, [1, 2], {1: 30.0, 2: 10.0})
  meta = dict(step=3, data=dict(step=3, seed=5), surroundings=dict(jax="0.10"))
  saved.save(3, make_state(3), dict(meta, doubts=["devices 8 -> 1"]))
  saved.wait()
  saved.close()
  return tmp_path / "run"


def test_the_overview_names_steps_scores_and_parameters(run):
  said = inspect_run.overview(run)
  rows = {line.split()[0]: line for line in said.splitlines() if line.strip()}
  assert "30.00" in rows["1"] and "selected: best validation" in rows["1"]
  assert "10.00" in rows["2"] and "whole" in rows["2"] and "selected" not in rows["2"]
  assert "-" in rows["3"] and "whole" in rows["3"]
  # The kernel [8, 4] and the bias [4]; two moments of each, two counters.
  assert "Step 3: 36 (0.0 MiB in 2 arrays) parameters and 74" in said
  assert rows["visual/kernel"].split()[1:] == ["32", "1", "float32"]
  assert "data: step 3, seed 5" in said and "surroundings: jax 0.10" in said
  assert "not promised to repeat: devices 8 -> 1" in said


def test_a_damaged_one_is_named_and_the_newest_whole_one_shown(run):
  flip(files(run / "checkpoints" / "3" / "state")[0])
  said = inspect_run.overview(run)
  assert "DAMAGED: state/" in said and "Step 2: 36" in said
  Checkpoints(run / "checkpoints").close()  # sets it aside
  assert "set aside: " in inspect_run.overview(run)


def test_one_step_lists_every_array(run):
  said = inspect_run.step_text(run, 1)
  for name, shape in (
    ("params/visual/kernel", "8 x 4"),
    ("params/visual/bias", "4"),
    ("opt_state/0/mu/visual/kernel", "8 x 4"),
    ("opt_state/0/count", "scalar"),
    ("step", "scalar"),
  ):
    rows = [line.split() for line in said.splitlines()]
    found = next(row for row in rows if row and row[0] == name)
    assert found[1:-1] == shape.split()


def test_what_is_not_there_is_an_error(run, tmp_path):
  with pytest.raises(RunError, match="is it a run's folder"):
    inspect_run.overview(tmp_path)
  with pytest.raises(CheckpointError, match=r"no checkpoint of step 9.*\[1, 2, 3\]"):
    inspect_run.step_text(run, 9)
  (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
  with pytest.raises(RunError, match="nothing was saved yet"):
    inspect_run.overview(tmp_path / "empty")
