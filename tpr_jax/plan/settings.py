"""What is planned: slices, batches, and the assumptions of the time estimate."""

import dataclasses
from collections.abc import Iterator, Sequence

from tpr_jax.plan import chips
from tpr_jax.plan.problems import PlanError


@dataclasses.dataclass(frozen=True)
class Assumptions:
  """Shares, each above 0 and at most 1; overlap may be 0.

  Attributes:
    mfu: of the peak rate that matrix products reach.
    hbm, ici: of the published bandwidths that are reached.
    overlap: of the collectives' time that is hidden behind other work.
  """

  mfu: float = 0.4
  overlap: float = 0.0
  hbm: float = 0.8
  ici: float = 0.8

  def __post_init__(self):
    for name, value in dataclasses.asdict(self).items():
      if not 0 <= value <= 1 or (value == 0 and name != "overlap"):
        raise PlanError(f"--{name}={value}: expected a share of 1, for example 0.5")


@dataclasses.dataclass(frozen=True)
class Case:
  """One row: a slice, a global batch, and the numbers of micro-batches to try."""

  slice: chips.Slice
  batch: int
  micro_batches: tuple[int, ...]

  def __str__(self) -> str:
    return f"{self.slice.name}, batch {self.batch:,}"


@dataclasses.dataclass(frozen=True)
class Settings:
  """A whole table.

  Attributes:
    asked: slices with their own batches, or () for `batches`.
    classes: training identities, or None for the published ones.
    effort: of XLA, -1 to 1; 0 is what a training run gets.
  """

  asked: tuple[tuple[chips.Slice, tuple[int, ...]], ...]
  batches: tuple[int, ...]
  micro_batches: tuple[int, ...]
  assumptions: Assumptions
  classes: int | None = None
  effort: float = 0.0

  def cases(self) -> Iterator[Case]:
    for place, own in self.asked:
      for batch in own or self.batches:
        yield Case(place, batch, self.micro_batches)

  @property
  def slices(self) -> tuple[chips.Slice, ...]:
    return tuple(place for place, _ in self.asked)


def read(
  topology: str,
  batches: Sequence[str],
  micro_batches: Sequence[str],
  *,
  default_batch: int,
  default_micro_batches: int,
  assumptions: Assumptions,
  classes: int | None = None,
  effort: float = 0.0,
) -> Settings:
  """Settings from the flags as typed; empty lists take the config's values.

  Raises:
    PlanError: what cannot be read.
  """
  if classes is not None and classes < 1:
    raise PlanError(f"--classes={classes}: expected the number of training identities")
  if not -1 <= effort <= 1:
    raise PlanError(
      f"--effort={effort}: expected a number from -1 to 1; training has 0"
    )
  return Settings(
    _asked(topology),
    _numbers("batches", batches) or (default_batch,),
    _numbers("micro_batches", micro_batches) or (default_micro_batches,),
    assumptions,
    classes,
    effort,
  )


def _asked(topology: str) -> tuple[tuple[chips.Slice, tuple[int, ...]], ...]:
  """ "v5e:2x4@512@1024,v5e:4x4" -> slices, the first with batches of its own."""
  found = {}
  for part in topology.split(","):
    if part.strip():
      text, *own = part.split("@")
      found[chips.parse(text)] = _numbers("topology", own)
  if not found:
    raise PlanError("--topology: none is named, for example --topology=v5e:2x4,v5e:4x4")
  return tuple(found.items())


def _numbers(flag: str, words: Sequence[str]) -> tuple[int, ...]:
  found = []
  for word in words:
    if not word.strip().isdigit() or int(word) < 1:
      raise PlanError(f"--{flag}: {word!r}: expected whole numbers, such as 512,1024")
    found.append(int(word))
  return tuple(dict.fromkeys(found))
