"""bad_data.json: what of its datasets a run, or an evaluation, could not use.

  {"train": Damage, "evals": {ENTRY: Damage}}, as data/damage.py writes them.

Only what is bad has an entry, so a folder without the file met nothing bad.
"""

import functools
import pathlib
from collections.abc import Callable

from tpr_jax import config as configs
from tpr_jax.core import processes
from tpr_jax.data.damage import Damage

FILE = "bad_data.json"


def write(folder: pathlib.Path, damage: Damage, entry: str | None = None) -> None:
  """Puts the damage of training, or of an entry of `evals`, in the place of an earlier.

  Call it from one process, once the folder is there.
  """
  path = folder / FILE
  plain = configs.read_json(path)
  part = plain if entry is None else plain.setdefault("evals", {})
  part.pop(name := entry or "train", None)
  if damage:
    part[name] = damage.to_json()
  if not plain.get("evals", True):
    del plain["evals"]
  if plain:
    configs.write_json(path, plain)
  else:
    path.unlink(missing_ok=True)


def read(folder: pathlib.Path, entry: str | None = None) -> Damage | None:
  """What `write` was given last; None where nothing was bad."""
  plain = configs.read_json(folder / FILE)
  part = plain if entry is None else plain.get("evals", {})
  found = part.get(entry or "train")
  return None if found is None else Damage.from_json(found)


class Watch:
  """How much of the training split is bad, as all processes of a run know it.

  Args:
    damage: () -> what this process has met.
    limit: share of the split that may be bad (`data.max_broken`).
  """

  def __init__(self, damage: Callable[[], Damage], limit: float):
    self._damage, self._limit = damage, limit
    self.allowed = damage().allowed(limit) if limit < 1 else damage().pictures

  def count(self) -> int:
    """Distinct bad pictures that this process has met."""
    return len(self._damage())

  def merged(self) -> Damage:
    """What all processes have met; called by all of them."""
    each = processes.gather(self._damage().to_json())
    return functools.reduce(Damage.merge, map(Damage.from_json, each))

  def check(self, after: str = "") -> None:
    """Raises BadData where more is bad than the limit allows; called by all processes.

    Args:
      after: ends its text.
    """
    self.merged().check(self._limit, after)
