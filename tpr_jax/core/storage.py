"""A run on object storage (gs://, s3://): checkpoints lie there, the rest is mirrored.

Objects cannot be appended to, and pictures and pages are written by libraries that
know folders alone. So a run at an address works in a local folder, its working copy:
small files are brought when it is opened and sent before each checkpoint and at the
end, while checkpoints are written to and read from the address itself. A working copy
that is lost with its machine is made again from there.
"""

import os
import pathlib
import threading
from collections.abc import Iterator

from etils import epath

POINTER = "remote.txt"  # in a working copy: its address
_APART = ("checkpoints", "damaged_checkpoints")  # never mirrored
_sent: dict[pathlib.Path, tuple[int, int]] = {}  # file -> size and time when last sent


class StorageError(Exception):
  """An address cannot be reached or used: says why."""


def is_address(place: str | os.PathLike) -> bool:
  return "://" in os.fspath(place)


def working_copy(
  address: str, root: pathlib.Path = pathlib.Path("runs")
) -> pathlib.Path:
  """The local folder of a run at an address, brought up to date with it.

  Args:
    address: "gs://BUCKET/RUN".
    root: where working copies are kept.

  Raises:
    StorageError: the storage cannot be reached, or its library is not installed.
  """
  scheme, _, path = address.rstrip("/").partition("://")
  local, remote = root / scheme / path, epath.Path(address.rstrip("/"))
  try:
    local.mkdir(parents=True, exist_ok=True)
    (local / POINTER).write_text(f"{remote}\n")
    if remote.exists():
      for name, file in _remote_files(remote):
        _write(local / name, file.read_bytes())
  except ImportError as error:
    raise StorageError(
      f"{address}: reading {scheme}:// needs a library that is not installed ({error});"
      f" pip install 'tpr_jax[{scheme}]' brings it"
    ) from error
  except Exception as error:  # each storage has errors of its own
    raise StorageError(f"{address} cannot be read: {error}") from error
  return local


def checkpoints(folder: str | os.PathLike) -> epath.Path:
  """Where the checkpoints of a run's folder are: in it, or at the run's address."""
  pointer = pathlib.Path(folder) / POINTER
  place = pointer.read_text().strip() if pointer.exists() else folder
  return epath.Path(place) / "checkpoints"


def send(folder: str | os.PathLike) -> None:
  """Sends what is new in a working copy to its address; any other folder: nothing.

  Raises:
    StorageError: it cannot be written.
  """
  folder = pathlib.Path(folder)
  if not (folder / POINTER).exists():
    return
  remote = epath.Path((folder / POINTER).read_text().strip())
  for path in _local_files(folder):
    about = path.stat()
    state = about.st_size, about.st_mtime_ns
    if _sent.get(path) == state:
      continue
    try:
      target = remote / path.relative_to(folder).as_posix()
      target.parent.mkdir(parents=True, exist_ok=True)
      target.write_bytes(path.read_bytes())
    except Exception as error:  # each storage has errors of its own
      raise StorageError(f"{remote} cannot be written: {error}") from error
    _sent[path] = state


def _local_files(folder: pathlib.Path) -> list[pathlib.Path]:
  return [
    path
    for path in sorted(folder.rglob("*"))
    if path.is_file()
    and path.name != POINTER
    and path.suffix != ".tmp"
    and not path.name.startswith(".")
    and path.relative_to(folder).parts[0] not in _APART
  ]


def _remote_files(
  remote: epath.Path, within: str = ""
) -> Iterator[tuple[str, epath.Path]]:
  for path in sorted(remote.iterdir()):
    if path.is_dir():
      if within or path.name not in _APART:
        yield from _remote_files(path, f"{within}{path.name}/")
    else:
      yield within + path.name, path


def _write(path: pathlib.Path, data: bytes) -> None:
  """Whole or not at all; processes of one machine may write the same file at once."""
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
  partial.write_bytes(data)
  os.replace(partial, path)
