"""Work done by threads some way ahead of whoever takes the results, in order."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T, R = TypeVar("T"), TypeVar("R")


def in_order(
  work: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int
) -> Iterator[R]:
  """work(item) of each item, in their order, by `threads`, at most `ahead` of them
  started and not taken. What is raised there is raised here; what waits then, or when
  the iterator is closed, is not begun."""
  waiting: collections.deque[Future[R]] = collections.deque()
  with ThreadPoolExecutor(threads) as pool:
    try:
      for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= ahead:
          yield waiting.popleft().result()
      while waiting:
        yield waiting.popleft().result()
    finally:
      for future in waiting:
        future.cancel()
