"""One process alone; several are in tests/proofs/test_devices.py."""

import jax
import numpy as np
import pytest

from tpr_jax.core import processes, sharding


def test_alone_everything_is_immediate():
  value = {"a": [1, None], "b": "é"}
  assert processes.gather(value) == [value]
  processes.barrier("nobody else")
  votes = processes.Votes(sharding.make_mesh(dict(data=8)), 2)
  assert [votes((0, 1)), votes((1, 0))] == [(0, 1), (1, 0)]
  assert votes.rest() == (0, 0)


def test_of_several_votes_come_later_and_none_is_lost(monkeypatch):
  # Two processes, of which the other never has anything to say.
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(
    jax,
    "make_array_from_process_local_data",
    lambda at, rows: jax.device_put(np.concatenate([rows, 0 * rows]), at),
  )
  votes = processes.Votes(sharding.make_mesh(dict(data=8)), 2, lag=2)
  put = [(0, 1), (1, 0), (0, 2), (3, 0), (0, 4)]
  assert [votes(numbers) for numbers in put] == [(0, 0), (0, 0), *put[:3]]
  assert votes.rest() == (3, 4)
  assert votes.rest() == (0, 0)


def test_without_a_cluster_joining_says_how(monkeypatch):
  def initialize(*_, **__):
    raise ValueError("coordinator_address should be defined.")

  monkeypatch.setattr(jax.distributed, "initialize", initialize)
  with pytest.raises(processes.JoinError, match="--coordinator=HOST:PORT"):
    processes.join()
