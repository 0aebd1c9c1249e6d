"""A step compiled before it is needed: a program for each length of the texts.

The first program is compiled while the parameters are made and pictures are loaded, the
next ones while the first is already training; otherwise each length would stop the
training when it first occurs.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from typing import Any

import jax


class CompiledAhead:
  """step(state, batch, key), compiled in a thread for batches of known shapes.

  Args:
    step: a jitted function.
    state, key: its arguments, or their shapes and dtypes.
    batches: shapes and dtypes of the batches that will come, the first one first. A
      batch of other shapes is compiled when it comes.
  """

  def __init__(
    self,
    step: Callable[..., Any],
    state: Any,
    batches: Iterable[Mapping[str, jax.ShapeDtypeStruct]],
    key: Any,
  ):
    self._step = step
    self._pool = futures.ThreadPoolExecutor(1, thread_name_prefix="compile")
    self._programs = {
      _shapes(batch): self._pool.submit(
        lambda batch=batch: step.lower(state, batch, key).compile()
      )
      for batch in batches
    }

  def __call__(self, state: Any, batch: Mapping[str, Any], key: jax.Array) -> Any:
    program = self._programs.get(_shapes(batch))
    return (self._step if program is None else program.result())(state, batch, key)

  def close(self) -> None:
    """Starts no further compilation; one that is under way ends by itself."""
    self._pool.shutdown(wait=False, cancel_futures=True)


def _shapes(batch: Mapping[str, Any]) -> tuple[Any, ...]:
  return tuple((name, batch[name].shape, batch[name].dtype) for name in sorted(batch))
