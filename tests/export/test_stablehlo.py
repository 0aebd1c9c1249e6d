"""The exported encoders: any batch, without this project, with the model's numbers."""

import json
import math
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.export import models
from tpr_jax.export import stablehlo
from tpr_jax.export.problems import ExportError
from tpr_jax.loading import load

# What the card tells people to do, for input that lies in a file.
ALONE = """
import sys
import numpy as np
from jax import export
from safetensors.numpy import load_file

folder = sys.argv[1]
params = load_file(f"{folder}/params.safetensors")
given = np.load(sys.argv[2])
found = {}
for name, prefix in (("image", "visual/"), ("text", "text/")):
  encoder = export.deserialize(open(f"{folder}/{name}_encoder.bin", "rb").read())
  own = {k: v for k, v in params.items() if k.startswith(prefix)}
  for count in (1, 5):
    found[f"{name}{count}"] = np.asarray(encoder.call(own, given[name][:count]))
np.savez(sys.argv[3], **found)
assert not [module for module in sys.modules if module.startswith(("tpr_jax", "flax"))]
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  """(folder, model, notes) of patches that no other format can express."""
  pytest.importorskip("flatbuffers")
  folder = tmp_path_factory.mktemp("stablehlo")
  model = models.random(
    image_size=(30, 20), patch=(8, 4), stride=(5, 4), activation="gelu", scale=1.5
  )
  return folder, model, stablehlo.write(model, folder)


def test_a_process_without_this_project_gets_the_same_rows(written, tmp_path):
  folder, model, notes = written
  assert notes["difference"] <= 1e-6
  batch, captions = models.images(model, 5), [*models.CAPTIONS, "a", "red b"]
  given, out = tmp_path / "given.npz", tmp_path / "found.npz"
  np.savez(given, image=batch, text=models.ids(model, captions))
  env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
  done = subprocess.run(
    [sys.executable, "-c", ALONE, str(folder), str(given), str(out)],
    cwd=tmp_path,
    env=env,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  image, text = models.expected(model, batch, captions)
  with np.load(out) as found:
    for name, rows in (("image", image), ("text", text)):
      for count in (1, 5):
        assert found[f"{name}{count}"].dtype == np.float32
        np.testing.assert_allclose(found[f"{name}{count}"], rows[:count], atol=1e-6)


def test_it_is_lowered_for_every_platform(written):
  folder = written[0]
  for name in ("image", "text"):
    blob = (folder / f"{name}_encoder.bin").read_bytes()
    found = jax.export.deserialize(blob)
    assert found.platforms == ("cpu", "cuda", "tpu")
    assert str(found.in_avals[-1].shape[0]) == "b"
    # Full float32 wherever it runs, as in `tpr_jax.load`.
    text = found.mlir_module()
    assert "HIGHEST" in text
    # JAX's own check of b; no kernel that one version or platform alone has.
    calls = set(re.findall(r"custom_call @(\w+)", text))
    assert calls <= {"shape_assertion"}


def test_in_again_is_the_same_bits(written):
  folder, model, _ = written
  again = load(folder)
  models.assert_same(again.params, model.params)
  assert again.fields == model.fields and again.filter == model.filter
  assert again.logit_scale == 1.5 and again.tokenizer.vocab_size == 2048


def test_numbers_that_differ_are_refused(written, tmp_path, monkeypatch):
  model = written[1]
  monkeypatch.setattr(stablehlo, "LIMIT", -1.0)
  with pytest.raises(ExportError, match="differ from the model by"):
    stablehlo.write(model, tmp_path)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(stablehlo.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ExportError, match="pip install flatbuffers"):
    stablehlo.write(models.random(), tmp_path)
  assert list(tmp_path.iterdir()) == []


def test_settings_that_are_lost_are_named(written, tmp_path):
  folder, _, _ = written
  for file in folder.iterdir():
    os.link(file, tmp_path / file.name)
  (tmp_path / "tpr_jax.json").unlink()
  facts = json.loads((folder / "tpr_jax.json").read_text())
  assert facts["text_length"] == 32 and facts["dim"] == 16
  assert math.isclose(facts["settings"].pop("logit_scale"), 1.5)
  (tmp_path / "tpr_jax.json").write_text(json.dumps(facts))
  with pytest.raises(ValueError, match=r"no settings logit_scale; export the run"):
    load(tmp_path)
