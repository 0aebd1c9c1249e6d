"""Names of the towers' leaves in published files, and the way to our arrays and back.

OpenAI's names are those of Radford et al.'s release, which OpenCLIP kept; IRRA
(arXiv:2303.12501) and its relatives put "base_model." before them. Hugging Face's are
those of `transformers.CLIPModel`, with "pre_layrnorm" misspelt as it is there. Those of
"tpr_jax" are our own, in run folders and in one of our exports.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from tpr_jax.convert.source import ConvertError

LAYOUTS = ("openai", "irra", "huggingface", "tpr_jax")
# With heads beside the towers.
TRAINED = ("irra", "tpr_jax")
# Leaves that carry no weights of a tower; CLIP files of some age have them.
BUFFERS = re.compile(
  r"(^|\.)(position_ids|logit_scale|input_resolution|context_length|vocab_size"
  r"|attn_mask)$"
)

# Ours -> (OpenAI's, Hugging Face's).
_FIXED = {
  "visual/class_embedding": (
    "visual.class_embedding",
    "vision_model.embeddings.class_embedding",
  ),
  "visual/patch_embedding/kernel": (
    "visual.conv1.weight",
    "vision_model.embeddings.patch_embedding.weight",
  ),
  "visual/position_embedding": (
    "visual.positional_embedding",
    "vision_model.embeddings.position_embedding.weight",
  ),
  "visual/ln_pre/scale": ("visual.ln_pre.weight", "vision_model.pre_layrnorm.weight"),
  "visual/ln_pre/bias": ("visual.ln_pre.bias", "vision_model.pre_layrnorm.bias"),
  "visual/ln_post/scale": (
    "visual.ln_post.weight",
    "vision_model.post_layernorm.weight",
  ),
  "visual/ln_post/bias": ("visual.ln_post.bias", "vision_model.post_layernorm.bias"),
  "visual/projection/kernel": ("visual.proj", "visual_projection.weight"),
  "text/token_embedding": (
    "token_embedding.weight",
    "text_model.embeddings.token_embedding.weight",
  ),
  "text/position_embedding": (
    "positional_embedding",
    "text_model.embeddings.position_embedding.weight",
  ),
  "text/ln_final/scale": ("ln_final.weight", "text_model.final_layer_norm.weight"),
  "text/ln_final/bias": ("ln_final.bias", "text_model.final_layer_norm.bias"),
  "text/projection/kernel": ("text_projection", "text_projection.weight"),
}
# Below one block; "*" stands for q, k and v, which Hugging Face keeps apart.
_BLOCK = {
  "ln_1/scale": ("ln_1.weight", "layer_norm1.weight"),
  "ln_1/bias": ("ln_1.bias", "layer_norm1.bias"),
  "attn/qkv/kernel": ("attn.in_proj_weight", "self_attn.*_proj.weight"),
  "attn/qkv/bias": ("attn.in_proj_bias", "self_attn.*_proj.bias"),
  "attn/out/kernel": ("attn.out_proj.weight", "self_attn.out_proj.weight"),
  "attn/out/bias": ("attn.out_proj.bias", "self_attn.out_proj.bias"),
  "ln_2/scale": ("ln_2.weight", "layer_norm2.weight"),
  "ln_2/bias": ("ln_2.bias", "layer_norm2.bias"),
  "mlp/fc/kernel": ("mlp.c_fc.weight", "mlp.fc1.weight"),
  "mlp/fc/bias": ("mlp.c_fc.bias", "mlp.fc1.bias"),
  "mlp/proj/kernel": ("mlp.c_proj.weight", "mlp.fc2.weight"),
  "mlp/proj/bias": ("mlp.c_proj.bias", "mlp.fc2.bias"),
}
# Shapes below one block, in units of the width.
_BLOCK_SHAPES = {
  "attn/qkv/kernel": (1, 3),
  "attn/qkv/bias": (3,),
  "attn/out/kernel": (1, 1),
  "mlp/fc/kernel": (1, 4),
  "mlp/fc/bias": (4,),
  "mlp/proj/kernel": (4, 1),
}
_STACKS = {
  "visual": ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
  "text": ("transformer.resblocks.", "text_model.encoder.layers."),
}
_OURS_IN_BLOCK = re.compile(r"(visual|text)/blocks/block_(\d+)/(.+)")


def _prefix(layout: str) -> str:
  return "base_model." if layout == "irra" else ""


def _column(layout: str) -> int:
  return 1 if layout == "huggingface" else 0


def detect(names: Collection[str]) -> str:
  """The layout whose names these are.

  Raises:
    ConvertError: of no CLIP with a vision transformer.
  """
  for layout in LAYOUTS:
    towers = ("visual/class_embedding", "text/position_embedding")
    if all(file_names(layout, ours)[0] in names for ours in towers):
      return layout
  known = "a CLIP with a ResNet" if "visual.layer1.0.conv1.weight" in names else None
  if "vision_model.embeddings.patch_embedding.weight" in names:
    known = "one tower alone, or a relative of CLIP without a class token (SigLIP)"
  raise ConvertError(
    f"these are not the weights of a CLIP with a vision transformer and its text tower:"
    f" {len(names)} leaves, of them {', '.join(sorted(names)[:4]) or 'none'}"
    + (f" (it looks like {known})" if known else "")
    + "; expected the names of transformers.CLIPModel, of OpenAI's or OpenCLIP's CLIP,"
    " of IRRA, or our own"
  )


def file_names(layout: str, ours: str) -> tuple[str, ...]:
  """Names in the file that make one leaf of ours: one, or three (q, k, v)."""
  if layout == "tpr_jax":
    return (ours,)
  column = _column(layout)
  block = _OURS_IN_BLOCK.fullmatch(ours)
  if block:
    tower, index, leaf = block.groups()
    name = f"{_STACKS[tower][column]}{index}.{_BLOCK[leaf][column]}"
  else:
    name = _FIXED[ours][column]
  name = _prefix(layout) + name
  return tuple(name.replace("*", which) for which in "qkv") if "*" in name else (name,)


def block_index(layout: str, tower: str, name: str) -> int | None:
  """Which block of "visual" or "text" the file's leaf `name` belongs to, if any."""
  if layout == "tpr_jax":
    stack, end = f"{tower}/blocks/block_", "/"
  else:
    stack, end = _prefix(layout) + _STACKS[tower][_column(layout)], "."
  index = name.removeprefix(stack).split(end)[0]
  return int(index) if name.startswith(stack) and index.isdecimal() else None


def shapes(fields: dict[str, Any], vocab_size: int, tokens: int) -> dict[str, tuple]:
  """Name -> shape of each of our leaves; `tokens` are the rows of the image table."""
  vision, text, joint = (fields[k] for k in ("vision_width", "text_width", "joint_dim"))
  made = {
    "visual/class_embedding": (vision,),
    "visual/patch_embedding/kernel": (*fields["patch"], 3, vision),
    "visual/position_embedding": (tokens, vision),
    "visual/ln_pre/scale": (vision,),
    "visual/ln_pre/bias": (vision,),
    "visual/ln_post/scale": (vision,),
    "visual/ln_post/bias": (vision,),
    "visual/projection/kernel": (vision, joint),
    "text/token_embedding": (vocab_size, text),
    "text/position_embedding": (fields["text_length"], text),
    "text/ln_final/scale": (text,),
    "text/ln_final/bias": (text,),
    "text/projection/kernel": (text, joint),
  }
  stacks = (("visual", vision, "vision_layers"), ("text", text, "text_layers"))
  for tower, width, layers in stacks:
    for i in range(fields[layers]):
      for leaf in _BLOCK:
        units = _BLOCK_SHAPES.get(leaf, (1,))
        made[f"{tower}/blocks/block_{i}/{leaf}"] = tuple(u * width for u in units)
  return made


def _axes(layout: str, ours: str, ndim: int) -> tuple[int, ...]:
  """The transposition from the file's array to ours."""
  if layout == "tpr_jax":
    return tuple(range(ndim))
  if ours == "visual/patch_embedding/kernel":
    return (2, 3, 1, 0)  # [out, in, h, w] -> [h, w, in, out]
  if ours.endswith("projection/kernel") and layout != "huggingface":
    return (0, 1)  # OpenAI multiplies x @ proj: [in, out] as here
  return (1, 0) if ours.endswith("kernel") else tuple(range(ndim))


def file_shape(layout: str, ours: str, shape: tuple[int, ...]) -> tuple[int, ...]:
  """Shape of each of the file's arrays that make a leaf of ours with `shape`."""
  joined = [shape[axis] for axis in np.argsort(_axes(layout, ours, len(shape)))]
  return (joined[0] // len(file_names(layout, ours)), *joined[1:])


def from_file(layout: str, ours: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
  """The file's arrays of one leaf -> ours, a copy; q, k, v end up side by side."""
  joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
  return np.array(joined.transpose(_axes(layout, ours, joined.ndim)), order="C")


def to_file(layout: str, ours: str, array: np.ndarray) -> dict[str, np.ndarray]:
  """The inverse of `from_file`: the file's names and arrays of one leaf of ours."""
  joined = array.transpose(np.argsort(_axes(layout, ours, array.ndim)))
  names = file_names(layout, ours)
  pieces = np.split(joined, len(names))
  return {n: np.array(p, order="C") for n, p in zip(names, pieces, strict=True)}
