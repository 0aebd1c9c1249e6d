"""Configs: where the shipped files are, one run's folder name, and plain JSON.

`--config=configs/cfam.py:NAME,option=value` names a file below the working directory,
or else one that is installed with the package; any config, wherever it lives, can
import the shipped fragments with `from configs import common`.
"""

import hashlib
import importlib.machinery
import importlib.util
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

_PACKAGE = pathlib.Path(__file__).resolve().parent
# A checkout has configs/ beside the package; an installation has it inside.
_SHIPPED = (_PACKAGE.parent / "configs", _PACKAGE / "configs")


class ConfigError(Exception):
  """A config, option or override cannot be used: says what is known instead."""


def shipped_folder() -> pathlib.Path:
  """The folder of the configs that come with the project."""
  for folder in _SHIPPED:
    if (folder / "common.py").is_file():
      return folder
  raise ConfigError(f"the project's configs are missing; looked in {_SHIPPED}")


def expose_shipped() -> None:
  """Makes `from configs import common` mean the shipped folder, for any config."""
  spec = importlib.machinery.ModuleSpec("configs", None, is_package=True)
  module = importlib.util.module_from_spec(spec)
  module.__path__ = [str(shipped_folder())]
  sys.modules["configs"] = module


def resolve(value: str) -> str:
  """The `--config` value with its file made absolute; the argument stays behind `:`.

  Raises:
    ConfigError: there is no such file; names the shipped ones.
  """
  name, colon, argument = value.partition(":")
  path = pathlib.Path(name)
  for candidate in (path, shipped_folder() / path.name):
    if candidate.is_file() and (candidate == path or path.parent.name == "configs"):
      return f"{candidate.resolve()}{colon}{argument}"
  shipped = sorted(
    f"configs/{file.name}"
    for file in shipped_folder().glob("*.py")
    if file.name != "common.py"
  )
  raise ConfigError(
    f"--config={value}: no file {path}. Configs that come with the project:"
    f" {', '.join(shipped)}"
  )


def plain(config: Any) -> Any:
  """ConfigDict -> dicts, tuples -> lists: what JSON gives back after a round trip."""
  if isinstance(config, ConfigDict):
    config = config.to_dict()
  return json.loads(json.dumps(config))


def load(path: pathlib.Path) -> ConfigDict:
  """The locked config of a run folder's `config.json`.

  Raises:
    ConfigError: the file is missing or is not JSON.
  """
  try:
    return ConfigDict(json.loads(path.read_text(encoding="utf-8"))).lock()
  except FileNotFoundError as error:
    raise ConfigError(f"{path} is missing: is {path.parent} a run's folder?") from error
  except ValueError as error:
    raise ConfigError(f"{path} is not valid JSON: {error}") from error


def differences(
  old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> list[str]:
  """Lines "path: old -> new" for every field in which two plain configs differ."""
  found = []
  for key in sorted(set(old) | set(new)):
    left, right = old.get(key), new.get(key)
    if isinstance(left, dict) and isinstance(right, dict):
      found += differences(left, right, f"{prefix}{key}.")
    elif left != right:
      found.append(f"{prefix}{key}: {left!r} -> {right!r}")
  return found


def run_name(value: str, config: Mapping[str, Any], overridden: bool) -> str:
  """Folder name of a run: the config's name and argument; a digest if overridden.

  The same command always gives the same name, so it resumes; another one does not.

  Args:
    value: the `--config` value.
    config: the plain config.
    overridden: were fields changed on the command line?
  """
  file, _, argument = value.partition(":")
  words = [pathlib.Path(file).stem, *filter(None, argument.split(","))]
  name = "-".join(words).replace("/", "").replace("=", "")
  if overridden:
    text = json.dumps(config, sort_keys=True).encode()
    name += "-" + hashlib.sha256(text).hexdigest()[:8]
  return name
