"""A run that starts from pretrained towers: theirs at step 0, and gone from then on."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests import small_run, written_run
from tests.models import weights as drawing
from tests.test_experiment import trained
from tpr_jax import training
from tpr_jax.config import ConfigError
from tpr_jax.convert import towers
from tpr_jax.convert.source import ConvertError
from tpr_jax.core import tree
from tpr_jax.experiment import Experiment
from tpr_jax.models import build, position

TEXT_LENGTH = 20  # of the published table; the run's is longer
HEADS = dict(num_attention_heads=2, hidden_act="gelu", layer_norm_eps=1e-6)
MEAN = [0.5, 0.25, 0.125]


def start(config, folder):
  """The experiment, with nothing learnt in its one step."""
  with config.unlocked():
    config.optim.lr = 0.0
    config.train.steps = 1
    config.text.buckets, config.text.short_first = (), 0  # one program to compile
    del config.evals["test_coarse"]
  return Experiment(config, folder)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
  """(folder of a Hugging Face CLIP of the small run's size, its parameters)."""
  folder = tmp_path_factory.mktemp("published")
  config = small_run.config()
  made = Experiment(config, folder / "unused")
  fields = build.settings({**made.fields, "text_length": TEXT_LENGTH})
  model = build.build(fields | {"variant": "tiny"}, vocab_size=2048)
  image = np.zeros((1, *config.model.image_size, 3), np.uint8)
  text = np.zeros((1, TEXT_LENGTH), np.int32)
  params = jax.tree.map(np.asarray, drawing.drawn(model, image, text)["params"])
  save_file(towers.to_huggingface(params, fields), folder / "model.safetensors")
  both = dict(model_type="clip", vision_config=HEADS, text_config=HEADS)
  (folder / "config.json").write_text(json.dumps(both))
  pixels = dict(image_mean=MEAN, image_std=[0.5, 0.5, 0.5])
  (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
  return folder, params


def pointed(published, **model):
  config = small_run.config()
  with config.unlocked():
    config.model.update(dict(init_from=str(published), **model))
  return config


def test_a_run_starts_from_the_towers_and_outlives_their_folder(published, tmp_path):
  place, params = tmp_path / "weights", published[1]
  shutil.copytree(published[0], place)
  config, folder = pointed(place), tmp_path / "run"
  training.run(start(config, folder))
  found = trained(folder, 1)["params"]
  for tower in ("visual", "text"):
    assert set(tree.names(found[tower])) == set(tree.names(params[tower]))
    for name, value in zip(
      tree.names(params[tower]), jax.tree.leaves(params[tower]), strict=True
    ):
      at = found[tower]
      for key in name.split("/"):
        at = at[key]
      if name == "position_embedding" and tower == "text":
        assert len(at) == config.text.length
      else:
        np.testing.assert_array_equal(at, value, err_msg=name)
  assert "granularity" in found  # heads are fresh
  run = json.loads((folder / "run.json").read_text())["weights"]
  assert run["place"] == str(place) and run["unused"] == []
  assert run["resized"] == [f"text/position_embedding: {TEXT_LENGTH} rows -> 32"]
  shutil.rmtree(place)
  again = Experiment(config, folder)
  again.evaluate()
  assert again.fields["activation"] == "gelu" and again.fields["epsilon"] == 1e-6
  assert list(again.fields["pixel_mean"]) == MEAN


def test_the_config_may_not_contradict_the_weights(published, tmp_path):
  config = pointed(published[0], activation="quick_gelu")
  with pytest.raises(ConfigError, match=r"model\.activation='quick_gelu'.*'gelu'"):
    Experiment(config, tmp_path / "run")


def test_weights_alone_need_an_activation(published, tmp_path):
  file = published[0] / "model.safetensors"
  lone = tmp_path / "lone.safetensors"
  shutil.copy(file, lone)
  with pytest.raises(ConfigError, match=r"--config\.model\.activation=quick_gelu"):
    Experiment(pointed(lone), tmp_path / "run")
  assert Experiment(pointed(lone, activation="gelu"), tmp_path / "run").fields


def test_misfits_leave_no_run_behind(published, tmp_path):
  folder = tmp_path / "run"
  config = pointed(published[0])
  with config.unlocked():
    config.model.text_layers = 2
  with pytest.raises(ConvertError, match="text_layers"):
    training.run(start(config, folder))
  assert not folder.exists()


def test_a_run_starts_from_another_run(tmp_path):
  """Its best checkpoint; a grid that is no square; settings and tokenizer with it, and
  the head of masked words, which both have."""
  first = small_run.config()
  with first.unlocked():
    first.losses.mlm = 0.1
    first.model.activation, first.model.pixel_mean = "gelu", tuple(MEAN)
  _, params = written_run.write(tmp_path / "first", config=first)
  config = pointed(tmp_path / "first", image_size=(48, 24))
  with config.unlocked():
    config.text.tokenizer, config.text.length = "auto", 20
    # Fast to compile.
    config.losses.update(sdm_local=0.0, matching=0.0, identity=0.0, mlm=0.1)
    config.data.image = config.data.eval_image = "resize(48,24)"
  made = Experiment(config, tmp_path / "second")
  assert made.fields["activation"] == "gelu" and made.tokenizer.name == "people"
  assert list(made.fields["pixel_mean"]) == MEAN
  training.run(start(config, tmp_path / "second"))
  found = trained(tmp_path / "second", 1)["params"]
  expected = params[3]  # the best of two
  for tower in ("visual", "text"):
    table = found[tower].pop("position_embedding")
    old = expected[tower]["position_embedding"]
    if tower == "visual":
      wanted = position.resize_image_table(old, (6, 3), old_grid=(4, 2))
    else:
      wanted = position.resize_text_table(old, 20)
    np.testing.assert_array_equal(table, wanted)
    kept = {k: v for k, v in expected[tower].items() if k != "position_embedding"}
    assert tree.names(found[tower]) == tree.names(kept)
    for a, b in zip(jax.tree.leaves(found[tower]), jax.tree.leaves(kept), strict=True):
      np.testing.assert_array_equal(a, b)
  assert tree.names(found["mlm"]) == tree.names(expected["mlm"])
  jax.tree.map(np.testing.assert_array_equal, found["mlm"], expected["mlm"])
  record = json.loads((tmp_path / "second" / "run.json").read_text())["weights"]
  assert record["detail"].startswith("step 3: best validation R1")
  assert record["resized"] == [
    "visual/position_embedding: 9 rows (4x2) -> 19 (6x3)",
    "text/position_embedding: 32 rows -> 20",
  ]
  heads = {name.split("/")[0] for name in record["unused"]}
  assert heads == {"granularity", "identity_fused", "matcher"}
  shutil.rmtree(tmp_path / "first")
  again = Experiment(config, tmp_path / "second")
  assert again.tokenizer.name == "people" and again.fields["activation"] == "gelu"
  assert again.initial.lines()[0].endswith("(20.00))")


def test_a_run_of_another_size_is_told_apart(tmp_path):
  written_run.write(tmp_path / "first")
  config = pointed(tmp_path / "first", text_layers=2)
  with pytest.raises(ConvertError, match=r"text/blocks/block_1/.* is missing"):
    training.run(start(config, tmp_path / "second"))
  assert not (tmp_path / "second").exists()
