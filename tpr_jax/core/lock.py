"""One process at a time in a folder."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator


class Locked(Exception):
  """Another process holds the lock."""


@contextlib.contextmanager
def alone(path: pathlib.Path, what: str) -> Iterator[int]:
  """Holds the lock of a file, made with its folder where missing; -> its descriptor.

  A child process that inherits the descriptor holds the lock too. Where the file
  system has no locks, a line says so and nothing is held.

  Args:
    what: that must not be there twice, for that line: "build".

  Raises:
    Locked: somebody else has it.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    os.close(lock)
    raise Locked(str(path)) from error
  except OSError as error:
    print(f"{path.parent} cannot be locked ({error}); start no second {what} there.")
  try:
    yield lock
  finally:
    os.close(lock)
