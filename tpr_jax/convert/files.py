"""Published checkpoints -> `Source`: folders, single files, Hugging Face hub ids."""

import json
import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import ml_dtypes  # noqa: F401  gives numpy the dtype bfloat16, which safetensors needs
import numpy as np
from safetensors import SafetensorError, safe_open

from tpr_jax.convert import layouts, settings, square_table, torch_files
from tpr_jax.convert.source import ConvertError, Source
from tpr_jax.models.layers import patches

# Config and weights of a folder, in the order in which they are looked for.
_PAIRS = (
  ("config.json", "model.safetensors"),
  ("config.json", "model.safetensors.index.json"),
  ("open_clip_config.json", "open_clip_model.safetensors"),
  ("config.json", "pytorch_model.bin"),
  ("config.json", "pytorch_model.bin.index.json"),
  ("open_clip_config.json", "open_clip_pytorch_model.bin"),
  ("tpr_jax.json", "params.safetensors"),
)
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_TOKENIZERS = (("vocab.json", "merges.txt"), ("tokenizer.json",))
# The table of a grid that is no square, bit for bit (export/huggingface.py writes it).
TABLE_FILE = "position_table.safetensors"
_SMALL_FILES = [
  "tpr_jax.json",
  "config.json",
  "open_clip_config.json",
  "preprocessor_config.json",
  TABLE_FILE,
  *(name for names in _TOKENIZERS for name in names),
  "vocab.txt",  # BERT's
  "tokenizer_config.json",
]
# Weights of a hub repository, fetched one kind after another until one is there.
_HUB_WEIGHTS = (
  ["model.safetensors", "model.safetensors.index.json", "model-?????-of-*.safetensors"],
  ["open_clip_model.safetensors"],
  ["params.safetensors"],
  ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-?????-of-*.bin"],
  ["open_clip_pytorch_model.bin"],
)
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
# OpenAI's models, and IRRA, which is fine-tuned from them.
_OPENAI_SETTINGS = dict(activation="quick_gelu", epsilon=1e-5)


def read(place: str | os.PathLike) -> Source:
  """Everything that a published CLIP checkpoint says; no code of it is run.

  Args:
    place: a folder of Hugging Face (config.json with model.safetensors, shards or
      pytorch_model.bin), of OpenCLIP (open_clip_config.json with its weights) or of
      our StableHLO export (tpr_jax.json with params.safetensors); one file
      (.safetensors, .pt, .pth, .bin); or else a Hugging Face hub id.

  Raises:
    ConvertError: nothing there, a broken file, a pickle with code, no CLIP.
  """
  path = pathlib.Path(place).expanduser()
  if path.is_dir():
    return _folder(path)
  if path.is_file():
    return _file(path)
  return _folder(_downloaded(place))


def weights(
  place: str | os.PathLike,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """The leaves of a checkpoint of any model, as its file names them; no code is run.

  Args:
    place: as in `read`.

  Returns:
    name -> float32 array ("module." prefixes and wrapping dictionaries are gone); the
    config.json beside them, {} where a file is named by itself.

  Raises:
    ConvertError: nothing there, a broken file, a pickle with code.
  """
  path = pathlib.Path(place).expanduser()
  if path.is_file():
    return _unprefixed(_weights(path)[0]), {}
  path = path if path.is_dir() else _downloaded(place)
  config_name, weights_name = _pair(path)
  return _of_folder(path, weights_name), _json(path / config_name)


def _file(path: pathlib.Path) -> Source:
  weights, activation = _weights(path)
  weights = _unprefixed(weights)
  layout = _layout(path, weights)
  known = {}
  if layout == "irra":
    known = _OPENAI_SETTINGS
  elif activation:  # a TorchScript archive
    known = {**_OPENAI_SETTINGS, "activation": activation}
  return Source(str(path), weights, layout, dict(known), None)


def _pair(path: pathlib.Path) -> tuple[str, str]:
  """Names of the config and the weights in a folder."""
  for pair in _PAIRS:
    if all((path / name).is_file() for name in pair):
      return pair
  present = sorted(file.name for file in path.iterdir())
  raise ConvertError(
    f"{path} holds no checkpoint; expected "
    + ", or ".join(" with ".join(pair) for pair in _PAIRS)
    + f"; found {', '.join(present[:8]) or 'nothing'}. A file of weights without its"
    " config can be named by itself"
  )


def _of_folder(path: pathlib.Path, weights_name: str) -> dict[str, np.ndarray]:
  if weights_name.endswith(".index.json"):
    return _unprefixed(_shards(path / weights_name))
  return _unprefixed(_weights(path / weights_name)[0])


def _folder(path: pathlib.Path) -> Source:
  config_name, weights_name = _pair(path)
  config = _json(path / config_name)
  if config_name == "config.json":
    beside = path / "preprocessor_config.json"
    preprocessor = _json(beside) if beside.is_file() else {}
    known = settings.from_hugging_face(str(path), config, preprocessor)
  elif config_name == "tpr_jax.json":
    known = settings.from_tpr_jax(str(path), config)
  else:
    known = settings.from_open_clip(str(path), config)
  weights = _of_folder(path, weights_name)
  layout = _layout(path, weights)
  if "image_size" in known:
    known.update(_grid(path, weights, layout, known))
  folder, spec = _tokenizer(path)
  return Source(str(path), weights, layout, known, folder, spec)


def _grid(
  folder: pathlib.Path,
  weights: dict[str, np.ndarray],
  layout: str,
  known: dict[str, Any],
) -> dict[str, Any]:
  """{"grid": ...} where the picture's is no square; Hugging Face's table follows it."""
  (table,) = layouts.file_names(layout, "visual/position_embedding")
  (kernel,) = layouts.file_names(layout, "visual/patch_embedding/kernel")
  if table not in weights or weights.get(kernel, np.zeros(0)).ndim != 4:
    return {}  # which the conversion lists, with all else that is missing
  patch = layouts.from_file(layout, "visual/patch_embedding/kernel", [weights[kernel]])
  patch = patch.shape[:2]
  try:
    grid = patches.grid(known["image_size"], patch, known.get("stride", patch))
  except ValueError as error:
    raise ConvertError(f"{folder}: {error}") from error
  rows, wanted = len(weights[table]), 1 + grid[0] * grid[1]
  side = round((rows - 1) ** 0.5)
  if layout == "huggingface" and grid != (side, side):
    try:
      weights[table] = _exact(folder, square_table.from_square(weights[table], grid))
    except ValueError as error:
      raise ConvertError(f"{folder}: {table}: {error}") from error
    return {"grid": grid}
  return {"grid": grid} if rows == wanted else {}


def _exact(folder: pathlib.Path, table: np.ndarray) -> np.ndarray:
  """The table of the file beside, if the square one still says the same: training
  elsewhere changes the square one alone."""
  beside = folder / TABLE_FILE
  if not beside.is_file():
    return table
  exact = _safetensors(beside).get("visual/position_embedding")
  same = exact is not None and exact.shape == table.shape
  limit = 2 * square_table.ACCURACY * np.abs(table).max()
  return exact if same and np.abs(exact - table).max() <= limit else table


def _layout(path: pathlib.Path, names: Iterable[str]) -> str:
  try:
    return layouts.detect(set(names))
  except ConvertError as error:
    raise ConvertError(f"{path}: {error}") from None


def _tokenizer(folder: pathlib.Path) -> tuple[str | None, str]:
  """(folder of tokenizer files or None, spec for data/tokenizer.py or "")."""
  for names in _TOKENIZERS:
    if all((folder / name).is_file() for name in names):
      break
  else:
    return None, ""
  route = "clip"
  if names == ("tokenizer.json",):
    # CLIP's pieces end in "</w>"; a vocabulary without is another one.
    model = _json(folder / "tokenizer.json").get("model") or {}
    route = "clip" if model.get("end_of_word_suffix") == "</w>" else "json"
  return str(folder), f"{route}:{folder}"


def _json(path: pathlib.Path) -> dict[str, Any]:
  try:
    found = json.loads(path.read_text(encoding="utf-8"))
  except ValueError as error:
    raise ConvertError(f"{path} is no JSON: {error}; copy it again") from error
  if not isinstance(found, dict):
    raise ConvertError(f"{path} holds a {type(found).__name__}; expected an object")
  return found


def _shards(index: pathlib.Path) -> dict[str, np.ndarray]:
  where = _json(index).get("weight_map") or {}
  weights: dict[str, np.ndarray] = {}
  for shard in sorted(set(where.values())):
    path = index.parent / shard
    if path.parent != index.parent or not path.is_file():
      raise ConvertError(f"{index} names the shard {shard!r}, which is not beside it")
    weights.update(_weights(path)[0])
  missing = sorted(set(where) - set(weights))
  if missing or not where:
    raise ConvertError(
      f"{index} names {len(where)} leaves, of which {len(missing)} are in no shard"
      f" ({', '.join(missing[:3])}): copy the folder again"
    )
  return weights


def _weights(path: pathlib.Path) -> tuple[dict[str, np.ndarray], str | None]:
  """name -> float32 array; and the activation that a TorchScript file tells."""
  if path.suffix == ".safetensors":
    return _safetensors(path), None
  if path.suffix in _SUFFIXES:
    return torch_files.read(path)
  raise ConvertError(
    f"{path}: no checkpoint by its name; expected {', '.join(_SUFFIXES)}, or a folder"
  )


def _safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    with safe_open(path, framework="numpy") as file:
      return {n: file.get_tensor(n).astype(np.float32) for n in file.keys()}  # noqa: SIM118
  except (SafetensorError, TypeError, ValueError, OSError) as error:
    raise ConvertError(
      f"{path} ({path.stat().st_size} bytes) is truncated or no safetensors file"
      f" ({error}); copy or download it again"
    ) from error


def _unprefixed(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Without the "module." that PyTorch's data-parallel wrappers put before names."""
  while weights and all(name.startswith("module.") for name in weights):
    weights = {name.removeprefix("module."): v for name, v in weights.items()}
  return weights


def _downloaded(place: str | os.PathLike) -> pathlib.Path:
  """The local folder of what is no file or folder here."""
  name = str(place)
  if not _HUB_ID.fullmatch(name) or pathlib.Path(name).suffix in _SUFFIXES:
    raise ConvertError(f"{name}: no such file or folder")
  return _download(name)


def _download(name: str) -> pathlib.Path:
  """The local folder of a hub repository: configs, tokenizer, one kind of weights."""
  import huggingface_hub  # seconds to import, and needed for hub ids alone

  try:
    for patterns in _HUB_WEIGHTS:
      allowed = [*_SMALL_FILES, *patterns]
      folder = huggingface_hub.snapshot_download(name, allow_patterns=allowed)
      if any((pathlib.Path(folder) / weights).is_file() for _, weights in _PAIRS):
        break
  except Exception as error:  # of its own, of its HTTP library, of the system
    reason = (str(error).splitlines() or [""])[0]
    raise ConvertError(
      f"{name} is no file or folder here, and as a Hugging Face hub id it could not be"
      f" downloaded ({type(error).__name__}: {reason}). On a machine with network run"
      f" `hf download {name} --local-dir FOLDER`, copy the folder here and pass its"
      " path instead"
    ) from error
  return pathlib.Path(folder)
