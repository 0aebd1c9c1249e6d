"""From scored parts to the manifest: two passes over the lines, none of them held."""

import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tpr_jax.data import kept
from tpr_jax.data.damage import Damage
from tpr_jax.data.sources import annotations as notes
from tpr_jax.data.sources.annotations import Listed
from tpr_jax.filter.cut import Scored
from tpr_jax.filter.problems import FilterError
from tpr_jax.filter.scoring import PROBLEM

Lines = Callable[[], Iterator[dict[str, Any]]]
_OWN = ("image", "image_id", "caption_sha1", "s0", "c")


def of_parts(paths: Sequence[pathlib.Path]) -> Lines:
  """The lines of finished parts."""
  return lambda: (line for path in paths for line in kept.lines(path))


def of_manifest(path: pathlib.Path) -> Lines:
  """The lines of a manifest, without its header."""

  def read() -> Iterator[dict[str, Any]]:
    found = kept.lines(path)
    next(found)
    yield from found

  return read


def scored(lines: Lines, pairs: int, damage: Damage) -> tuple[Scored, np.ndarray]:
  """(what decides, int64 [n] `kept.pair_key` of each pair).

  Args:
    damage: takes in the pictures that could not be read.

  Raises:
    FilterError: there are more or fewer lines.
  """
  found = Scored(
    np.full(pairs, np.nan, np.float32),
    np.full(pairs, -1, np.int32),
    np.full(pairs, -1, np.int64),
  )
  keys = np.zeros(pairs, np.int64)
  at = -1
  for at, line in enumerate(lines()):
    if at == pairs:
      break
    if line["c"] is not None:
      found.s0[at], found.c[at] = line["s0"], line["c"]
    if line["image_id"] is not None:
      found.person[at] = line["image_id"]
    keys[at] = kept.pair_key(line["image"], str(line["caption_sha1"]))
    if PROBLEM in line:
      damage.add(line["image"], *line[PROBLEM])
  if at + 1 != pairs:
    more = "more" if at == pairs else f"{at + 1:,}"
    raise FilterError(
      f"the data has {pairs:,} pairs, the scores are of {more}: they are cut off or of"
      " other data; remove the folder and filter again"
    )
  return found, keys


class Origins:
  """Where each pair of a split stands in the files that list it.

  Args:
    files: JSON lists of one pair an entry; none: places are those in the split.
    data: what to call it then, "rendered/train".
  """

  def __init__(self, files: Sequence[Listed], data: str):
    self._names, self._data = [each.place for each in files], data
    self.unlisted = 0  # entries that are no pair
    keys, file, index = [], [], []
    for number, each in enumerate(files):
      for place, key in entry_keys(each, notes.read_json(each.path)):
        if key is None:
          self.unlisted += 1
          continue
        keys.append(key)
        file.append(number)
        index.append(place)
    keys = np.array(keys, np.int64)
    # Of a pair that is listed twice, the first place.
    order = np.argsort(keys, kind="stable")
    self._keys = keys[order]
    self._file = np.array(file, np.int32)[order]
    self._index = np.array(index, np.int32)[order]

  def __call__(self, at: int, key: int) -> tuple[str, int]:
    """(file, index) of the pair number `at` of the split."""
    if not len(self._keys):
      return self._data, at
    place = np.searchsorted(self._keys, key)
    if place == len(self._keys) or self._keys[place] != key:
      return self._data, at
    return self._names[self._file[place]], int(self._index[place])


def entry_keys(file: Listed, entries: list[Any]) -> Iterator[tuple[int, int | None]]:
  """(place, `kept.pair_key`; None for an entry that is no pair) of each entry."""
  for place, entry in enumerate(entries):
    try:
      image, caption = file.pair(entry)
    except ValueError:  # a Problem is one
      yield place, None
      continue
    yield place, kept.pair_key(image, kept.caption_sha1(caption))


def write(
  path: pathlib.Path,
  header: Mapping[str, Any],
  lines: Lines,
  keys: np.ndarray,
  keep: np.ndarray,
  origins: Origins,
) -> None:
  """Writes a manifest, whole or not at all."""

  def rows() -> Iterator[dict[str, Any]]:
    yield dict(header)
    for at, line in enumerate(lines()):
      file, index = origins(at, int(keys[at]))
      own = {name: line[name] for name in _OWN}
      yield dict(file=file, index=index, **own, keep=bool(keep[at]))

  kept.write_lines(path, rows())


def write_set(
  folder: pathlib.Path, files: Sequence[Listed], kept_keys: np.ndarray
) -> int:
  """Writes the files again with the entries whose pair is kept -> how many they are.

  An entry that is no pair is left out, as the source leaves it out.
  """
  count = 0
  for each in files:
    entries = notes.read_json(each.path)
    chosen = [
      entries[place]
      for place, key in entry_keys(each, entries)
      if key is not None and kept.among(np.array([key]), kept_keys)[0]
    ]
    count += len(chosen)
    path = folder / each.place
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(chosen) + "\n", encoding="utf-8")
    os.replace(partial, path)
  return count
