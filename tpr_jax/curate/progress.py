"""How far, how fast, how long still: one line, on a terminal and in a log."""

import sys
import threading
from typing import TextIO

from tpr_jax.core.times import duration
from tpr_jax.curate.pace import Clock

_TERMINAL, _LOG = 0.2, 10.0  # seconds between two lines


class Progress:
  """A line that is written over on a terminal, and now and then a new one elsewhere.

  Args:
    what: plural noun of what is counted.
    total: how many there are in all. before: how many of them were there already.
  """

  def __init__(
    self,
    what: str,
    total: int,
    before: int = 0,
    *,
    stream: TextIO | None = None,
    clock: Clock | None = None,
  ):
    self._what, self._total, self._before = what, total, before
    self._stream, self._clock = stream or sys.stderr, clock or Clock()
    self._live = self._stream.isatty()
    self._began = self._shown = self._clock.now()
    self._width, self._lock = 0, threading.Lock()
    self.done = before

  def step(self, more: int, failed: int = 0) -> None:
    """`more` are done now; `failed` in all were not."""
    self.done += more
    now = self._clock.now()
    if now - self._shown >= (_TERMINAL if self._live else _LOG):
      self._shown = now
      self._write(self.line(failed), last=False)

  def line(self, failed: int = 0) -> str:
    """ "rewrites: 120 of 5,000, 2.1/s, 38:43 left, 3 failed"."""
    passed = self._clock.now() - self._began
    rate = (self.done - self._before) / passed if passed > 0 else 0.0
    text = f"{self._what}: {self.done:,} of {self._total:,}"
    if rate > 0:
      left = max(self._total - self.done - failed, 0) / rate
      text += f", {rate:.3g}/s, {duration(left)} left"
    return text + (f", {failed:,} failed" if failed else "")

  def note(self, text: str) -> None:
    """A line of its own; from any thread."""
    self._write(text, last=True)

  def end(self, failed: int = 0) -> None:
    """The last line."""
    self._write(self.line(failed), last=True)

  def _write(self, text, last):
    with self._lock:
      if self._live:
        padded = text.ljust(self._width)
        self._width = 0 if last else len(text)
        self._stream.write(f"\r{padded}" + ("\n" if last else ""))
      else:
        self._stream.write(f"{text}\n")
      self._stream.flush()
