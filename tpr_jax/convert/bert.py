"""Published BERT, and the text side of MRA's files, <-> our parameters.

Hugging Face's names (`BertModel`, `BertForMaskedLM`, `BertForPreTraining`) have the
tower and the head of masked words; the cross-attention of the fusion layers is new. MRA
(arXiv:2507.10195) and APTM put "text_encoder." before those names, and have beside them
`vision_proj`, `text_proj`, `temp` and `itm_head`. What is below "vision_encoder." is an
image tower's (convert/swin.py).

Parameters are a tree of these parts, whatever module has them:
  text              models/bert.py
  words             models/tied_words.py
  itm               models/itm.py
  image_projection, text_projection    models/projection.py, of either form
  temperature       a number that logits are divided by
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tpr_jax.convert.source import ConvertError
from tpr_jax.core import tree

PARTS = ("text", "words", "itm", "image_projection", "text_projection", "temperature")
_SHOWN = 6  # problems that an error lists; the others are counted
_IMAGE = "vision_encoder."
_TOKENS, _POSITIONS = "text/token_embedding", "text/position_embedding"

# Of a module of ours: the modules of the file, side by side in this order.
_LAYER = {
  "attn/qkv": tuple(f"attention.self.{x}" for x in ("query", "key", "value")),
  "attn/out": ("attention.output.dense",),
  "ln_attn": ("attention.output.LayerNorm",),
  "cross_attn/q": ("crossattention.self.query",),
  "cross_attn/kv": ("crossattention.self.key", "crossattention.self.value"),
  "cross_attn/out": ("crossattention.output.dense",),
  "ln_cross": ("crossattention.output.LayerNorm",),
  "mlp/fc": ("intermediate.dense",),
  "mlp/proj": ("output.dense",),
  "ln_mlp": ("output.LayerNorm",),
}
_MODULES = {
  "text/ln_embedding": "bert.embeddings.LayerNorm",
  "words/dense": "cls.predictions.transform.dense",
  "words/ln": "cls.predictions.transform.LayerNorm",
  "itm/fc": "itm_head.0",
  "itm/ln": "itm_head.1",
  "itm/logits": "itm_head.3",
}
_LEAVES = {
  _TOKENS: "bert.embeddings.word_embeddings.weight",
  _POSITIONS: "bert.embeddings.position_embeddings.weight",
  "text/segment_embedding": "bert.embeddings.token_type_embeddings.weight",
  "words/bias": "cls.predictions.bias",
  "temperature": "temp",
}
_ENDS = dict(kernel="weight", scale="weight", bias="bias")
_ENDS |= dict(mean="running_mean", variance="running_var")
# Batch normalisation and linear are 0 and 2 of a sequence; a lone linear is itself.
_PROJECTIONS = dict(image_projection="vision_proj", text_projection="text_proj")
_INSIDE = {"bn": ".0", "dense": ".2", "linear": ""}
# What names in a file start with, of parts that a model may lack.
_STARTS = dict(words="cls.predictions.", itm="itm_head.", temperature="temp")
_STARTS |= {part: f"{name}." for part, name in _PROJECTIONS.items()}
_CROSS = re.compile(r"/(cross_attn|ln_cross)/")
# No weights, weights that nothing of ours uses, and the table under its second name.
_DROPPED = re.compile(
  r"position_ids$|num_batches_tracked$|^bert\.pooler\.|^cls\.seq_relationship\."
  r"|^cls\.predictions\.decoder\.(weight|bias)$|token_type_ids$"
)


@dataclasses.dataclass
class Report:
  """What a conversion did besides renaming.

  Attributes:
    anew: leaves of the model that the file lacks and that keep their initial values.
    dropped: leaves of the file that the model has no use for.
    resized: "text/position_embedding: 512 rows -> 64".
  """

  anew: list[str] = dataclasses.field(default_factory=list)
  dropped: list[str] = dataclasses.field(default_factory=list)
  resized: list[str] = dataclasses.field(default_factory=list)


def fields(config: Mapping[str, Any], place: str = "config.json") -> dict[str, Any]:
  """A BERT's config.json -> fields of `models.bert.BertTower`.

  Returns:
    vocab_size, length, width, layers, heads, hidden, epsilon.

  Raises:
    ConvertError: another model, or a BERT of a kind that ours is not.
  """
  names = dict(
    vocab_size="vocab_size",
    length="max_position_embeddings",
    width="hidden_size",
    layers="num_hidden_layers",
    heads="num_attention_heads",
    hidden="intermediate_size",
    epsilon="layer_norm_eps",
  )
  expected = dict(
    model_type="bert", hidden_act="gelu", position_embedding_type="absolute"
  )
  # Old configs leave out what all models of their time had.
  config = {**expected, "layer_norm_eps": 1e-12, **config}
  wrong = [
    f"{name} is {config[name]!r}, expected {value!r}"
    for name, value in expected.items()
    if config[name] != value
  ]
  wrong += [f"{name} is missing" for name in names.values() if name not in config]
  if wrong:
    raise ConvertError(f"{place} is of no BERT like ours: {'; '.join(wrong)}")
  return {ours: config[theirs] for ours, theirs in names.items()}


def from_huggingface(
  state: Mapping[str, np.ndarray],
  shapes: Mapping[str, tuple[int, ...]],
  *,
  place: str = "the checkpoint",
) -> tuple[dict[str, Any], Report]:
  """A BERT of Hugging Face -> the parts "text" and "words" of a model.

  Args:
    state: name -> array, with "bert." before the names or (of a `BertModel`) without;
      LayerNorms have weight and bias, or gamma and beta as old files do.
    shapes: name -> shape of the model's leaves (`core.tree.shapes`); parts other than
      these two don't matter.
    place: of the file, for messages.

  Returns:
    ({"text": ..., "words": ...} of float32 arrays, report). Cross-attention is left out
    where the file has none, and "words" where it has no `cls.predictions`: they start
    anew, and the report has their names.

  Raises:
    ConvertError: all that is missing, extra or of another shape, at once.
  """
  state = _renamed(state)
  if state and not any(name.startswith(("bert.", "cls.")) for name in state):
    state = {f"bert.{name}": value for name, value in state.items()}
  wanted = {k: v for k, v in shapes.items() if _part(k) in ("text", "words")}
  new = [[name for name in wanted if _CROSS.search(name)]]
  new += [[name for name in wanted if _part(name) == "words"]]
  absent = []
  for names in new:
    if not any(_present(state, name) for name in names):
      absent += names
  return _convert(state, wanted, absent, place)


def from_mra(
  state: Mapping[str, np.ndarray],
  shapes: Mapping[str, tuple[int, ...]],
  *,
  anew: Sequence[str] = (),
  place: str = "the checkpoint",
) -> tuple[dict[str, Any], Report]:
  """A file of MRA or APTM -> all parts of `PARTS` that the model has.

  Args:
    state: name -> array of the file's "model"; "vision_encoder." is left to others.
    shapes: as in `from_huggingface`.
    anew: parts that start anew where the file lacks them or has another form of them:
      ("image_projection", "text_projection") for a model of RSTPReid, with E=256, on
      a file that was pre-trained with E=2048.
    place: of the file, for messages.

  Returns:
    (tree of float32 arrays, report).

  Raises:
    ConvertError: as `from_huggingface`; or `anew` has no name of `PARTS`.
  """
  if unknown := sorted(set(anew) - set(PARTS)):
    raise ConvertError(f"anew={unknown}: expected names of {', '.join(PARTS)}")
  state = {
    name.removeprefix("text_encoder."): value
    for name, value in _renamed(state).items()
    if not name.startswith(_IMAGE)
  }
  wanted = {k: v for k, v in shapes.items() if _part(k) in PARTS}
  absent = []
  for part in anew:
    names = [name for name in wanted if _part(name) == part]
    if any(_leaf(state, name, wanted[name], Report())[1] for name in names):
      absent += names
  return _convert(state, wanted, absent, place)


def to_huggingface(
  params: Mapping[str, Any], *, heads: int, epsilon: float = 1e-12, cross: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Our tower -> (state dict, config) of `transformers.BertForMaskedLM` or `BertModel`.

  Args:
    params: {"text": ..., and "words" where there is one}; other parts are left out.
    heads, epsilon: of the tower; its arrays do not tell.
    cross: the cross-attention of the fusion layers too, under MRA's names, which
      transformers does not read.

  Returns:
    float32 arrays under `bert.` and `cls.predictions.`; the fields of `BertConfig`.

  Raises:
    ConvertError: no tower in `params`.
  """
  made = {}
  leaves = {k: v for k, v in tree.flat(params).items() if _part(k) in ("text", "words")}
  for ours, value in leaves.items():
    if cross or not _CROSS.search(ours):
      names = file_names(ours)
      pieces = np.split(np.asarray(value, np.float32), len(names), axis=-1)
      turned = [np.array(x.T if _is_kernel(ours) else x, order="C") for x in pieces]
      made.update(zip(names, turned, strict=True))
  if _TOKENS not in leaves or "text/layer_0/mlp/fc/kernel" not in leaves:
    raise ConvertError("no 'text' among the parameters, with the leaves of BertTower")
  if "words/bias" in leaves:  # transformers ties the bias as it does the table
    made["cls.predictions.decoder.bias"] = made["cls.predictions.bias"]
    made["cls.predictions.decoder.weight"] = made[_LEAVES[_TOKENS]]
  vocab_size, width = leaves[_TOKENS].shape
  config = dict(
    model_type="bert",
    architectures=["BertForMaskedLM" if "words/bias" in leaves else "BertModel"],
    vocab_size=vocab_size,
    hidden_size=width,
    num_hidden_layers=len({k.split("/")[1] for k in leaves if "/layer_" in k}),
    num_attention_heads=heads,
    intermediate_size=leaves["text/layer_0/mlp/fc/kernel"].shape[1],
    max_position_embeddings=leaves[_POSITIONS].shape[0],
    type_vocab_size=2,
    hidden_act="gelu",
    layer_norm_eps=epsilon,
    pad_token_id=0,
  )
  return made, config


def _part(ours: str) -> str:
  return ours.split("/")[0]


def _is_kernel(ours: str) -> bool:
  return ours.endswith("/kernel")


def file_names(ours: str) -> tuple[str, ...]:
  """The leaves of the file, side by side on our last axis, without "text_encoder."."""
  if ours in _LEAVES:
    return (_LEAVES[ours],)
  module, _, end = ours.rpartition("/")
  end = _ENDS[end]
  if layer := re.fullmatch(r"text/layer_(\d+)/(.+)", module):
    return tuple(f"bert.encoder.layer.{layer[1]}.{x}.{end}" for x in _LAYER[layer[2]])
  if module in _MODULES:
    return (f"{_MODULES[module]}.{end}",)
  part, _, inner = module.partition("/")
  return (f"{_PROJECTIONS[part]}{_INSIDE[inner]}.{end}",)


def _renamed(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """LayerNorms by one name, and the bias of the words where only its twin is there."""
  ends = {".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"}
  found = {}
  for name, value in state.items():
    for old, new in ends.items():
      name = name.removesuffix(old) + new if name.endswith(old) else name
    found[name] = value
  for name in [n for n in found if n.endswith("cls.predictions.decoder.bias")]:
    found.setdefault(name.replace("decoder.", ""), found[name])
  return found


def _present(state: Mapping[str, np.ndarray], ours: str) -> bool:
  return any(name in state for name in file_names(ours))


def _leaf(
  state: Mapping[str, np.ndarray], ours: str, shape: tuple[int, ...], report: Report
) -> tuple[np.ndarray | None, list[str]]:
  """(our array, or None; what is wrong with the file's)."""
  names = file_names(ours)
  problems = [f"{name} is missing" for name in names if name not in state]
  if problems:
    return None, problems
  expected = shape and (*shape[:-1], shape[-1] // len(names))
  expected = expected[::-1] if _is_kernel(ours) else expected
  arrays = [np.asarray(state[name], np.float32) for name in names]
  if ours == "temperature":
    arrays = [x.reshape(()) if x.size == 1 else x for x in arrays]
  if ours == _POSITIONS and arrays[0].ndim == 2 and len(arrays[0]) > shape[0]:
    # Positions are learnt one by one: a shorter table is the first of them.
    report.resized.append(f"{ours}: {len(arrays[0])} rows -> {shape[0]}")
    arrays = [arrays[0][: shape[0]]]
  hint = " (rows are the vocabulary: use the tokenizer of these weights)"
  problems = [
    f"{name} has shape {x.shape}, expected {expected}{hint if ours == _TOKENS else ''}"
    for name, x in zip(names, arrays, strict=True)
    if x.shape != expected
  ]
  if problems:
    return None, problems
  turned = [x.T if _is_kernel(ours) else x for x in arrays]
  whole = np.concatenate(turned, axis=-1) if len(turned) > 1 else turned[0]
  return np.array(whole, order="C"), []


def _convert(
  state: Mapping[str, np.ndarray],
  wanted: Mapping[str, tuple[int, ...]],
  absent: Sequence[str],
  place: str,
) -> tuple[dict[str, Any], Report]:
  """absent: leaves of `wanted` that start anew."""
  report = Report(anew=list(absent))
  taken = {name: shape for name, shape in wanted.items() if name not in absent}
  if not any(_part(name) == "text" for name in taken):
    raise ConvertError(f"the model has no leaves below 'text': nothing takes {place}")
  leaves, problems = {}, _untied(state)
  for ours, shape in taken.items():
    leaves[ours], wrong = _leaf(state, ours, shape, report)
    problems += wrong
  used = {name for ours in taken for name in file_names(ours)}
  parts = {_part(name) for name in taken}
  unwanted = tuple(start for part, start in _STARTS.items() if part not in parts)
  for name in sorted(set(state) - used):
    if _DROPPED.search(name) or name.startswith(unwanted):
      report.dropped.append(name)
    else:
      problems.append(f"{name} has no place in the model")
  if problems:
    shown = "; ".join(problems[:_SHOWN])
    more = len(problems) - _SHOWN
    shown += f"; and {more} more" if more > 0 else ""
    raise ConvertError(
      f"{place} does not fit the model ({len(problems)} problems): {shown}. Its sizes"
      " are those of the config's fields, its heads those of the config's losses"
    )
  return tree.nested(leaves), report


def _untied(state: Mapping[str, np.ndarray]) -> list[str]:
  """A problem, where the words have another table than the tokens."""
  name = "cls.predictions.decoder.weight"
  table = state.get(_LEAVES[_TOKENS])
  if name not in state or table is None or np.array_equal(state[name], table):
    return []
  return [f"{name} is not the table of the tokens, to which the model's head is tied"]
