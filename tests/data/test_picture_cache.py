"""How much is kept in memory: the budget, and what the machine has left."""

import numpy as np

from tpr_jax.data import ram
from tpr_jax.data.picture_cache import PictureCache


def test_cache_leaves_a_quarter_of_the_machines_memory(caplog):
  """Looked at now and then as it grows; what was kept stays."""
  left = iter([ram.Ram(100, 90), ram.Ram(100, 26), ram.Ram(2**33, 2**31 - 1)])
  cache = PictureCache(4096, look=lambda: next(left))
  picture = np.zeros((2**12, 2**11, 3), np.uint8)  # 24 MiB
  for key in range(12):
    cache.put(key, picture[: 2**12 - key])  # pages of zeros: none of it is real
    assert cache.full == (key >= 6)
  assert len(cache) == 6 and cache.get(5) is not None and cache.get(6) is None
  assert "6 pictures are kept in memory and no more" in caplog.text
  assert "2.0 of the machine's 8.0 GiB" in caplog.text and len(caplog.records) == 1


def test_a_machine_that_tells_nothing_has_the_budget_alone():
  cache = PictureCache(100, look=lambda: None)
  for key in range(12):
    cache.put(key, np.zeros((2**11, 2**11, 3), np.uint8))  # 12 MiB
  assert len(cache) == 8 and cache.full
