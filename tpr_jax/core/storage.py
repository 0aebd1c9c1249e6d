"""A run on object storage (gs://): checkpoints lie there, the rest is mirrored.

Objects cannot be appended to, and pictures and pages are written by libraries that
know folders alone. So a run at an address works in a local folder, its working copy:
small files are brought when it is opened and sent before each checkpoint and at the
end, while checkpoints are written to and read from the address itself. A working copy
that is lost with its machine is made again from there.
"""

import importlib.util
import json
import logging
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from typing import Any

import fsspec.config
from etils import epath

POINTER = "remote.txt"  # in a working copy: its address
_RECORD = ".mirrored.json"  # there: name -> what was last brought or sent
_APART = ("checkpoints", "damaged_checkpoints")  # never mirrored
_LIBRARIES = ("gcsfs", "google.cloud.storage")  # etils reads by one, Orbax by the other
_WAITS = (2.0, 8.0)  # seconds before another attempt; the libraries try again as well
_THREADS = 8  # small files: it is all waiting
_FINAL = ("forbidden", "access denied", "does not have storage", "invalid credentials")
_SHOWN = 300  # characters of a library's error


class StorageError(Exception):
  """An address cannot be reached or used: says why."""


def is_address(place: str | os.PathLike) -> bool:
  return "://" in os.fspath(place)


def path(place: str | os.PathLike) -> epath.Path:
  """A folder or an address, ready to be used.

  Raises:
    StorageError: a kind of storage that runs cannot be on, or its library is missing.
  """
  if is_address(place):
    _prepare(os.fspath(place))
  return epath.Path(place)


def working_copy(
  address: str, root: pathlib.Path = pathlib.Path("runs"), *, new: bool = True
) -> pathlib.Path:
  """The local folder of a run at an address, brought up to date with it.

  What is newer here than what was last sent stays, unless it has changed there too: the
  run then went on elsewhere.

  Args:
    address: "gs://BUCKET/RUN".
    root: where working copies are kept.
    new: there need not be a run yet.

  Raises:
    StorageError: the storage cannot be reached, lacks the run, or its library is not
      installed.
  """
  address = address.rstrip("/")
  remote = path(address)
  scheme, _, place = address.partition("://")
  local = root / scheme / place
  try:
    found = _attempt(_remote_files, remote)
    bucket = epath.Path(f"{scheme}://{place.partition('/')[0]}")
    if not found and not _attempt(bucket.exists):  # else only writing would tell
      raise StorageError(
        f"{address} cannot be read: there is no bucket {bucket}, or this account may"
        " not see it (`gcloud auth application-default login`)"
      )
    if not new and "config.json" not in found:
      raise StorageError(f"{address} holds no run: there is no config.json")
    local.mkdir(parents=True, exist_ok=True)
    _write(local / POINTER, f"{address}\n".encode())
    record = _read_record(local)
    _bring(local, found, record)
  except StorageError:
    raise
  except Exception as error:  # each storage has errors of its own
    raise StorageError(f"{address} cannot be read: {why(error)}") from error
  return local


def checkpoints(folder: str | os.PathLike) -> epath.Path:
  """Where the checkpoints of a run's folder are: in it, or at the run's address."""
  pointer = pathlib.Path(folder) / POINTER
  return path(_address(folder) if pointer.exists() else folder) / "checkpoints"


def send(folder: str | os.PathLike) -> None:
  """Sends what is new in a working copy to its address; any other folder: nothing.

  Raises:
    StorageError: it cannot be written. What was not sent will be the next time.
  """
  folder = pathlib.Path(folder)
  if not (folder / POINTER).exists():
    return
  remote, record = path(_address(folder)), _read_record(folder)
  changed = {}
  for file in _local_files(folder):
    name, about = file.relative_to(folder).as_posix(), file.stat()
    # Taken before it is read: what is written meanwhile is sent the next time.
    state = [about.st_size, about.st_mtime_ns]
    if record.get(name, {}).get("local") != state:
      changed[name] = state
  if not changed:
    return

  def one(name: str) -> dict[str, Any]:
    version = _attempt(_send, folder / name, remote / name)
    return {"local": changed[name], "remote": version}

  try:
    _each(one, changed, folder, record)
  except Exception as error:  # each storage has errors of its own
    raise StorageError(
      f"{remote} cannot be written: {why(error)}. What is not there yet is in {folder};"
      " the same command sends it and continues"
    ) from error


def move(source: epath.Path, target: epath.Path, reason: str, sign: str) -> None:
  """Moves a checkpoint out of the way.

  On object storage that is a copy and a deletion. Cut off at any point it is damaged in
  both places, or there and unfinished here.

  Args:
    target: not there yet.
    reason: kept beside the target, on object storage.
    sign: the file without which a checkpoint there is unfinished; deleted first.
  """
  target.parent.mkdir(parents=True, exist_ok=True)
  if not is_address(target):
    source.rename(target)
    return
  target.with_name(f"{target.name}.txt").write_text(reason + "\n")
  files = sorted(_below(source), key=lambda file: file != source / sign)
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    list(pool.map(lambda f: f.copy(target / f.relative_to(source)), files))
  for file in files:
    file.unlink()


def names(folder: epath.Path) -> list[str]:
  """What a folder holds; on object storage there are no empty folders."""
  return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []


def why(error: Exception) -> str:
  """A library's error in a line."""
  text = " ".join(str(error).split()) or repr(error)
  text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
  return f"{text} ({type(error).__name__})"


# --- what is there, what is here ---------------------------------------------------


def _remote_files(remote: epath.Path) -> dict[str, tuple[epath.Path, list[int]]]:
  """name -> (path, [bytes, seconds since 1970]) of the files that are mirrored."""
  if not remote.is_dir():
    return {}
  found = {}
  for top in remote.iterdir():
    if top.name in _APART:
      continue
    if not top.is_dir():
      found[top.name] = top
      continue
    # Names alone: what `walk` says of the folder is written differently by backends.
    for file in _below(top):
      found[file.relative_to(remote).as_posix()] = file
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    versions = pool.map(_version, found.values())
    return {
      name: (file, version)
      for (name, file), version in zip(found.items(), versions, strict=True)
    }


def _below(folder: epath.Path) -> Iterable[epath.Path]:
  for each in folder.iterdir():
    if each.is_dir():
      yield from _below(each)
    else:
      yield each


def _version(file: epath.Path) -> list[int]:
  about = file.stat()
  return [int(about.length), int(about.mtime)]


def _local_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """All but what is hidden, half written or apart."""
  return [
    file
    for file in sorted(folder.rglob("*"))
    if file.is_file()
    and file.suffix != ".tmp"
    and file.name != POINTER
    and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    and file.relative_to(folder).parts[0] not in _APART
  ]


# --- there and back ----------------------------------------------------------------


def _bring(
  local: pathlib.Path,
  found: Mapping[str, tuple[epath.Path, list[int]]],
  record: dict[str, Any],
) -> None:
  def stale(name: str, version: list[int]) -> bool:
    same = record.get(name, {}).get("remote") == version
    return not (same and (local / name).exists())

  def one(name: str) -> dict[str, Any]:
    file, version = found[name]
    _write(local / name, _attempt(file.read_bytes))
    about = (local / name).stat()
    return {"local": [about.st_size, about.st_mtime_ns], "remote": version}

  wanted = [name for name, (_, version) in found.items() if stale(name, version)]
  _each(one, wanted, local, record)


def _each(
  one: Callable[[str], dict[str, Any]],
  names: Iterable[str],
  folder: pathlib.Path,
  record: dict[str, Any],
) -> None:
  """Calls `one` for each name and keeps what was done, of a failed attempt too."""
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    waiting = {name: pool.submit(one, name) for name in names}
  done = {name: each for name, each in waiting.items() if each.exception() is None}
  record.update({name: each.result() for name, each in done.items()})
  if done:
    _write(folder / _RECORD, json.dumps(record, indent=1).encode())
  for each in waiting.values():
    each.result()


def _send(file: pathlib.Path, target: epath.Path) -> list[int]:
  target.parent.mkdir(parents=True, exist_ok=True)
  target.write_bytes(file.read_bytes())
  return _version(target)


def _attempt(do: Callable[..., Any], *args: Any) -> Any:
  """`do(*args)`, again after a while if it fails in a way that may pass."""
  for wait in _WAITS:
    try:
      return do(*args)
    except Exception as error:  # each storage has errors of its own
      refused = isinstance(error, (PermissionError, FileNotFoundError, ImportError))
      if refused or any(word in str(error).lower() for word in _FINAL):
        raise
      time.sleep(wait)
  return do(*args)


def _address(folder: str | os.PathLike) -> str:
  return (pathlib.Path(folder) / POINTER).read_text().strip()


def _read_record(folder: pathlib.Path) -> dict[str, Any]:
  place = folder / _RECORD
  return json.loads(place.read_text()) if place.exists() else {}


def _write(place: pathlib.Path, data: bytes) -> None:
  """Whole or not at all; processes of one machine may write the same file at once."""
  place.parent.mkdir(parents=True, exist_ok=True)
  partial = place.with_name(f".{place.name}.{os.getpid()}-{threading.get_ident()}.tmp")
  partial.write_bytes(data)
  os.replace(partial, place)


def _prepare(address: str) -> None:
  scheme, _, rest = address.partition("://")
  if scheme != "gs" or not rest.partition("/")[2]:
    raise StorageError(
      f"{address}: a run on object storage is at gs://BUCKET/RUN. Orbax, which writes"
      " the checkpoints, writes to folders and gs:// alone; for others train in a local"
      " folder and copy it: its checkpoints have digests, so a cut copy is noticed"
    )
  if missing := [name for name in _LIBRARIES if not _installed(name)]:
    raise StorageError(
      f"{address} needs {' and '.join(missing)}, not installed:"
      " pip install 'tpr_jax[gs]'"
    )
  # Its tracebacks of what it tries again; what is not overcome is raised, and told.
  logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
  # gcsfs remembers what a folder held; other processes and libraries write there too.
  fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False


def _installed(name: str) -> bool:
  try:
    return importlib.util.find_spec(name) is not None
  except ModuleNotFoundError:  # what it is a part of is not there
    return False
