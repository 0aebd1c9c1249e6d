"""MRA from end to end: a tiny run, stopped and continued, fine-tuned from, loaded."""

import json
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from ml_collections import ConfigDict
from PIL import Image

import tpr_jax
from tests import small_run, tiny_cross
from tests.test_ga_dms_run import lines
from tpr_jax import config as configs
from tpr_jax import localise_files, run_weights, training
from tpr_jax.convert.source import ConvertError
from tpr_jax.core import tree
from tpr_jax.experiment import Experiment
from tpr_jax.export import export
from tpr_jax.export.problems import ExportError
from tpr_jax.train import Interrupted

STEPS = 6
PEOPLE = dict(identities=12, views=1, granularity=("coarse",))


def config(value="configs/mra.py"):
  """An embedded run, made tiny."""
  configs.expose_shipped()
  c = configs.read(configs.resolve(value)).unlock()
  c.model.update({k: v for k, v in tiny_cross.FIELDS.items() if k in c.model})
  c.model.text_positions, c.model.window_last = 40, 2
  c.text.length = 32
  resize = "resize(32,16,'bicubic')"
  if c.data.views.region:
    c.data.views.region = (4, 2)
    c.data.image = f"box_crop(2)|{resize}"
  else:
    c.data.image = resize
  c.data.eval_image = resize
  c.data.batch, c.eval.batch, c.data.cache_mb = 16, 16, 16
  c.data.options.update(PEOPLE)
  c.data.val_options = ConfigDict(dict(PEOPLE, identities=10))
  c.train.steps, c.train.eval_every, c.train.log_every = STEPS, 3.0, 2
  c.optim.muon = ""  # as in small_run
  c.eval.saliency, c.eval.ci_resamples, c.eval.rerank.top = 0, 0, 4
  c.eval.localise = 12
  for name in list(c.evals):
    if name != "test":
      del c.evals[name]
  c.evals.test.options.update(PEOPLE, identities=10)
  return c.lock()


def state(folder):
  place = folder / "checkpoints" / str(STEPS) / "state"
  return ocp.StandardCheckpointer().restore(place.absolute())


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  """A finished run of the pre-training."""
  folder = tmp_path_factory.mktemp("runs") / "straight"
  training.run(Experiment(config(), folder))
  return folder


def test_every_loss_is_logged_and_two_lists_are_scored(straight):
  for line in lines(straight, "train"):
    for name in ("itc", "itm", "mlm", "region_itc", "region_itm", "temperature"):
      assert np.isfinite(line[name]), name
  scores = json.loads((straight / "results.json").read_text())["evals"]
  assert {"test", "test.reranked"} == set(scores)
  about = scores["test.reranked"]["rerank"]
  assert (about["by"], about["combine"], about["top"]) == ("itm", "single", 4)
  told = scores["test"]["localise"]
  assert told["phrases"] == 12 and told["rows"][0]["name"] == "all"
  assert "localise" not in scores["test.reranked"]
  kept = localise_files.read(straight / "localise" / "test.npz")
  np.testing.assert_allclose(kept.mean.sum(axis=1), 1.0)
  page = (straight / "report.html").read_text("utf-8")
  assert page.count("Where phrases look") == 1
  assert (straight / "report" / "looks_test.png").is_file()


def test_phrases_that_are_looked_for_need_boxes(straight, tmp_path):
  folder = shutil.copytree(straight, tmp_path / "run")
  c = config().unlock()
  c.evals.test.options.regions = False
  message = r"eval\.localise=12: none of config\.evals \(test\) has regions"
  with pytest.raises(configs.ConfigError, match=message):
    Experiment(c.lock(), folder).evaluate()


@pytest.mark.proof
def test_stopped_and_gone_on_with_ends_with_the_same_bytes(
  straight, tmp_path, monkeypatch
):
  """Regions, masked words, drawn negatives and running statistics included."""
  small_run.stop_at(5, monkeypatch)
  with pytest.raises(Interrupted, match="SIGTERM after step 5"):
    training.run(Experiment(config(), tmp_path / "stopped"))
  training.run(Experiment(config(), tmp_path / "stopped"))
  expected, found = tree.flat(state(straight)), tree.flat(state(tmp_path / "stopped"))
  assert list(found) == list(expected)
  for name, value in expected.items():
    assert np.asarray(found[name]).tobytes() == np.asarray(value).tobytes(), name
  running = np.asarray(expected["params/image_projection/bn/mean"])
  assert np.abs(running).max() > 0
  for kind in ("train", "val"):
    assert lines(tmp_path / "stopped", kind) == lines(straight, kind) != []


def test_fine_tuning_starts_where_the_run_ended(straight, tmp_path, capsys):
  c = config("configs/mra.py:rendered_target").unlock()
  c.model.init_from, c.optim.lr, c.evals = str(straight), 0.0, ConfigDict()
  c.train.steps = 1
  training.run(Experiment(c.lock(), tmp_path / "run"))
  assert "Weights from" in capsys.readouterr().out
  place = tmp_path / "run" / "checkpoints" / "1" / "state"
  found = ocp.StandardCheckpointer().restore(place.absolute())["params"]
  expected = run_weights.read(straight).weights  # of the best checkpoint
  for name, value in tree.flat(found).items():
    if "/bn/" not in name or name.endswith(("scale", "bias")):
      np.testing.assert_array_equal(np.asarray(value), expected[name], err_msg=name)


def test_a_run_of_other_sizes_is_refused(straight, tmp_path):
  c = config("configs/mra.py:rendered_target").unlock()
  c.model.init_from, c.model.text_width = str(straight), 32
  made = training.Training(Experiment(c.lock(), tmp_path / "run"))
  made.batches.close()
  with pytest.raises(ConvertError, match="does not fit the model"):
    made.first_state()


def test_a_run_encodes_texts_and_pictures(straight):
  model = tpr_jax.load(straight)
  assert model.dim == tiny_cross.FIELDS["joint_dim"]
  pictures = [Image.new("RGB", (20, 40), colour) for colour in ("red", "blue")]
  rows = model.encode_images(pictures, progress=False)
  texts = model.encode_texts(["a man in a red coat"], progress=False)
  assert rows.shape == (2, model.dim) and texts.shape == (1, model.dim)
  np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-5)
  assert jax.numpy.isfinite(texts).all()
  with pytest.raises(ConvertError, match="leave image_size= out"):
    tpr_jax.load(straight, image_size=(64, 32))


def test_its_towers_go_to_transformers_and_come_back(straight, tmp_path):
  out = tmp_path / "export"
  export.export(straight, out)
  card = (out / "README.md").read_text()
  assert "SwinModel" in card and "Acceptable use" in card
  c = config("configs/mra.py:rendered_target").unlock()
  c.model.init_image, c.model.init_text = str(out / "image"), str(out / "text")
  c.text.tokenizer = "auto"
  made = training.Training(Experiment(c.lock(), tmp_path / "run"))
  made.batches.close()
  params = tree.flat(made.first_state().params)
  expected = run_weights.read(straight).weights
  for name in ("visual/stage_1/block_1/relative_position_bias", "words/bias"):
    np.testing.assert_array_equal(params[name], expected[name])
  name = "text/layer_1/mlp/fc/kernel"
  np.testing.assert_array_equal(params[name], expected[name])
  name = "text/layer_1/cross_attn/q/kernel"  # BERT has none
  assert np.abs(np.asarray(params[name]) - expected[name]).max() > 0
  with pytest.raises(ExportError, match="'huggingface' alone"):
    export.export(straight, tmp_path / "other", "openclip")


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(losses=dict(eda_itc=0.5)), r"losses\.eda_itc reads what data\.views\.eda"),
    (
      dict(losses=dict(region_itc=0.0, region_itm=0.0)),
      r"data\.views\.region: no loss",
    ),
    (dict(text=dict(buckets=(16,))), r"text\.buckets: with model\.projection='bins'"),
    (dict(model=dict(window=3)), "windows of 3 x 3"),
    (dict(eval=dict(localise_by="word")), r"eval\.localise=12, .* unknown map 'word'"),
    (dict(model=dict(projection="bin")), "unknown projection 'bin'"),
  ],
)
def test_fields_that_do_not_fit_are_said(change, message, tmp_path):
  c = config().unlock()
  for part, fields in change.items():
    c[part].update(fields)
  with pytest.raises(ValueError, match=message):
    training.Training(Experiment(c.lock(), tmp_path / "run"))


def test_a_bert_needs_a_vocabulary(tmp_path):
  c = config().unlock()
  c.text.tokenizer = "auto"
  with pytest.raises(configs.ConfigError, match="vocabulary comes with its weights"):
    Experiment(c.lock(), tmp_path / "run")
