"""Asks until everything is answered: threads, signals, and when to give up."""

import collections
import contextlib
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from tpr_jax.curate.answers import Answer
from tpr_jax.curate.problems import CurateError, Interrupted, NoAnswer, Stopped
from tpr_jax.curate.progress import Progress
from tpr_jax.curate.requests import Request

_POLL = 0.2  # seconds between two looks at signals
_IN_A_ROW = 5  # failures without an answer between them: nobody is there
_NOTE_EVERY = 30.0  # seconds before the same complaint is shown again


class Rewriter(Protocol):
  """`workers` threads call `answer` with up to `batch` requests each."""

  workers: int
  batch: int

  def answer(self, requests: Sequence[Request], stop: threading.Event) -> list[Answer]:
    """Raises NoAnswer, Stopped."""


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
  """A list that grows by each SIGINT and SIGTERM; the second one of them raises."""
  caught: list[int] = []

  def handle(signum, _):
    caught.append(signum)
    if len(caught) > 1:
      raise KeyboardInterrupt
    print("stopping: waiting for the answers on their way", file=sys.stderr)

  numbers = (signal.SIGINT, signal.SIGTERM)
  if threading.current_thread() is not threading.main_thread():
    yield caught  # only the main thread may have handlers
    return
  previous = {number: signal.signal(number, handle) for number in numbers}
  try:
    yield caught
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)


def seldom(say: Callable[[str], None]) -> Callable[[str], None]:
  """`say`, but for complaints that were heard a moment ago (numbers aside)."""
  heard: dict[str, float] = {}

  def once(text: str) -> None:
    kind, now = text.partition("; trying")[0], time.monotonic()
    if now - heard.get(kind, -_NOTE_EVERY) >= _NOTE_EVERY:
      heard[kind] = now
      say(text)

  return once


def ask_all(
  rewriter: Rewriter,
  requests: Sequence[Request],
  keep: Callable[[Request, Answer], None],
  progress: Progress,
  caught: Sequence[int],
) -> list[tuple[Request, str]]:
  """Asks every request; hands each answer to `keep`, here in the calling thread.

  After a first signal nothing new is asked; what is on its way is waited for (its
  time-out ends that) and kept.

  Returns:
    The requests that had no answer, with the reason.

  Raises:
    CurateError: going on makes no sense: a reason that holds for all requests, or
      several failures in a row.
    Interrupted: a signal came.
  """
  if caught:  # while a model was loaded, say
    raise Interrupted(caught[0], 0)
  crew = _Crew(rewriter, requests)
  failed, row, kept, problem = [], 0, 0, None
  try:
    while crew.busy:
      if caught or problem:
        crew.no_more()
      for batch, outcome in crew.results():
        if isinstance(outcome, Stopped):
          continue
        if isinstance(outcome, NoAnswer):
          failed += [(request, str(outcome)) for request in batch]
          row += 1
          if outcome.hopeless or row >= _IN_A_ROW:
            problem = problem or outcome
        elif isinstance(outcome, BaseException):
          raise outcome
        else:
          for request, answer in zip(batch, outcome, strict=True):
            keep(request, answer)
          row, kept = 0, kept + len(batch)
        progress.step(len(batch) if row == 0 else 0, len(failed))
  except KeyboardInterrupt:
    raise Interrupted((caught or [signal.SIGINT])[0], kept) from None
  finally:
    crew.no_more()
    progress.end(len(failed))
  if caught:
    raise Interrupted(caught[0], kept)
  if problem:
    raise CurateError(
      f"{problem}\n{kept:,} answers were kept; the same command continues from there"
    )
  return failed


class _Crew:
  """The threads. They are daemons: one that hangs in a system call holds nobody."""

  def __init__(self, rewriter, requests):
    self._rewriter, self._todo = rewriter, collections.deque(requests)
    self._lock, self._stop = threading.Lock(), threading.Event()
    self._done: queue.SimpleQueue = queue.SimpleQueue()
    self.busy = min(rewriter.workers, len(requests))
    for _ in range(self.busy):
      threading.Thread(target=self._work, daemon=True).start()

  def no_more(self):
    """Waits end and nothing new is asked; what is on its way goes on."""
    self._stop.set()

  def results(self):
    """What has come in, after at most a moment: (requests, answers or error)."""
    try:
      result = self._done.get(timeout=_POLL)
    except queue.Empty:
      return
    if result is None:
      self.busy -= 1
      return
    batch, outcome, kept = result
    try:
      yield batch, outcome
    finally:
      kept.set()

  def _work(self):
    try:
      while batch := self._take():
        try:
          outcome = self._rewriter.answer(batch, self._stop)
        except Exception as error:  # raised again by ask_all
          outcome = error
        # Nothing more is asked before this is on the disk: a process that is killed
        # loses no more answers than it has threads.
        kept = threading.Event()
        self._done.put((batch, outcome, kept))
        kept.wait()
    finally:
      self._done.put(None)

  def _take(self):
    with self._lock:
      if self._stop.is_set():
        return []
      count = min(self._rewriter.batch, len(self._todo))
      batch = [self._todo.popleft() for _ in range(count)]
    return batch
