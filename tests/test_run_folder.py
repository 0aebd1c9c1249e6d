"""Who may use a run's folder, and what a run depends on."""

import jax
import pytest

from tests import small_run
from tpr_jax import config as configs
from tpr_jax import run_folder
from tpr_jax.core import deterministic, sharding
from tpr_jax.run_folder import RunError, RunFolder


def changed(**fields):
  config = small_run.config().copy_and_resolve_references().unlock()
  with config.unlocked():
    config.update_from_flattened_dict(fields)
  return config.lock()


@pytest.fixture
def files(tmp_path):
  files = RunFolder(tmp_path / "run", True)
  assert files.claim(small_run.config()) == []
  return files


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("eval.batch", 8),
    ("evals.test.i2t", False),
    ("mesh.fsdp", 2),
    ("shardings", ((".*", "fsdp"),)),
    ("data.threads", 1),
    ("train.keep_last", 5),
  ],
)
def test_where_and_how_a_run_is_scored_may_change(files, field, value):
  config = changed(**{field: value})
  files.check(config)
  lines = files.claim(config)
  assert len(lines) == 1 and lines[0].startswith(f"{field}: ")
  assert files.claim(config) == []


@pytest.mark.parametrize(
  ("field", "value"),
  [("seed", 1), ("optim.lr", 1.0), ("data.batch", 8), ("train.micro_batches", 2)],
)
def test_what_is_trained_may_not(files, field, value):
  with pytest.raises(RunError, match=rf"another config(.|\n)*{field}: "):
    files.check(changed(**{field: value}))


def test_a_sweep_takes_no_other_tests_for_its_own(files):
  other = configs.plain(changed(**{"eval.batch": 8}))
  assert "eval.batch" in configs.occupied(files.folder, other)
  assert configs.occupied(files.folder, other, resume=True) == ""


def test_only_one_trains_in_a_folder(files):
  with files.alone():
    another = RunFolder(files.folder, True).alone()
    with pytest.raises(RunError, match="trained by another process"), another:
      pass
    with RunFolder(files.folder, False).alone():  # another process of the same run
      pass
  with files.alone():
    pass


def test_surroundings_name_what_bytes_depend_on(monkeypatch):
  mesh = sharding.make_mesh(dict(data=4, fsdp=2))
  monkeypatch.setenv("XLA_FLAGS", "--b=1 --a=2")
  found = run_folder.surroundings(mesh)
  assert all(isinstance(value, str) for value in found.values())
  assert found["mesh"] == "data=4 fsdp=2 tensor=1" and found["devices"] == "8"
  assert found["jax"] == jax.__version__ and found["device"].startswith("cpu")
  assert found["XLA_FLAGS"] == "--a=2 --b=1" and int(found["cpu cores"]) >= 1
  assert run_folder.changes(found, found) == []
  other = dict(found, jax="0.1", devices="4")
  del other["cpu"]
  assert run_folder.changes(other, found) == [
    f"jax 0.1 -> {jax.__version__}",
    "devices 4 -> 8",
    f"cpu none -> {found['cpu']}",
  ]


def test_the_code_is_known_by_its_bytes(monkeypatch, tmp_path):
  before = run_folder.code_digest()
  assert before == run_folder.code_digest() and len(before) == 16
  (tmp_path / "a.py").write_text("x = 1")
  monkeypatch.setattr(run_folder, "__file__", str(tmp_path / "a.py"))
  run_folder.code_digest.cache_clear()
  first = run_folder.code_digest()
  (tmp_path / "a.py").write_text("x = 2")
  run_folder.code_digest.cache_clear()
  assert len({before, first, run_folder.code_digest()}) == 3
  run_folder.code_digest.cache_clear()


@pytest.mark.parametrize(
  ("there", "then"),
  [
    ("", deterministic.FLAG),
    ("--a=1", f"--a=1 {deterministic.FLAG}"),
    (f"{deterministic.NAME}=false", f"{deterministic.NAME}=false"),
  ],
)
def test_a_gpu_is_asked_for_the_same_order_unless_told_otherwise(there, then):
  environment = {"XLA_FLAGS": there}
  deterministic.ask(environment)
  assert environment["XLA_FLAGS"] == then
  assert deterministic.asked(environment) == ("false" not in then)


def test_a_gpu_without_the_flag_promises_nothing(monkeypatch):
  assert run_folder.unrepeatable() == ""
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setenv("XLA_FLAGS", "")
  assert "any order" in run_folder.unrepeatable()
  monkeypatch.setenv("XLA_FLAGS", deterministic.FLAG)
  assert run_folder.unrepeatable() == ""
