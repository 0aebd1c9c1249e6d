"""Digests of a checkpoint's files: written before it becomes visible, read before use.

`digests.json` in a checkpoint's folder names every file that was there when it was
finished, with size and SHA-256. A file that was cut, changed or left out when the
folder was copied is found by it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent import futures
from typing import Any

import orbax.checkpoint as ocp
from etils import epath

NAME = "digests.json"
COMMITTED = "commit_success.txt"  # Orbax's last file, on object storage its sign
# Orbax writes these when it makes the checkpoint visible, after the digests.
_LATER = (NAME, "_CHECKPOINT_METADATA", COMMITTED)
_CHUNK = 1 << 22
_SMALL = 1 << 16  # bytes of a file that is always read
_THREADS = 4  # hashing leaves Python's lock
_NAMED = 3  # files that a message lists


def write(folder: epath.PathLike) -> None:
  """Writes `digests.json` for the files of a folder."""
  folder = epath.Path(folder)
  text = json.dumps(dict(algorithm="sha256", files=digests(folder)), indent=1)
  (folder / NAME).write_text(text)  # ends with its brace: any cut is seen


def digests(folder: epath.PathLike) -> dict[str, tuple[int, str]]:
  """Name of each file of a folder -> its size and SHA-256."""
  return _digests(dict(_files(epath.Path(folder))))


def problem(folder: epath.PathLike, *, contents: bool = True) -> str:
  """What is wrong with a folder, "" if it is as it was written.

  Args:
    contents: read every file; otherwise only small ones (scores, settings), and of
      the others names and sizes are compared.
  """
  folder = epath.Path(folder)
  if not (folder / NAME).exists():
    return f"it has no {NAME}: it was not finished, or its copy or deletion was cut"
  try:
    sealed = json.loads((folder / NAME).read_text())["files"]
    sizes = {name: int(size) for name, (size, _) in sealed.items()}
  except (ValueError, KeyError, TypeError, AttributeError):
    return f"{NAME} cannot be read"
  there = {name: path for name, path in _files(folder) if name in sealed}
  if missing := sorted(set(sealed) - set(there)):
    return f"{_list(missing)} of {len(sealed)} files missing"
  cut = [name for name in sorted(there) if there[name].stat().length != sizes[name]]
  if cut:
    return f"{_list(cut)} of another size than when written"
  if not contents:
    there = {name: path for name, path in there.items() if sizes[name] <= _SMALL}
  now = _digests(there)
  changed = [name for name in sorted(there) if list(now[name]) != list(sealed[name])]
  return f"{_list(changed)} with other bytes than when written" if changed else ""


def path_class(folder: epath.Path) -> Any:
  """Orbax's temporary folder for checkpoints in `folder`, sealed when finished."""
  base = ocp.path.atomicity_defaults.get_default_temporary_path_class(folder)

  class Sealed(base):
    async def finalize(self):
      # Orbax makes the items within a checkpoint in the same way; the whole is sealed.
      if epath.Path(self.get_final()).name.isdigit():
        write(epath.Path(self.get()))
      await super().finalize()

  return Sealed


def _files(folder: epath.Path, within: str = "") -> Iterator[tuple[str, epath.Path]]:
  """(name within the folder, path) of every file, but for those written later."""
  for path in sorted(folder.iterdir()):
    if path.is_dir():
      yield from _files(path, f"{within}{path.name}/")
    elif within or path.name not in _LATER:
      yield within + path.name, path


def _digests(files: Mapping[str, epath.Path]) -> dict[str, tuple[int, str]]:
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    return dict(zip(files, pool.map(_digest, files.values()), strict=True))


def _digest(path: epath.Path) -> tuple[int, str]:
  """(bytes, hex digest)"""
  found, size = hashlib.sha256(), 0
  with path.open("rb") as stream:
    while chunk := stream.read(_CHUNK):
      found.update(chunk)
      size += len(chunk)
  return size, found.hexdigest()


def _list(names: list[str]) -> str:
  more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
  return ", ".join(names[:_NAMED]) + more
