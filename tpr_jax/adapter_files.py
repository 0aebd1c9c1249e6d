"""What a run has trained, without the frozen weights that it was trained on.

A folder of `--mode=export --format=adapters`:

  trained.safetensors   every leaf that trained, under our names: adapters, and what
                        else was not frozen
  adapters.json         rules of the adapters, where the base came from, its digest; the
                        config of the run, and what it was with

It is loaded onto the base again by `tpr_jax.load(FOLDER)`, or in a new run by
`config.model.init_adapters`, which takes PEFT's folders too (convert/peft.py).
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from safetensors.numpy import load_file, save_file

from tpr_jax import config as configs
from tpr_jax import freezing, program, run_weights
from tpr_jax.convert import peft
from tpr_jax.convert.source import ConvertError, Source
from tpr_jax.core import sharding, tree
from tpr_jax.cross_initial import CrossInitial
from tpr_jax.data import tokenizer as tokenizers
from tpr_jax.initial import Initial
from tpr_jax.models import adapters, build
from tpr_jax.models.layers.adapter import Rules

TRAINED, ABOUT = "trained.safetensors", run_weights.ADAPTERS
_FORMAT = 1
_PARTS = ("image", "text")  # folders of PEFT's files of a Swin + BERT


def is_folder(place: str | os.PathLike) -> bool:
  """Whether `place` is a folder as at the top of this file."""
  return (pathlib.Path(place).expanduser() / ABOUT).is_file()


def frozen(config: Any, rules: Rules, weights: Mapping[str, Any]) -> frozenset[str]:
  """Names of the weights of a run that did not train.

  A pattern for a head that the run left out was checked when it began."""
  patterns = config.optim.get("freeze", ())
  known = tree.nested(weights)
  used = set(patterns) - set(tree.unused_rules([(p,) for p in patterns], known))
  return freezing.frozen([p for p in patterns if p in used], rules, known)


def digest(weights: Mapping[str, np.ndarray], names: Collection[str]) -> str:
  """Of the values of these leaves."""
  found = hashlib.blake2b(digest_size=16)
  for name in sorted(names):
    value = np.ascontiguousarray(weights[name], np.float32)
    found.update(f"{name} {value.shape}".encode() + value.tobytes())
  return found.hexdigest()


def _on_host(x: Any) -> np.ndarray:
  """An array of any mesh, whole; several processes call it together."""
  if isinstance(x, jax.Array) and not x.is_fully_addressable:
    whole = sharding.replicated(x.sharding.mesh)
    x = jax.jit(lambda value: value, out_shardings=whole)(x)
  return np.asarray(x)


def write(source: Source, run: pathlib.Path, folder: pathlib.Path) -> list[str]:
  """Writes the folder's files; what to say of it, as lines.

  Args:
    source: the run with its adapters (run_weights.read, merge=False).
    run: its folder.
  """
  config, record = (configs.read_json(run / f"{n}.json") for n in ("config", "run"))
  fixed = frozen(ConfigDict(config), source.adapters, source.weights)
  trained = {n: np.asarray(x) for n, x in source.weights.items() if n not in fixed}
  save_file(
    {n: np.array(x, np.float32, order="C") for n, x in trained.items()},
    folder / TRAINED,
  )
  place = record["weights"].get("place", "")
  about = dict(
    format=_FORMAT,
    adapters=[[p, dataclasses.asdict(spec)] for p, spec in source.adapters],
    base=dict(place=place, digest=digest(source.weights, fixed), leaves=len(fixed)),
    step=source.detail,
    config=config,
    run={name: record[name] for name in ("weights", "num_classes")},
  )
  configs.write_json(folder / ABOUT, about)
  size = (folder / TRAINED).stat().st_size
  return [
    f"{TRAINED}: {tree.count(trained):,} parameters, {size / 2**20:,.1f} MiB",
    f"to be loaded onto {place or 'random weights of the seed'}",
  ]


def source(place: str | os.PathLike, base: str | os.PathLike | None = None) -> Source:
  """The plain model that a folder of ours and its base make; adapters are merged.

  Args:
    place: the folder.
    base: where its base is now; default: where it was.

  Raises:
    ConvertError: the base lacks leaves, or is another one.
  """
  folder = pathlib.Path(place).expanduser()
  about = _about(folder)
  config, of_weights = ConfigDict(about["config"]), about["run"]["weights"]
  if base is not None:
    names = ("init_from", "init_image", "init_text")
    config.model.update(
      {n: "" for n in names if n in config.model}, init_from=str(base)
    )
  cross = build.is_cross(config.model)
  initial = (
    CrossInitial(config.model, {})
    if cross
    else Initial(config.model.init_from, config.model.init_allow, {})
  )
  with configs.errors():
    fields = run_weights.model_fields(config, run_weights.decided(of_weights))
    spec = run_weights.tokenizer_spec(config, of_weights.get("tokenizer", ""))
    words = tokenizers.build(spec)
    sizes = dict(vocab_size=words.vocab_size, num_classes=about["run"]["num_classes"])
    module = program.model(config, fields, **sizes)
    shapes = jax.eval_shape(
      program.init_fn(config, module, words.end_id), jax.random.key(0)
    )
  params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
  whole = sharding.replicated(sharding.make_mesh({}, jax.devices()[:1]))
  where = jax.tree.map(lambda _: whole, shapes)
  if initial.place:
    params = initial.apply(params, where, fields, words.vocab_size)
  rules = module.adapters
  fixed = frozen(config, rules, tree.flat(shapes))
  with configs.errors():
    freezing.check_loaded(fixed, initial.loaded, initial.place)
  found = _own(folder, tree.flat(params), fixed, rules)
  weights = {n: np.asarray(x) for n, x in (tree.flat(params) | found).items()}
  described = run_weights.describe(config, of_weights)
  return run_weights.source(folder, described, weights, about["step"], merge=True)


def apply(
  place: str, params: Any, shardings: Any, rules: Rules, fixed: Collection[str]
) -> tuple[Any, frozenset[str]]:
  """(parameters with the leaves of `config.model.init_adapters`, their names).

  Args:
    params: with the base in its place.
    shardings: of every leaf.
    rules: of the model's adapters.
    fixed: names of the leaves that do not train.

  Raises:
    ConvertError, AdapterError: what is there does not fit the model or its base.
  """
  folder, flat = pathlib.Path(place).expanduser(), tree.flat(params)
  if is_folder(folder):
    found = _own(folder, flat, fixed, rules)
    found = {name: x for name, x in found.items() if name in flat}
  else:
    found = _peft(folder, params, rules)
  where = tree.flat(shardings)
  placed = {name: sharding.put(x, where[name]) for name, x in found.items()}
  return tree.replace(params, placed), frozenset(found)


def _about(folder: pathlib.Path) -> dict[str, Any]:
  found = configs.read_json(folder / ABOUT)
  if found["format"] != _FORMAT:
    raise ConvertError(
      f"{folder / ABOUT} has format {found['format']}, expected {_FORMAT}: written by"
      " another version"
    )
  return found


def _own(
  folder: pathlib.Path, flat: Mapping[str, Any], fixed: Collection[str], rules: Rules
) -> dict[str, np.ndarray]:
  about = _about(folder)
  weights = load_file(folder / TRAINED)
  theirs = adapters.rules(about["adapters"])
  adapters.check_same(theirs, weights, rules, flat)
  wrong = [
    f"{name} is {x.shape} there and {np.shape(flat[name])} here"
    for name, x in weights.items()
    if name in flat and x.shape != np.shape(flat[name])
  ]
  if wrong:
    raise ConvertError(f"{folder} does not fit the model: {'; '.join(wrong[:4])}")
  values = {name: _on_host(flat[name]) for name in fixed}
  if digest(values, fixed) != about["base"]["digest"]:
    raise ConvertError(
      f"{folder} is for {about['base']['leaves']} frozen leaves of"
      f" {about['base']['place'] or 'random weights'}; those of this model"
      f" ({len(fixed)}) are others. Name the base that it was trained on"
    )
  return weights


def _peft(folder: pathlib.Path, params: Any, rules: Rules) -> dict[str, np.ndarray]:
  """The folder itself of a CLIP; image/ and text/, or one of them, of Swin + BERT."""
  shapes, chosen = tree.shapes(params), adapters.adapted(rules, params)
  if (folder / peft.CONFIG).is_file():
    parts = [(folder, ("visual/", "text/"), peft.clip_names)]
  else:
    names = dict(image=("visual/", peft.swin_names), text=("text/", peft.bert_names))
    parts = [(folder / part, *names[part]) for part in _PARTS]
    parts = [part for part in parts if (part[0] / peft.CONFIG).is_file()]
  if not parts:
    raise ConvertError(
      f"model.init_adapters={folder}: neither {ABOUT} (ours) nor {peft.CONFIG} (PEFT's,"
      " of Swin + BERT below image/ and text/) is there"
    )
  found = {}
  for place, start, names in parts:
    state = load_file(place / peft.WEIGHTS)
    config = json.loads((place / peft.CONFIG).read_text(encoding="utf-8"))
    own = {layer: spec for layer, spec in chosen.items() if layer.startswith(start)}
    found |= peft.read(state, config, own, shapes, names, str(place))
  return found
