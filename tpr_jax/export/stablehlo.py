"""The two encoders as StableHLO (`jax.export`): serving needs JAX, not this project.

image_encoder.bin   (params, uint8 [b, H, W, 3]) -> float32 [b, D], unit rows
text_encoder.bin    (params, int32 [b, L]) -> float32 [b, D], unit rows
params.safetensors  name -> float32 array: "visual/..." and "text/..."
tpr_jax.json        the settings, for `tpr_jax.load` and for people
"""

import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import export
from safetensors.numpy import load_file, save_file

from tpr_jax.config import write_json
from tpr_jax.core import tree
from tpr_jax.export import tokenizer_files
from tpr_jax.export.huggingface import scale
from tpr_jax.export.problems import ExportError
from tpr_jax.models.variants import OF_WEIGHTS
from tpr_jax.ops import flash
from tpr_jax.pretrained import Pretrained

PLATFORMS = ("cpu", "cuda", "tpu")
LIMIT = 1e-5  # largest difference of an entry of a unit row, float32
_ROWS = 3  # of the check
_SETTINGS = (*OF_WEIGHTS, "vision_heads", "text_heads", "image_size", "stride")


def write(model: Pretrained, folder: pathlib.Path) -> dict[str, Any]:
  """Writes both encoders, their parameters and settings, and checks the numbers.

  Returns:
    {"tokenizer": see tokenizer_files.write, "difference": the largest one between the
    encoders read back and the model, on random input}.

  Raises:
    ExportError: the encoders read back give other numbers, or a package is missing.
  """
  if importlib.util.find_spec("flatbuffers") is None:
    raise ExportError(
      "jax.export writes with the package flatbuffers, which is not installed here: run"
      " pip install flatbuffers"
    )
  save_file(_leaves(model.params), folder / "params.safetensors")
  height, width = model.image_size
  inputs = dict(
    image=(model.image_tower, "visual/", (height, width, 3), np.uint8),
    text=(model.text_tower, "text/", (model.text_length,), np.int32),
  )
  worst = 0.0
  for name, (tower, prefix, shape, dtype) in inputs.items():
    path = folder / f"{name}_encoder.bin"
    path.write_bytes(_lowered(model, tower, prefix, shape, dtype))
    stored = load_file(folder / "params.safetensors")
    params = {k: v for k, v in stored.items() if k.startswith(prefix)}
    batch = _random(model, name, shape, dtype)
    found = export.deserialize(path.read_bytes()).call(params, batch)
    expected = tower(model.params, batch)
    worst = max(worst, float(np.abs(np.asarray(found) - np.asarray(expected)).max()))
  if not worst <= LIMIT:
    raise ExportError(
      f"the exported encoders differ from the model by {worst:.1e} (limit {LIMIT:.0e})"
    )
  kind = tokenizer_files.write(model.tokenizer, folder, model.text_length)
  write_json(folder / "tpr_jax.json", _facts(model))
  return {"tokenizer": kind, "difference": worst}


def _leaves(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Nested parameters -> "visual/ln_pre/scale" -> float32 array."""
  flat = tree.flat(params).items()
  return {name: np.ascontiguousarray(value, np.float32) for name, value in flat}


def _lowered(
  model: Pretrained, tower: Any, prefix: str, shape: tuple[int, ...], dtype: Any
) -> bytes:
  """The serialised tower for any batch b and every platform of `PLATFORMS`."""
  leaves = _leaves(model.params)
  params = {
    name: jax.ShapeDtypeStruct(value.shape, value.dtype)
    for name, value in leaves.items()
    if name.startswith(prefix)
  }
  (b,) = export.symbolic_shape("b")
  encode = jax.jit(lambda params, batch: tower(tree.nested(params), batch))
  with flash.unused():
    made = export.export(encode, platforms=PLATFORMS)(
      params, jax.ShapeDtypeStruct((b, *shape), dtype)
    )
  return bytes(made.serialize())


def _random(
  model: Pretrained, name: str, shape: tuple[int, ...], dtype: Any
) -> np.ndarray:
  rng = np.random.default_rng(0)
  if name == "image":
    return rng.integers(0, 256, (_ROWS, *shape)).astype(dtype)
  ids = rng.integers(1, model.tokenizer.vocab_size - 3, (_ROWS, *shape)).astype(dtype)
  ids[:, 0] = model.tokenizer.start_id
  for row, end in enumerate(rng.integers(1, shape[0], _ROWS)):
    ids[row, end:] = model.tokenizer.pad_id
    ids[row, end] = model.tokenizer.end_id
  return ids


def _facts(model: Pretrained) -> dict[str, Any]:
  words = model.tokenizer
  return dict(
    settings=dict(
      {name: model.fields[name] for name in _SETTINGS},
      filter=model.filter,
      logit_scale=scale(model),
    ),
    text_length=model.text_length,
    dim=model.dim,
    vocab_size=words.vocab_size,
    start_id=words.start_id,
    end_id=words.end_id,
    pad_id=words.pad_id,
    platforms=list(PLATFORMS),
    jax=jax.__version__,
  )
