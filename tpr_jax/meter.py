"""How fast training is: examples, matrix products and waiting between two readings."""

import contextlib
import time
from collections.abc import Iterator


class Meter:
  """What the steps since the last reading took.

  Args:
    examples: of one step, over all devices.
    devices: that share the work.
    peak: published FLOP/s of one device at what the products compute in, if known.

  A device works while the host goes on, so that time by part cannot be had from here
  (--mode=profile has it): waiting for input is what the host waits, and no device idles
  for longer than that.
  """

  def __init__(self, examples: int, devices: int = 1, peak: float | None = None):
    self._examples, self._devices, self._peak = examples, devices, peak
    self.restart()

  def restart(self) -> None:
    """What came before was no training: an evaluation, a checkpoint."""
    self._began, self._apart, self._waited = time.perf_counter(), 0.0, 0.0
    self._flops, self._counted = 0, 0

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Time inside is spent waiting for input."""
    began = time.perf_counter()
    yield
    self._waited += time.perf_counter() - began

  @contextlib.contextmanager
  def apart(self) -> Iterator[None]:
    """Time inside does not count: a compilation."""
    began = time.perf_counter()
    yield
    self._apart += time.perf_counter() - began

  def work(self, flops: int) -> None:
    """A step was begun that has so many FLOPs over all devices."""
    self._flops += flops
    self._counted += 1

  def read(self, steps: int) -> dict[str, float]:
    """The numbers of the steps since the last reading, or `restart`; begins anew.

    Returns:
      examples_per_second; input_wait, a share of the time; and where the work of all
      steps is known tflops, 1e12 FLOP/s of one device, and flop_utilisation, their
      share of its peak, where that is known.
    """
    seconds = max(time.perf_counter() - self._began - self._apart, 1e-9)
    found = dict(
      examples_per_second=steps * self._examples / seconds,
      input_wait=min(self._waited / seconds, 1.0),
    )
    if steps and self._counted == steps:
      rate = self._flops / seconds / self._devices
      found["tflops"] = rate / 1e12
      if self._peak:
        found["flop_utilisation"] = rate / self._peak
    self.restart()
    return found


# Keys of `Meter.read`: what a log has of the clock, which no two runs share.
CLOCK = ("examples_per_second", "input_wait", "tflops", "flop_utilisation")
