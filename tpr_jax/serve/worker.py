"""One thread that uses the model, and a bounded queue before it."""

import asyncio
import collections
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Generic, TypeVar

from tpr_jax.serve import limits
from tpr_jax.serve.problems import busy

Job = TypeVar("Job")
Result = TypeVar("Result")


class Worker(Generic[Job, Result]):
  """Does jobs in their order, those that wait together as one batch.

  Args:
    act: jobs -> a result for each, or the exception that it ends with.
    batch: jobs at a time, at most. waiting: jobs that may wait.
  """

  def __init__(
    self,
    act: Callable[[Sequence[Job]], Sequence[Result | Exception]],
    *,
    batch: int,
    waiting: int = limits.WAITING,
  ):
    self._act, self._batch, self._most = act, batch, waiting
    self._queue: collections.deque[tuple[Job, futures.Future]] = collections.deque()
    self._changed = threading.Condition()
    self._closed = False
    self._thread = threading.Thread(target=self._work, name="search", daemon=True)
    self._thread.start()

  async def __call__(self, job: Job) -> Result:
    """Its result. Raises Refused (503) where too many wait; what `act` gives."""
    future: futures.Future = futures.Future()
    with self._changed:
      if self._closed or len(self._queue) >= self._most:
        raise busy()
      self._queue.append((job, future))
      self._changed.notify()
    return await asyncio.wrap_future(future)  # cancelled with whoever waits

  def close(self) -> None:
    """Ends the thread after the batch in hand; what waits is cancelled."""
    with self._changed:
      self._closed = True
      while self._queue:
        self._queue.popleft()[1].cancel()
      self._changed.notify()
    self._thread.join()

  def _work(self) -> None:
    while batch := self._next():
      try:
        results = self._act([job for job, _ in batch])
      except Exception as error:
        results = [error] * len(batch)
      for (_, future), result in zip(batch, results, strict=True):
        if isinstance(result, Exception):
          future.set_exception(result)
        else:
          future.set_result(result)

  def _next(self) -> list[tuple[Job, futures.Future]]:
    """The jobs of the next batch whose clients still wait; []: closed."""
    found: list[tuple[Job, futures.Future]] = []
    with self._changed:
      while not found and not self._closed:
        self._changed.wait_for(lambda: self._queue or self._closed)
        while self._queue and len(found) < self._batch:
          job, future = self._queue.popleft()
          if future.set_running_or_notify_cancel():
            found.append((job, future))
    return found


class Room:
  """A few at once, some more that wait, and 503 for the others.

  Use: async with room: ...
  """

  def __init__(self, at_once: int, waiting: int):
    self._most, self._inside = at_once + waiting, 0
    self._free = asyncio.Semaphore(at_once)

  async def __aenter__(self) -> None:
    if self._inside >= self._most:
      raise busy()
    self._inside += 1
    try:
      await self._free.acquire()
    except BaseException:
      self._inside -= 1
      raise

  async def __aexit__(self, *_: object) -> None:
    self._inside -= 1
    self._free.release()
