"""Real, tiny, random models: in this process and behind real servers.

Their answers are noise, so every one of them has to be flagged."""

import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

pytest.importorskip("torch", reason="PyTorch runs the language models")

from tests.curate import fake, server
from tests.curate.place import edit, lines, load
from tests.test_main import ROOT
from tpr_jax.curate import build
from tpr_jax.curate.problems import CurateError

WORDS = (
  "text.tokenizer=people",
  "rewrites=2",
  "rewriters.first.max_tokens=12",
  "rewriters.first.timeout=60",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  return str(server.tiny_model(tmp_path_factory.mktemp("model")))


def config(root, model, *more):
  if not root.exists():
    fake.people(root, count=2)
  words = [f"sources.icfg_pedes.root={root}", f"rewriters.first.model={model}"]
  return fake.config(*words, *WORDS, *more, value="configs/cross.py:sources=icfg_pedes")


def check_and_review(out, made):
  """8 noisy answers, all flagged; what a person writes instead is taken."""
  assert build.build_cross(made, out) == 0
  answers = lines(out / "answers.jsonl")
  assert len(answers) == 8 and len({row["answer"]["text"] for row in answers}) > 4
  assert {row["answer"]["finish"] for row in answers} <= {"length", "stop"}
  assert len(lines(out / "review.jsonl")) == 8
  assert all(len(record.captions) == 1 for record in load(out).records)
  number = iter(range(8))
  edit(out / "review.jsonl", lambda r: r | dict(text=f"A man, told {next(number)}."))
  assert build.build_cross(made, out) == 0
  assert lines(out / "answers.jsonl") == answers
  assert all(len(record.captions) == 3 for record in load(out).records)


def test_a_model_that_runs_here(tmp_path, model):
  here = ("rewriters.first.kind=local", "rewriters.first.device=cpu")
  made = config(tmp_path / "data", model, *here, "rewriters.first.batch=3")
  check_and_review(tmp_path / "a", made)
  build.build_cross(made, tmp_path / "b")
  text = lambda out: {
    row["key"]: row["answer"]["text"] for row in lines(out / "answers.jsonl")
  }
  assert text(tmp_path / "a") == text(tmp_path / "b")
  # One at a time draws other noise, but greedy answers do not depend on the batch.
  greedy = [
    config(tmp_path / "data", model, *here, f"rewriters.first.batch={n}",
           "rewriters.first.temperature=0.0")
    for n in (1, 8)
  ]  # fmt: skip
  for n, one in enumerate(greedy):
    build.build_cross(one, tmp_path / f"greedy{n}")
  assert text(tmp_path / "greedy0") == text(tmp_path / "greedy1")


def test_no_model_and_no_template_are_told(tmp_path, model):
  here = ("rewriters.first.kind=local", "rewriters.first.device=cpu")
  made = config(tmp_path / "data", str(tmp_path / "nowhere"), *here)
  with pytest.raises(CurateError, match="no model that can be used"):
    build.build_cross(made, tmp_path / "out")
  import shutil

  bare = shutil.copytree(model, tmp_path / "bare")
  for path in bare.glob("chat_template*"):
    path.unlink()
  with pytest.raises(CurateError, match="has no chat template"):
    build.build_cross(config(tmp_path / "data", str(bare), *here), tmp_path / "out2")


def process(words):
  env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (
    str(ROOT), os.environ.get("PYTHONPATH"))))}  # fmt: skip
  env |= dict(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
  return subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)


def test_a_model_behind_a_server_of_its_own(tmp_path, model):
  with process([sys.executable, "-m", "tests.curate.server", model]) as child:
    try:
      url = f"http://127.0.0.1:{int(child.stdout.readline())}/v1"
      at = f"rewriters.first.base_url={url}"
      check_and_review(tmp_path / "out", config(tmp_path / "data", model, at))
      with pytest.raises(CurateError, match=r"404: no model other"):
        build.build_cross(config(tmp_path / "data", "other", at), tmp_path / "b")
    finally:
      child.terminate()


def test_a_model_behind_transformers_serve(tmp_path, model):
  pytest.importorskip("fastapi", reason="transformers[serving]")
  pytest.importorskip("uvicorn", reason="transformers[serving]")
  pytest.importorskip("accelerate", reason="transformers serve loads models with it")
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  main = "import sys; from transformers.cli.transformers import main; main()"
  words = [sys.executable, "-c", main, "serve", model, "--port", str(port)]
  with process([*words, "--device", "cpu"]) as child:
    try:
      _wait_for(f"http://127.0.0.1:{port}/health", child)
      at = f"rewriters.first.base_url=http://127.0.0.1:{port}/v1"
      check_and_review(tmp_path / "out", config(tmp_path / "data", model, at))
    finally:
      child.terminate()


def _wait_for(url, child):
  until = time.monotonic() + 300
  while True:
    assert child.poll() is None and time.monotonic() < until
    try:
      with urllib.request.urlopen(url, timeout=5):
        return
    except OSError:
      time.sleep(0.2)
