"""The towers as a folder that OpenCLIP loads: open_clip_config.json, OpenAI's names."""

import pathlib
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tpr_jax.config import write_json
from tpr_jax.convert import towers
from tpr_jax.export import tokenizer_files
from tpr_jax.export.huggingface import scale
from tpr_jax.export.problems import ExportError, check_patches
from tpr_jax.pretrained import Pretrained

_FILTERS = ("bilinear", "bicubic")  # OpenCLIP's own resize knows these


def write(model: Pretrained, folder: pathlib.Path) -> dict[str, Any]:
  """Writes the config, the weights and the tokenizer's files.

  Returns:
    {"tokenizer": see tokenizer_files.write}.

  Raises:
    ExportError: the patches or the resize cannot be expressed.
  """
  check_patches(model.fields, "OpenCLIP", square=False)
  if model.filter not in _FILTERS:
    raise ExportError(
      f"pictures are resized with the filter {model.filter!r}; OpenCLIP knows"
      f" {', '.join(_FILTERS)}: export with --format=huggingface or stablehlo"
    )
  weights = towers.to_openai(model.params, model.fields)
  weights["logit_scale"] = np.array(scale(model), np.float32)
  save_file(weights, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
  kind = tokenizer_files.write(model.tokenizer, folder, model.text_length)
  write_json(folder / "open_clip_config.json", _config(model, kind))
  return {"tokenizer": kind}


def _config(model: Pretrained, tokenizer: str) -> dict[str, Any]:
  fields = model.fields
  norm = dict(eps=fields["epsilon"])
  text = dict(
    context_length=fields["text_length"],
    vocab_size=model.tokenizer.vocab_size,
    width=fields["text_width"],
    heads=fields["text_heads"],
    layers=fields["text_layers"],
    pad_id=model.tokenizer.pad_id,
    norm_kwargs=norm,
  )
  if tokenizer == "json":
    # Any name makes OpenCLIP read the tokenizer's files of a local folder.
    text["hf_tokenizer_name"] = "tokenizer.json"
  return dict(
    model_cfg=dict(
      embed_dim=fields["joint_dim"],
      quick_gelu=fields["activation"] == "quick_gelu",
      vision_cfg=dict(
        image_size=list(fields["image_size"]),
        patch_size=list(fields["patch"]),
        width=fields["vision_width"],
        layers=fields["vision_layers"],
        head_width=fields["vision_width"] // fields["vision_heads"],
        norm_kwargs=norm,
      ),
      text_cfg=text,
    ),
    preprocess_cfg=dict(
      size=list(fields["image_size"]),
      mode="RGB",
      mean=list(fields["pixel_mean"]),
      std=list(fields["pixel_std"]),
      interpolation=model.filter,
      resize_mode="squash",
    ),
  )
