"""The files that say what a run is: config.json, written once, and run.json."""

import pathlib
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax
from ml_collections import ConfigDict

from tpr_jax import config as configs
from tpr_jax.core import text

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
    """Raises RunError unless the folder is free or holds a run of this very config."""
    why = configs.occupied(self.folder, configs.plain(config))
    if why:
      raise RunError(why)

  def claim(self, config: ConfigDict) -> None:
    """Writes config.json: not before data and model are known to be there."""
    if self._active:
      self.folder.mkdir(parents=True, exist_ok=True)
      configs.write_json(self.folder / "config.json", configs.plain(config))

  def read(self) -> dict[str, Any]:
    """run.json, {} where there is none."""
    return configs.read_json(self.folder / "run.json")

  def write(self, run: Mapping[str, Any]) -> None:
    if self._active:
      configs.write_json(self.folder / "run.json", run)

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
    run = self.read()
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


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
  """["jax 0.10.2 -> 0.12.0", ...]: versions that differ."""
  return [f"{k} {old.get(k)} -> {v}" for k, v in new.items() if old.get(k) != v]
