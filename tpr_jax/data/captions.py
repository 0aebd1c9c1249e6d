"""Which captions of a split can be trained on, and what is wrong with the others.

A caption is left out where it is no text, or has no token between start and end: empty,
white space, or nothing that the tokenizer's cleaning leaves. An empty text would teach
that nothing describes everybody. Evaluation leaves none out (encoding.py).
"""

import dataclasses

import numpy as np

from tpr_jax.data.damage import CAPTION, Damage
from tpr_jax.data.record import Dataset
from tpr_jax.data.tokenizer import Tokenizer

_EMPTY = 2  # tokens of an empty caption: start and end


def index(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
  """All captions in order -> (record index, number within it), int32 [n] each."""
  pairs = [
    (i, j)
    for i, record in enumerate(dataset.records)
    for j in range(len(record.captions))
  ]
  record, caption = np.asarray(pairs, np.int32).reshape(-1, 2).T
  return record, caption


@dataclasses.dataclass(frozen=True)
class Captions:
  """The captions of a split that can be trained on, encoded, in the records' order.

  Attributes:
    record, number: int32 [n], which caption of which record.
    tokens: int32 [n, length]; counts: int32 [n], before cutting (Tokenizer.encode).
    left_out: captions of the source that are not among them.
  """

  record: np.ndarray
  number: np.ndarray
  tokens: np.ndarray
  counts: np.ndarray
  left_out: int


def usable(
  dataset: Dataset, tokenizer: Tokenizer, length: int, damage: Damage
) -> Captions:
  """The captions to train on; the pictures of all others are added to `damage`."""
  record, number = index(dataset)
  texts = [text for each in dataset.records for text in each.captions]
  is_text = np.array([isinstance(text, str) for text in texts], bool)
  tokens, counts = tokenizer.encode(
    [text if good else "" for text, good in zip(texts, is_text, strict=True)], length
  )
  good = counts > _EMPTY
  blame(dataset, record[~good], number[~good], damage)
  left_out = int((~good).sum()) + unusable(dataset)
  if good.all():  # no copy of what may be gigabytes
    return Captions(record, number, tokens, counts, left_out)
  return Captions(record[good], number[good], tokens[good], counts[good], left_out)


def unusable(dataset: Dataset) -> int:
  """How many captions of the source are no text, and so not among the records'."""
  return sum(len(record.unusable) for record in dataset.records)


def blame(dataset: Dataset, record, number, damage: Damage) -> None:
  """Adds to `damage` the pictures without captions, with unusable or empty ones.

  record, number: int [k], the captions that have no words.
  """
  wrong: dict[int, list[str]] = {}
  for i, j in zip(record, number, strict=True):
    said = _say(j, dataset.records[i].captions[j])
    wrong.setdefault(int(i), []).append(said)
  for i, each in enumerate(dataset.records):
    reasons = [*each.unusable, *wrong.get(i, ())]
    if reasons or not each.captions:
      reason = "; ".join(reasons) or "no caption"
      damage.add(each.image, CAPTION, f"{each.image}: {reason}")


def _say(number: int, caption: object) -> str:
  if isinstance(caption, str):
    return f"caption {number} is empty ({_short(caption)})"
  return f"caption {number} is no text but {type(caption).__name__} {_short(caption)}"


def _short(value: object) -> str:
  text = repr(value)
  return text if len(text) <= 40 else f"{text[:37]}..."
