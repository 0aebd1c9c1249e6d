"""What a run of `--mode=index` did, counted and told."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable

from tpr_jax import config as configs
from tpr_jax.core.times import duration
from tpr_jax.data.damage import Damage
from tpr_jax.search.settings import Indexing
from tpr_jax.search.store import EMPTY, Store
from tpr_jax.search.walk import Walked

BROKEN = "broken.json"


@dataclasses.dataclass
class Done:
  """Counts of files. encoded: pictures or people; seconds: that reading and encoding
  took. Of frames: those looked at, and people in them; empty, frames of the index
  without any; left_out, why -> boxes of the detector.
  """

  new: int = 0
  changed: int = 0
  renamed: int = 0
  deleted: int = 0
  unchanged: int = 0
  described: int = 0
  broken: int = 0
  encoded: int = 0
  seconds: float = 0.0
  frames: int = 0
  people: int = 0
  empty: int = 0
  left_out: collections.Counter = dataclasses.field(default_factory=collections.Counter)


def report(
  done: Done,
  asked: Indexing,
  walked: Walked,
  store: Store,
  say: Callable[[str], None],
) -> None:
  """Tells what was done, and writes BROKEN; counts `done.broken` and `done.empty`."""
  damage = _damage(asked.images.name, walked, store)
  done.broken = len(damage)
  if done.encoded:
    what = "people" if store.people else "pictures"
    rate = done.encoded / max(done.seconds, 1e-9)
    say(
      f"Encoded {done.encoded:,} {what} in {duration(done.seconds)}"
      f" ({rate:.1f} images/s)"
    )
  if store.people:
    _report_people(done, store, say)
  parts = ["new", "changed", "renamed", "deleted", "unchanged"]
  counts = ", ".join(f"{getattr(done, part):,} {part}" for part in parts)
  told = f"; metadata of {done.described:,} renewed" if done.described else ""
  say(f"{asked.index}: {counts}{told}")
  _report_damage(damage, asked.index / BROKEN, say)
  names = ", ".join(store.metadata)
  if names and asked.metadata is None and (done.new or done.renamed):
    say(f"New and renamed pictures have no {names}: give --metadata=FILE again")


def _report_people(done: Done, store: Store, say: Callable[[str], None]) -> None:
  for batch in store.read(["path"], f"kind = '{EMPTY}'"):
    done.empty += batch.num_rows
  if done.frames:
    left_out = [f"{count:,} {why}" for why, count in sorted(done.left_out.items())]
    told = f"; boxes left out: {', '.join(left_out)}" if left_out else ""
    say(f"People in the frames looked at: {done.people:,} in {done.frames:,}{told}")
  if done.empty:
    say(f"No person found in frames: {done.empty:,} of all; not looked at again")


def _report_damage(
  damage: Damage, path: pathlib.Path, say: Callable[[str], None]
) -> None:
  if not damage:
    path.unlink(missing_ok=True)
    return
  configs.write_json(path, damage.to_json())
  say(f"{len(damage):,} broken, which no search finds (all: {path}):")
  for line in damage.lines():
    say(line)


def _damage(name: str, walked: Walked, store: Store) -> Damage:
  """All files of the folder that no search finds, of earlier runs too."""
  found = Damage(name, len(walked.files) + len(walked.problems))
  broken = f"problem is not null and kind != '{EMPTY}'"
  for batch in store.read(["path", "kind", "problem"], broken):
    for row in batch.to_pylist():
      found.add(row["path"], row["kind"], row["problem"])
  for path, reason in walked.problems.items():
    found.add(path, "unopened", reason)
  return found
