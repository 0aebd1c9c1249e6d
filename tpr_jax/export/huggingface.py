"""The towers as a folder that `transformers.CLIPModel.from_pretrained` loads.

`CLIPModel` keeps a square position table. One of a grid that is no square is written as
a square from which its own interpolation makes ours (convert/square_table.py); it must
then be asked for with `interpolate_pos_encoding=True`. Ours is kept beside it, bit for
bit, for `tpr_jax.load`.
"""

import math
import pathlib
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tpr_jax.config import write_json
from tpr_jax.convert import layouts, square_table, towers
from tpr_jax.convert.files import TABLE_FILE
from tpr_jax.convert.settings import FILTERS
from tpr_jax.export import tokenizer_files
from tpr_jax.export.problems import ExportError, check_patches
from tpr_jax.models.dual_encoder import MAX_SCALE
from tpr_jax.models.layers import patches
from tpr_jax.pretrained import Pretrained

_TABLE = "visual/position_embedding"


def write(model: Pretrained, folder: pathlib.Path) -> dict[str, Any]:
  """Writes config.json, model.safetensors, preprocessor_config.json, the tokenizer.

  Returns:
    {"tokenizer": see tokenizer_files.write, "side": S or None, "scale": bool}.

  Raises:
    ExportError: the patches, or the table, cannot be expressed.
  """
  fields = model.fields
  check_patches(fields, "transformers.CLIPModel", square=True)
  side = _side(fields)
  weights = towers.to_huggingface(model.params, fields)
  if side:
    table = np.asarray(model.params["visual"]["position_embedding"], np.float32)
    try:
      square, side = square_table.to_square(table, _grid(fields))
    except ValueError as error:
      raise ExportError(f"{error}; export with --format=stablehlo") from error
    weights[layouts.file_names("huggingface", _TABLE)[0]] = square
    save_file({_TABLE: table}, folder / TABLE_FILE)
  weights["logit_scale"] = np.array(scale(model), np.float32)
  save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
  write_json(folder / "config.json", _config(model, side))
  write_json(folder / "preprocessor_config.json", _preprocessor(model))
  kind = tokenizer_files.write(model.tokenizer, folder, model.text_length)
  return {"tokenizer": kind, "side": side}


def scale(model: Pretrained) -> float:
  """The logit scale that published CLIPs carry: a logarithm, at most ln 100."""
  known = math.log(1 / 0.07) if model.logit_scale is None else model.logit_scale
  return min(known, math.log(MAX_SCALE))


def _grid(fields: dict[str, Any]) -> tuple[int, int]:
  return patches.grid(fields["image_size"], fields["patch"], fields["stride"])


def _side(fields: dict[str, Any]) -> int | None:
  """The S of the square table where the picture is no square, else None."""
  height, width = fields["image_size"]
  return None if height == width else square_table.side(_grid(fields))


def _config(model: Pretrained, side: int | None) -> dict[str, Any]:
  fields, words = model.fields, model.tokenizer

  def tower(name: str, **more: Any) -> dict[str, Any]:
    width = fields[f"{name}_width"]
    return dict(
      hidden_size=width,
      intermediate_size=4 * width,
      projection_dim=fields["joint_dim"],
      num_hidden_layers=fields[f"{name}_layers"],
      num_attention_heads=fields[f"{name}_heads"],
      hidden_act=fields["activation"],
      layer_norm_eps=fields["epsilon"],
      **more,
    )

  patch = fields["patch"][0]
  return dict(
    architectures=["CLIPModel"],
    model_type="clip",
    projection_dim=fields["joint_dim"],
    logit_scale_init_value=scale(model),
    text_config=tower(
      "text",
      model_type="clip_text_model",
      vocab_size=words.vocab_size,
      max_position_embeddings=fields["text_length"],
      bos_token_id=words.start_id,
      # The text feature is read at the first of these.
      eos_token_id=words.end_id,
      pad_token_id=words.pad_id,
    ),
    vision_config=tower(
      "vision",
      model_type="clip_vision_model",
      image_size=side * patch if side else fields["image_size"][0],
      patch_size=patch,
    ),
  )


def _preprocessor(model: Pretrained) -> dict[str, Any]:
  height, width = model.image_size
  return dict(
    image_processor_type="CLIPImageProcessor",
    processor_class="CLIPProcessor",
    do_convert_rgb=True,
    do_resize=True,
    size=dict(height=height, width=width),
    resample=FILTERS.index(model.filter),
    do_center_crop=False,
    do_rescale=True,
    rescale_factor=1 / 255,
    do_normalize=True,
    image_mean=list(model.fields["pixel_mean"]),
    image_std=list(model.fields["pixel_std"]),
  )
