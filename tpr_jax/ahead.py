"""A step compiled before it is needed: a program for each length of the texts.

The first program is compiled while the parameters are made and pictures are loaded, the
next ones while the first is already training; otherwise each length would stop the
training when it first occurs. Tracing is Python's work alone, as much of reading
pictures is: done at once, each takes twice as long. So `traced` tells when the first
program needs Python no more, and the next ones begin after the first step.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from typing import Any

import jax

from tpr_jax import flops
from tpr_jax.meter import Meter


class CompiledAhead:
  """step(state, batch, key), compiled in a thread for batches of known shapes.

  Args:
    step: a jitted function.
    state, key: its arguments, or their shapes and dtypes.
    batches: shapes and dtypes of the batches that will come, the first one first. A
      batch of other shapes is compiled when it comes.
    meter: learns how long programs are waited for, and how much work they are.
  """

  def __init__(
    self,
    step: Callable[..., Any],
    state: Any,
    batches: Iterable[Mapping[str, jax.ShapeDtypeStruct]],
    key: Any,
    meter: Meter,
  ):
    self._step, self._meter = step, meter
    self._pool = futures.ThreadPoolExecutor(1, thread_name_prefix="compile")
    self._traced = threading.Event()
    self._programs: dict[tuple[Any, ...], futures.Future] = {}
    self._later = {
      _shapes(batch): lambda b=batch: self._compiled(step, state, b, key)
      for batch in batches
    }
    if self._later:
      self._submit(next(iter(self._later)))
    else:
      self._traced.set()

  def __call__(self, state: Any, batch: Mapping[str, Any], key: jax.Array) -> Any:
    shapes = _shapes(batch)
    if shapes not in self._programs and shapes not in self._later:
      return self._step(state, batch, key)
    program, work = self.program(batch)
    self._meter.work(work.model)
    done = program(state, batch, key)
    self._submit(*self._later)
    return done

  def program(self, batch: Mapping[str, Any]) -> tuple[Any, flops.Flops]:
    """(what is compiled for batches of these shapes, its work); waits for it.

    Raises:
      KeyError: batches of these shapes were not announced.
    """
    with self._meter.apart():
      if _shapes(batch) not in self._programs:
        self._submit(*self._later)
      return self._programs[_shapes(batch)].result()

  def traced(self) -> None:
    """Returns once the first program is traced, and left to the compiler."""
    self._traced.wait()

  def wait(self) -> None:
    """Returns once all that was announced is compiled."""
    self._submit(*self._later)
    for program in self._programs.values():
      program.result()

  def close(self) -> None:
    """Starts no further compilation; one that is under way ends by itself."""
    self._pool.shutdown(wait=False, cancel_futures=True)

  def _submit(self, *shapes: tuple[Any, ...]) -> None:
    for each in shapes:
      self._programs[each] = self._pool.submit(self._later.pop(each))

  def _compiled(self, step, state, batch, key) -> tuple[Any, flops.Flops]:
    try:
      traced = step.trace(state, batch, key)
      lowered = traced.lower()
    finally:
      self._traced.set()
    return lowered.compile(), flops.count_jaxpr(traced.jaxpr.jaxpr)


def _shapes(batch: Mapping[str, Any]) -> tuple[Any, ...]:
  return tuple((name, batch[name].shape, batch[name].dtype) for name in sorted(batch))
