"""PyTorch's checkpoint files, read in numpy: no torch, and no code of the file runs.

Three formats, told apart by their first bytes and records:
  * zip (`torch.save` since 1.6): data.pkl, and the numbers of storage K in data/K;
  * TorchScript, OpenAI's releases: such a zip whose objects are modules, with their
    source in code/. `torch.jit.load` would run that source; the tensors are in
    data.pkl all the same, so that reading the pickle alone is enough and is safe;
  * the stream of older versions: four pickles, then the storages one after another.

A pickle names the functions that it wants called. Here only the few that rebuild
tensors exist; what training leaves beside the weights (counters, numpy scalars, parsed
arguments) becomes an empty object; any other name is an error.
"""

import contextlib
import dataclasses
import math
import pathlib
import pickle
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from tpr_jax.convert.source import ConvertError

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older stream
_WRAPPERS = ("state_dict", "model")
_DTYPES = {
  "DoubleStorage": np.dtype("<f8"),
  "FloatStorage": np.dtype("<f4"),
  "HalfStorage": np.dtype("<f2"),
  "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
  "LongStorage": np.dtype("<i8"),
  "IntStorage": np.dtype("<i4"),
  "ShortStorage": np.dtype("<i2"),
  "CharStorage": np.dtype("i1"),
  "ByteStorage": np.dtype("u1"),
  "BoolStorage": np.dtype("?"),
}
_IGNORED_MODULES = ("numpy", "collections", "argparse", "_codecs", "ruamel")
_IGNORED_BUILTINS = ("set", "frozenset", "dict", "list", "int", "float", "bool", "str")
_IGNORED_TORCH = ("Size", "device", "float16", "float32", "bfloat16", "int64")


class _Dictionary(dict):
  """An OrderedDict of the file; its attributes (PyTorch's _metadata) are left out."""

  def __setstate__(self, state: Any) -> None:
    pass


class _Module:
  """A module of a TorchScript file: its attributes, by name."""

  def __init__(self, *args: Any) -> None:
    self.attributes: dict[str, Any] = {}

  def __setstate__(self, state: Any) -> None:
    self.attributes = state if isinstance(state, dict) else {}


class _Ignored:
  """Stands for an object that is no weight; takes whatever the pickle does to it."""

  def __new__(cls, *args: Any, **kwargs: Any) -> "_Ignored":
    return super().__new__(cls)

  def __init__(self, *args: Any, **kwargs: Any) -> None:
    pass

  def __setstate__(self, state: Any) -> None:
    pass

  def __setitem__(self, key: Any, value: Any) -> None:
    pass

  def append(self, value: Any) -> None:
    pass

  def extend(self, values: Any) -> None:
    pass


@dataclasses.dataclass
class _Storage:
  """Numbers in the file; `load` gives their bytes, once somebody needs them."""

  dtype: np.dtype
  count: int
  load: Callable[[], bytes] | None = None

  def numbers(self) -> np.ndarray:
    found = np.frombuffer(self.load(), self.dtype)
    if len(found) != self.count:
      raise ValueError(f"a storage has {len(found)} numbers instead of {self.count}")
    return found


@dataclasses.dataclass
class _Tensor:
  """A strided view of a storage."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]

  def array(self) -> np.ndarray:
    """float32, a copy."""
    size = math.prod(self.shape)
    if size == 0:
      return np.zeros(self.shape, np.float32)
    steps = zip(self.shape, self.strides, strict=True)
    last = self.offset + sum((n - 1) * step for n, step in steps)
    numbers = self.storage.numbers()
    # Numpy does not check a view's limits; a broken file must not read past them.
    if min(self.offset, size, *self.shape, *self.strides, 0) < 0 or not (
      last < len(numbers) and size <= len(numbers)
    ):
      raise ValueError(f"a tensor {self.shape} lies outside of its storage")
    view = np.lib.stride_tricks.as_strided(
      numbers[self.offset :],
      self.shape,
      tuple(step * numbers.itemsize for step in self.strides),
    )
    return view.astype(np.float32)


def _rebuild_tensor(storage, offset, shape, strides, *_) -> _Tensor:
  return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor, *_) -> _Tensor:
  return tensor


_FUNCTIONS = {
  ("collections", "OrderedDict"): _Dictionary,
  ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
  ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
  ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
  ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
}


class _Unpickler(pickle.Unpickler):
  """Builds dictionaries, numbers, tensors and TorchScript modules, nothing else."""

  def __init__(self, file: BinaryIO) -> None:
    super().__init__(file, encoding="utf-8")
    self.storages: dict[str, _Storage] = {}

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) in _FUNCTIONS:
      return _FUNCTIONS[module, name]
    if module in ("torch", "torch.cuda") and name in _DTYPES:
      return _DTYPES[name]
    if module.split(".")[0] == "__torch__":
      return _Module
    if (
      module.split(".")[0] in _IGNORED_MODULES
      or (module in ("builtins", "__builtin__") and name in _IGNORED_BUILTINS)
      or (module == "torch" and name in _IGNORED_TORCH)
    ):
      return _Ignored
    raise ConvertError(
      f"it asks for {module}.{name} to be run, which is no part of a tensor. A file of"
      " weights needs no code: if you trust its source, load it there and save"
      " model.state_dict() alone, or as safetensors"
    )

  def persistent_load(self, pid: Any) -> _Storage:
    kind, dtype, key, _, count, *view = pid
    if kind != "storage" or not isinstance(dtype, np.dtype) or any(view):
      raise ValueError(f"a storage of an unknown kind: {kind} {dtype}")
    return self.storages.setdefault(key, _Storage(dtype, int(count)))


def _read_zip(archive: zipfile.ZipFile) -> tuple[Any, str | None]:
  names = archive.namelist()
  record = next(n for n in names if n == "data.pkl" or n.endswith("/data.pkl"))
  root = record.removesuffix("data.pkl")
  with archive.open(record) as file:
    unpickler = _Unpickler(file)
    tree = unpickler.load()
  for key, storage in unpickler.storages.items():
    storage.load = lambda key=key: archive.read(f"{root}data/{key}")
  if f"{root}constants.pkl" not in names:
    return tree, None
  # A traced model of OpenCLIP calls torch.gelu; OpenAI's multiply with a sigmoid.
  code = [archive.read(n) for n in names if n.startswith(f"{root}code/")]
  return tree, "gelu" if any(b"torch.gelu(" in text for text in code) else "quick_gelu"


def _read_stream(path: pathlib.Path) -> Any:
  with path.open("rb") as file:
    if _Unpickler(file).load() != _MAGIC:
      raise ConvertError("it is a pickle, but not one that torch.save wrote")
    for _ in range(2):  # version of the format; sizes of the writer's integers
      _Unpickler(file).load()
    unpickler = _Unpickler(file)
    tree = unpickler.load()
    for key in _Unpickler(file).load():
      storage = unpickler.storages[key]
      count = int.from_bytes(file.read(8), "little")
      start, size = file.tell(), count * storage.dtype.itemsize
      if count != storage.count or start + size > path.stat().st_size:
        raise EOFError("a storage is cut off")
      storage.load = lambda start=start, size=size: _piece(path, start, size)
      file.seek(size, 1)
  return tree


def _piece(path: pathlib.Path, start: int, size: int) -> bytes:
  with path.open("rb") as file:
    file.seek(start)
    return file.read(size)


def _tensors(tree: Any, prefix: str = "") -> Iterator[tuple[str, _Tensor]]:
  """(name, tensor) of a state dict, or of a tree of TorchScript modules."""
  if isinstance(tree, _Module):
    for name, value in tree.attributes.items():
      if isinstance(value, _Module):
        yield from _tensors(value, f"{prefix}{name}.")
      elif isinstance(value, _Tensor):
        yield prefix + name, value
  elif isinstance(tree, dict):
    for name, value in tree.items():
      if isinstance(name, str) and isinstance(value, _Tensor):
        yield name, value


def _state_dict(tree: Any) -> dict[str, _Tensor]:
  if isinstance(tree, dict):
    for wrapper in _WRAPPERS:
      if isinstance(tree.get(wrapper), dict) and (found := _state_dict(tree[wrapper])):
        return found
  return dict(_tensors(tree))


def read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], str | None]:
  """The tensors of a .pt, .pth or .bin file, wrapped in "state_dict" or "model" or not.

  Returns:
    name -> float32 array; and the activation, which a TorchScript file's source tells.

  Raises:
    ConvertError: truncated, no PyTorch file, one with code in it, or without tensors.
  """
  with path.open("rb") as file:
    start = file.read(4)
  try:
    with contextlib.ExitStack() as stack:
      if start == b"PK\x03\x04":
        # Stays open below: storages are read when a tensor needs them.
        tree, activation = _read_zip(stack.enter_context(zipfile.ZipFile(path)))
      elif start[:1] == b"\x80":
        tree, activation = _read_stream(path), None
      else:
        raise ConvertError(f"its first bytes {start!r} are not those of torch.save")
      weights = {name: tensor.array() for name, tensor in _state_dict(tree).items()}
  except ConvertError as error:
    raise ConvertError(f"{path}: {error}") from None
  except Exception as error:  # a broken pickle can fail in any way there is
    raise ConvertError(
      f"{path} ({path.stat().st_size} bytes) is truncated or no PyTorch checkpoint"
      f" ({type(error).__name__}: {error}); copy or download it again"
    ) from error
  if not weights:
    keys = list(tree)[:4] if isinstance(tree, dict) else type(tree).__name__
    raise ConvertError(
      f"{path} holds no state dict; found {keys}. Expected tensors by name, by"
      f" themselves or below one of {', '.join(_WRAPPERS)}: save model.state_dict()"
    )
  return weights, activation
