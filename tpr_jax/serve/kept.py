"""What is kept in memory for a while: the latest few, and none for too long."""

import collections
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Kept(Generic[Value]):
  """name -> value; used by several threads.

  Args:
    most: of more, those that were not asked for longest are forgotten.
    seconds: after which a value is forgotten; None: never.
    clock: seconds, never backwards.
  """

  def __init__(
    self,
    most: int,
    seconds: float | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._most, self._seconds, self._clock = most, seconds, clock
    self._values: collections.OrderedDict[str, tuple[Value, float]] = (
      collections.OrderedDict()
    )
    self._lock = threading.Lock()

  def put(self, name: str, value: Value) -> None:
    with self._lock:
      self._values[name] = (value, self._clock())
      self._values.move_to_end(name)
      while len(self._values) > self._most:
        self._values.popitem(last=False)

  def get(self, name: str) -> Value | None:
    with self._lock:
      value, since = self._values.get(name, (None, 0.0))
      if value is None:
        return None
      if self._seconds is not None and self._clock() >= since + self._seconds:
        del self._values[name]
        return None
      self._values.move_to_end(name)
      return value

  def drop(self, name: str) -> None:
    with self._lock:
      self._values.pop(name, None)
