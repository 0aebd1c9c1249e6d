"""What a run folder says about its model, and its selected weights as a `Source`.

A run is read like a published checkpoint: its towers, the settings that travel with
them and its tokenizer. So it can be loaded, exported, and named by `model.init_from`.
"""

import contextlib
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
from absl import logging
from ml_collections import ConfigDict

from tpr_jax import checkpoints as ckpt
from tpr_jax import config as configs
from tpr_jax.convert import files
from tpr_jax.convert.source import ConvertError, Source
from tpr_jax.core import storage, tree
from tpr_jax.data import transforms
from tpr_jax.models import adapters, build
from tpr_jax.models.layers import patches
from tpr_jax.models.variants import OF_WEIGHTS
from tpr_jax.run_folder import RunError, RunFolder

ADAPTERS = "adapters.json"  # of a folder of adapters alone (adapter_files.py)


def is_run(place: str | os.PathLike) -> bool:
  """Whether `place` is a run's folder (of this project, not of a published model)."""
  path = local(place)
  parts = (path / "run.json").is_file() or (path / "checkpoints").is_dir()
  return (path / "config.json").is_file() and parts


def local(place: str | os.PathLike) -> pathlib.Path:
  """A folder, or the working copy of a run on object storage."""
  if storage.is_address(place):
    return storage.working_copy(os.fspath(place), new=False)
  return pathlib.Path(place).expanduser()


def read(place: str | os.PathLike, *, merge: bool = True) -> Source:
  """A run folder, or whatever `convert.files.read` takes.

  Args:
    merge: adapters of a run are merged into the kernels: a plain model's weights.

  Raises:
    RunError, CheckpointError, ConfigError: a run without what it needs.
    ConvertError: no run, and no published checkpoint either.
  """
  if (local(place) / ADAPTERS).is_file():
    raise ConvertError(
      f"{place} holds what was trained, without the weights that it was trained on:"
      " name it in model.init_adapters, and in model.init_from what it is for;"
      " tpr_jax.load takes it as it is"
    )
  return read_run(place, merge=merge) if is_run(place) else files.read(place)


def model_fields(config: ConfigDict, decided: Mapping[str, Any]) -> dict[str, Any]:
  """Fields of the model (models/build.py) that a config asks for.

  Args:
    decided: those of `OF_WEIGHTS` that pretrained weights brought along.
  """
  fields, objective = config.model.to_dict(), config.objective
  fields = {k: v for k, v in fields.items() if not k.startswith("init_")}
  if fields["dtype"] == "auto":
    cpu = jax.default_backend() == "cpu"
    fields["dtype"] = "float32" if cpu else "bfloat16"
  fields = dict(fields | dict(decided), text_length=config.text.length)
  if build.is_cross(fields):
    return dict(fields, initial_temperature=objective.temperature)
  return dict(
    fields,
    learn_scale=objective.learn_temperature,
    initial_scale=1.0 / objective.temperature,
  )


def tokenizer_spec(config: ConfigDict, of_weights: str) -> str:
  """The tokenizer that a config asks for; `of_weights`: the weights' own, or "".

  Raises:
    ConfigError: a BERT without a vocabulary.
  """
  given = config.text.tokenizer
  if given != "auto" or of_weights:
    return given if given != "auto" else of_weights
  if build.is_cross(config.model):
    raise configs.ConfigError(
      "text.tokenizer='auto': BERT's vocabulary comes with its weights; name its folder"
      " or hub id: --config.model.init_text=bert-base-uncased, or for the vocabulary"
      " alone --config.text.tokenizer=bert:FOLDER"
    )
  return "instant"


def selected(saved: ckpt.Checkpoints, select: str) -> tuple[int, str]:
  """(step, why): the best checkpoint by validation, or else the last.

  Args:
    select: name of the validation score.

  Raises:
    RunError: there is no checkpoint that is whole.
  """
  scores = saved.scores()
  without = [step for step in reversed(saved.steps()) if step not in scores]
  damaged = [step for step in without if saved.damage(step)]  # a score may be among it
  # What has no score is taken only if nothing has one.
  for step in [*saved.by_score(), *(step for step in without if step not in damaged)]:
    if saved.damage(step):
      damaged.append(step)
      continue
    lost = (
      f"; step {', '.join(map(str, sorted(damaged)))} is damaged" if damaged else ""
    )
    if step in scores:
      return step, f"best validation {select} ({scores[step]:.2f}){lost}"
    return step, f"last step (no validation split){lost}"
  raise RunError(
    f"{saved.folder.parent}: no checkpoint to evaluate"
    + (f"; those of steps {sorted(damaged)} are damaged" if damaged else "")
  )


def read_run(folder: str | os.PathLike, *, merge: bool = True) -> Source:
  """The selected checkpoint of a run; heads are among its weights, and no optimizer.

  `merge` as in `read`.

  Raises:
    RunError, CheckpointError, ConfigError: what the folder lacks.
  """
  folder = local(folder)
  config = configs.load(folder / "config.json")
  run = RunFolder(folder, False).read()
  if "weights" not in run:
    raise RunError(f"{folder} has no run.json: has this run been trained?")
  described = describe(config, run["weights"])
  with _quiet():
    saved = ckpt.Checkpoints(storage.checkpoints(folder), read_only=True)
    try:
      step, why = selected(saved, config.train.select)
      params = saved.read_params(step)
    finally:
      saved.close()
  detail = f"step {step}: {why}"
  return source(folder, described, tree.flat(params), detail, merge=merge)


def decided(of_weights: Mapping[str, Any]) -> dict[str, Any]:
  """Fields of `OF_WEIGHTS` that a run's weights brought along (`Initial.record`)."""
  settings = of_weights.get("settings", {})
  return {name: value for name, value in settings.items() if name in OF_WEIGHTS}


def head_sizes(folder: str | os.PathLike) -> dict[str, Any]:
  """Fields of models/build.py that say how large a run's heads are.

  Raises:
    ConfigError: a config that no model can be loaded from.
  """
  config = configs.load(local(folder) / "config.json")
  with configs.errors():
    fields = build.settings(model_fields(config, {}))
  return {k: v for k, v in fields.items() if k.startswith(("part_", "matcher_"))}


class Described(NamedTuple):
  """What the files of a run say of its weights.

  fields: of models/build.py. resize, pixels: what pictures go through. tokenizer: its
  spec.
  """

  fields: dict[str, Any]
  resize: transforms.Resize
  pixels: dict[str, Any]
  tokenizer: str


def describe(config: ConfigDict, of_weights: Mapping[str, Any]) -> Described:
  """Reads a run's config, before its weights.

  Args:
    of_weights: what run.json says of the weights that it began with.

  Raises:
    ConfigError: a config that no model can be loaded from.
  """
  with configs.errors():
    fields = build.settings(model_fields(config, decided(of_weights)))
    resize, pixels = _preprocessing(config)
  spec = tokenizer_spec(config, of_weights.get("tokenizer", ""))
  return Described(fields, resize, pixels, spec)


def source(
  folder: pathlib.Path,
  described: Described,
  weights: Mapping[str, Any],
  detail: str,
  *,
  merge: bool,
) -> Source:
  """Weights of a run, with what its files say of them.

  Args:
    weights: name -> array, adapters among them.
    detail, merge: as in `Source`, `read`.
  """
  fields, resize, pixels, spec = described
  rules = fields["adapters"]
  if merge and rules:
    weights, rules = adapters.merged(rules, weights), ()
  fields = dict(fields, adapters=rules)
  if build.is_cross(fields):
    settings = dict(model=fields | pixels, filter=resize.filter)
  else:
    settings = _of_clip(fields, pixels, resize)
  return Source(
    place=str(folder),
    weights=weights,
    layout="tpr_jax",
    settings=settings,
    tokenizer_place=None,
    tokenizer=spec,
    detail=detail,
    adapters=rules,
  )


def _of_clip(
  fields: Mapping[str, Any], pixels: Mapping[str, Any], resize: transforms.Resize
) -> dict[str, Any]:
  """The settings of a `Source` of CLIP's towers."""
  kept = (*OF_WEIGHTS, "vision_heads", "text_heads", "image_size", "stride")
  settings = {
    **{name: fields[name] for name in kept},
    **pixels,
    "grid": patches.grid(*(fields[k] for k in ("image_size", "patch", "stride"))),
    "filter": resize.filter,
  }
  if not fields["learn_scale"]:
    settings["logit_scale"] = math.log(fields["initial_scale"])
  return settings


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Without what Orbax tells absl about its inner life; errors are raised anyway."""
  before = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  finally:
    logging.set_verbosity(before)


def _preprocessing(config: ConfigDict) -> tuple[transforms.Resize, dict[str, Any]]:
  """(the resize of `data.eval_image`, pixel fields that a normalize there decides).

  Raises:
    ValueError: the pipe does anything else.
  """
  pipe = transforms.build(config.data.eval_image)
  first, *rest = pipe.ops or (None,)
  plain = isinstance(first, transforms.Resize) and len(rest) < 2
  if not plain or not all(isinstance(op, transforms.Normalize) for op in rest):
    raise ValueError(
      f"data.eval_image={pipe.spec!r}: to use a run elsewhere its pictures must be made"
      " by one resize, and a normalize at most"
    )
  pixels = {}
  for op in rest:
    pixels = dict(pixel_mean=tuple(op.mean), pixel_std=tuple(op.std))
  return first, pixels
