"""What of a dataset turned out to be bad, and how much of it may be.

Names and reasons by kind. Equal finds give equal objects and equal JSON, in whatever
order, thread or process they were made, so that processes can put theirs together and
a run that was stopped and resumed writes what one in a piece writes.
"""

import bisect
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tpr_jax.data.record import DatasetError

# Kind -> the words for one and for several. A subclass of ImageError names its kind.
KINDS = {
  "missing": ("missing file", "missing files"),
  "unopened": ("file that cannot be opened", "files that cannot be opened"),
  "damaged": ("damaged file", "damaged files"),
  "size": ("absurd size", "absurd sizes"),
  "bomb": ("decompression bomb", "decompression bombs"),
  "caption": ("picture with bad captions", "pictures with bad captions"),
}
CAPTION = "caption"  # the one kind that is not about pixels
MAX_BROKEN = 0.01  # of runs whose config has no data.max_broken
REASONS = 1_000  # kept of each kind: those of the first names; all names are kept
REASON_LENGTH = 300  # characters
_SHOWN = 3  # examples of each kind that people are shown


class BadData(DatasetError):
  """More of a dataset is bad than the run may do without: says what, and what to do."""


def check_limit(limit: float) -> None:
  """Raises ValueError where `limit` is no share for `data.max_broken`."""
  number = isinstance(limit, int | float) and not isinstance(limit, bool)
  if not number or not 0 <= limit <= 1:
    raise ValueError(
      f"data.max_broken={limit!r}: expected a share from 0 (no picture may be bad) to "
      "1 (training never stops for it), for example 0.01"
    )


@dataclasses.dataclass
class Damage:
  """The bad pictures of one split, by name, and the rows of training they cost.

  A picture is bad when it cannot be read, or when one of its captions is no text or
  empty. All names are kept (some 100 bytes each: 5 MB for 1 % of 5 million), reasons
  of the first REASONS names of each kind in sorted order, cut to REASON_LENGTH.

  Attributes:
    data: name of the split, "cuhk_pedes/train".
    pictures: how many pictures it has.
    replaced: rows of training that showed another example instead of their own.
    found: kind (KINDS) -> image name -> reason, or "" where it is not kept.
  """

  data: str
  pictures: int
  replaced: int = 0
  found: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    # The names of each kind whose reasons are kept, sorted.
    self._kept = {k: sorted(n for n in v if v[n]) for k, v in self.found.items()}
    self._count = len(set().union(*self.found.values()))

  def __contains__(self, name: str) -> bool:
    return any(name in names for names in self.found.values())

  def __len__(self) -> int:
    """Distinct pictures."""
    return self._count

  def add(self, name: str, kind: str, reason: str) -> bool:
    """Takes a bad picture in; was its name new?

    Of two reasons for one name and kind the first in the alphabet stays, so that it
    does not matter which came first.
    """
    if kind not in KINDS:
      raise ValueError(f"kind of damage {kind!r}, expected one of {', '.join(KINDS)}")
    new = name not in self
    self._count += new
    names = self.found.setdefault(kind, {})
    kept = self._kept.setdefault(kind, [])
    if len(reason) > REASON_LENGTH:
      reason = reason[: REASON_LENGTH - 3] + "..."
    if names.get(name):
      names[name] = min(names[name], reason or names[name])
    elif not reason or (len(kept) == REASONS and name > kept[-1]):
      names[name] = ""
    else:
      names[name] = reason
      bisect.insort(kept, name)
      if len(kept) > REASONS:
        names[kept.pop()] = ""
    return new

  def merge(self, other: "Damage") -> "Damage":
    """Both together: the union of the names, the sum of the rows replaced.

    For the finds of several processes on one split, or of one before and after a stop.
    Raises ValueError where they are of different splits.
    """
    if (self.data, self.pictures) != (other.data, other.pictures):
      raise ValueError(
        f"cannot put the damage of {self.data} ({self.pictures:,} pictures) and of "
        f"{other.data} ({other.pictures:,} pictures) together: expected one split"
      )
    both = Damage(self.data, self.pictures, self.replaced + other.replaced)
    for one in (self, other):
      for kind, names in one.found.items():
        for name, reason in names.items():
          both.add(name, kind, reason)
    return both

  def unreadable(self) -> dict[str, str]:
    """Image name -> reason, of those that cannot be read; sorted by name."""
    found = {}
    for kind, names in self.found.items():
      if kind != CAPTION:
        found.update(names)
    return dict(sorted(found.items()))

  def share(self) -> float:
    """Distinct bad pictures / pictures of the split; 0 for a split without pictures."""
    return len(self) / self.pictures if self.pictures else 0.0

  def allowed(self, limit: float) -> int:
    """How many pictures may be bad under `limit`, a share of the split in [0, 1].

    One may always be, unless the limit is 0: one file among 50 is 2 %, and is no reason
    to stop a run of the small split that a first try is made on.
    """
    check_limit(limit)
    if limit == 0:
      return 0
    return max(1, math.floor(limit * self.pictures + 1e-9))  # 0.29 * 100 is 28.99...

  def over(self, limit: float) -> bool:
    """Are more pictures bad than `allowed`? Never with a limit of 1."""
    return limit < 1 and len(self) > self.allowed(limit)

  def check(self, limit: float, after: str = "") -> None:
    """Raises BadData where `over(limit)`; `after` ends its text."""
    if self.over(limit):
      raise BadData("\n".join(filter(None, [self.explain(limit), after])))

  def lines(self) -> list[str]:
    """A line for each kind: how many, and some of them."""
    found = []
    for kind, (one, several) in KINDS.items():
      names = self.found.get(kind, {})
      if not names:
        continue
      shown = [names[name] or name for name in sorted(names)[:_SHOWN]]
      if kind == "missing":  # their reasons only repeat the name
        shown = sorted(names)[:_SHOWN]
      more = "; ..." if len(names) > len(shown) else ""
      words = one if len(names) == 1 else several
      found.append(f"  {len(names):,} {words}: {'; '.join(shown)}{more}")
    return found

  def explain(self, limit: float) -> str:
    """For people: how many, of which kinds, why that stops the run, and what to do."""
    share = f"{100 * self.share():.3g} %"
    allowed = self.allowed(limit)
    return "\n".join(
      [
        f"{len(self):,} of the {self.pictures:,} pictures of {self.data} are bad "
        f"({share} so far), more than data.max_broken={limit:g} allows ({allowed:,}):",
        *self.lines(),
        "Every one that was met is in bad_data.json of the run folder; --mode=check "
        "with the same config reads the whole dataset and lists all. Mend the files, "
        "or allow a larger share: --config.data.max_broken=SHARE (1: never stop).",
      ]
    )

  def to_json(self) -> dict[str, Any]:
    """Plain values, kinds and names sorted; `from_json` gives an equal object back."""
    found = {k: dict(sorted(v.items())) for k, v in sorted(self.found.items()) if v}
    return dict(
      data=self.data,
      pictures=self.pictures,
      bad=len(self),
      replaced=self.replaced,
      found=found,
    )

  @classmethod
  def from_json(cls, plain: Mapping[str, Any]) -> "Damage":
    """The object that `to_json` was made of."""
    found = {kind: dict(names) for kind, names in plain["found"].items()}
    return cls(plain["data"], plain["pictures"], plain["replaced"], found)
