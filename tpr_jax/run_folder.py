"""The files that say what a run is: config.json, written once, and run.json."""

import contextlib
import functools
import hashlib
import os
import pathlib
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from tpr_jax import config as configs
from tpr_jax.core import deterministic, lock, processes, storage, text

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class RunError(Exception):
  """A run folder cannot be used as asked: says what it holds and what to do."""


class RunFolder:
  """One run's folder.

  Args:
    folder: made by `claim` when missing.
    active: whether this process writes; one of many does.
  """

  def __init__(self, folder: pathlib.Path, active: bool):
    self.folder, self._active = folder, active

  def check(self, config: ConfigDict) -> None:
    """Raises RunError unless the folder is free or holds a run of this very config,
    but for fields that do not change what is trained (config.FREE)."""
    why = configs.occupied(self.folder, configs.plain(config), resume=True)
    if why:
      raise RunError(why)

  def claim(self, config: ConfigDict) -> list[str]:
    """Writes config.json: not before data and model are known to be there.

    Returns:
      Lines "path: there -> asked", of the fields that differ from what was there.
    """
    path, plain = self.folder / "config.json", configs.plain(config)
    there = configs.read_json(path)
    if self._active:
      self.folder.mkdir(parents=True, exist_ok=True)
      configs.write_json(path, plain)
    return configs.differences(there, plain) if there else []

  @contextlib.contextmanager
  def alone(self) -> Iterator[None]:
    """Keeps other runs out of the folder for as long as this one trains in it.

    A run that cannot begin leaves no folder behind.

    Raises:
      RunError: another one is there, perhaps one that is still stopping.
    """
    new = not self.folder.exists()
    try:
      with contextlib.ExitStack() as held:
        if self._active:
          held.enter_context(lock.alone(self.folder / ".lock", "run"))
        yield
    except lock.Locked as error:
      raise RunError(
        f"{self.folder} is being trained by another process: wait until it has ended,"
        " or give another folder with --run=DIR"
      ) from error
    finally:
      if self._active and new and not (self.folder / "config.json").exists():
        shutil.rmtree(self.folder, ignore_errors=True)

  def read(self) -> dict[str, Any]:
    """run.json, {} where there is none."""
    return configs.read_json(self.folder / "run.json")

  def shared(self) -> dict[str, Any]:
    """run.json as process 0 has it: all processes ask, and need no common disk."""
    return processes.gather(self.read() if self._active else {})[0]

  def write(self, run: Mapping[str, Any]) -> None:
    if self._active:
      configs.write_json(self.folder / "run.json", run)
      self.send()

  def send(self) -> None:
    """What is new goes to the run's address, where it has one (core/storage.py)."""
    if self._active:
      storage.send(self.folder)

  def record(
    self,
    *,
    seed: int,
    parameters: int,
    num_classes: int,
    started: float,
    weights: Mapping[str, Any],
  ) -> dict[str, Any]:
    """What run.json says, brought up to date; `started` in seconds since 1970."""
    run = self.shared()
    run.update(
      **provenance(),
      seed=seed,
      parameters=parameters,
      num_classes=num_classes,
      weights=weights,
    )
    run.setdefault("started", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)))
    run.setdefault("seconds", {})
    return run


def provenance() -> dict[str, Any]:
  """{"command", "versions", "devices"} of this process."""
  devices = [f"{device.platform}:{device.device_kind}" for device in jax.devices()]
  return dict(command=text.command(), versions=versions(), devices=devices)


def versions() -> dict[str, str]:
  """Python's and the libraries' that a result may depend on."""
  found = {name: metadata.version(name) for name in _LIBRARIES}
  return {"python": platform.python_version(), **found}


def surroundings(mesh: Mesh) -> dict[str, str]:
  """All besides config and data that the bytes of a run depend on, each as a string.

  The same config, seed, data and surroundings give the same parameter bytes.
  """
  devices, flags = jax.devices(), os.environ.get("XLA_FLAGS", "").split()
  cores = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
  found = {
    **versions(),
    "code": code_digest(),
    "device": f"{devices[0].platform}:{devices[0].device_kind}",
    "devices": str(len(devices)),
    "mesh": " ".join(f"{axis}={size}" for axis, size in mesh.shape.items()),
    "processes": str(jax.process_count()),
    "XLA_FLAGS": " ".join(sorted(flags)),
    "matmul_precision": str(jax.config.jax_default_matmul_precision),
  }
  if devices[0].platform == "cpu":  # sums are split over them
    found["cpu cores"] = str(len(cores(0)))
    found["cpu"] = platform.machine()
  return found


@functools.cache
def code_digest() -> str:
  """Hex digest of this package's source files."""
  found, root = hashlib.sha256(), pathlib.Path(__file__).parent
  for path in sorted(root.rglob("*.py")):
    found.update(path.relative_to(root).as_posix().encode() + b"\0")
    found.update(path.read_bytes() + b"\0")
  return found.hexdigest()[:16]


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
  """["jax 0.10.2 -> 0.12.0", ...]: entries that differ."""
  names = dict.fromkeys((*old, *new))
  return [
    f"{name} {old.get(name, 'none')} -> {new.get(name, 'none')}"
    for name in names
    if old.get(name) != new.get(name)
  ]


def unrepeatable() -> str:
  """Why these devices need not give the same bytes twice; "" if they do."""
  if jax.default_backend() != "gpu" or deterministic.asked():
    return ""
  return f"GPU programs may add in any order without XLA_FLAGS={deterministic.FLAG}"
