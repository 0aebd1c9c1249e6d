"""Adapters in the file layout of PEFT (adapter_config.json, adapter_model.safetensors).

Of a module of transformers with W [out, in] a file has, behind "base_model.model." and
the module's name,

  .lora_A.weight [r, in]   .lora_B.weight [out, r]   .lora_magnitude_vector [out] (DoRA)

with W + s B A, s = lora_alpha / r (`alpha_pattern` and `rank_pattern` say what differs
for a module; / sqrt(r) with `use_rslora`). Our fused layers (q, k and v side by side)
are several modules there: going out all have our A, and each its columns of B; coming
in, modules whose A differ make one layer of their ranks together. Both are exact. WoRA,
and any norm per input, has no counterpart.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tpr_jax.convert import bert, layouts, swin
from tpr_jax.convert.source import ConvertError
from tpr_jax.models.layers import adapter
from tpr_jax.models.layers.adapter import Spec

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_START = "base_model.model."
_KEY = re.compile(
  r"^(?:base_model\.model\.)?(.+)\.(lora_A|lora_B|lora_magnitude_vector)(?:\.weight)?$"
)
# Fields of adapter_config.json that would change the function; ours are these values.
_PLAIN = dict(bias="none", fan_in_fan_out=False, modules_to_save=None, lora_bias=False)

Names = Callable[[str], tuple[str, ...]]  # a layer of ours -> modules, side by side


def clip_names(layer: str) -> tuple[str, ...]:
  """Modules of transformers.CLIPModel."""
  return _modules(layouts.file_names("huggingface", f"{layer}/kernel"))


def swin_names(layer: str) -> tuple[str, ...]:
  """Modules of transformers.SwinModel; `layer` begins with "visual/"."""
  return _modules(swin.huggingface_names(f"{layer.removeprefix('visual/')}/kernel"))


def bert_names(layer: str) -> tuple[str, ...]:
  """Modules of transformers.BertModel; `layer` begins with "text/".

  Raises:
    ConvertError: cross-attention, which BertModel has not.
  """
  if "/cross_attn/" in layer:
    raise ConvertError(
      f"{layer} has an adapter; transformers.BertModel has no such attention to an"
      " image, and PEFT no file for it. Export merged (--format=huggingface), or as"
      " our own (--format=adapters)"
    )
  found = _modules(bert.file_names(f"{layer}/kernel"))
  return tuple(name.removeprefix("bert.") for name in found)


def _modules(leaves: tuple[str, ...]) -> tuple[str, ...]:
  return tuple(name.removesuffix(".weight") for name in leaves)


def write(
  specs: Mapping[str, Spec], weights: Mapping[str, np.ndarray], names: Names, base: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """(arrays of adapter_model.safetensors, fields of adapter_config.json).

  Args:
    specs: of every adapted layer.
    weights: name -> array, kernels and adapters.
    names: of the layers' modules.
    base: what the adapters are for (`base_model_name_or_path`).

  Raises:
    ConvertError: adapters that PEFT has no layout for.
  """
  state, ranks, alphas = {}, {}, {}
  for layer, spec in specs.items():
    if spec.norm_per == "input" or spec.learn_base_scale or spec.beta_init != 1.0:
      raise ConvertError(
        f"{layer} has an adapter {spec.method!r} whose norm is per"
        f" {spec.norm_per or 'nothing'} and whose kernel is scaled: PEFT has LoRA, and"
        " DoRA with a norm per output, and nothing for it. Export merged"
        " (--format=huggingface), or as our own (--format=adapters)"
      )
    kernel = np.asarray(weights[f"{layer}/kernel"], np.float32)
    leaves = {
      name: np.asarray(weights[f"{layer}/{adapter.NAME}/{name}"], np.float32)
      for name in adapter.leaf_names(spec)
    }
    found, modules = adapter.factors(spec, kernel, leaves), names(layer)
    columns = np.split(np.asarray(found.b), len(modules), axis=1)
    lengths = [None] * len(modules)
    if found.magnitude is not None:
      lengths = np.split(np.asarray(found.magnitude)[0], len(modules))
    for module, b, length in zip(modules, columns, lengths, strict=True):
      state[f"{_START}{module}.lora_A.weight"] = np.array(found.a.T, order="C")
      state[f"{_START}{module}.lora_B.weight"] = np.array(b.T, order="C")
      if length is not None:
        state[f"{_START}{module}.lora_magnitude_vector"] = np.array(length)
      ranks[module], alphas[module] = spec.rank, float(found.alpha) * spec.rank
  kinds = {bool(spec.norm_per) for spec in specs.values()}
  if len(kinds) > 1:
    raise ConvertError(
      "some layers have LoRA and others DoRA: PEFT's files hold one of them. Export"
      " merged (--format=huggingface), or as our own (--format=adapters)"
    )
  rank, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
  config = dict(
    _PLAIN,
    peft_type="LORA",
    task_type=None,
    base_model_name_or_path=base,
    r=rank,
    lora_alpha=alpha,
    lora_dropout=max(spec.dropout for spec in specs.values()),
    target_modules=sorted(ranks),
    rank_pattern={k: v for k, v in ranks.items() if v != rank},
    alpha_pattern={k: v for k, v in alphas.items() if v != alpha},
    use_dora=kinds == {True},
    use_rslora=False,
    init_lora_weights=True,
    inference_mode=True,
  )
  return state, config


def read(
  state: Mapping[str, np.ndarray],
  config: Mapping[str, Any],
  specs: Mapping[str, Spec],
  shapes: Mapping[str, tuple[int, ...]],
  names: Names,
  place: str,
) -> dict[str, np.ndarray]:
  """Leaves of our adapters out of PEFT's files.

  Args:
    state: arrays of adapter_model.safetensors.
    config: fields of adapter_config.json.
    specs: of the model's adapted layers that the file is for.
    shapes: name -> shape of the model's leaves.
    names: of the layers' modules.
    place: of the files, for messages.

  Raises:
    ConvertError: all that does not fit, at once.
  """
  wrong = [
    f"{name} is {config[name]!r}, expected {value!r}"
    for name, value in dict(_PLAIN, peft_type="LORA").items()
    if config.get(name, value) not in (value, None, [])
  ]
  found, problems = _by_module(state), wrong
  made, used = {}, set()
  for layer, spec in specs.items():
    modules = names(layer)
    used |= set(modules)
    absent = [module for module in modules if module not in found]
    if absent:
      problems.append(f"{layer}: no adapter of {', '.join(absent)}")
      continue
    try:
      leaves = _layer(layer, spec, [found[m] for m in modules], config, modules, shapes)
    except ConvertError as error:
      problems.append(str(error))
      continue
    made |= {f"{layer}/{adapter.NAME}/{name}": x for name, x in leaves.items()}
  for module in sorted(set(found) - used):
    problems.append(f"{module} has an adapter there, and no rule of model.adapters")
  if problems:
    more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
    raise ConvertError(
      f"{place} does not fit model.adapters ({len(problems)} problems):"
      f" {'; '.join(problems[:4])}{more}"
    )
  return made


def _by_module(state: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
  found: dict[str, dict[str, np.ndarray]] = {}
  for key, value in state.items():
    if match := _KEY.match(key):
      module = match[1].removeprefix("bert.").removeprefix("swin.")
      found.setdefault(module, {})[match[2]] = np.asarray(value, np.float32)
  return found


def _scale(module: str, config: Mapping[str, Any]) -> float:
  """s of one module; a key of a pattern is a regex on the end of its name."""

  def of(pattern: str, otherwise: float) -> float:
    for key, value in (config.get(pattern) or {}).items():
      if re.match(rf"(.*\.)?({key})$", module):
        return value
    return otherwise

  rank = of("rank_pattern", config["r"])
  alpha = of("alpha_pattern", config["lora_alpha"])
  return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _layer(
  layer: str,
  spec: Spec,
  parts: list[dict[str, np.ndarray]],
  config: Mapping[str, Any],
  modules: tuple[str, ...],
  shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, np.ndarray]:
  """The modules of one layer -> its leaves; the scale goes into B if ours differs."""
  downs = [part["lora_A"].T for part in parts]  # [in, r]
  scales = [_scale(module, config) for module in modules]
  # [r, out]
  ups = [s * part["lora_B"].T for s, part in zip(scales, parts, strict=True)]
  if all(np.array_equal(down, downs[0]) for down in downs):
    a, b = downs[0], np.concatenate(ups, axis=1)
  else:
    a, b = np.concatenate(downs, axis=1), _diagonal(ups)
  if a.shape[1] != spec.rank:
    raise ConvertError(f"{layer} has rank {a.shape[1]} there: set rank={a.shape[1]}")
  lengths = [part.get("lora_magnitude_vector") for part in parts]
  if any(x is None for x in lengths) == bool(spec.norm_per):
    raise ConvertError(
      f"{layer}: the file has {'LoRA' if spec.norm_per else 'DoRA'}; set"
      f" method={'lora' if spec.norm_per else 'dora'}"
    )
  if spec.norm_per == "input" or spec.learn_base_scale or spec.m_relative:
    raise ConvertError(
      f"{layer}: the files are of LoRA, or of DoRA with a norm per output; the rule for"
      f" it is {spec}"
    )
  ours = spec.alpha_init / spec.rank if spec.scale_by_rank else spec.alpha_init
  leaves = dict(a=a, b=b / ours)
  if spec.norm_per:
    leaves["magnitude"] = np.concatenate([x.reshape(1, -1) for x in lengths], axis=1)
  if spec.learn_scale:
    leaves["alpha"] = np.float32(spec.alpha_init)
  for name, x in leaves.items():
    wanted = shapes[f"{layer}/{adapter.NAME}/{name}"]
    if np.shape(x) != wanted:
      raise ConvertError(f"{layer}: {name} has shape {np.shape(x)}, expected {wanted}")
  return {name: np.asarray(x, np.float32, order="C") for name, x in leaves.items()}


def _diagonal(blocks: list[np.ndarray]) -> np.ndarray:
  """Blocks [r_i, out_i] -> [sum r, sum out], zeros beside them."""
  height, width = (sum(block.shape[axis] for block in blocks) for axis in (0, 1))
  made, row, column = np.zeros((height, width), np.float32), 0, 0
  for block in blocks:
    made[row : row + block.shape[0], column : column + block.shape[1]] = block
    row, column = row + block.shape[0], column + block.shape[1]
  return made
