"""The operations of a trace that JAX's profiler has written.

Each operation of a compiled program that ran has an event, with the names of program
and operation: on a CPU in the lines of the threads that ran it, on a GPU in those of
its streams, on a TPU in the line "XLA Ops".
"""

import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tpr_jax.profiling.problems import ProfileError

_OPERATIONS = "XLA Ops"


class Event(NamedTuple):
  """One operation that ran once.

  Attributes:
    device: the plane it is of: one a GPU or TPU, one for the host.
    program: number of the compiled program, as the runtime counts; -1: not told.
    name: of the instruction in the program's text.
    start, seconds: on the trace's clock.
  """

  device: str
  program: int
  name: str
  start: float
  seconds: float


def newest(folder: pathlib.Path) -> pathlib.Path:
  """The file of the newest trace below a folder. Raises ProfileError: there is none."""
  found = sorted(folder.glob("plugins/profile/*/*.xplane.pb"))
  if not found:
    raise ProfileError(f"{folder}: the profiler of JAX has written no trace")
  return found[-1]


def read(path: pathlib.Path, module: str) -> list[Event]:
  """The events of one program's operations, e.g. "jit_step", by their start."""
  from jax.profiler import ProfileData

  planes = ProfileData.from_file(str(path)).planes
  found = [event for plane in planes for event in _of_plane(plane, module)]
  return sorted(found, key=lambda event: event.start)


def _of_plane(plane: Any, module: str) -> Iterator[Event]:
  lines = list(plane.lines)
  # Where a device has this line, the others tell the same again in other words.
  named = [line for line in lines if line.name == _OPERATIONS]
  for line in named or lines:
    for event in line.events:
      stats = dict(event.stats)
      if "hlo_op" in stats and _same(str(stats.get("hlo_module", module)), module):
        yield Event(
          plane.name,
          int(stats.get("program_id", -1)),
          str(stats["hlo_op"]),
          event.start_ns / 1e9,
          event.duration_ns / 1e9,
        )


def _same(found: str, module: str) -> bool:
  """Names of modules may end in a number that tells several of one name apart."""
  head, _, number = found.rpartition(".")
  return found == module or (head == module and number.isdigit())


def programs(events: Iterable[Event]) -> list[int]:
  """The programs in the order in which they first ran."""
  return list(dict.fromkeys(event.program for event in events))


def busy(events: Iterable[Event]) -> dict[str, float]:
  """device -> seconds in which at least one operation ran."""
  total: dict[str, float] = {}
  ends: dict[str, float] = {}
  for event in sorted(events, key=lambda event: event.start):
    end = event.start + event.seconds
    before = ends.get(event.device, event.start)
    more = max(end - max(before, event.start), 0.0)
    total[event.device] = total.get(event.device, 0.0) + more
    ends[event.device] = max(end, before)
  return total
