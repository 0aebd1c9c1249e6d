"""`--mode=eval --model=PLACE`: the same scores whatever the model was wrapped in."""

import json
import shutil

import jax
import numpy as np
import pytest

from tests import small_run, written_run
from tests.command import run as command_line
from tpr_jax import compare, loading, model_eval
from tpr_jax import config as configs
from tpr_jax.convert.source import ConvertError
from tpr_jax.core import sharding
from tpr_jax.data.record import DatasetError
from tpr_jax.experiment import Experiment
from tpr_jax.export import export
from tpr_jax.metrics import per_query, uncertainty


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder with `run`, evaluated by its own code, and `hf`, its export."""
  folder = tmp_path_factory.mktemp("models")
  config, _ = written_run.write(folder / "run")
  export.export(folder / "run", folder / "hf", "huggingface")
  Experiment(config, folder / "run").evaluate()
  return folder


@pytest.fixture(scope="module")
def config():
  c = small_run.config().copy_and_resolve_references().unlock()
  c.eval.ci_resamples = 50
  return c.lock()


@pytest.fixture(scope="module")
def scored(place, config):
  """(folder, results) of the export."""
  out = place / "scored"
  return out, model_eval.run(str(place / "hf"), config, (), out)


def read(folder, name="results.json"):
  return json.loads((folder / name).read_text(encoding="utf-8"))


def test_scores_of_an_export_are_those_of_its_run(place, scored):
  out, results = scored
  assert results == read(out)
  expected = read(place / "run")["evals"]
  assert set(results["evals"]) == set(expected) == {"test", "test_coarse"}
  for name, found in results["evals"].items():
    assert set(found) == set(expected[name])
    for part in {"t2i", "i2t"} & set(found):
      for score in per_query.SCORES:
        theirs = expected[name][part][score]
        assert found[part][score] == pytest.approx(theirs, abs=1e-3)
    assert set(found["groups"]) == {"near twins", "others"}
    ours = np.load(out / "rankings" / f"{name}.npz")
    theirs = np.load(place / "run" / "rankings" / f"{name}.npz")
    np.testing.assert_allclose(ours["score"], theirs["score"], atol=1e-6)


def test_the_folder_serves_compare_and_has_a_report(place, scored):
  out, _ = scored
  found = compare.folders(out, place / "run", uncertainty.Bootstrap(resamples=50))
  assert set(found["evals"]) == {"test", "test_coarse"}
  assert "data:image/" in (out / "report.html").read_text(encoding="utf-8")
  about = read(out, "run.json")
  assert about["seconds"]["evaluate"] > 0 and "jax" in about["versions"]
  model_eval.check_free(out)  # again into the same folder: it holds nothing but this


def test_what_the_config_says_about_loading_counts(place, config, tmp_path):
  c = config.copy_and_resolve_references().unlock()
  c.model.image_size, c.text.length, c.eval.flip = (48, 16), 12, True
  del c.evals["test_coarse"]
  given = ("model.image_size[0]", "text.length", "eval.flip", "evals.test.i2t")
  results = model_eval.run(str(place / "run"), c, given, tmp_path / "out")
  about = results["model"]
  assert (about["image_size"], about["text_length"]) == ([48, 16], 12)
  assert any("position" in line for line in about["resized"])
  assert about["step"] == 3 and about["detail"].startswith("step 3")
  assert results["evals"]["test"]["note"].endswith("with those of mirror images")
  # Without being asked for by hand they are those of another model.
  own = model_eval.options(c, ("eval.batch",))
  assert own == model_eval.Options()
  c.model.activation, c.model.dtype = "gelu", "bfloat16"
  found = model_eval.options(c, ())
  assert (found.activation, found.dtype) == ("gelu", "bfloat16")


@pytest.mark.parametrize(
  "field", ["optim.lr", "model.vision_width", "data.eval_image", "data.batch", "seed"]
)
def test_an_override_that_would_do_nothing_is_refused(config, field):
  with pytest.raises(configs.ConfigError, match=f"--config.{field} would do nothing"):
    model_eval.options(config, ("eval.batch", field))


def test_what_is_missing_is_said_before_the_model_is_loaded(
  place, config, tmp_path, monkeypatch
):
  c = config.copy_and_resolve_references().unlock()
  c.evals.test.update(name="cuhk_pedes", root=str(tmp_path / "nowhere"))
  c.evals.test.options = type(c)()
  monkeypatch.setattr(loading, "load", None)
  with pytest.raises(DatasetError, match="nowhere/CUHK-PEDES"):
    model_eval.run(str(place / "hf"), c, (), tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_no_results_of_a_run_are_lost(place, config, tmp_path):
  with pytest.raises(configs.ConfigError, match="results of a run"):
    model_eval.run(str(place / "hf"), config, (), place / "run")
  (tmp_path / "results.json").write_text('{"features": "x.npz", "evals": {}}')
  with pytest.raises(configs.ConfigError, match="of features"):
    model_eval.run(str(place / "hf"), config, (), tmp_path)
  with pytest.raises(ConvertError, match="no such file or folder"):
    model_eval.run(str(tmp_path / "no.pt"), config, (), tmp_path / "out")


@pytest.mark.parametrize(
  ("dtype", "precision"), [("float32", "highest"), ("bfloat16", None)]
)
def test_float32_is_full_float32_on_any_device(place, dtype, precision):
  found = model_eval.Options(dtype=dtype).load(str(place / "hf"))
  seen = []

  def encoder(params, dataset, *, pipe, length, **how):
    seen.append(jax.config.jax_default_matmul_precision)
    assert jax.tree.leaves(params)[0].dtype == np.float32
    assert (pipe.size, length, how["batch"]) == ((32, 16), 32, 8)

  mesh = sharding.make_mesh(dict(data=-1))
  encoders = {found.model: encoder}
  model = model_eval.Model(found, mesh, batch=8, threads=1, encoders=encoders)
  model.encode(None)
  assert seen == [precision]


# ---- as typed

CFAM = "--config=configs/cfam.py"


@pytest.mark.parametrize(
  ("arguments", "parts"),
  [
    (["--mode=eval", "--model=x", CFAM], ["--out=DIR"]),
    (["--mode=eval", "--model=x", "--out=y"], ["needs --config"]),
    (["--mode=eval", "--model=x", "--run=y", CFAM, "--out=z"], ["takes no --run"]),
    (["--mode=eval", "--model=x", "--features=y"], ["takes no --model"]),
    (["--mode=report", "--model=x", CFAM], ["--model is for --mode=eval"]),
    (["--mode=eval", "--run=x", "--out=y"], ["--out is for --mode=eval with --model"]),
  ],
)
def test_mistakes_on_the_command_line(tmp_path, arguments, parts):
  done = command_line(tmp_path, *arguments)
  assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
  for part in parts:
    assert part in done.stderr
  assert list(tmp_path.iterdir()) == []


TINY = """
from tests import small_run

def get_config(arg=None):
  return small_run.config().copy_and_resolve_references().unlock()
"""


def test_an_export_from_the_command_line(place, tmp_path):
  (tmp_path / "tiny.py").write_text(TINY)
  shutil.copytree(place / "hf", tmp_path / "hf")
  done = command_line(
    tmp_path,
    "--mode=eval",
    "--model=hf",
    "--config=tiny.py",
    "--config.eval.batch=8",
    "--config.evals.test.i2t=False",
    "--out=out",
  )
  assert done.returncode == 0, done.stdout + done.stderr
  found = read(tmp_path / "out")["evals"]["test"]
  expected = read(place / "run")["evals"]["test"]
  assert "i2t" not in found
  for score in per_query.SCORES:
    assert found["t2i"][score] == pytest.approx(expected["t2i"][score], abs=1e-3)
  for text in (
    "32 x 16 pixels (bilinear), 32 tokens",
    "Of the config only data, evals, eval and mesh count.",
    "near twins",
    "out/report.html",
  ):
    assert text in done.stdout
