"""What tells one set of weights from another, without loading it: a digest of files."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable

from tpr_jax import checkpoints as ckpt
from tpr_jax import config as configs
from tpr_jax import run_weights
from tpr_jax.core import storage
from tpr_jax.run_folder import RunFolder

# Of a folder that is no run: what loading may read. Cards and pictures are not weights.
_READ = (".safetensors", ".pt", ".pth", ".bin", ".json", ".txt", ".model")
_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class WeightsId:
  """Which weights a place holds now.

  Attributes:
    place: absolute path; the name of a Hugging Face hub id.
    digest: of the files' content, so that a folder that has moved is the same model. A
      hub id is its own digest: a new revision under the same name goes unnoticed.
    step: the selected checkpoint of a run, None for everything else.
    finished: False for a run that is still training, or has stopped on the way.
  """

  place: str
  digest: str
  step: int | None = None
  finished: bool = True


def of(place: str | os.PathLike) -> WeightsId:
  """The identity of anything that `loading.load` takes; reads every byte once.

  Raises:
    RunError, CheckpointError, ConfigError: a run without what it needs.
  """
  path = run_weights.local(place)
  if run_weights.is_run(path):
    return _of_run(path)
  if path.is_dir():
    files = (file for file in path.iterdir() if file.suffix in _READ)
    return WeightsId(str(path.resolve()), digest(path, files))
  if path.is_file():
    return WeightsId(str(path.resolve()), digest(path.parent, [path]))
  return WeightsId(str(place), f"hub:{place}")  # if there is none, loading says so


def _of_run(folder: pathlib.Path) -> WeightsId:
  config = configs.load(folder / "config.json")
  saved = ckpt.Checkpoints(storage.checkpoints(folder), read_only=True)
  try:
    step, _ = run_weights.selected(saved, config.train.select)
    state = saved.state_digests(step)
  finally:
    saved.close()
  about = RunFolder(folder, False).read()
  settings = json.dumps([about.get("weights", {}), state], sort_keys=True)
  found = digest(folder, [folder / "config.json"], settings)
  return WeightsId(str(folder.resolve()), found, step, "finished" in about)


def digest(folder: pathlib.Path, files: Iterable[pathlib.Path], also: str = "") -> str:
  """Hex digest of names (relative to the folder) and contents."""
  found = hashlib.blake2b(also.encode(), digest_size=16)
  for path in sorted(file for file in files if file.is_file()):
    name = path.relative_to(folder).as_posix()
    found.update(f"\0{name}\0{path.stat().st_size}\0".encode())
    with path.open("rb") as stream:
      while chunk := stream.read(_CHUNK):
        found.update(chunk)
  return found.hexdigest()
