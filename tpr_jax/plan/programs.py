"""Compiled programs on disk: what was found, under a name that says what it is of."""

import gzip
import hashlib
import json
import pathlib
from importlib import metadata
from typing import Any

from ml_collections import ConfigDict

import tpr_jax
from tpr_jax import config as configs
from tpr_jax.plan import chips, collectives, hlo, traffic, work

# What the step is made of; the other fields of a config do not reach it.
_SECTIONS = ("mesh", "shardings", "text", "model", "losses", "objective", "optim")
# What the program is traced by. A change of these compiles again.
_SOURCES = (
  "core",
  "losses",
  "models",
  "ops",
  "flops.py",
  "gradients.py",
  "objectives.py",
  "optim.py",
  "program.py",
  "run_weights.py",
  "train.py",
  "plan/facts.py",
  "plan/program.py",
)
_READERS = ("plan/hlo.py", "plan/collectives.py", "plan/traffic.py", "plan/work.py")
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "libtpu")


def digest(config: ConfigDict, place: chips.Slice, classes: int, effort: float) -> str:
  """Names a program: config, slice, sources and versions of the libraries."""
  plain = configs.plain(config)
  named = {name: plain[name] for name in _SECTIONS}
  named |= dict(batch=plain["data"]["batch"], classes=classes, slice=place.name)
  named["effort"] = effort
  named |= dict(train=[plain["train"][key] for key in ("steps", "micro_batches")])
  named |= dict(versions=versions(), sources=_hash(*_SOURCES))
  text = json.dumps(named, sort_keys=True).encode()
  return hashlib.sha256(text).hexdigest()[:12]


def versions() -> dict[str, str]:
  """Of the libraries that decide what is compiled; "" for one that is absent."""
  found = {}
  for name in _LIBRARIES:
    try:
      found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      found[name] = ""
  return found


def _hash(*names: str) -> str:
  root, made = pathlib.Path(tpr_jax.__file__).parent, hashlib.sha256()
  for name in names:
    path = root / name
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
      made.update(file.name.encode() + b"\0" + file.read_bytes())
  return made.hexdigest()


class Program:
  """The files of one program: NAME.json and NAME.hlo.gz in a folder."""

  def __init__(
    self,
    folder: pathlib.Path,
    config: ConfigDict,
    place: chips.Slice,
    classes: int,
    effort: float = 0.0,
  ):
    name = "-".join(
      [
        place.name.replace(":", "-"),
        f"b{config.data.batch}",
        f"m{config.train.micro_batches}",
        digest(config, place, classes, effort),
      ]
    )
    self.answer, self.text = folder / f"{name}.json", folder / f"{name}.hlo.gz"

  def read(self) -> dict[str, Any]:
    """What was found, its text read by the readers of today; {} if it is not there."""
    found = configs.read_json(self.answer)
    if found.get("status") == "compiled" and found.get("readers") != _hash(*_READERS):
      if not self.text.exists():
        return {}
      found |= _analysis(self.text)
      configs.write_json(self.answer, found)
    return found

  def forget(self) -> None:
    """A failure is not kept: the next command tries again."""
    for path in (self.answer, self.text):
      path.unlink(missing_ok=True)


def _analysis(text: pathlib.Path) -> dict[str, Any]:
  with gzip.open(text, "rt", encoding="utf-8") as file:
    module = hlo.parse(file.read())
  return dict(
    collectives=[one._asdict() for one in collectives.found(module)],
    traffic=traffic.moved(module),
    device_flops=work.flops(module),
    readers=_hash(*_READERS),
  )
