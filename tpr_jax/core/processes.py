"""Several processes of one run: what they join, agree on and hand to each other.

Every function here is called by all processes at the same place of the program, as
collectives are; with one process each of them is immediate.
"""

import contextlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec


class JoinError(Exception):
  """The processes of a run cannot be brought together: says why."""


class PeerError(Exception):
  """What another process of the run could not do: says which one and why."""


def join(
  coordinator: str | None = None,
  count: int | None = None,
  index: int | None = None,
  *,
  timeout: int = 60,
) -> None:
  """Joins the other processes of the run; before anything else is done with JAX.

  Args:
    coordinator: "HOST:PORT" of process 0; None: found by itself, with the two below
      (SLURM, Cloud TPU, GKE, Open MPI).
    count, index: number of processes, and which of them this is.
    timeout: seconds after which a process that is silent is taken for dead; the others
      are then stopped by JAX.

  Raises:
    JoinError: no cluster is found, or the others do not come within five minutes.
  """
  # It would swallow SIGTERM at any time; the loop has its own agreement (`Votes`).
  jax.config.update("jax_enable_preemption_service", False)
  try:
    jax.distributed.initialize(
      coordinator, count, index, heartbeat_timeout_seconds=timeout
    )
  except (ValueError, RuntimeError) as error:
    raise JoinError(
      f"the processes of this run cannot be joined: {error}. Under SLURM, Open MPI, GKE"
      " and on Cloud TPU --distributed is enough; elsewhere give each process"
      " --coordinator=HOST:PORT --processes=N --process=I"
    ) from error


def barrier(name: str) -> None:
  """Returns once every process has come here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def gather(value: Any) -> list[Any]:
  """The JSON values of all processes, in their order."""
  if jax.process_count() == 1:
    return [value]
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(len(text)))
  rows = np.zeros(int(sizes.max()), np.uint8)
  rows[: len(text)] = text
  rows = multihost_utils.process_allgather(rows)
  return [
    json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)
  ]


@contextlib.contextmanager
def together() -> Iterator[None]:
  """A block that each process runs by itself, and none leaves before all are through.

  What one of them cannot do, none goes on without: an error is raised as it is where it
  came up, and in the others as a PeerError. Nothing in the block may wait for another
  process.
  """
  mine = None
  try:
    yield
  except Exception as error:
    mine = error
  told = gather(None if mine is None else f"{type(mine).__name__}: {mine}")
  if mine is not None:
    raise mine
  said = [f"process {i}: {text}" for i, text in enumerate(told) if text is not None]
  if said:
    raise PeerError("; ".join(said))


def leave() -> None:
  """Ends what `join` began, once every process has come here.

  From here on each goes on by itself: nothing may be asked of the others, and none
  waits for another's end.
  """
  if jax.process_count() > 1:
    barrier("leave")
    jax.distributed.shutdown()


class Votes:
  """Numbers that each process puts in at a step, and all read as one later.

  A signal reaches processes at different times, and one that left the loop alone would
  leave the others waiting. So each says at every step what it knows, and all act on the
  sum of an earlier step: the same one everywhere, and read when it is long there.

  Args:
    mesh: of all devices of all processes.
    width: how many numbers are put in at a time.
    lag: how many steps later they are read; 0 with one process.
  """

  def __init__(self, mesh: Mesh, width: int, lag: int = 2):
    self._alone = jax.process_count() == 1
    self._lag = 0 if self._alone else lag
    self._rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    self._per_process = mesh.devices.size // jax.process_count()
    whole = NamedSharding(mesh, PartitionSpec())
    self._sum = jax.jit(lambda rows: jnp.sum(rows, axis=0), out_shardings=whole)
    self._waiting: deque[Any] = deque()
    self._none = (0,) * width

  def __call__(self, numbers: Sequence[int]) -> tuple[int, ...]:
    """Puts in this step's numbers -> sums over the processes, `lag` steps ago."""
    if self._alone:
      return tuple(numbers)
    rows = np.zeros((self._per_process, len(self._none)), np.int32)
    rows[0] = numbers
    self._waiting.append(
      self._sum(jax.make_array_from_process_local_data(self._rows, rows))
    )
    if len(self._waiting) <= self._lag:
      return self._none
    return self._read()

  def rest(self) -> tuple[int, ...]:
    """The sums of everything that was put in and not read yet."""
    found = self._none
    while self._waiting:
      found = tuple(map(sum, zip(found, self._read(), strict=True)))
    return found

  def _read(self) -> tuple[int, ...]:
    return tuple(int(number) for number in np.asarray(self._waiting.popleft()))
