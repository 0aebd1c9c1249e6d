"""The most bytes that tensors hold at once while PyTorch code runs, on any device.

Counts storages as operations make them and as they die; with fake tensors nothing is
allocated and nothing is computed, so that a step that no machine here could hold is
counted too.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):
  """Bytes of the storages that were made inside and live: `now`, and the `most` yet."""

  def __init__(self):
    super().__init__()
    self.now = self.most = 0
    self._seen = weakref.WeakKeyDictionary()

  def known(self, tensors: Any) -> None:
    """Tensors from before, which do not count."""
    for tensor in tensors:
      self._seen[tensor.untyped_storage()] = True

  def __torch_dispatch__(self, func, types, args=(), kwargs=None):
    out = func(*args, **(kwargs or {}))
    for leaf in tree_leaves(out):
      if isinstance(leaf, torch.Tensor):
        self._add(leaf.untyped_storage())
    return out

  def _add(self, storage: torch.UntypedStorage) -> None:
    if storage in self._seen:
      return
    self._seen[storage] = True
    size = storage.nbytes()
    self.now += size
    self.most = max(self.most, self.now)
    weakref.finalize(storage, self._less, size)

  def _less(self, size: int) -> None:
    self.now -= size


def of_step(make: Callable[[], tuple[Callable[[], Any], list[torch.Tensor]]]) -> int:
  """Most bytes that live within one step, beside what was there before.

  Args:
    make: () -> (step, tensors that are there before it), under fake tensors.
  """
  with FakeTensorMode():
    step, before = make()
    with Peak() as peak:
      peak.known(before)
      step()
  return peak.most
