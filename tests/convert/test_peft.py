"""Adapters <-> PEFT's layout, against W + s B A in PyTorch's orientation."""

import re

import jax
import numpy as np
import pytest

from tests import tiny, tiny_cross
from tpr_jax.convert import peft
from tpr_jax.convert.source import ConvertError
from tpr_jax.core import tree
from tpr_jax.models import adapters

EVERY = "/(qkv|out|fc|proj|reduction)$"
CASES = {
  "clip": (
    tiny,
    "(visual|text)/",
    peft.clip_names,
    "vision_model.encoder.layers.0.self_attn.q_proj",
  ),
  "swin": (
    tiny_cross,
    "visual/",
    peft.swin_names,
    "encoder.layers.0.blocks.0.attention.self.query",
  ),
  "bert": (
    tiny_cross,
    "text/",
    peft.bert_names,
    "encoder.layer.0.attention.self.query",
  ),
}


def drawn(case, seed=0, **options):
  """(specs of the adapted layers, {name: array}, names of modules)."""
  module, start, names, _ = CASES[case]
  rules = adapters.rules([(f"^{start}(?!.*cross_attn).*{EVERY}", options)])
  model = module.model().clone(adapters=rules)
  shapes = jax.eval_shape(module.init_fn(model), jax.random.key(0))
  rng = np.random.default_rng(seed)
  weights = {
    n: rng.normal(size=s).astype(np.float32) for n, s in tree.shapes(shapes).items()
  }
  return adapters.adapted(rules, shapes), weights, names


def function(state, config, weights, layer, modules):
  """[out, in] of each module: W + s B A, or with DoRA's rows of the given length."""
  made = []
  parts = np.split(np.float64(weights[f"{layer}/kernel"]).T, len(modules))
  for module, base in zip(modules, parts, strict=True):
    get = lambda end, module=module: np.float64(
      state[f"base_model.model.{module}.{end}"]
    )
    scale = config["lora_alpha"] / config["r"]
    whole = base + scale * get("lora_B.weight") @ get("lora_A.weight")
    if config["use_dora"]:
      length = np.linalg.norm(whole, axis=1, keepdims=True)
      whole = get("lora_magnitude_vector")[:, None] * whole / length
    made.append(whole)
  return np.concatenate(made)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_files_do_what_the_layers_do_and_come_back(case, method):
  specs, weights, names = drawn(case, method=method, rank=3, alpha_init=6.0)
  state, config = peft.write(specs, weights, names, "BASE")
  assert f"base_model.model.{CASES[case][3]}.lora_A.weight" in state
  assert config["base_model_name_or_path"] == "BASE" and config["peft_type"] == "LORA"
  assert (config["r"], config["lora_alpha"], config["alpha_pattern"]) == (3, 6.0, {})
  assert config["use_dora"] == (method == "dora")
  assert {k.split(".lora_")[0] for k in state} == {
    f"base_model.model.{module}" for module in config["target_modules"]
  }
  (rule,) = {(".", spec) for spec in specs.values()}
  own = {n: x for n, x in weights.items() if (adapters.of_leaf(n) or n[:-7]) in specs}
  merged = adapters.merged((rule,), own)
  for layer in specs:
    found = function(state, config, weights, layer, names(layer))
    np.testing.assert_allclose(
      merged[f"{layer}/kernel"], found.T, rtol=1e-4, atol=1e-5, err_msg=layer
    )
  shapes = {n: x.shape for n, x in weights.items()}
  back = peft.read(state, config, specs, shapes, names, "PLACE")
  expected = {n: x for n, x in weights.items() if adapters.of_leaf(n)}
  assert set(back) == set(expected)
  for name, value in back.items():
    np.testing.assert_allclose(value, expected[name], rtol=1e-6, err_msg=name)


def test_modules_of_one_layer_may_differ():
  """q, k and v with adapters of their own, of other ranks and scales."""
  layer, module = "visual/blocks/block_0/attn/qkv", CASES["clip"][3][:-6]
  rng = np.random.default_rng(1)
  state, ranks = {}, dict(q=2, k=3, v=2)
  for which, rank in ranks.items():
    at = f"base_model.model.{module}{which}_proj"
    state[f"{at}.lora_A.weight"] = rng.normal(size=(rank, 16))
    state[f"{at}.lora_B.weight"] = rng.normal(size=(16, rank))
  config = dict(peft_type="LORA", r=2, lora_alpha=4, use_dora=False)
  config |= dict(rank_pattern={"k_proj": 3}, alpha_pattern={"self_attn.v_proj": 10})
  spec = adapters.spec(dict(method="lora", rank=7))
  sizes = dict(a=(16, 7), b=(7, 48))
  shapes = {f"{layer}/adapter/{n}": s for n, s in sizes.items()}
  found = peft.read(state, config, {layer: spec}, shapes, peft.clip_names, "PLACE")
  a, b = (found[f"{layer}/adapter/{n}"] for n in "ab")
  change = spec.alpha_init / spec.rank * a @ b
  for which, scale, columns in zip(
    "qkv", (2, 4 / 3, 5), np.split(change, 3, 1), strict=True
  ):
    at = f"base_model.model.{module}{which}_proj"
    expected = scale * state[f"{at}.lora_B.weight"] @ state[f"{at}.lora_A.weight"]
    np.testing.assert_allclose(columns, expected.T, rtol=1e-5, atol=1e-5)
  with pytest.raises(ConvertError, match=r"has rank 7 there: set rank=7"):
    other = adapters.spec(dict(method="lora", rank=2))
    peft.read(state, config, {layer: other}, shapes, peft.clip_names, "PLACE")


def test_layers_of_other_ranks_are_patterns():
  specs, weights, names = drawn("clip", method="lora", rank=2)
  layer = "text/blocks/block_0/mlp/fc"
  specs = dict(specs) | {layer: adapters.spec(dict(method="lora", rank=1))}
  weights |= {
    f"{layer}/adapter/a": np.ones((16, 1), np.float32),
    f"{layer}/adapter/b": np.ones((1, 64), np.float32),
  }
  _, config = peft.write(specs, weights, names, "")
  module = "text_model.encoder.layers.0.mlp.fc1"
  assert config["rank_pattern"] == {module: 1} and config["alpha_pattern"] == {}


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (dict(method="wora", rank=2), "'wora' whose norm is per input"),
    (dict(method="dora", rank=2, norm_per="input"), "'dora' whose norm is per input"),
    (dict(method="lora", rank=2, learn_base_scale=True), "whose norm is per nothing"),
  ],
)
def test_what_peft_has_no_layout_for_is_an_error(options, message):
  specs, weights, names = drawn("clip", **options)
  with pytest.raises(ConvertError, match=message):
    peft.write(specs, weights, names, "")


def test_lora_beside_dora_and_cross_attention_are_errors():
  specs, weights, names = drawn("clip", method="dora", rank=2)
  first = next(iter(specs))
  mixed = dict(specs) | {first: adapters.spec(dict(method="lora", rank=2))}
  with pytest.raises(ConvertError, match="some layers have LoRA and others DoRA"):
    peft.write(mixed, weights, names, "")
  with pytest.raises(ConvertError, match="has no such attention to an image"):
    peft.bert_names("text/layer_1/cross_attn/q")


def test_files_that_do_not_fit_name_all_that_is_wrong():
  specs, weights, names = drawn("bert", method="lora", rank=2)
  state, config = peft.write(specs, weights, names, "")
  shapes = {n: x.shape for n, x in weights.items()}
  read = lambda state, config, specs=specs: peft.read(
    state, config, specs, shapes, names, "PLACE"
  )
  key = "encoder.layer.0.output.dense"
  cut = {k: v for k, v in state.items() if key not in k}
  with pytest.raises(ConvertError, match=f"text/layer_0/mlp/proj: no adapter of {key}"):
    read(cut, config)
  fewer = {n: s for n, s in specs.items() if n != "text/layer_0/mlp/proj"}
  with pytest.raises(ConvertError, match=f"{key} has an adapter there, and no rule"):
    read(state, config, fewer)
  with pytest.raises(ConvertError, match="bias is 'all', expected 'none'"):
    read(state, dict(config, bias="all"))
  dora = {n: adapters.spec(dict(method="dora", rank=2)) for n in specs}
  with pytest.raises(
    ConvertError, match=re.escape("the file has LoRA; set method=lora")
  ):
    read(state, config, dora)
  prefixed = {
    k.replace("model.encoder", "model.bert.encoder"): v for k, v in state.items()
  }
  assert set(read(prefixed, config)) == set(read(state, config))
