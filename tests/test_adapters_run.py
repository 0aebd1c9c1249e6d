"""Adapters from end to end: trained on a run, stopped, loaded, exported, continued."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from ml_collections import ConfigDict
from PIL import Image

import tpr_jax
from tests import small_run, test_mra_run, written_run
from tpr_jax import adapter_files, run_weights, training
from tpr_jax.config import ConfigError
from tpr_jax.convert.source import ConvertError
from tpr_jax.core import sharding, tree
from tpr_jax.experiment import Experiment
from tpr_jax.export.export import export
from tpr_jax.export.problems import ExportError
from tpr_jax.models import adapters
from tpr_jax.models.adapters import AdapterError
from tpr_jax.train import Interrupted

STEPS = 4
LAYERS = r"^(visual|text)/blocks/.*/(qkv|out|fc|proj)$"
DORA = ((LAYERS, dict(method="dora", rank=2)),)
WORA = ((LAYERS, dict(method="wora", rank=2)),)
TOWERS = ("^(visual|text)/",)


def config(place="", given=(), freeze=(), steps=STEPS):
  c = small_run.config("configs/clip.py").unlock()
  c.text.buckets, c.text.short_first = (), 0  # one program
  c.data.val, c.evals, c.train.steps = "", ConfigDict(), steps
  c.data.image = c.data.eval_image
  c.objective.learn_temperature = True  # a leaf that is neither frozen nor an adapter
  c.optim.muon = ""
  c.model.init_from, c.model.adapters, c.optim.freeze = str(place), given, freeze
  return c.lock()


def state(folder):
  place = folder / "checkpoints" / str(STEPS) / "state"
  return ocp.StandardCheckpointer().restore(place.absolute())


@pytest.fixture(scope="module")
def base(tmp_path_factory):
  """A run without adapters, drawn and not trained, whose towers the others freeze."""
  folder = tmp_path_factory.mktemp("runs") / "base"
  written_run.write(folder, config=config(), scores={3: 20.0})
  return folder


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
  """DoRA, and nothing else of the towers, trained on `base`: stopped, and resumed."""
  folder = tmp_path_factory.mktemp("runs") / "dora"
  made = lambda: Experiment(config(base, DORA, TOWERS), folder)
  with pytest.MonkeyPatch.context() as patch:
    small_run.stop_at(2, patch)
    with pytest.raises(Interrupted, match="SIGTERM after step 2"):
      training.run(made())
  training.run(made())
  return folder


def start(config, folder):
  """The first state of a training: {name: leaf}."""
  made = training.Training(Experiment(config, folder))
  return tree.flat(jax.device_get(made.first_state().params))


def taken(config, folder):
  """(Initial, {name: leaf}): what a new run of this config takes from its weights."""
  made = Experiment(config, folder)
  shapes = jax.eval_shape(made.init_fn(made.model(12)), jax.random.key(0))
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
  where = jax.tree.map(lambda _: sharding.replicated(made.mesh), shapes)
  found = made.initial.apply(zeros, where, made.fields, made.tokenizer.vocab_size)
  return made.initial, tree.flat(jax.device_get(found))


def test_the_base_stays_and_only_adapters_and_the_temperature_train(base, run):
  before, after = run_weights.read(base).weights, tree.flat(state(run))
  params = {k.removeprefix("params/"): x for k, x in after.items() if "params/" in k}
  for name, value in before.items():
    if name != "logit_scale":
      np.testing.assert_array_equal(params[name], value, err_msg=name)
  moved = {n for n in params if n not in before} | {"logit_scale"}
  assert all(adapters.of_leaf(n) for n in moved - {"logit_scale"}) and len(moved) == 25
  assert np.abs(params["visual/blocks/block_0/attn/qkv/adapter/b"]).max() > 0
  held = {n.partition("/mu/")[2] for n in after if "/mu/" in n}
  assert held == moved
  record = json.loads((run / "run.json").read_text())
  assert record["trained"] == sum(np.size(params[n]) for n in moved)
  assert record["parameters"] == tree.count(params)


@pytest.mark.proof
def test_one_that_was_never_stopped_ends_with_the_same_bytes(base, run, tmp_path):
  training.run(Experiment(config(base, DORA, TOWERS), tmp_path / "straight"))
  expected, found = tree.flat(state(tmp_path / "straight")), tree.flat(state(run))
  assert list(found) == list(expected)
  for name, value in expected.items():
    assert np.asarray(found[name]).tobytes() == np.asarray(value).tobytes(), name


def pictures():
  rng = np.random.default_rng(0)
  return [Image.fromarray(rng.integers(0, 256, (40, 20, 3), np.uint8)) for _ in "abc"]


def rows(model):
  texts = model.encode_texts(["a man in a red coat", "a woman"])
  return np.concatenate([model.encode_images(pictures()), texts])


@pytest.fixture(scope="module")
def loaded(run):
  return tpr_jax.load(run)


def test_a_run_is_loaded_and_exported_merged(base, run, loaded, tmp_path):
  assert not any(adapters.of_leaf(name) for name in tree.names(loaded.params))
  assert np.abs(rows(loaded) - rows(tpr_jax.load(base))).max() > 1e-4
  params = tree.nested(run_weights.read(run, merge=False).weights)
  model = Experiment(config(base, DORA, TOWERS), run).model(12)
  ids, _ = loaded.tokenizer.encode(["a woman"], loaded.text_length)
  found = model.apply({"params": params}, ids, method="encode_text")["text"]
  np.testing.assert_allclose(loaded.encode_texts(["a woman"]), found, atol=2e-6)
  export(run, tmp_path / "merged", say=lambda _: None)
  np.testing.assert_array_equal(rows(tpr_jax.load(tmp_path / "merged")), rows(loaded))


@pytest.fixture(scope="module")
def small(run, tmp_path_factory):
  """The run's adapters as our own folder."""
  folder = tmp_path_factory.mktemp("exports") / "adapters"
  export(run, folder, "adapters", say=lambda _: None)
  return folder


def test_adapters_alone_are_loaded_onto_their_base(base, run, loaded, small, tmp_path):
  size = (small / adapter_files.TRAINED).stat().st_size
  count = json.loads((run / "run.json").read_text())["trained"]
  assert 4 * count < size < 4 * count + 5_000
  np.testing.assert_array_equal(rows(tpr_jax.load(small)), rows(loaded))
  np.testing.assert_array_equal(rows(tpr_jax.load(small, base=base)), rows(loaded))
  other = tmp_path / "other"
  written_run.write(other, config=config(), scores={4: 20.0})  # drawn by another seed
  with pytest.raises(
    ConvertError, match=r"is for 37 frozen leaves of .*base; those of"
  ):
    tpr_jax.load(small, base=other)
  with pytest.raises(ConvertError, match="is no folder of adapters"):
    tpr_jax.load(run, base=base)
  with pytest.raises(ConvertError, match=r"name it in model\.init_adapters"):
    run_weights.read(small)


def test_a_run_goes_on_from_adapters_alone(base, run, small, tmp_path):
  c = config(base, DORA, TOWERS).unlock()
  c.model.init_adapters = str(small)
  found = start(c.lock(), tmp_path / "a")
  expected = run_weights.read(run, merge=False).weights
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)
  c = config(base, WORA, TOWERS).unlock()
  c.model.init_adapters = str(small)
  with pytest.raises(AdapterError, match=r"another kind of adapter.*norm_per 'output'"):
    start(c.lock(), tmp_path / "b")


def test_a_run_goes_on_from_a_run_with_its_adapters_or_without(base, run, tmp_path):
  whole = run_weights.read(run, merge=False).weights
  _, found = taken(config(run, DORA, TOWERS), tmp_path / "a")
  for name, value in whole.items():
    if name != "logit_scale":  # no part of the towers
      np.testing.assert_array_equal(found[name], value, err_msg=name)
  merged = run_weights.read(run).weights
  _, found = taken(config(run), tmp_path / "b")
  assert set(found) == set(merged)
  for name, value in merged.items():
    if name != "logit_scale":
      np.testing.assert_array_equal(found[name], value, err_msg=name)
  with pytest.raises(AdapterError, match=r"another kind of adapter.*norm_per 'output'"):
    taken(config(run, WORA), tmp_path / "c")


def test_new_adapters_start_on_what_was_loaded(base, tmp_path):
  found = start(config(base, WORA), tmp_path / "run")
  kernel = run_weights.read(base).weights["text/blocks/block_0/mlp/fc/kernel"]
  layer = "text/blocks/block_0/mlp/fc/adapter"
  np.testing.assert_allclose(
    found[f"{layer}/magnitude"], np.linalg.norm(kernel, axis=1, keepdims=True), 1e-6
  )
  assert found[f"{layer}/alpha"] == 8.0 and not found[f"{layer}/b"].any()


def test_random_frozen_weights_must_be_wanted(tmp_path):
  message = r"16 frozen leaves would stay random: text/blocks/block_0/attn/out/bias"
  with pytest.raises(ConfigError, match=message):
    start(config("", WORA), tmp_path / "run")
  c = config("", WORA).unlock()
  c.model.init_random = True
  assert start(c.lock(), tmp_path / "run")


# ---- PEFT's layout


def test_peft_files_come_back_as_they_went(base, run, tmp_path):
  lines = []
  export(run, tmp_path / "peft", "peft", say=lines.append)
  assert any("DoRA of 12 modules" in line for line in lines)
  about = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
  assert about["use_dora"] and (about["r"], about["lora_alpha"]) == (2, 8.0)
  c = config(base, DORA, TOWERS).unlock()
  c.model.init_adapters = str(tmp_path / "peft")
  found = start(c.lock(), tmp_path / "run")
  for name, value in run_weights.read(run, merge=False).weights.items():
    if adapters.of_leaf(name):
      np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


def test_what_peft_cannot_hold_is_an_error(base, tmp_path):
  no = dict(say=lambda _: None)
  with pytest.raises(ExportError, match="has no adapters"):
    export(base, tmp_path / "out", "adapters", **no)
  written_run.write(tmp_path / "wora", config=config(base, WORA, TOWERS))
  with pytest.raises(ExportError, match="PEFT has LoRA, and DoRA with a norm per outp"):
    export(tmp_path / "wora", tmp_path / "out", "peft", **no)
  written_run.write(tmp_path / "more", config=config(base, DORA))
  with pytest.raises(ExportError, match=r"has trained \d+ leaves of its towers beside"):
    export(tmp_path / "more", tmp_path / "out", "peft", **no)
  assert not (tmp_path / "out").exists()


# ---- Swin + BERT


def cross_config(place="", given=()):
  c = test_mra_run.config("configs/aptm.py").unlock()
  c.model.init_from, c.model.adapters = str(place), given
  return c.lock()


@pytest.fixture(scope="module")
def cross(tmp_path_factory):
  """(folder, leaves) of a drawn run with adapters on both towers."""
  folder = tmp_path_factory.mktemp("runs") / "cross"
  rules = (("^(visual|text)/.*/(qkv|fc|reduction)$", dict(method="wora", rank=2)),)
  written_run.write(folder, config=cross_config(given=rules), scores={3: 20.0})
  return folder, rules


def test_swin_and_bert_go_on_with_their_adapters_or_without(cross, tmp_path):
  folder, rules = cross
  whole = run_weights.read(folder, merge=False).weights
  initial, found = taken(cross_config(folder, rules), tmp_path / "a")
  assert initial.loaded == set(whole) == set(found)
  jax.tree.map(np.testing.assert_array_equal, found, whole)
  initial, found = taken(cross_config(folder, ()), tmp_path / "b")
  merged = run_weights.read(folder).weights
  assert set(found) == set(merged) and not any(map(adapters.of_leaf, merged))
  jax.tree.map(np.testing.assert_array_equal, found, merged)
  more = (*rules, ("^text/.*/proj$", dict(method="lora", rank=1)))
  initial, found = taken(cross_config(folder, more), tmp_path / "c")
  assert {n.rpartition("/")[2] for n in set(found) - initial.loaded} == {"a", "b"}
  with pytest.raises(AdapterError, match="rank 2 there and 1 here"):
    other = ((rules[0][0], dict(method="wora", rank=1)),)
    taken(cross_config(folder, other), tmp_path / "d")


def test_swin_and_bert_are_loaded_merged(cross):
  folder, _ = cross
  model = tpr_jax.load(folder)
  assert not any(adapters.of_leaf(name) for name in tree.names(model.params))
  assert model.encode_texts(["a man in a red coat"]).shape == (1, model.dim)
