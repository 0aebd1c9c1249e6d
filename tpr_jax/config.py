"""Configs: where the shipped files are, one run's folder name, and plain JSON.

`--config=configs/cfam.py:NAME,option=value` names a file below the working directory,
or else one that is installed with the package; any config, wherever it lives, can
import the shipped fragments with `from configs import common`.
"""

import contextlib
import difflib
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

_PACKAGE = pathlib.Path(__file__).resolve().parent
# A checkout has configs/ beside the package; an installation has it inside.
# Files among the configs that configs import, and that are none themselves.
FRAGMENTS = ("common", "cross_recipe", "recipe")
_SHIPPED = (_PACKAGE.parent / "configs", _PACKAGE / "configs")


class ConfigError(Exception):
  """A config, option or override cannot be used: says what is known instead."""


@contextlib.contextmanager
def errors() -> Iterator[None]:
  """What builders say about the values a config hands them, as `ConfigError`."""
  try:
    yield
  except ValueError as error:
    raise ConfigError(str(error)) from error


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
    if file.stem not in FRAGMENTS
  )
  raise ConfigError(
    f"--config={value}: no file {name!r}. Configs that come with the project:"
    f" {', '.join(shipped)}"
  )


def read(value: str) -> ConfigDict:
  """The config that a resolved `--config` value names.

  Raises:
    ConfigError: what the file says about its argument.
  """
  file, colon, argument = value.partition(":")
  spec = importlib.util.spec_from_file_location("_tpr_jax_config", file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  with errors():
    return module.get_config(argument) if colon else module.get_config()


def overridden(value: str, overrides: Sequence[str]) -> ConfigDict:
  """The locked config that a run of a resolved `--config` value would have.

  Args:
    value: from `resolve`.
    overrides: "optim.lr=3e-5", ...: what follows `--config.`, parsed as there; the
      last one of a field wins.

  Raises:
    ConfigError: an unknown field, or a value that its field cannot take.
  """
  config = read(value)
  for word in overrides:
    check_field(config, word.partition("=")[0])
  argv = ["tpr_jax", f"--config={value}", *(f"--config.{word}" for word in overrides)]
  parsed = flags.FlagValues()
  config_flags.DEFINE_config_file("config", None, "", flag_values=parsed, sys_argv=argv)
  try:
    parsed(argv)
  except flags.Error as error:
    raise ConfigError(str(error)) from error
  return parsed.config.lock()


def fields(config: Mapping[str, Any], prefix: str = "") -> list[str]:
  """Dotted names of all fields that hold a value."""
  found = []
  for key, value in config.items():
    inner = isinstance(value, Mapping | ConfigDict)
    found += fields(value, f"{prefix}{key}.") if inner else [f"{prefix}{key}"]
  return found


def check_field(config: ConfigDict, path: str) -> None:
  """Is there a field `path`, such as "optim.lr"?

  Raises:
    ConfigError: no; names the nearest field.
  """
  node = config
  for name in path.split("."):
    if not isinstance(node, ConfigDict) or name not in node:
      break
    node = node[name]
  else:
    return
  known = fields(config)
  last = path.rpartition(".")[2]
  same = [field for field in known if field.rpartition(".")[2] == last]
  near = difflib.get_close_matches(path, same or known, 1, 0.0 if same else 0.6)
  guess = f"did you mean --config.{near[0]}? " if near else ""
  raise ConfigError(
    f"--config.{path}: no such field; {guess}Sections and fields beside it:"
    f" {', '.join(node) if isinstance(node, ConfigDict) else 'none'}"
  )


def plain(config: Any) -> Any:
  """ConfigDict -> dicts, tuples -> lists: what JSON gives back after a round trip."""
  if isinstance(config, ConfigDict):
    config = config.to_dict()
  return json.loads(json.dumps(config))


def write_json(path: pathlib.Path, value: Any) -> None:
  """Whole or not at all: a run can be killed at any time."""
  partial = path.with_suffix(".tmp")
  partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
  os.replace(partial, path)


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The object in a JSON file; {} where there is no file."""
  return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


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


# Fields that a run may be resumed with other values of: they decide where and how fast
# it runs, what is kept of it, and how it is scored, not what is trained.
FREE = (
  "eval.",
  "evals.",
  "mesh.",
  "shardings",
  "data.threads",
  "data.workers",
  "data.cache_mb",
  "data.max_broken",
  "train.keep_last",
  "train.keep_best",
  "train.deterministic",
)


def free(path: str) -> bool:
  """Whether a run may be resumed with another value of the field `path`."""
  return any(path == name or path.startswith(name) for name in FREE)


def occupied(
  folder: pathlib.Path, config: Mapping[str, Any], *, resume: bool = False
) -> str:
  """Why a run folder cannot take a plain config: "" if it is free or holds this one.

  Args:
    resume: fields of `FREE` may differ.
  """
  there = read_json(folder / "config.json")
  changed = there and differences(there, config)
  if resume:
    changed = [line for line in changed if not free(line.partition(":")[0])]
  if not changed:
    return ""
  listed = "\n  ".join(changed)
  return (
    f"{folder} holds a run with another config (there -> asked):\n  {listed}"
    "\nGive another folder with --run=DIR, or the same config to resume."
  )


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
