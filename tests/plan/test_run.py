"""A plan from end to end, on virtual CPU devices, and on TPUs where libtpu is there."""

import importlib.util
import json

import pytest

from tests import small_run
from tests.command import run as command
from tpr_jax.plan import chips, programs, run, settings
from tpr_jax.plan.problems import PlanError


def config():
  """The smallest run, with the towers alone: it compiles in seconds."""
  made = small_run.config().copy_and_resolve_references().unlock()
  made.losses.update({name: 0.0 for name in made.losses}, infonce=1.0)
  return made.lock()


def asked(topology, *batches, micro_batches=("1",)):
  return settings.read(
    topology,
    [str(batch) for batch in batches],
    micro_batches,
    default_batch=16,
    default_micro_batches=1,
    assumptions=settings.Assumptions(),
  )


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
  """(exit status, folder, text): one row that works and one that cannot."""
  out = tmp_path_factory.mktemp("plan")
  status = run.Plan(config(), asked("cpu:4", 16, 6), out)()
  return status, out


def rows(out):
  return json.loads((out / "plan.json").read_text())["rows"]


def test_a_row_that_fails_is_named_and_the_others_go_on(planned):
  status, out = planned
  good, bad = rows(out)
  assert status == 1
  assert (good["status"], bad["status"]) == ("compiled", "failed")
  assert "data.batch=6 cannot be split evenly" in bad["message"]
  page = (out / "plan.md").read_text()
  assert "cpu:4, batch 6: failed: ValueError: data.batch=6" in page
  assert "| cpu:4 | 16 | 1 |" in page and "no time is estimated" in page


def test_what_is_said_of_a_program(planned):
  good = rows(planned[1])[0]
  assert good["mesh"] == dict(data=4, fsdp=1, tensor=1)
  assert (good["dtype"], good["classes"], good["text_length"]) == ("float32", 12, 32)
  memory = good["memory"]
  assert memory["needed"] >= memory["arguments"] + memory["temporaries"]
  # Parameters are replicated, their gradients summed: every float is sent about twice.
  gradients = 4 * good["parameters"]
  reduced = good["by_kind"]["all-reduce"]["payload"]
  assert gradients <= reduced < 1.5 * gradients
  assert {"visual", "text"} <= set(good["flops"]["backward"])
  assert good["traffic"] > memory["arguments"]
  assert good["estimate"] is None and good["efficiency"] is None


def test_the_same_command_does_what_is_missing(planned, monkeypatch, capsys):
  out = planned[1]
  compiled = []

  def refuse(request, place, folder):
    compiled.append(request["config"]["data"]["batch"])
    return "not in this test"

  monkeypatch.setattr(run, "_compile", refuse)
  assert run.Plan(config(), asked("cpu:4", 16, 6), out)() == 1
  assert compiled == [6]  # what failed is tried again
  assert "batch 16, micro_batches 1: 0." in capsys.readouterr().out
  # Another config is another program; a field that does not reach the step is not.
  other = config().unlock()
  other.eval.batch = 64
  assert run.Plan(other, asked("cpu:4", 16), out)() == 0
  other.model.vision_layers = 2
  assert run.Plan(other, asked("cpu:4", 16), out)() == 1
  assert compiled == [6, 16]


def test_a_text_is_read_again_when_its_readers_have_changed(planned, monkeypatch):
  place = chips.parse("cpu:4")
  kept = programs.Program(planned[1] / "programs", config(), place, 12)
  before = kept.read()
  monkeypatch.setattr(programs, "_READERS", ("plan/hlo.py",))
  again = kept.read()
  assert again["readers"] != before["readers"]
  assert again["collectives"] == before["collectives"]
  kept.text.rename(kept.text.with_suffix(".away"))
  monkeypatch.undo()
  assert kept.read() == {}  # neither text nor reading: compile again
  kept.text.with_suffix(".away").rename(kept.text)


def test_the_first_number_of_micro_batches_that_fits_is_taken(monkeypatch, capsys):
  def compile_(request, place, folder):
    pieces = request["config"]["train"]["micro_batches"]
    status = "does not fit" if pieces < 4 else "failed"
    answer = dict(status=status, message=f"{pieces} pieces", needed=2.0**30)
    run.configs.write_json(run.pathlib.Path(request["answer"]), answer)
    return ""

  monkeypatch.setattr(run, "_compile", compile_)
  monkeypatch.setattr(run, "_need_libtpu", lambda: None)
  tried = run.Plan(config(), asked("v5e:2x4", 64, micro_batches=("1", "2", "4")), None)
  assert tried() == 1 and tried.rows[0]["micro_batches"] == 4
  tried = run.Plan(config(), asked("v5e:2x4", 64, micro_batches=("1", "2")), None)
  assert tried() == 0  # that it does not fit is an answer
  text = capsys.readouterr().out
  assert "does not fit: 2 pieces" in text and "6%" in text


def test_the_compilers_environment(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3 --a=b")
  monkeypatch.setenv("JAX_PLATFORMS", "tpu")
  found = run.environment(chips.parse("cpu:6"))
  assert found["XLA_FLAGS"] == "--a=b --xla_force_host_platform_device_count=6"
  assert (found["JAX_PLATFORMS"], found["TPU_SKIP_MDS_QUERY"]) == ("cpu", "1")


def test_without_libtpu_the_command_that_installs_it_is_named(monkeypatch):
  monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
  monkeypatch.setattr(programs, "versions", lambda: {"jax": "0.10.2"})
  with pytest.raises(PlanError, match=r"pip install 'libtpu==0.0.42.\*'.*cpu:8"):
    run.Plan(config(), asked("v5e:2x4"), None)


@pytest.mark.parametrize(
  ("arguments", "parts"),
  [
    (["--mode=plan"], ["--mode=plan needs --topology", "cpu:8"]),
    (["--mode=plan", "--topology=v5e:2"], ["v5e:2", "the shape of v5e has 2"]),
    (["--mode=plan", "--topology=cpu:2", "--batches=x"], ["--batches", "'x'"]),
    (["--mode=plan", "--topology=cpu:2", "--run=x"], ["takes no --run"]),
    (["--topology=cpu:2"], ["--topology is for --mode=plan"]),
    (["--batches=512"], ["--batches", "--config.data.batch"]),
  ],
  ids=lambda value: " ".join(value) if value[0].startswith("--mode") else "",
)
def test_mistakes_are_one_line(tmp_path, arguments, parts):
  done = command(tmp_path, "--config=configs/cfam.py", *arguments)
  assert done.returncode == 1 and "Traceback" not in done.stderr
  for part in parts:
    assert part in done.stderr, done.stderr
  assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="needs libtpu (extra `plan`)"
)
def test_a_tpu_that_is_not_there(tmp_path):
  plan = run.Plan(config(), asked("v5e:2x2", 16), tmp_path)
  assert plan() == 0
  (row,) = rows(tmp_path)
  assert (row["dtype"], row["device"]) == ("bfloat16", "TPU v5 lite")
  assert row["by_kind"]["all-reduce"]["payload"] >= 4 * row["parameters"]
  found = row["estimate"]
  assert found["step"] >= max(found["compute"], found["memory"]) > 0
  assert row["efficiency"] == 1.0
  assert "197 TFLOP/s" in (tmp_path / "plan.md").read_text()
