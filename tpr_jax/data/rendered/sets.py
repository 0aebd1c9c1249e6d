"""Rendered people: named sets, their splits, near twins, and the noise put on them.

Everything about a record is a pure function of (seed, set, split, identity, view):
how many identities or views are asked for changes no record, and captions can be
asked for in other granularities while the pictures stay the same.

Identities come in blocks of `BLOCK`. The first few of each block (option `twins`)
are near twins: they differ in two or three fine attributes, so only fine texts tell
them apart.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tpr_jax.data.record import Dataset, DatasetError, ImageError, Record, SplitError
from tpr_jax.data.rendered import attributes, binary, draw, grammar, stored

SIZE = (384, 128)
BLOCK = 10
MIXED = "mixed"
# First identity number of each split: no number is in two splits.
FIRST = {"train": 0, "val": 10_000_000, "test": 20_000_000}
SPLITS = tuple(FIRST)
VIEWS = {"train": 4, "val": 2, "test": 2}
TWINS = {"train": 0, "val": 3, "test": 3}  # near twins in every ten identities
IDENTITIES = {
  "quick": {"train": 600, "val": 100, "test": 200},
  "standard": {"train": 5_000, "val": 500, "test": 1_000},
}
# Streams of random numbers of one record, so that an option moves only its own.
_PERSON, _VIEW, _PICTURE, _TEXT, _WORDS, _PAIR, _TWINS, _REGION = range(8)


@dataclasses.dataclass(frozen=True)
class NamedSet:
  """What a set's name stands for.

  Attributes:
    code: number that sets its people apart from those of the other sets.
    domains: camera families (`attributes.DOMAINS`) that its views mix.
    splits: the splits that it has.
    granularity: default granularity of each of an image's captions.
  """

  code: int
  domains: tuple[str, ...]
  splits: tuple[str, ...] = SPLITS
  granularity: tuple[str, ...] = ("fine", "coarse")


SETS = {
  "rendered": NamedSet(1, ("street",)),
  "rendered_cross": NamedSet(
    2,
    ("street", "station", "night"),
    splits=("test",),
    granularity=("coarse", "medium", "fine"),
  ),
  "rendered_synthetic": NamedSet(3, ("mall",)),
  "rendered_target": NamedSet(4, ("station",)),
}


@dataclasses.dataclass(frozen=True)
class People:
  """The people of one split of one set: who they are and how they are seen.

  Picklable and small: input workers hold one. `index` counts identities from 0
  within the split.
  """

  name: str
  split: str
  seed: int
  twins: int

  def rng(self, stream: int, *numbers: int) -> np.random.Generator:
    code = SETS[self.name].code
    split = SPLITS.index(self.split)
    return np.random.default_rng([self.seed, code, split, stream, *numbers])

  def twin_group(self, index: int) -> int | None:
    """Number of the group of near twins that the identity is in, or None."""
    position = index % BLOCK
    if position >= self.twins:
      return None
    return index - position + _group_start(position, self.twins)

  def person(self, index: int) -> attributes.Person:
    group = self.twin_group(index)
    if group is None or group == index:
      return attributes.sample_person(self.rng(_PERSON, index))
    first = attributes.sample_person(self.rng(_PERSON, group))
    others = _group_size(group % BLOCK, self.twins) - 1
    twins = attributes.make_twins(first, self.rng(_TWINS, group), others)
    return twins[index - group - 1]

  def view(self, index: int, view: int) -> attributes.View:
    rng = self.rng(_VIEW, index, view)
    domains = SETS[self.name].domains
    return attributes.sample_view(rng, domains[int(rng.integers(len(domains)))])

  def picture(
    self, index: int, view: int, size: tuple[int, int], *, regions: bool = False
  ):
    """(uint8 [h, w, 3], region -> (cx, cy, w, h) normalised, {} unless asked for)."""
    rng = self.rng(_PICTURE, index, view)
    person, seen = _cached_person(self, index), self.view(index, view)
    return draw.draw(person, seen, *size, rng, regions=regions)

  def load_image(self, record: Record, size: tuple[int, int] | None) -> np.ndarray:
    """Draws the record's picture, uint8 RGB [h, w, 3], at `size` or 384 x 128."""
    index, view = self.place(record.image)
    return self.picture(index, view, size or SIZE)[0]

  def place(self, image: str) -> tuple[int, int]:
    """Name of an image -> (index of the identity, view). Raises ImageError."""
    split, *numbers = image.split("/")
    if split != self.split or len(numbers) != 2 or not all(map(str.isdigit, numbers)):
      raise ImageError(
        f"{image!r} is no rendered picture of this split: expected a name such as "
        f"{self.split}/000012/1"
      )
    return int(numbers[0]), int(numbers[1])


def _groups(twins):
  """Sizes of the groups that `twins` near twins of a block form: threes, then twos."""
  threes, rest = divmod(twins, 3)
  if rest == 1 and threes:
    return [3] * (threes - 1) + [2, 2]
  return [3] * threes + [rest] * (rest > 0)


def _group_start(position, twins):
  start = 0
  for size in _groups(twins):
    if position < start + size:
      return start
    start += size
  raise ValueError(f"position {position} is in no group of {twins} twins")


def _group_size(start, twins):
  sizes = _groups(twins)
  return next(size for i, size in enumerate(sizes) if sum(sizes[:i]) == start)


@dataclasses.dataclass(frozen=True)
class Texts:
  """Which captions an image gets, and what is wrong with them on purpose."""

  granularity: tuple[str, ...]
  style: str | tuple[str, ...]
  word_noise: float
  pair_noise: float

  def captions(self, people: People, index: int, view: int, seen: attributes.View):
    """([Description], [truth of each], identity told instead of this one, or None)."""
    donor = self._donor(people, index, view)
    told = index if donor is None else donor
    person = _cached_person(people, told)
    seen = seen if donor is None else people.view(told, view)
    described, truths = [], []
    for number, granularity in enumerate(self.granularity):
      # The n-th text of a granularity is the same whatever else is asked for.
      again = self.granularity[:number].count(granularity)
      kind = grammar.GRANULARITIES.index(granularity)
      rng = people.rng(_TEXT, told, view, kind, again)
      style = self._style(rng)
      description = grammar.describe(person, seen, granularity, style, rng)
      if self.word_noise:
        rng = people.rng(_WORDS, told, view, kind, again)
        description = grammar.corrupt(description, person, rng, self.word_noise)
      described.append(description)
      truths.append(
        {
          "granularity": granularity,
          "style": style,
          "wrong_spans": [list(span) for span in description.wrong],
        }
      )
    return described, truths, donor

  def _style(self, rng):
    chance = rng.random()  # drawn always: a fixed style tells the same things
    if isinstance(self.style, str) and self.style != MIXED:
      return self.style
    styles = grammar.STYLES if self.style == MIXED else self.style
    return styles[int(chance * len(styles))]

  def _donor(self, people, index, view):
    """Somebody of the same block, no near twin, whose texts are put here instead."""
    if not self.pair_noise:
      return None
    rng = people.rng(_PAIR, index, view)
    if rng.random() >= self.pair_noise:
      return None
    start, group = index - index % BLOCK, people.twin_group(index)
    others = [
      i
      for i in range(start, start + BLOCK)
      if i != index and (group is None or people.twin_group(i) != group)
    ]
    return others[int(rng.integers(len(others)))]


@functools.lru_cache(maxsize=4 * BLOCK)
def _cached_person(people, index):
  return people.person(index)


def load(
  split: str,
  *,
  seed: int = 0,
  size: str = "quick",
  name: str = "rendered",
  granularity: str | Sequence[str] | None = None,
  style: str | Sequence[str] = MIXED,
  word_noise: float = 0.0,
  pair_noise: float = 0.0,
  identities: int | None = None,
  views: int | None = None,
  twins: int | None = None,
  regions: bool = False,
  labels: bool = False,
) -> Dataset:
  """One split of a set of rendered people.

  Args:
    split: "train", "val" or "test" (`rendered_cross` has a test split only).
    seed: another seed, other people.
    size: "quick" or "standard": how many identities (`IDENTITIES`).
    name: a key of `SETS`.
    granularity: one caption an image for each; None: the set's own choice.
    style: one style, several to draw from, or "mixed" for all.
    word_noise: share of attribute phrases that are wrong; spans in the truth.
    pair_noise: share of images whose captions are somebody else's; a flag in the
      truth.
    identities: how many, instead of `size`. views: pictures of each.
    twins: near twins in every ten identities, 0 or 2 to 10; None: 3 in val and test.
    regions: whether the truth has boxes of body regions, each with a phrase. Draws
      every picture once.
    labels: whether the truth has the attributes with two values (binary.py).

  Truth of a record: domain, direction, view, twin_group (identity number of the
  group's first member, or None), caption_truth (per caption granularity, style,
  wrong_spans as [start, end) in characters), pair_noise, caption_identity (whom the
  captions tell about), and where asked regions [{region, box, phrase}] with boxes
  (cx, cy, w, h), shares of the picture, and label, a list of 0, 1 and -1.

  Raises:
    DatasetError: a name or number that is not allowed (SplitError for a split that
      the set lacks).
  """
  named = _named_set(name, split)
  texts = Texts(
    granularity=_known_all("granularity", granularity or named.granularity),
    style=style if style == MIXED else _one_or_all(_known_all("style", style)),
    word_noise=_share("word_noise", word_noise),
    pair_noise=_share("pair_noise", pair_noise),
  )
  count = _identities(size, split) if identities is None else identities
  views = VIEWS[split] if views is None else views
  twins = TWINS[split] if twins is None else twins
  _check_numbers(seed, count, views, twins)
  people = People(name, split, seed, twins)

  def make():
    return tuple(
      _record(people, texts, index, view, regions, labels)
      for index in range(count)
      for view in range(views)
    )

  asked = dataclasses.asdict(people) | dataclasses.asdict(texts)
  asked |= dict(identities=count, views=views, regions=regions, labels=labels)
  return Dataset(name, split, stored.records(asked, make), people.load_image)


def _record(people, texts, index, view, regions, labels):
  first, seen = FIRST[people.split], people.view(index, view)
  group = people.twin_group(index)
  described, truths, donor = texts.captions(people, index, view, seen)
  truth: dict[str, Any] = {
    "domain": seen.domain,
    "direction": seen.direction,
    "view": view,
    "twin_group": None if group is None else first + group,
    "caption_truth": truths,
    "pair_noise": donor is not None,
    "caption_identity": first + (index if donor is None else donor),
  }
  if regions:
    truth["regions"] = region_truth(people, index, view)
  if labels:
    truth["label"] = binary.label(_cached_person(people, index), seen)
  return Record(
    image=f"{people.split}/{index:06d}/{view}",
    identity=first + index,
    captions=tuple(description.text for description in described),
    split=people.split,
    source=people.name,
    truth=truth,
  )


def region_truth(people: People, index: int, view: int) -> list[dict[str, Any]]:
  """Boxes of the regions that a picture shows, each with a phrase about it."""
  person, seen = _cached_person(people, index), people.view(index, view)
  rng, found = people.rng(_REGION, index, view), []
  for region, box in people.picture(index, view, SIZE, regions=True)[1].items():
    phrase = grammar.phrase(person, seen, region, rng)
    if phrase:
      box = [round(float(number), 4) for number in box]
      found.append({"region": region, "box": box, "phrase": phrase})
  return found


def _named_set(name, split):
  if name not in SETS:
    raise DatasetError(f"no rendered set {name!r}; sets: {', '.join(SETS)}")
  if split not in SETS[name].splits:
    splits = ", ".join(SETS[name].splits)
    raise SplitError(f"{name} has no split {split!r}; it has: {splits}")
  return SETS[name]


def _known_all(what, value):
  known = grammar.STYLES if what == "style" else grammar.GRANULARITIES
  values = (value,) if isinstance(value, str) else tuple(value)
  wrong = [v for v in values if v not in known]
  if wrong or not values:
    more = f", {MIXED}" if what == "style" else ""
    raise DatasetError(
      f"{what} is {value!r}, expected one or more of {', '.join(known)}{more}"
    )
  return values


def _one_or_all(values):
  return values[0] if len(values) == 1 else values


def _share(what, value):
  if not 0 <= value <= 1:
    raise DatasetError(f"{what} is {value}, expected a share from 0 to 1")
  return float(value)


def _identities(size, split):
  if size not in IDENTITIES:
    raise DatasetError(
      f"no size {size!r}; sizes: {', '.join(IDENTITIES)}, or any number of "
      "identities with identities="
    )
  return IDENTITIES[size][split]


def _check_numbers(seed, identities, views, twins):
  most = FIRST["val"] - FIRST["train"]
  for what, value, low, high in (
    ("seed", seed, 0, 2**63),
    ("identities", identities, 1, most),
    ("views", views, 1, 1_000),
    ("twins", twins, 0, BLOCK),
  ):
    if isinstance(value, bool) or int(value) != value or not low <= value <= high:
      raise DatasetError(f"{what} is {value!r}, expected a number from {low} to {high}")
  if twins == 1:
    raise DatasetError(
      f"twins is 1: near twins come in groups; expected 0 or 2 to {BLOCK}"
    )
