"""A run, an export or a published CLIP becomes `Pretrained` towers."""

import functools
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tpr_jax import adapter_files, run_weights
from tpr_jax.convert import layouts, towers
from tpr_jax.convert.source import ConvertError, Source
from tpr_jax.core import tree
from tpr_jax.data import tokenizer as tokenizers
from tpr_jax.data import transforms
from tpr_jax.models import build
from tpr_jax.models.layers import patches
from tpr_jax.models.variants import OF_WEIGHTS
from tpr_jax.paired import Paired
from tpr_jax.pretrained import Pretrained
from tpr_jax.second_stage import STAGES

PERSON = (384, 128)  # height, width of IRRA and its family
CLIP_VOCABULARY = 49_408
_SIZES = (
  "vision_width",
  "vision_layers",
  "vision_heads",
  "text_width",
  "text_layers",
  "text_heads",
  "joint_dim",
)


def load(
  place: str | os.PathLike,
  *,
  image_size: tuple[int, int] | None = None,
  text_length: int | None = None,
  batch: int = 64,
  dtype: str = "float32",
  tokenizer: str | None = None,
  activation: str | None = None,
  filter: str | None = None,
  threads: int = 4,
  base: str | os.PathLike | None = None,
  second_stage: str = "",
) -> Pretrained:
  """Towers with everything that belongs to them: see `Pretrained`.

  Args:
    place: a run's folder (its selected checkpoint: best by validation, or else the
      last; adapters are merged), a folder that `--mode=export` wrote, or a published
      CLIP: Hugging Face folder or hub id, OpenCLIP folder, OpenAI's .pt, IRRA's .pth.
    image_size: (height, width); default: what the towers were trained with. A
      published file's is its own square, an IRRA file's 384 x 128 where its position
      table has that grid. Another size has the table resized.
    text_length: tokens of the longest text; default: the position table's.
    batch: rows at a time.
    dtype: "float32" or "bfloat16", of the computation; rows are float32 always.
    tokenizer: a spec of data/tokenizer.py; default: the weights' own.
    activation: "quick_gelu" or "gelu", for files of weights that do not say.
    filter: of the resize; default: the weights' own, or else CLIP's bicubic (IRRA:
      bilinear).
    threads: that decode pictures.
    base: of a folder of adapters (`--mode=export --format=adapters`): what they are
      for; default: the place that it names.
    second_stage: of second_stage.STAGES: also the heads that score pairs, of a run that
      trained them -> `Paired`.

  Raises:
    RunError, CheckpointError, ConfigError, ConvertError, TokenizerError: what is there,
      what was expected, and what to pass.
  """
  if batch < 1 or threads < 1:
    raise ValueError(f"batch={batch}, threads={threads}: expected 1 at least")
  if second_stage and second_stage not in STAGES:
    raise ConvertError(
      f"second_stage={second_stage!r}: expected one of {', '.join(STAGES)}"
    )
  if adapter_files.is_folder(place):
    source = adapter_files.source(place, base)
  elif base is not None:
    raise ConvertError(f"{place} is no folder of adapters: leave base={base!r} out")
  else:
    source = run_weights.read(place)
  asked = dict(image_size=image_size, tokenizer=tokenizer, activation=activation)
  ways = dict(batch=batch, threads=threads)
  if "model" in source.settings:
    return _cross(source, text_length, dtype, filter, asked, second_stage, **ways)
  fields = _fields(source, image_size, text_length, dtype, activation)
  if second_stage and run_weights.is_run(place):
    fields |= run_weights.head_sizes(place)
  words = _tokenizer(source, fields.pop("vocab_size"), tokenizer)
  params, report = towers.towers(
    source,
    fields,
    vocab_size=words.vocab_size,
    activation=fields["activation"],
  )
  if filter is None:
    irra = source.layout == "irra"
    filter = source.settings.get("filter", "bilinear" if irra else "bicubic")
  height, width = fields["image_size"]
  make = Pretrained
  if second_stage:
    params = tree.nested(_heads(source, fields, words, second_stage, tree.flat(params)))
    make = functools.partial(Paired, by=second_stage)
  return make(
    params,
    fields,
    words,
    filter=transforms.Resize(height, width, filter).filter,
    logit_scale=report.logit_scale,
    **ways,
    place=str(place),
    detail=source.detail,
    resized=tuple(report.resized),
    unused=tuple(sorted(set(report.kept) - set(tree.flat(params)))),
  )


def _heads(
  source: Source,
  fields: Mapping[str, Any],
  words: tokenizers.Tokenizer,
  second_stage: str,
  own: Mapping[str, Any],
) -> dict[str, Any]:
  """Name -> array of the towers and of all that a second stage uses beside them.

  Args:
    own: name -> array of the towers, as they are loaded.

  Raises:
    ConvertError: the weights do not have it.
  """
  stage, there = STAGES[second_stage], source.weights
  lacking = sorted(set(stage.heads) - set(build.all_heads(fields)))
  if not lacking:
    shapes = tree.flat(_shapes(fields, words, stage.heads))
    wanted = {k: v.shape for k, v in shapes.items() if k not in own}
    lacking = [k for k in wanted if k not in there or there[k].shape != wanted[k]]
  if lacking:
    raise ConvertError(
      f"{source.place} cannot score pairs by {second_stage!r}: it lacks {lacking[0]!r}."
      " That takes the folder of a run that was trained with"
      f" {' or '.join(f'losses.{name}' for name in stage.trained_by)}; published towers"
      " and exports have no such head"
    )
  return dict(own) | {name: there[name] for name in wanted}


def _shapes(
  fields: Mapping[str, Any], words: tokenizers.Tokenizer, heads: Sequence[str] = ()
) -> Any:
  """Shapes of the parameters of a model with these heads."""
  module = build.build(fields, vocab_size=words.vocab_size, heads=heads)
  image = jnp.zeros((1, *fields["image_size"], 3), jnp.uint8)
  text = jnp.full((1, fields["text_length"]), words.end_id, jnp.int32)
  return jax.eval_shape(module.init, jax.random.key(0), image, text)["params"]


def _cross(
  source: Source,
  text_length: int | None,
  dtype: str,
  filter: str | None,
  asked: Mapping[str, Any],
  second_stage: str,
  *,
  batch: int,
  threads: int,
) -> Pretrained:
  """The towers and projections of a run of Swin + BERT.

  Raises:
    ConvertError: something is asked for that those towers cannot change.
  """
  given = [name for name, value in asked.items() if value]
  if given:
    raise ConvertError(
      f"{source.place} is a run of Swin + BERT, whose {given[0]} cannot be another:"
      f" leave {given[0]}= out"
    )
  fields = dict(source.settings["model"], dtype=dtype)
  fields["text_length"] = text_length or fields["text_length"]
  fields = build.settings(fields)
  words = tokenizers.build(source.tokenizer)
  weights = {name: source.weights[name] for name in tree.names(_shapes(fields, words))}
  make = Pretrained
  if second_stage:
    weights = _heads(source, fields, words, second_stage, weights)
    make = functools.partial(Paired, by=second_stage)
  return make(
    tree.nested(weights),
    fields,
    words,
    filter=filter or source.settings["filter"],
    logit_scale=-math.log(float(weights["temperature"])),
    batch=batch,
    threads=threads,
    place=source.place,
    detail=source.detail,
    unused=tuple(sorted(set(source.weights) - set(weights))),
  )


def _fields(
  source: Source,
  image_size: tuple[int, int] | None,
  text_length: int | None,
  dtype: str,
  activation: str | None,
) -> dict[str, Any]:
  """Fields of the model (`build.settings`), and `vocab_size` beside them."""
  known, found = source.settings, towers.variant_fields(source)
  stride = tuple(known.get("stride", found["patch"]))
  if activation and known.get("activation", activation) != activation:
    raise ConvertError(
      f"{source.place} was trained with activation {known['activation']!r}; leave"
      f" activation={activation!r} out"
    )
  if not activation and "activation" not in known:
    raise ConvertError(
      f"{source.place} holds weights alone and does not say which activation they were"
      " trained with: pass activation='quick_gelu' (OpenAI's) or 'gelu' (most of"
      " OpenCLIP's own)"
    )
  decided = {name: known[name] for name in OF_WEIGHTS if name in known}
  fields = build.settings(
    dict(
      {name: found[name] for name in _SIZES},
      variant="tiny",
      patch=found["patch"],
      stride=stride,
      image_size=tuple(image_size or _image_size(source, found, stride)),
      text_length=text_length or found["text_length"],
      dtype=dtype,
      **{**decided, "activation": activation or known["activation"]},
    )
  )
  return {**fields, "vocab_size": found["vocab_size"]}


def _image_size(
  source: Source, found: Mapping[str, Any], stride: tuple[int, int]
) -> tuple[int, int]:
  """The picture size that belongs to the file's position table."""
  if "image_size" in source.settings:
    return source.settings["image_size"]
  patch, grid = found["patch"], found["grid"]
  (name,) = layouts.file_names(source.layout, "visual/position_embedding")
  cells = len(source.weights[name]) - 1
  if source.layout == "irra" and min(PERSON) >= max(patch):
    rows, columns = patches.grid(PERSON, patch, stride)
    if rows * columns == cells:
      return PERSON
  if grid is None:
    raise ConvertError(
      f"{source.place}: the position table has 1 + {cells} rows, which is no square and"
      f" not the grid of {PERSON[0]} x {PERSON[1]}: pass image_size=(height, width)"
    )
  return grid[0] * patch[0], grid[1] * patch[1]


def _tokenizer(
  source: Source, vocab_size: int, given: str | None
) -> tokenizers.Tokenizer:
  spec = given or source.tokenizer
  if not spec:
    if vocab_size != CLIP_VOCABULARY:
      raise ConvertError(
        f"{source.place} has no tokenizer files, and its vocabulary of {vocab_size:,}"
        f" is not CLIP's {CLIP_VOCABULARY:,}: pass tokenizer= (one of"
        f" {', '.join(tokenizers.ROUTES)})"
      )
    spec = "instant"
  words = tokenizers.build(spec)
  if words.vocab_size != vocab_size:
    raise ConvertError(
      f"{source.place} was trained with a vocabulary of {vocab_size:,}; the tokenizer"
      f" {spec!r} has {words.vocab_size:,}: pass the tokenizer of these weights"
    )
  return words
