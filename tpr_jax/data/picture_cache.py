"""Pictures that were decoded and resized once, kept in RAM for the next epochs."""

import logging
import threading
from collections.abc import Callable

import numpy as np

from tpr_jax.data import ram

_LEAST_FREE = 0.25  # of the machine's memory
_LOOK = 2**26  # bytes: how often the machine's memory is looked at


class PictureCache:
  """Pictures after the deterministic head of the pipe, kept in RAM up to a budget.

  A full cache stays as it is: training meets every picture once an epoch, so the
  oldest picture is exactly the one that is needed next. Pictures are handed out
  read-only. Safe between threads; a copy in another process starts empty.

  Args:
    megabytes: the budget. It is full sooner where less than a quarter of the machine's
      memory is left, whoever took it, and the log says so.
    look: what tells how much is left; None of it: nobody knows.

  Attributes:
    full: a picture has found no room.
  """

  def __init__(self, megabytes: float, look: Callable[[], ram.Ram | None] = ram.now):
    self._budget, self._look = megabytes, look
    self._free, self._unlooked = int(megabytes * 2**20), 0
    self._lock, self._pictures, self.full = threading.Lock(), {}, False

  def __len__(self) -> int:
    return len(self._pictures)

  def get(self, key: int) -> np.ndarray | None:
    return self._pictures.get(key)

  def put(self, key: int, picture: np.ndarray) -> None:
    with self._lock:
      if key in self._pictures or self.full:
        return
      self.full = picture.nbytes > self._free or self._memory_is_short(picture.nbytes)
      if self.full:
        return
      picture = np.array(picture)  # our own copy: a view would keep its whole base
      picture.flags.writeable = False
      self._free -= picture.nbytes
      self._pictures[key] = picture

  def _memory_is_short(self, more: int) -> bool:
    """Looks every 64 MiB."""
    self._unlooked -= more
    if self._unlooked >= 0:
      return False
    self._unlooked = _LOOK
    found = self._look()
    short = found is not None and found.available < _LEAST_FREE * found.total
    if short:
      logging.getLogger(__name__).warning(
        "data.cache_mb: %s pictures are kept in memory and no more, since only %.1f of"
        " the machine's %.1f GiB are left; the others are decoded in every epoch",
        f"{len(self._pictures):,}",
        found.available / 2**30,
        found.total / 2**30,
      )
    return short

  def __reduce__(self):
    return PictureCache, (self._budget, self._look)
