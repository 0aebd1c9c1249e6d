"""How much memory the machine has left: what a cache may take without harm."""

import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

# Of the two generations of Linux's control groups: what marks the memory's line in
# /proc/self/cgroup, where its folders are, and the files and the entry that tell the
# limit, what is used, and what of that are files that can be read again.
_GROUPS = (
  (("",), "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
  (
    ("memory",),
    "sys/fs/cgroup/memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file",
  ),
)


class Ram(NamedTuple):
  """Bytes in all, and those that can be had without swapping anything out."""

  total: int
  available: int


def now(root: str | os.PathLike = "/") -> Ram | None:
  """As Linux tells it, of this process's container where one has a limit.

  None: on other systems. `root`: where its folders proc and sys are.
  """
  root = pathlib.Path(root)
  fields = dict(_pairs(root / "proc/meminfo"))
  try:
    total, available = (fields[k] * 1024 for k in ("MemTotal:", "MemAvailable:"))
  except KeyError:
    return None
  for limit, used in _limits(root):
    total, available = min(total, limit), min(available, limit - used)
  return Ram(total, max(0, available))


def _limits(root: pathlib.Path) -> Iterator[tuple[int, int]]:
  """(limit, bytes in use) of every control group that this process is in."""
  for line in _text(root / "proc/self/cgroup").splitlines():
    _, controllers, path = line.split(":", 2)
    for marks, base, limit, used, files in _GROUPS:
      if not set(marks) & set(controllers.split(",")):
        continue
      inner = pathlib.PurePosixPath(path.lstrip("/"))
      # A container may show its own folder as the topmost one, under no name.
      for part in (inner, *inner.parents):
        folder = root / base / part
        most, spent = _text(folder / limit), _text(folder / used)
        if most.strip().isdigit() and spent.strip().isdigit():
          again = dict(_pairs(folder / "memory.stat")).get(files, 0)
          yield int(most), int(spent) - again


def _pairs(path: pathlib.Path) -> Iterator[tuple[str, int]]:
  for line in _text(path).splitlines():
    name, *numbers = line.split()
    if numbers and numbers[0].isdigit():
      yield name, int(numbers[0])


def _text(path: pathlib.Path) -> str:
  try:
    return path.read_text()
  except OSError:  # no such control, or none of ours to read
    return ""
