"""Groups of queries whose scores are also reported apart, against the whole gallery.

`group_by` names what groups them, several after commas: a truth of the records or of
their captions ("source", "camera", "granularity"), or what every dataset has: "length",
the number of words of the text, and "folder", the first folder of the query's own image
below the one that holds all images. "twin_group" (rendered people) divides into "near
twins" and "others".
"""

import bisect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tpr_jax.core import text
from tpr_jax.data.record import Dataset, Record

Names = list[str | None]  # of every query its group; None: in no group
WORDS = (10, 20, 40, 80)  # last number of words of each bucket of lengths
MOST = 100  # groups of one key: more are a mistake, such as the file's name


class GroupError(ValueError):
  """Queries cannot be grouped so."""


def keys(group_by: str) -> list[str]:
  """ "a, b" -> ["a", "b"]; none in ""."""
  return [key.strip() for key in group_by.split(",") if key.strip()]


def length(text: str) -> str:
  """The bucket of a text: "length=11-20 words"; words are what spaces divide."""
  number = len(text.split())
  place = bisect.bisect_left(WORDS, number)
  first = WORDS[place - 1] + 1 if place else 0
  last = f"-{WORDS[place]}" if place < len(WORDS) else " or more"
  return f"length={first}{last} words"


def of_dataset(
  dataset: Dataset, queries: Iterable[tuple[int, int]], group_by: str
) -> dict[str, Names]:
  """Key -> the group of every query; {} without `group_by`.

  Args:
    queries: (record, caption) of each.

  Raises:
    GroupError: no query has a value of a key, or they have more than MOST.
  """
  queries = [(int(record), int(caption)) for record, caption in queries]
  found = {}
  for key in keys(group_by):
    name = _namer(key, dataset)
    found[key] = [name(dataset.records[r], c) for r, c in queries]
    number = len(set(found[key]) - {None})
    if not number:
      raise GroupError(
        f"group_by={key!r}: no record has it; they have"
        f" {', '.join(_known(dataset)) or 'no truth'}; length always works"
      )
    if number > MOST:
      raise GroupError(
        f"group_by={key!r}: {number:,} groups of queries; expected at most {MOST}"
      )
  return found


def _namer(key: str, dataset: Dataset) -> Callable[[Record, int], str | None]:
  """(record, caption) -> the name of the group by this key."""
  if key == "length":
    return lambda record, caption: length(record.captions[caption])
  if key == "folder":
    above = os.path.commonpath([os.path.dirname(r.image) for r in dataset.records])
    place = len(above) + 1 if above else 0

    def of_path(record: Record, _: int) -> str | None:
      folder, inside, _ = record.image[place:].partition("/")
      return f"folder={folder}" if inside else None

    return of_path
  if key == "twin_group":
    return lambda record, _: "others" if record.truth.get(key) is None else "near twins"

  def of_truth(record: Record, caption: int) -> str | None:
    value = _value(record.truth, caption, key)
    return None if value is None else f"{key}={value}"

  return of_truth


def _value(truth: Mapping[str, Any], caption: int, key: str) -> Any:
  """The caption's own truth, or else the record's."""
  per_caption = truth.get("caption_truth")
  if isinstance(per_caption, (list, tuple)) and key in per_caption[caption]:
    return per_caption[caption][key]
  return truth.get(key)


def _known(dataset: Dataset) -> list[str]:
  """Truths by which a group can be made: plain values of the first record."""
  truth = dataset.records[0].truth if dataset.records else {}
  own = (truth.get("caption_truth") or [{}])[0]
  plain = (str, int, float, bool)
  both = {**truth, **own}
  return sorted(key for key, value in both.items() if isinstance(value, plain))


def ordered(names: Sequence[str | None]) -> list[str]:
  """The groups there are, once each; numbers within names by their size."""
  return sorted({name for name in names if name is not None}, key=text.natural)
