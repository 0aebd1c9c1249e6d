"""Which pictures a folder has: names and times of files, none of them opened."""

import dataclasses
import os
import pathlib
import stat
from collections.abc import Iterator

# Of the formats that data/images.py reads. Other files are counted and left alone.
SUFFIXES = (
  *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".gif"),
  *(".tif", ".tiff", ".ppm", ".pgm", ".pnm"),
)


@dataclasses.dataclass(frozen=True)
class Found:
  """A picture's file.

  Attributes:
    path: below the folder, with "/".
    size: bytes. modified, changed: nanoseconds since 1970 of its content, and of its
      content, name or rights (mtime, ctime).
  """

  path: str
  size: int
  modified: int
  changed: int


@dataclasses.dataclass
class Walked:
  """What a folder holds.

  Attributes:
    files: sorted by path.
    problems: path -> why nothing is known about it: a link to nothing, a folder that
      may not be read, a name that is no Unicode (shown with escapes).
    shut: files and folders (with "/" at the end) that could not be reached, though
      they may be there: what was known about them is still so.
    others: files that are no pictures by their names.
  """

  files: list[Found] = dataclasses.field(default_factory=list)
  problems: dict[str, str] = dataclasses.field(default_factory=dict)
  shut: list[str] = dataclasses.field(default_factory=list)
  others: int = 0

  def is_shut(self, path: str) -> bool:
    """Whether `path` is, or lies in, what could not be reached."""
    return any(
      path == each or (each.endswith("/") and path.startswith(each))
      for each in self.shut
    )


def walk(folder: pathlib.Path, without: pathlib.Path | None = None) -> Walked:
  """All pictures below `folder`, by their names.

  Links to files and folders are followed, but for a folder that is its own ancestor:
  that would have no end. Hidden names (".") are left out.

  Args:
    without: a folder that is not looked into (the index itself).

  Raises:
    OSError: `folder` itself cannot be read.
  """
  found = Walked()
  skip = _key(os.stat(without)) if without and without.exists() else None
  os.scandir(folder).close()  # its own errors are the caller's
  for name, about in _below(folder, "", (_key(os.stat(folder)),), skip, found):
    found.files.append(Found(name, about.st_size, about.st_mtime_ns, about.st_ctime_ns))
  found.files.sort(key=lambda each: each.path)
  return found


def _key(about: os.stat_result) -> tuple[int, int]:
  return about.st_dev, about.st_ino


def _below(
  folder: pathlib.Path,
  prefix: str,
  above: tuple[tuple[int, int], ...],
  skip: tuple[int, int] | None,
  found: Walked,
) -> Iterator[tuple[str, os.stat_result]]:
  try:
    with os.scandir(folder) as entries:
      names = sorted(entry.name for entry in entries)
  except OSError as error:
    found.problems[prefix.rstrip("/")] = f"{prefix}: cannot be looked into: {error}"
    found.shut.append(prefix)
    return
  for name in names:
    if name.startswith("."):
      continue
    path, place = f"{prefix}{name}", folder / name
    if not _is_unicode(name):
      shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
      found.problems[shown] = f"{shown}: its name is no Unicode (UTF-8); rename it"
      continue
    try:
      about = os.stat(place)
    except FileNotFoundError:  # or it vanished just now, which is no problem
      if os.path.islink(place):
        found.problems[path] = f"{path}: a link to nothing"
      continue
    except OSError as error:
      found.problems[path] = f"{path}: cannot be reached: {error}"
      found.shut += [path, f"{path}/"]
      continue
    if stat.S_ISDIR(about.st_mode):
      key = _key(about)
      if key == skip:
        continue
      if key in above:
        found.problems[path] = f"{path}: a link to a folder that it lies in"
        continue
      yield from _below(place, f"{path}/", (*above, key), skip, found)
    elif pathlib.PurePath(name).suffix.lower() in SUFFIXES:
      yield path, about
    else:
      found.others += 1


def _is_unicode(name: str) -> bool:
  try:
    name.encode("utf-8")
  except UnicodeEncodeError:
    return False
  return True
