"""Swin Transformer weights: published names -> parameters of `SwinTower`, and back.

"official" are the names of the authors' files (swin_base_patch4_window7_224_22k.pth),
which MRA's and APTM's checkpoints keep under "vision_encoder."; "huggingface" those of
transformers' hub folders. Buffers and classifiers in the files are left out.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tpr_jax.convert import relative_position
from tpr_jax.convert.source import ConvertError
from tpr_jax.core import tree

_SHOWN = 6  # problems that an error lists; the others are counted
_TABLE = "relative_position_bias"
# Module of ours -> (official, Hugging Face's); "*" stands for query, key and value.
_MODULES = {
  "patch_embedding": ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
  "ln_patch": ("patch_embed.norm", "embeddings.norm"),
  "ln_post": ("norm", "layernorm"),
}
_IN_STAGE = {
  "merge/ln": ("downsample.norm", "downsample.norm"),
  "merge/reduction": ("downsample.reduction", "downsample.reduction"),
}
_IN_BLOCK = {
  "ln_1": ("norm1", "layernorm_before"),
  "attn/qkv": ("attn.qkv", "attention.self.*"),
  "attn/out": ("attn.proj", "attention.output.dense"),
  "ln_2": ("norm2", "layernorm_after"),
  "mlp/fc": ("mlp.fc1", "intermediate.dense"),
  "mlp/proj": ("mlp.fc2", "output.dense"),
}
_TABLES = (
  "attn.relative_position_bias_table",
  "attention.self.relative_position_bias_table",
)
_ENDS = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_STAGE = re.compile(r"stage_(\d+)/(?:block_(\d+)/)?(.+)")
_LEFT_OUT = re.compile(
  r"relative_position_index$|attn_mask$|mask_token$|^(head|classifier|decoder)\."
)
# Names in memory of newer releases of transformers, whose files keep the older ones.
_IN_MEMORY = (
  (".attention.q_proj.", ".attention.self.query."),
  (".attention.k_proj.", ".attention.self.key."),
  (".attention.v_proj.", ".attention.self.value."),
  (".attention.o_proj.", ".attention.output.dense."),
  (".attention.relative_position_bias.", ".attention.self."),
  (".mlp.fc1.", ".intermediate.dense."),
  (".mlp.fc2.", ".output.dense."),
)


def shapes(fields: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
  """Name -> shape of every parameter of a `SwinTower` with these fields."""
  width, patch, depths = (fields[name] for name in ("width", "patch", "depths"))
  made = {
    "patch_embedding/kernel": (patch, patch, 3, width),
    "patch_embedding/bias": (width,),
    **_norm("ln_patch", width),
  }
  for i, depth in enumerate(depths):
    wide = width * 2**i
    for j in range(depth):
      at = f"stage_{i}/block_{j}/"
      rows = (2 * fields["windows"][i] - 1) ** 2
      made |= {
        **_norm(f"{at}ln_1", wide),
        **_dense(f"{at}attn/qkv", wide, 3 * wide),
        **_dense(f"{at}attn/out", wide, wide),
        at + _TABLE: (rows, fields["heads"][i]),
        **_norm(f"{at}ln_2", wide),
        **_dense(f"{at}mlp/fc", wide, 4 * wide),
        **_dense(f"{at}mlp/proj", 4 * wide, wide),
      }
    if i < len(depths) - 1:
      made |= _norm(f"stage_{i}/merge/ln", 4 * wide)
      made[f"stage_{i}/merge/reduction/kernel"] = (4 * wide, 2 * wide)
  return made | _norm("ln_post", width * 2 ** (len(depths) - 1))


def from_official(
  state: Mapping[str, np.ndarray],
  fields: Mapping[str, Any],
  *,
  interpolate: bool,
  prefix: str = "",
) -> dict[str, Any]:
  """The parameters of `SwinTower(**fields)` from the authors' names.

  Args:
    state: name -> array, in PyTorch's layouts; a file's "model" entry.
    fields: of the tower, at least patch, width, depths, heads and windows.
    interpolate: resize the relative position tables of other windows
      (`convert.relative_position`): to start from a tower of other windows. False: they
      are an error, as they must be when a trained model is evaluated.
    prefix: "vision_encoder." for MRA's and APTM's files; leaves without it are those
      of other parts and are not looked at.

  Returns:
    tree of float32 arrays, copies.

  Raises:
    ConvertError: all that is missing, extra or of a wrong shape, at once.
  """
  state = {
    name.removeprefix(prefix): value
    for name, value in state.items()
    if name.startswith(prefix)
  }
  return _params(state, fields, 0, interpolate)


def from_huggingface(
  state: Mapping[str, np.ndarray], fields: Mapping[str, Any], *, interpolate: bool
) -> dict[str, Any]:
  """As `from_official`, from the names of transformers' SwinModel or of a model with a
  head on it, in a hub folder or in memory."""
  renamed = {}
  for name, value in state.items():
    ours = name.removeprefix("swin.")
    for new, old in _IN_MEMORY:
      ours = ours.replace(new, old)
    renamed[ours] = value
  return _params(renamed, fields, 1, interpolate)


def huggingface_names(ours: str) -> tuple[str, ...]:
  """Leaves of transformers' SwinModel that make one of ours: one, or q, k and v."""
  return _file_names(ours, 1)


def tower_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
  """Fields of a whole model (models/build_cross.py) -> those of its `SwinTower`."""
  names = ("image_size", "patch", "windows", "epsilon")
  of_vision = ("width", "depths", "heads")
  return {name: fields[name] for name in names} | {
    name: fields[f"vision_{name}"] for name in of_vision
  }


def windows_of(
  state: Mapping[str, np.ndarray], official: bool, prefix: str = ""
) -> tuple[int, ...]:
  """The window of every stage in a file, by the sizes of its tables; () if none is."""
  state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
  return _sizes(state, 0 if official else 1).get("windows", ())


def to_huggingface(
  params: Mapping[str, Any], fields: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """(state dict, config) of a folder that `transformers.SwinModel` loads.

  The state dict belongs into model.safetensors, the config into config.json. The
  model's `pooler_output` is token 0 of the tower, `last_hidden_state` the others.

  Args:
    params: of the tower alone.
    fields: of the tower, at least image_size, patch, width, depths, heads and windows.

  Raises:
    ConvertError: a leaf is missing or has another shape, or the tower is one that
      transformers' class cannot be: it has one window for all stages and epsilon 1e-5.
  """
  windows, epsilon = tuple(fields["windows"]), fields.get("epsilon", 1e-5)
  if len(set(windows)) > 1 or epsilon != 1e-5:
    raise ConvertError(
      f"this tower has windows {windows} and epsilon {epsilon}: transformers.SwinModel"
      " has one window for all stages and epsilon 1e-5, so that none computes the same."
      " Export the tower in our own form"
    )
  leaves, made = tree.flat(params), {}
  for ours, shape in shapes(fields).items():
    found = np.shape(leaves[ours]) if ours in leaves else "no such leaf"
    if found != shape:
      raise ConvertError(
        f"parameter {ours}: found {found}, expected {shape}: pass the fields that the"
        " parameters were trained with"
      )
    value = np.asarray(leaves[ours], np.float32)
    value = value.transpose(np.argsort(_axes(ours, value.ndim)))
    names = _file_names(ours, 1)
    for name, piece in zip(names, np.split(value, len(names)), strict=True):
      made[name] = np.array(piece, order="C")
  config = dict(
    architectures=["SwinModel"],
    model_type="swin",
    image_size=list(fields["image_size"]),
    patch_size=fields["patch"],
    num_channels=3,
    embed_dim=fields["width"],
    depths=list(fields["depths"]),
    num_heads=list(fields["heads"]),
    window_size=windows[0],
    mlp_ratio=4.0,
    qkv_bias=True,
    hidden_dropout_prob=fields.get("dropout", 0.0),
    attention_probs_dropout_prob=0.0,
    drop_path_rate=fields.get("drop_path", 0.0),
    hidden_act="gelu",
    use_absolute_embeddings=False,
    layer_norm_eps=epsilon,
    dtype="float32",
  )
  return made, config


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
  return {f"{name}/scale": (width,), f"{name}/bias": (width,)}


def _dense(name: str, size: int, width: int) -> dict[str, tuple[int, ...]]:
  return {f"{name}/kernel": (size, width), f"{name}/bias": (width,)}


def _file_names(ours: str, column: int) -> tuple[str, ...]:
  """Names in the file that make one leaf of ours: one, or three (q, k, v)."""
  stage = _STAGE.fullmatch(ours)
  at, known, leaf = "", _MODULES, ours
  if stage:
    index, block, leaf = stage.groups()
    at = ("layers.", "encoder.layers.")[column] + f"{index}."
    known = _IN_STAGE
    if block is not None:
      at, known = f"{at}blocks.{block}.", _IN_BLOCK
  if leaf == _TABLE:
    return (at + _TABLES[column],)
  module, _, end = leaf.rpartition("/")
  name = f"{at}{known[module][column]}.{_ENDS[end]}"
  if "*" not in name:
    return (name,)
  return tuple(name.replace("*", part) for part in ("query", "key", "value"))


def _axes(ours: str, ndim: int) -> tuple[int, ...]:
  """The transposition from the file's array to ours."""
  if not ours.endswith("kernel"):
    return tuple(range(ndim))
  return (2, 3, 1, 0) if ndim == 4 else (1, 0)  # [out, in, h, w] or [out, in]


def _params(
  state: Mapping[str, np.ndarray],
  fields: Mapping[str, Any],
  column: int,
  interpolate: bool,
) -> dict[str, Any]:
  leaves, problems, used = {}, [], set()
  for ours, shape in shapes(fields).items():
    names = _file_names(ours, column)
    used |= set(names)
    missing = [name for name in names if name not in state]
    if missing:
      problems += [f"{name} is missing" for name in missing]
      continue
    axes = _axes(ours, len(shape))
    expected = tuple(shape[axis] for axis in np.argsort(axes))
    expected = (expected[0] // len(names), *expected[1:])
    arrays = [np.asarray(state[name], np.float32) for name in names]
    if ours.endswith(_TABLE) and interpolate and arrays[0].shape[1:] == expected[1:]:
      window = (round(expected[0] ** 0.5) + 1) // 2
      try:
        arrays = [relative_position.resize(arrays[0], window)]
      except ConvertError as error:
        problems.append(f"{names[0]}: {error}")
        continue
    wrong = [
      f"{name} has shape {found.shape}, expected {expected}"
      for name, found in zip(names, arrays, strict=True)
      if found.shape != expected
    ]
    problems += wrong
    if not wrong:
      joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
      leaves[ours] = np.array(joined.transpose(axes), order="C")
  problems += [
    f"{name} has no place in the tower"
    for name in sorted(set(state) - used)
    if not _LEFT_OUT.search(name)
  ]
  if problems:
    raise ConvertError(_summary(state, fields, column, interpolate, problems))
  return tree.nested(leaves)


def _summary(
  state: Mapping[str, np.ndarray],
  fields: Mapping[str, Any],
  column: int,
  interpolate: bool,
  problems: list[str],
) -> str:
  shown = "; ".join(problems[:_SHOWN])
  more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
  said = f"these weights do not fit the Swin tower ({len(problems)} problems): {shown}"
  said += f"{more}."
  found = _sizes(state, column)
  differ = [n for n, v in found.items() if not np.array_equal(v, fields[n])]
  if interpolate and "windows" in differ:
    differ.remove("windows")
  if differ:
    theirs, ours = (
      ", ".join(f"{name} {sizes[name]}" for name in differ) for sizes in (found, fields)
    )
    said += f" The file has {theirs}; the model {ours}: set the model's to the file's."
  if differ == ["windows"]:
    said += " Or pass interpolate=True, to start from a tower of other windows."
  return said


def _sizes(state: Mapping[str, np.ndarray], column: int) -> dict[str, Any]:
  """What the shapes in a file tell of its tower: width, depths, heads, windows."""
  tables: dict[int, list[tuple[int, ...]]] = {}
  pattern = re.compile(r"layers\.(\d+)\.blocks\.\d+\." + re.escape(_TABLES[column]))
  for name, value in state.items():
    if match := pattern.search(name):
      tables.setdefault(int(match[1]), []).append(np.shape(value))
  (patch,) = _file_names("patch_embedding/kernel", column)
  if not tables or np.ndim(state.get(patch)) != 4:
    return {}
  first = [tables[stage][0] for stage in sorted(tables)]
  return dict(
    width=len(state[patch]),
    depths=tuple(len(tables[stage]) for stage in sorted(tables)),
    heads=tuple(shape[-1] for shape in first),
    windows=tuple((round(shape[0] ** 0.5) + 1) // 2 for shape in first),
  )
