"""`--mode=export`: whole or not at all, checked, with a card that can be followed."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import tpr_jax
from tests import written_run
from tests.command import ROOT
from tests.command import run as run_command
from tests.export import models
from tpr_jax import config as configs
from tpr_jax.export import card, export, huggingface
from tpr_jax.export.problems import ExportError
from tpr_jax.run_folder import RunError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs") / "drawn"
  return folder, *written_run.write(folder)


@pytest.mark.parametrize("format", export.FORMATS)
def test_every_format_is_the_run_bit_for_bit(run, tmp_path, format):
  if format == "stablehlo":
    pytest.importorskip("flatbuffers")
  folder, _, params = run
  said = []
  export.export(folder, tmp_path / "deep" / "out", format, said.append)
  found = tpr_jax.load(tmp_path / "deep" / "out")
  models.assert_same(found.params, {k: params[3][k] for k in ("visual", "text")})
  assert found.image_size == (32, 16) and found.filter == "bilinear"
  assert found.tokenizer.encode(["a red coat"], 8)[0].tolist() == (
    tpr_jax.load(folder).tokenizer.encode(["a red coat"], 8)[0].tolist()
  )
  assert "step 3: best validation R1" in said[0] and "bit for bit" in said[1]
  text = (tmp_path / "deep" / "out" / "README.md").read_text()
  for part in ("61.25", "a control", "rendered", "step 3", "32 x 16", "not** for"):
    assert part in text, part
  assert "weights inherit the terms of the data" in text
  assert str(folder) not in text  # cards are published
  assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]
  for file in (tmp_path / "deep" / "out").iterdir():
    assert file.stat().st_mode & 0o777 == 0o644


def test_the_command_with_a_run_and_with_its_config(run, tmp_path):
  done = run_command(tmp_path, "--mode=export", f"--run={run[0]}", "--out=a")
  assert done.returncode == 0, done.stderr
  assert "Written: a (huggingface)" in done.stdout and not done.stderr
  again = run_command(
    tmp_path,
    "--mode=export",
    "--config=configs/cfam.py",
    f"--run={run[0]}",
    "--out=b",
    "--format=openclip",
  )
  assert again.returncode == 0, again.stderr
  assert (tmp_path / "b" / "open_clip_config.json").is_file()
  for arguments, code, part in (
    (["--out=a"], 1, "a is not an empty folder: name another one"),
    ([], 1, "--mode=export needs --out=DIR"),
    (["--out=c", "--format=onnx"], 2, "huggingface|openclip|stablehlo"),
  ):
    done = run_command(tmp_path, "--mode=export", f"--run={run[0]}", *arguments)
    assert done.returncode == code and part in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
  done = run_command(tmp_path, "--mode=export", "--config=configs/cfam.py", "--out=d")
  assert done.returncode == 1
  assert "runs/cfam is not a run's folder" in done.stderr
  assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_the_card_can_be_followed(run, tmp_path):
  pytest.importorskip("torch")
  out = tmp_path / "out"
  export.export(run[0], out, "huggingface", lambda line: None)
  rng = np.random.default_rng(0)
  picture = rng.integers(0, 256, (50, 30, 3), dtype=np.uint8)
  Image.fromarray(picture).save(tmp_path / "1.jpg")
  blocks = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.S)
  assert len(blocks) == 2 and "interpolate_pos_encoding=True" in blocks[0]
  numbers = []
  for code in blocks:
    code = code.replace("FOLDER", str(out)).replace("1.jpg", str(tmp_path / "1.jpg"))
    done = subprocess.run(
      [sys.executable, "-c", code],
      env={**os.environ, "PYTHONPATH": str(ROOT)},
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    numbers.append(float(re.search(r"-?\d+\.\d+(e-\d+)?", done.stdout)[0]))
  assert numbers[0] == pytest.approx(numbers[1], abs=1e-4)


def test_an_export_that_fails_leaves_nothing(run, tmp_path, monkeypatch):
  def fails(model, folder):
    (folder / "half").write_text("x")
    raise KeyboardInterrupt

  monkeypatch.setitem(export.FORMATS, "huggingface", fails)
  with pytest.raises(KeyboardInterrupt):
    export.export(run[0], tmp_path / "out")
  assert list(tmp_path.iterdir()) == []


def test_what_was_not_written_right_is_noticed(run, tmp_path, monkeypatch):
  def other(model, folder):
    notes = huggingface.write(model, folder)
    model.params["text"]["ln_final"]["bias"] = np.ones(16, np.float32)
    return notes

  monkeypatch.setitem(export.FORMATS, "huggingface", other)
  with pytest.raises(ExportError, match="text/ln_final/bias is not what was written"):
    export.export(run[0], tmp_path / "out")
  assert list(tmp_path.iterdir()) == []


def test_places_that_do_not_do(run, tmp_path):
  (tmp_path / "file").write_text("x")
  (tmp_path / "empty").mkdir()
  for out in (tmp_path / "file", run[0]):
    with pytest.raises(ExportError, match="is not an empty folder"):
      export.export(run[0], out)
  with pytest.raises(ExportError, match="expected one of huggingface"):
    export.export(run[0], tmp_path / "out", "onnx")
  with pytest.raises(RunError, match="is not a run's folder"):
    export.export(tmp_path / "empty", tmp_path / "out")
  export.export(run[0], tmp_path / "empty", "huggingface", lambda line: None)
  assert (tmp_path / "empty" / "README.md").is_file()


def test_the_card_tells_no_paths_and_says_where_weights_began(run, tmp_path):
  assert card.public("openai/clip-vit-base-patch16") == "openai/clip-vit-base-patch16"
  assert card.public("/home/me/secret/clip") == "clip"
  assert card.public("~/models/ViT-B-16.pt") == "ViT-B-16.pt"
  model = tpr_jax.load(run[0])
  notes = dict(tokenizer="json", side=4)
  record = configs.read_json(run[0] / "run.json")
  for name in ("config.json", "results.json"):
    (tmp_path / name).write_bytes((run[0] / name).read_bytes())
  record["weights"] = dict(place="/home/me/secret/clip", settings={})
  configs.write_json(tmp_path / "run.json", record)
  text = card.render(model, tmp_path, "huggingface", notes)
  assert "weights it started from (clip)" in text and "secret" not in text
  (tmp_path / "results.json").unlink()
  assert "has not been evaluated" in card.render(model, tmp_path, "openclip", notes)
