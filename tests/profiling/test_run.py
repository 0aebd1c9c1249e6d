"""A profile from end to end: what is written, and that training would do the same."""

import gzip
import json

import pytest

from tests import small_run
from tests.command import run as command
from tpr_jax.profiling import rate, run, trace
from tpr_jax.profiling.problems import ProfileError


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
  """(folder, findings)"""
  out = tmp_path_factory.mktemp("profile") / "out"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(rate, "_SIZES", {"cpu": (64, 2)})
    assert run.profile(small_run.config(), out, 3) == 0
  return out, json.loads((out / run.NUMBERS).read_text())


def test_the_trace_opens_in_perfetto_and_in_tensorboard(profiled):
  out, _ = profiled
  folder = trace.newest(out).parent
  events = json.loads(gzip.decompress((folder / "perfetto_trace.json.gz").read_bytes()))
  names = {event.get("name") for event in events["traceEvents"]}
  assert "train" in names  # the steps


def test_what_is_found(profiled):
  _, found = profiled
  assert found["steps"] == 3 and found["batch"] == 16
  assert sum(found["lengths"].values()) == 3
  assert {"visual", "text"} <= set(found["forward"])
  assert {"visual", "text", "update"} <= set(found["forward"]) | set(found["backward"])
  assert found["backward"]["visual"] > 0
  work = found["flops"]
  assert work["model"] == pytest.approx(sum(work["parts"].values()))
  assert work["again"] == 0
  assert 0 <= found["input_wait"] < 1 and found["busy"] > 0
  assert found["operations"][0]["seconds"] >= found["operations"][-1]["seconds"] > 0
  assert found["peak"] is None  # nothing is published about a CPU


def test_the_summary_says_it(profiled):
  out, found = profiled
  text = (out / run.TEXT).read_text()
  assert f"{found['batch'] / found['seconds_a_step']:,.1f} examples/s" in text
  assert "a product of 64 x 64 reaches here" in text
  rows = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
  assert {"visual", "text", "update"} <= set(rows)


def test_nothing_of_a_run_is_written(profiled):
  out, _ = profiled
  assert {path.name for path in out.iterdir()} == {run.TEXT, run.NUMBERS, "plugins"}


def test_what_cannot_be_profiled(tmp_path):
  with pytest.raises(ProfileError, match="expected 1 or more"):
    run.profile(small_run.config(), tmp_path, 0)
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(ProfileError, match="holds a run"):
    run.profile(small_run.config(), tmp_path, 1)


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (("--mode=profile",), "--mode=profile needs --config"),
    (("--profile_steps=3", "--config=configs/cfam.py"), "is for --mode=profile"),
    (
      ("--mode=profile", "--config=configs/cfam.py", "--run=x"),
      "--mode=profile takes no --run",
    ),
    (
      ("--mode=profile", "--config=configs/cfam.py", "--profile_steps=0"),
      "--profile_steps=0: expected 1 or more",
    ),
  ],
)
def test_flags_that_do_not_fit(words, message, tmp_path):
  ended = command(tmp_path, *words)
  assert ended.returncode == 1 and message in ended.stderr
