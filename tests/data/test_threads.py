"""data/threads.py: results in order, some way ahead, and nothing begun in vain."""

import threading
import time

import pytest

from tpr_jax.data import threads


def test_results_are_in_the_order_of_the_items():
  def slow_at_first(n):
    time.sleep(0.02 if n < 3 else 0)
    return n * n

  found = threads.in_order(slow_at_first, range(20), threads=4, ahead=6)
  assert list(found) == [n * n for n in range(20)]


def test_no_more_than_asked_are_taken_ahead():
  taken = []

  def items():
    for n in range(10):
      taken.append(n)
      yield n

  found = threads.in_order(str, items(), threads=2, ahead=3)
  assert next(found) == "0" and taken == [0, 1, 2]
  assert next(found) == "1" and taken == [0, 1, 2, 3]
  found.close()
  assert len(taken) == 4


def test_an_error_comes_in_its_place_and_what_waits_is_not_begun():
  begun, free = [], threading.Event()

  def work(n):
    begun.append(n)
    if n == 1:
      raise ValueError("one")
    if n == 2:
      free.wait(5)
    return n

  found = threads.in_order(work, range(9), threads=1, ahead=9)
  threading.Timer(0.2, free.set).start()
  assert next(found) == 0
  with pytest.raises(ValueError, match="one"):
    next(found)
  assert max(begun) <= 3
