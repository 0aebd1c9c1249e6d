"""Records of rendered people that were made before, in the user's folder for caches.

To write the captions of thousands of pictures takes most of the time until the first
step of a run, and boxes of regions take minutes, as every picture is drawn for them.
All of it is a function of the options and of this package, so the file's name is a
digest of both; a file that cannot be read is made again.
"""

import functools
import gzip
import hashlib
import json
import os
import pathlib
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tpr_jax.data import record as record_module
from tpr_jax.data import user_cache
from tpr_jax.data.record import Record

KIND = "rendered"
WORTH = 1.0  # seconds; what is made faster is not kept
_MOST = 256 * 2**20  # bytes of all files; those not read for longest go first


def records(
  options: Mapping[str, Any], make: Callable[[], tuple[Record, ...]]
) -> tuple[Record, ...]:
  """What `make` makes of these options, from a file if there is one.

  Args:
    options: plain JSON, all that the records depend on.
  """
  place = user_cache.folder(KIND)
  if place is None:
    return make()
  path = place / f"{_digest(options)}.json.gz"
  if (found := _read(path)) is not None:
    return found
  started = time.monotonic()
  made = make()
  if time.monotonic() - started >= WORTH:
    _write(path, made)
  return made


def _digest(options: Mapping[str, Any]) -> str:
  text = json.dumps([options, _sources(), np.__version__], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:24]


@functools.cache
def _sources() -> str:
  """Digest of the code that makes records, and of the words it has beside it."""
  made = hashlib.sha256(pathlib.Path(record_module.__file__).read_bytes())
  for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
    made.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
  return made.hexdigest()


def _read(path: pathlib.Path) -> tuple[Record, ...] | None:
  try:
    rows = json.loads(gzip.decompress(path.read_bytes()))
    found = tuple(Record(*row[:2], tuple(row[2]), *row[3:]) for row in rows)
    os.utime(path)
  except (OSError, EOFError, ValueError, TypeError, zlib.error):
    return None  # not there, or not whole
  return found


def _write(path: pathlib.Path, made: tuple[Record, ...]) -> None:
  """Whole or not at all; where nothing can be written, the next run makes it again."""
  rows = [(r.image, r.identity, r.captions, r.split, r.source, r.truth) for r in made]
  data = gzip.compress(json.dumps(rows).encode(), compresslevel=1, mtime=0)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
      file.write(data)
    os.replace(file.name, path)
    _tidy(path.parent)
  except OSError:
    return


def _tidy(folder: pathlib.Path) -> None:
  """Deletes what was read longest ago, until the rest is small enough."""
  files = sorted(folder.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)
  total = 0
  for path in files:
    total += path.stat().st_size
    if total > _MOST:
      path.unlink(missing_ok=True)
