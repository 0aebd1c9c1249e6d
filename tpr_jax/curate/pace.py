"""Time: a clock that can be stopped, and when the next request may start."""

import threading
import time

from tpr_jax.curate.problems import Stopped


class Clock:
  """The real one; tests bring another."""

  def now(self) -> float:
    """Seconds, never going back."""
    return time.monotonic()

  def sleep(self, seconds: float, stop: threading.Event) -> None:
    """Raises Stopped as soon as `stop` is set."""
    if stop.wait(max(seconds, 0.0)):
      raise Stopped


class Pace:
  """Starts of requests, shared by all threads of one endpoint.

  Args:
    per_minute: no more than this; they start evenly apart. 0: no limit.
    clock: tells the time.
  """

  def __init__(self, per_minute: float, clock: Clock):
    self._gap = 60.0 / per_minute if per_minute else 0.0
    self._clock, self._lock = clock, threading.Lock()
    self._next = self._held = clock.now()

  def wait(self, stop: threading.Event) -> None:
    """Returns when a request may start. Raises Stopped."""
    while True:
      with self._lock:
        now = self._clock.now()
        start = max(self._next, self._held)
        if start <= now:
          self._next = now + self._gap
          return
      self._clock.sleep(start - now, stop)

  def hold(self, seconds: float) -> None:
    """Nobody starts for so long: the server asked for it."""
    with self._lock:
      self._held = max(self._held, self._clock.now() + seconds)
