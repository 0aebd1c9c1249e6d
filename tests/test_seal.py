"""A checkpoint is whole or known not to be: cut, changed, half copied, no room."""

import errno
import json
import pathlib
import shutil
import subprocess

import pytest

from tests.test_checkpoints import assert_equal, make_state, wanted, write
from tpr_jax import checkpoints as ckpt
from tpr_jax import run_weights, seal
from tpr_jax.checkpoints import CheckpointError, Checkpoints, DamagedCheckpoint


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run's folder with checkpoints of steps 1, 2 and 3; 1 has the best score."""
  folder = tmp_path_factory.mktemp("whole") / "run"
  saved = Checkpoints(folder / "checkpoints")
  write(saved, [1, 2, 3], {1: 30.0, 2: 10.0, 3: 20.0})
  saved.close()
  return folder


@pytest.fixture
def run(whole, tmp_path):
  """A copy of it."""
  return shutil.copytree(whole, tmp_path / "run")


def files(step):
  return sorted(path for path in step.rglob("*") if path.is_file())


def flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def cut(path):
  path.write_bytes(path.read_bytes()[:-1])


HARMS = {"flipped": flip, "cut": cut, "gone": pathlib.Path.unlink}


def opened(run):
  """(step that a resumed run takes up, its state, what was set aside)."""
  saved = Checkpoints(run / "checkpoints")
  try:
    step = saved.latest()
    state = saved.restore(step, wanted(make_state(step)))[0] if step else None
    return step, state, saved.set_aside
  finally:
    saved.close()


@pytest.mark.parametrize("harm", HARMS)
def test_any_harm_to_any_file_of_the_newest_is_found(whole, tmp_path, harm):
  harmless = set()
  for number, path in enumerate(files(whole / "checkpoints" / "3")):
    run = shutil.copytree(whole, tmp_path / str(number))
    HARMS[harm](run / path.relative_to(whole))
    step, state, aside = opened(run)
    assert_equal(state, make_state(step))  # never other numbers than were saved
    if step == 3:
      assert not aside
      harmless.add(path.name)
      continue
    assert step == 2 and [(found.step, bool(found.why)) for found in aside] == [
      (3, True)
    ]
    assert pathlib.Path(aside[0].place).is_dir()  # nothing is lost
  # Orbax's own notes on the checkpoint, written when it becomes visible.
  assert harmless <= {"_CHECKPOINT_METADATA", "commit_success.txt"}


def test_what_was_found_is_said(run, monkeypatch):
  monkeypatch.setattr(seal, "_SMALL", 0)
  newest = run / "checkpoints" / "3"
  path = next(iter(files(newest / "state")))
  name = path.relative_to(newest).as_posix()
  flip(path)
  assert name in ckpt.damage(run / "checkpoints", 3)
  assert "other bytes" in ckpt.damage(run / "checkpoints", 3)
  assert ckpt.damage(run / "checkpoints", 3, contents=False) == ""
  cut(path)
  assert "another size" in ckpt.damage(run / "checkpoints", 3)
  path.unlink()
  assert f"{name} of" in ckpt.damage(run / "checkpoints", 3)
  assert "missing" in ckpt.damage(run / "checkpoints", 3)
  (newest / seal.NAME).write_text("{")
  assert "cannot be read" in ckpt.damage(run / "checkpoints", 3)
  (newest / seal.NAME).unlink()
  assert "not finished" in ckpt.damage(run / "checkpoints", 3)
  assert ckpt.damage(run / "checkpoints", 2) == ""


@pytest.mark.parametrize("kept", range(8))
def test_a_copy_that_was_cut_off_is_not_used(whole, tmp_path, kept):
  """Files arrive one after the other; `kept` eighths of them did."""
  run = shutil.copytree(whole, tmp_path / "run")
  newest = files(run / "checkpoints" / "3")
  for path in newest[len(newest) * kept // 8 :]:
    path.unlink()
  step, state, _ = opened(run)
  assert step == 2
  assert_equal(state, make_state(2))


def test_small_files_of_older_ones_are_read_too(run):
  flip(run / "checkpoints" / "1" / "metrics" / "metrics")
  step, _, aside = opened(run)
  assert step == 3 and [found.step for found in aside] == [1]


def test_two_damaged_ones_leave_the_third(run):
  for step in (2, 3):
    flip(files(run / "checkpoints" / str(step) / "state")[0])
  step, state, aside = opened(run)
  assert step == 1 and [found.step for found in aside] == [3, 2]
  assert_equal(state, make_state(1))


def test_nothing_whole_is_a_run_from_the_start(run):
  for step in (1, 2, 3):
    cut(files(run / "checkpoints" / str(step) / "state")[0])
  step, _, aside = opened(run)
  assert step is None and len(aside) == 3


def test_the_same_step_can_be_written_and_damaged_again(run):
  for expected in ("3", "3.1"):
    flip(files(run / "checkpoints" / "3" / "state")[0])
    saved = Checkpoints(run / "checkpoints")
    assert saved.latest() == 2
    assert pathlib.Path(saved.set_aside[0].place).name == expected
    write(saved, [3], {3: 20.0})
    saved.close()
  assert opened(run)[0] == 3


def test_reading_moves_nothing_and_says_what_is_damaged(run):
  path = files(run / "checkpoints" / "3" / "state")[0]
  flip(path)
  before = files(run)
  saved = Checkpoints(run / "checkpoints", read_only=True)
  state = wanted(make_state(3))
  for read in (
    lambda: saved.restore(3, state),
    lambda: saved.restore_params(3, state.params),
    lambda: saved.read_params(3),
  ):
    with pytest.raises(DamagedCheckpoint, match=r"checkpoints/3 is damaged.*state/"):
      read()
  assert_equal(saved.restore_params(2, state.params), make_state(2).params)
  saved.close()
  assert files(run) == before


def test_a_damaged_best_is_not_selected_and_the_choice_says_so(run):
  saved = Checkpoints(run / "checkpoints", read_only=True)
  assert run_weights.selected(saved, "R1")[0] == 1
  saved.close()
  flip(files(run / "checkpoints" / "1" / "state")[0])
  saved = Checkpoints(run / "checkpoints", read_only=True)
  step, why = run_weights.selected(saved, "R1")
  saved.close()
  assert step == 3 and "R1 (20.00)" in why and "step 1 is damaged" in why


def test_a_score_that_cannot_be_read_is_damage_too(run):
  (run / "checkpoints" / "1" / "metrics" / "metrics").write_text('{"sco')
  saved = Checkpoints(run / "checkpoints", read_only=True)
  step, why = run_weights.selected(saved, "R1")
  saved.close()
  assert step == 3 and "step 1 is damaged" in why


def test_a_moved_and_copied_run_goes_on(run, tmp_path):
  moved = tmp_path / "elsewhere" / "run"
  shutil.move(shutil.copytree(run, tmp_path / "copy"), moved)
  saved = Checkpoints(moved / "checkpoints")
  assert not saved.set_aside and saved.best() == 1
  write(saved, [4], {4: 50.0})
  assert saved.best() == 4
  saved.close()
  assert opened(moved)[0] == 4


def test_a_checkpoint_of_an_earlier_version_is_still_read(run):
  folder = run / "checkpoints" / "3"
  (folder / seal.NAME).unlink()
  meta = json.loads((folder / "meta" / "metadata").read_text())
  assert meta.pop("format") == ckpt.FORMAT
  (folder / "meta" / "metadata").write_text(json.dumps(meta))
  saved = Checkpoints(run / "checkpoints", read_only=True)
  assert_equal(saved.read_params(3), make_state(3).params)
  saved.close()


def test_what_a_kill_left_half_written_is_cleaned_up(run):
  half = run / "checkpoints" / "4.orbax-checkpoint-tmp"
  shutil.copytree(run / "checkpoints" / "3", half)
  assert opened(run)[0] == 3
  assert not half.exists()


# ---- no room


def test_no_room_is_said_and_the_earlier_ones_are_whole(run, monkeypatch):
  def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  saved = Checkpoints(run / "checkpoints")
  with monkeypatch.context() as patched:
    patched.setattr(seal, "write", full)
    with pytest.raises(CheckpointError, match=r"no space left.*steps: 1, 2, 3\)"):
      write(saved, [4])
  saved.close()
  step, state, aside = opened(run)
  assert step == 3 and not aside
  assert_equal(state, make_state(3))


@pytest.fixture
def small_disk(tmp_path):
  """A file system of two megabytes."""
  place = tmp_path / "disk"
  place.mkdir()
  command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
  if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
    pytest.skip("a small file system, which this user may not mount")
  yield place
  subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_fills_up_during_a_save(small_disk):
  saved = Checkpoints(small_disk / "checkpoints")
  write(saved, [1])
  with pytest.raises(CheckpointError, match=r"no space left.*steps: 1\)"):
    saved.save(2, make_state(2, rows=200_000), {"step": 2})  # 3 MB of random numbers
    saved.wait()
  saved.close()
  step, state, aside = opened(small_disk)
  assert step == 1 and not aside
  assert_equal(state, make_state(1))
