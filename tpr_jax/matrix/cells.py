"""One cell of a matrix: a folder with results.json and rankings/COLUMN.npz, or none.

A cell remembers what it was made from: the weights, how they were loaded, the test and
its data, and how it was scored. It is finished as long as all of that is unchanged.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from tpr_jax import config as configs
from tpr_jax.data.record import Dataset

_UNIMPORTANT = ("root",)  # where the data lies: what it holds has a digest


@dataclasses.dataclass(frozen=True)
class Cell:
  """The place of one model's scores on one test set.

  Attributes:
    name: of the evaluation in results.json and of its ranking file.
    key: what the scores depend on, plain JSON values.
  """

  folder: pathlib.Path
  name: str
  key: Mapping[str, Any]

  def read(self) -> tuple[dict[str, Any], str]:
    """(results.json, "") of a finished cell, or ({}, why it must be done).

    The reason is "" where there is no cell.
    """
    path = self.folder / "results.json"
    if not path.exists():
      return {}, ""
    try:
      found = configs.read_json(path)
      changed = configs.differences(found["made_from"], self.key)
      whole = (self.folder / "rankings" / f"{self.name}.npz").exists()
      found["evals"][self.name]["t2i"]
    except (ValueError, KeyError, TypeError, AttributeError):
      return {}, "its files cannot be read"
    if not whole:
      return {}, "its ranking file is missing"
    if changed:
      fields = [line.partition(":")[0] for line in changed]
      more = f" and {len(fields) - 4} more" if len(fields) > 4 else ""
      return {}, f"other {', '.join(fields[:4])}{more}"
    return found, ""

  @contextlib.contextmanager
  def partial(self) -> Iterator[pathlib.Path]:
    """An empty folder beside the cell's, to be filled and then given to `publish`;
    gone after an error or a signal, and cleared of what a kill has left."""
    folder = self.folder.with_name(f".{self.folder.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
      yield folder
    finally:
      shutil.rmtree(folder, ignore_errors=True)

  def publish(self, partial: pathlib.Path, results: Mapping[str, Any]) -> None:
    """The cell appears as a whole; an older one of it is gone before."""
    configs.write_json(partial / "results.json", {**results, "made_from": self.key})
    if self.folder.exists():
      shutil.rmtree(self.folder)
    os.replace(partial, self.folder)


def key(
  *,
  digest: str,
  load: Mapping[str, Any],
  entry: Mapping[str, Any],
  data: str,
  how: Mapping[str, Any],
) -> dict[str, Any]:
  """What the scores of a cell depend on.

  Args:
    digest: of the weights (weights_id.py).
    load: how they are loaded.
    entry: of the column.
    data: `data_digest` of its dataset.
    how: kind of mSD, intervals, and mirror images, where they count: cells of before
      the field have none. The batch changes nothing but the speed.
  """
  test = {name: value for name, value in entry.items() if name not in _UNIMPORTANT}
  scoring = {name: value for name, value in how.items() if name != "batch"}
  if not scoring.get("flip", True):
    del scoring["flip"]
  return dict(weights=digest, load=dict(load), test=test, data=data, eval=scoring)


def data_digest(dataset: Dataset) -> str:
  """Hex digest of every record: names of images, identities, captions, truth.

  The pixels of files are not read: a picture that is replaced under its name goes
  unnoticed.
  """
  found = hashlib.blake2b(f"{dataset.name}/{dataset.split}".encode(), digest_size=16)
  for record in dataset.records:
    parts = [record.image, record.identity, record.captions, record.truth]
    text = json.dumps(parts, sort_keys=True, default=_plain)
    found.update(f"{text}\n".encode())
  return found.hexdigest()


def _plain(value: Any) -> Any:
  return dict(value) if isinstance(value, Mapping) else str(value)
