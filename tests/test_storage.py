"""A run at an address: what is brought, sent, kept apart, and said when it fails."""

import contextlib
import json
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import pytest
from etils import epath

from tests.bucket import bucket_fixture  # noqa: F401
from tests.several import ROOT
from tpr_jax import checkpoints as ckpt
from tpr_jax import run_weights
from tpr_jax.core import storage
from tpr_jax.data import build
from tpr_jax.data.record import DatasetError
from tpr_jax.meter import Meter
from tpr_jax.run_folder import RunFolder
from tpr_jax.run_log import RunLog

ADDRESS = "gs://bucket/runs/a"


def there(bucket):
  """Name below the run -> text."""
  start = "bucket/runs/a/"
  return {
    name.removeprefix(start): data.decode(errors="replace")
    for name, (data, _) in bucket.objects.items()
    if name.startswith(start)
  }


def written(bucket):
  """Names below the run that were written since the last call."""
  found = [
    n.removeprefix("bucket/runs/a/") for what, n in bucket.log if what == "write"
  ]
  bucket.log.clear()
  return sorted(found)


def remote(bucket, name, data=b"x"):
  bucket.put(f"bucket/runs/a/{name}", data)


def open_copy(root, **options):
  return storage.working_copy(ADDRESS, root, **options)


# --- bringing ---------------------------------------------------------------------


def test_a_new_address_is_an_empty_working_copy(bucket, tmp_path):
  local = open_copy(tmp_path)
  assert local == tmp_path / "gs/bucket/runs/a"
  assert [path.name for path in local.iterdir()] == [storage.POINTER]
  assert str(storage.checkpoints(local)) == f"{ADDRESS}/checkpoints"
  assert not bucket.objects  # nothing was written there


def test_brings_everything_but_checkpoints(bucket, tmp_path):
  for name in ("config.json", "report/pictures/1.png", "checkpoints/3/state/d/0"):
    remote(bucket, name)
  remote(bucket, "damaged_checkpoints/3/meta/metadata")
  local = open_copy(tmp_path)
  found = {p.relative_to(local).as_posix() for p in local.rglob("*") if p.is_file()}
  assert found == {
    "config.json",
    "report/pictures/1.png",
    "remote.txt",
    ".mirrored.json",
  }


def test_what_is_up_to_date_is_not_read_again(bucket, tmp_path):
  remote(bucket, "config.json")
  remote(bucket, "run.json", b"old")
  local = open_copy(tmp_path)
  remote(bucket, "run.json", b"new")
  bucket.log.clear()
  open_copy(tmp_path)
  assert [n for what, n in bucket.log if what == "read"] == ["bucket/runs/a/run.json"]
  assert (local / "run.json").read_text() == "new"


def test_what_was_not_sent_stays_unless_the_run_went_on_elsewhere(
  bucket,
  tmp_path,
):
  for name in ("results.json", "metrics.jsonl"):
    remote(bucket, name, b"first")
  local = open_copy(tmp_path)
  for name in ("results.json", "metrics.jsonl"):
    (local / name).write_text("here, not sent")
  remote(bucket, "metrics.jsonl", b"went on elsewhere")
  open_copy(tmp_path)
  assert (local / "results.json").read_text() == "here, not sent"
  assert (local / "metrics.jsonl").read_text() == "went on elsewhere"
  storage.send(local)
  assert there(bucket)["results.json"] == "here, not sent"


def test_a_lost_working_copy_is_made_again(bucket, tmp_path):
  local = open_copy(tmp_path / "one")
  (local / "tensorboard").mkdir()
  (local / "tensorboard" / "events").write_bytes(bytes(range(256)))
  storage.send(local)
  again = open_copy(tmp_path / "two")
  assert (again / "tensorboard" / "events").read_bytes() == bytes(range(256))
  bucket.log.clear()
  storage.send(again)
  assert written(bucket) == []  # it came from there


def test_a_bring_that_is_cut_off_is_continued(bucket, tmp_path):
  for number in range(5):
    remote(bucket, f"{number}.json", str(number).encode())

  def fail(what, name):
    if what == "read" and name.endswith("3.json"):
      raise ConnectionError("connection reset")

  bucket.fail = fail
  with pytest.raises(storage.StorageError, match="cannot be read: connection reset"):
    open_copy(tmp_path)
  bucket.fail = lambda what, name: None
  bucket.log.clear()
  local = open_copy(tmp_path)
  assert [n for what, n in bucket.log if what == "read"] == ["bucket/runs/a/3.json"]
  assert [(local / f"{n}.json").read_text() for n in range(5)] == list("01234")


def test_a_bucket_that_is_not_there(bucket, tmp_path):
  with pytest.raises(storage.StorageError, match="there is no bucket gs://another, or"):
    storage.working_copy("gs://another/runs/a", tmp_path)
  assert not (tmp_path / "gs").exists()


def test_only_training_may_be_the_first(bucket, tmp_path):
  with pytest.raises(storage.StorageError, match="holds no run"):
    open_copy(tmp_path, new=False)
  assert not (tmp_path / "gs").exists()


# --- sending ----------------------------------------------------------------------


def test_sends_what_has_changed(bucket, tmp_path):
  local = open_copy(tmp_path)
  (local / "report").mkdir()
  (local / "report" / "1.png").write_bytes(b"1")
  (local / "run.json").write_text("{}")
  storage.send(local)
  assert written(bucket) == ["report/1.png", "run.json"]
  storage.send(local)
  assert written(bucket) == []
  (local / "run.json").write_text('{"a": 1}')
  storage.send(local)
  assert written(bucket) == ["run.json"]
  assert there(bucket) == {"report/1.png": "1", "run.json": '{"a": 1}'}


def test_never_sends_what_is_hidden_half_written_or_apart(bucket, tmp_path):
  local = open_copy(tmp_path)
  for name in (".lock", ".cache/x", "metrics.tmp", "checkpoints/1/state", "a/.b.tmp"):
    (local / name).parent.mkdir(parents=True, exist_ok=True)
    (local / name).write_text("x")
  storage.send(local)
  assert there(bucket) == {}


def test_a_plain_folder_is_never_sent(bucket, tmp_path):
  (tmp_path / "run.json").write_text("{}")
  storage.send(tmp_path)
  assert not bucket.log
  assert storage.checkpoints(tmp_path) == epath.Path(tmp_path) / "checkpoints"


def test_a_short_failure_is_sat_out(bucket, tmp_path):
  local, left = open_copy(tmp_path), [2]
  (local / "run.json").write_text("{}")

  def fail(what, name):
    if what == "write" and left[0]:
      left[0] -= 1
      raise ConnectionError("connection reset")

  bucket.fail = fail
  storage.send(local)
  assert there(bucket) == {"run.json": "{}"} and left == [0]


def test_a_long_failure_is_told_and_what_was_sent_counts(bucket, tmp_path):
  local, tries = open_copy(tmp_path), []
  for number in range(3):
    (local / f"{number}.json").write_text("{}")

  def fail(what, name):
    if what == "write" and name.endswith("1.json"):
      tries.append(name)
      raise ConnectionError("connection reset")

  bucket.fail = fail
  with pytest.raises(storage.StorageError, match="the same command sends it"):
    storage.send(local)
  assert len(tries) == 3
  bucket.fail = lambda what, name: None
  written(bucket)
  assert open_copy(tmp_path) == local  # as the same command does
  storage.send(local)
  assert written(bucket) == ["1.json"]


@pytest.mark.parametrize(
  "error", [PermissionError("no"), OSError("Forbidden: b/o"), FileNotFoundError("b")]
)
def test_what_will_not_pass_is_tried_once(bucket, tmp_path, error):
  local, tries = open_copy(tmp_path), []
  (local / "run.json").write_text("{}")

  def fail(what, name):
    if what == "write":
      tries.append(name)
      raise error

  bucket.fail = fail
  with pytest.raises(storage.StorageError, match=type(error).__name__):
    storage.send(local)
  assert len(tries) == 1


def test_a_run_folder_sends_from_the_first_process_alone(bucket, tmp_path):
  local = open_copy(tmp_path)
  RunFolder(local, False).write({"seed": 1})
  assert there(bucket) == {}
  RunFolder(local, True).write({"seed": 1})
  assert json.loads(there(bucket)["run.json"]) == {"seed": 1}
  (local / "results.json").write_text("{}")
  RunFolder(local, False).send()
  assert "results.json" not in there(bucket)
  RunFolder(local, True).send()
  assert there(bucket)["results.json"] == "{}"


def test_the_log_is_there_before_a_checkpoint_can_be(bucket, tmp_path):
  local = open_copy(tmp_path)
  log = RunLog(local, first_step=0, steps=4, meter=Meter(1))
  try:
    log.train(2, {"loss": 1.0, "lr": 0.1})
    assert "metrics.jsonl" not in there(bucket)
    log.sync()
    lines = bucket.objects["bucket/runs/a/metrics.jsonl"][0].decode().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2]
    assert any("tensorboard/events" in name for name in bucket.objects)
  finally:
    log.close()


def test_a_log_of_another_process_sends_nothing(bucket, tmp_path):
  local = open_copy(tmp_path)
  (local / "run.json").write_text("{}")
  log = RunLog(local, first_step=0, steps=4, meter=Meter(1), active=False)
  log.sync()
  log.close()
  assert there(bucket) == {}


# --- checkpoints ------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """File name -> bytes of real checkpoints of steps 1 and 2."""
  folder = tmp_path_factory.mktemp("saved") / "checkpoints"
  saving = ckpt.Checkpoints(folder)
  for step in (1, 2):
    state = {"params": {"a": jnp.arange(4.0) * step}}
    saving.save(step, state, {"step": step}, score=float(step))
    saving.wait()
  saving.close()
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in pathlib.Path(folder).rglob("*")
    if path.is_file()
  }


def upload(bucket, saved):
  for name, data in saved.items():
    remote(bucket, f"checkpoints/{name}", data)


def test_one_that_is_being_written_is_none_yet(bucket, saved):
  upload(bucket, {k: v for k, v in saved.items() if k != "2/commit_success.txt"})
  if "1/commit_success.txt" not in saved:
    remote(bucket, "checkpoints/1/commit_success.txt")
  assert ckpt.Checkpoints(f"{ADDRESS}/checkpoints", read_only=True).latest() == 1
  found = ckpt.Checkpoints(f"{ADDRESS}/checkpoints", read_only=True)
  assert found.steps() == [1] and found.scores() == {1: 1.0}
  assert found.damage(1) == "" and found.meta(1)["step"] == 1


def damaged(bucket, saved):
  upload(bucket, saved)
  for step in (1, 2):
    remote(bucket, f"checkpoints/{step}/commit_success.txt")
  name = next(n for n in bucket.objects if "checkpoints/2/state/d/" in n)
  bucket.put(name, b"\0" * len(bucket.objects[name][0]))


def test_a_damaged_one_is_set_aside_with_the_reason(bucket, saved):
  damaged(bucket, saved)
  before = {name for name in bucket.objects if "checkpoints/2/" in name}
  found = ckpt._set_aside(epath.Path(f"{ADDRESS}/checkpoints"))
  assert [(step, place) for step, _, place in found] == [
    (2, f"{ADDRESS}/damaged_checkpoints/2")
  ]
  assert ckpt.Checkpoints(f"{ADDRESS}/checkpoints", read_only=True).latest() == 1
  moved = {name for name in bucket.objects if "damaged_checkpoints/2/" in name}
  assert {name.replace("/damaged_", "/") for name in moved} == before
  assert "other bytes" in there(bucket)["damaged_checkpoints/2.txt"]


@pytest.mark.parametrize("cut", range(0, 48, 4))
def test_setting_aside_may_be_cut_off_anywhere(bucket, saved, cut):
  """Whatever was done of it, the next attempt ends with step 1 alone."""
  damaged(bucket, saved)
  left = [cut]

  def fail(what, name):
    if what in ("write", "delete"):
      if not left[0]:
        raise KeyboardInterrupt
      left[0] -= 1

  bucket.fail = fail
  place = epath.Path(f"{ADDRESS}/checkpoints")
  with contextlib.suppress(KeyboardInterrupt):
    ckpt._set_aside(place)
  bucket.fail = lambda what, name: None
  ckpt._set_aside(place)
  assert ckpt._steps(place) == [1]
  assert ckpt.damage(place, 1) == ""
  aside = epath.Path(f"{ADDRESS}/damaged_checkpoints")
  assert all(
    ckpt.seal.problem(aside / name)
    for name in storage.names(aside)
    if (aside / name).is_dir()
  )


# --- errors -----------------------------------------------------------------------


@pytest.mark.parametrize("address", ["s3://bucket/a", "gs://bucket", "az://c/b/a"])
def test_where_runs_cannot_be(address, tmp_path):
  with pytest.raises(storage.StorageError, match="gs://BUCKET/RUN"):
    storage.working_copy(address, tmp_path)
  with pytest.raises(storage.StorageError, match="gs://BUCKET/RUN"):
    ckpt.Checkpoints(address, read_only=True)


def test_a_missing_library_is_named_with_its_extra(monkeypatch, tmp_path):
  monkeypatch.setattr(
    storage, "_LIBRARIES", ("no_such_library", "no_such.part", "json")
  )
  with pytest.raises(storage.StorageError) as caught:
    storage.working_copy(ADDRESS, tmp_path)
  assert "no_such_library and no_such.part, not installed" in str(caught.value)
  assert "pip install 'tpr_jax[gs]'" in str(caught.value)


def test_data_on_object_storage_is_told_what_to_do():
  with pytest.raises(DatasetError, match=r"gs://b/data.*Mount .*gcsfuse"):
    build.dataset("cuhk_pedes", "gs://b/data", "test")


def test_loading_names_the_address(bucket):
  with pytest.raises(storage.StorageError, match="gs://bucket/runs/a holds no run"):
    run_weights.read(ADDRESS)


@pytest.mark.parametrize(
  ("words", "named"),
  [
    (("--mode=compare", "--run=gs://b/a", "--with=runs/b"), "--run=gs://b/a"),
    (("--mode=export", "--run=runs/a", "--out=gs://b/a"), "--out=gs://b/a"),
    (("--mode=inspect", "--run=s3://b/a"), "gs://BUCKET/RUN"),
  ],
)
def test_the_command_line_says_where_addresses_fit(words, named, tmp_path):
  done = subprocess.run(
    [sys.executable, "-m", "tpr_jax.main", *words],
    cwd=tmp_path,
    env={"PYTHONPATH": str(ROOT), "PATH": "", "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1
  assert done.stderr.startswith("error: ") and named in done.stderr
  assert "Traceback" not in done.stderr
  assert not list(tmp_path.iterdir())  # no folder named gs:
