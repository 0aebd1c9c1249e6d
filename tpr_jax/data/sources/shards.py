"""Sets of shards, written by --mode=shards: millions of pairs that no memory holds.

The records are a `Stream`: read one by one from ArrayRecord files while training goes
on, in any order (`data/shards/`).
"""

import os
import pathlib

from tpr_jax.data.record import Dataset, DatasetError, SplitError
from tpr_jax.data.shards import format as files
from tpr_jax.data.shards.read import ShardImages, ShardRecords
from tpr_jax.data.sources.annotations import SPLITS


def load(root: str | os.PathLike, split: str, *, name: str | None = None) -> Dataset:
  """One split of a set of shards. Its files are looked at, not read.

  Args:
    root: the folder that sets were written to.
    split: "train", "val" or "test".
    name: which set below root; None: the only one there.

  Raises:
    DatasetError: no such set, or one of its files is missing, cut off or changed.
    SplitError: it holds no such split.
  """
  home = _find(root, name)
  folder = home / split
  if not (folder / files.MANIFEST).is_file():
    there = ", ".join(s for s in SPLITS if (home / s / files.MANIFEST).is_file())
    begun = files.partial(folder)
    hint = f"; {begun} was not written to its end" if begun.is_dir() else ""
    raise SplitError(f"{home} has no split {split!r}; it has {there or 'none'}{hint}")
  records = ShardRecords(folder, files.read_manifest(folder))
  return Dataset(home.name, split, records, ShardImages(records))


def _find(root, name) -> pathlib.Path:
  """root/name; DatasetError says what is there."""
  if root is None or not os.fspath(root) or not pathlib.Path(root).is_dir():
    raise _missing(root, f"no folder {root}" if root else "no folder was given")
  found = pathlib.Path(root).glob(f"*/*/{files.MANIFEST}")
  names = sorted({path.parent.parent.name for path in found})
  if name is None and len(names) > 1:
    raise DatasetError(
      f"shards: {root} holds {', '.join(names)}. Choose one with the option name="
    )
  if not names or (name is not None and name not in names):
    wanted = f"no set {name!r} in {root}" if name else f"no set in {root}"
    raise _missing(root, wanted + (f" (it holds {', '.join(names)})" if names else ""))
  return pathlib.Path(root, name or names[0])


def _missing(root, reason) -> DatasetError:
  root = root or "DATA_ROOT"
  return DatasetError(
    "\n".join(
      (
        f"shards are not there: {reason}",
        "",
        "Expected on disk:",
        f"  {root}/",
        "    NAME/train/             manifest.json and the files that it names, as",
        "                            --mode=shards writes them; val/ and test/ alike",
      )
    )
  )
