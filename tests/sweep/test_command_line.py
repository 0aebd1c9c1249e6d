"""Mode sweep as it is typed: mistakes, and one real run."""

import json
import os
import subprocess
import sys
from importlib import metadata

import pytest

from tests.sweep.place import CFAM, ROOT


def command_line(folder, *arguments):
  flags = ["--xla_backend_optimization_level=0"]
  if metadata.version("jaxlib").startswith("0.10."):
    flags.append("--xla_cpu_use_fusion_emitters=false")
  return subprocess.run(
    [sys.executable, "-m", "tpr_jax.main", *arguments],
    cwd=folder,
    env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": " ".join(flags)},
    capture_output=True,
    text=True,
    timeout=300,
  )


SWEEP = "--config=configs/sweeps.py:ablation"


@pytest.mark.parametrize(
  ("arguments", "code", "parts"),
  [
    ([SWEEP], 1, ["configs/sweeps.py:ablation is a sweep", "--mode=sweep"]),
    ([f"--config={CFAM}", "--mode=sweep"], 1, ["one run", "sweeps.py:ablation"]),
    (["--mode=sweep"], 1, ["needs --config", "configs/sweeps.py:ablation"]),
    ([SWEEP, "--mode=sweep", "--config.seed=3"], 2, ["--config.seeds?"]),
    ([f"{SWEEP}s", "--mode=sweep"], 2, ["Did you mean 'ablation'?"]),
    ([SWEEP, "--mode=sweep", "--out=x"], 1, ["--out", "--run=DIR"]),
    ([SWEEP, "--mode=sweep", "--config.jobs=0"], 1, ["jobs=0"]),
  ],
)
def test_mistakes_on_the_command_line(tmp_path, arguments, code, parts):
  done = command_line(tmp_path, *arguments)
  assert done.returncode == code, done.stderr
  assert "Traceback" not in done.stderr
  for part in parts:
    assert part in done.stderr
  assert list(tmp_path.iterdir()) == []


TINY = """
from configs import cfam, common


def get_config(arg=None):
  if arg == "run":
    c = cfam.get_config("overfit=True")
    del c.evals["test_coarse"], c.evals["test_shuffled"], c.evals["train"]
    c.evals.test.group_by = ""
    return c
  rows = [("only", "tiny.py:run", ("losses.identity=0", "optim.lr=1e-3"))]
  return common.sweep("tiny", rows, ("test/R1",), base=BASE, seeds=(0, 1))


BASE = (
  "model.image_size=(32,16)", "model.patch=(8,8)", "model.stride=(8,8)",
  "model.vision_width=16", "model.vision_layers=1", "model.vision_heads=2",
  "model.text_width=16", "model.text_layers=1", "model.text_heads=2",
  "model.joint_dim=16", "text.length=32", "text.buckets=()", "text.short_first=0",
  "data.image=resize(32,16)", "data.eval_image=resize(32,16)", "data.cache_mb=0",
  "data.batch=8", "eval.batch=16", "data.options.identities=10",
  "data.options.views=1", "data.options.granularity=('fine',)", "train.steps=2",
  "losses.sdm=0", "losses.sdm_local=0", "losses.matching=0",
  "evals.test.options.identities=10", "evals.test.options.views=1",
)
"""


def test_a_real_run_and_the_same_command_again(tmp_path):
  (tmp_path / "tiny.py").write_text(TINY)
  words = ["--mode=sweep", "--config=tiny.py", "--config.seeds=(5,)"]
  done = command_line(tmp_path, *words)
  folder = tmp_path / "runs" / "tiny-sweep"
  log = folder / "only-seed5" / "log.txt"
  assert done.returncode == 0, done.stdout + (log.read_text() if log.exists() else "")
  found = json.loads((folder / "sweep.json").read_text())
  (single,) = found["runs"]
  real = json.loads((folder / "only-seed5" / "results.json").read_text())
  assert single["scores"]["test/R1"] == real["evals"]["test"]["t2i"]["R1"]
  assert single["seconds"]["train"] > 0 and "jax" in single["versions"]
  assert "--config.seed=5" in single["command"]
  assert found["command"].endswith(
    "--mode=sweep --config=tiny.py '--config.seeds=(5,)'"
  )
  config = json.loads((folder / "only-seed5" / "config.json").read_text())
  assert (config["seed"], config["optim"]["lr"], config["train"]["steps"]) == (
    5,
    1e-3,
    2,
  )
  assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")
  again = command_line(tmp_path, *words)
  assert again.returncode == 0 and "1 finished before" in again.stdout
  assert len(log.read_text().split("$ ")) == 2  # the child was started once


def test_the_parent_leaves_jax_alone(place):
  code = f"""
import pathlib, sys
from tpr_jax import config as configs, main
from tpr_jax.sweep import plan, run
configs.expose_shipped()
from configs import common
rows = [("A", "{CFAM}", ())]
config = common.sweep("x", rows, ("test/R1",), seeds=(0,))
made = plan.build(config, pathlib.Path("x"))
assert run.Sweep(made, ({sys.executable!r}, "-c", "raise SystemExit(4)"))() == 1
print(sorted({{"jax", "flax", "torch"}} & set(sys.modules)))
"""
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=place.folder,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1] == "[]", done.stdout
