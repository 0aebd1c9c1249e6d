"""Which captions of a split can be trained on, and what is wrong with the others.

A caption is left out where it is no text, or has no token between start and end: empty,
white space, or nothing that the tokenizer's cleaning leaves. An empty text would teach
that nothing describes everybody. Evaluation leaves none out (encoding.py).
"""

import contextlib
import dataclasses
from collections.abc import Sequence

import numpy as np

from tpr_jax.data.damage import CAPTION, Damage
from tpr_jax.data.record import Dataset, DatasetError, ImageError, Record, Stream
from tpr_jax.data.tokenizer import Tokenizer, cut_report

_EMPTY = 2  # tokens of an empty caption: start and end
_SAMPLE = 1_000  # captions of a stream that are looked at before training


class NoWords(ImageError):
  """A caption that a stream gave has no words, or is no text."""

  kind = CAPTION


def index(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
  """All captions in order -> (record index, number within it), int32 [n] each."""
  if dataset.stream is not None:
    return dataset.stream.record, dataset.stream.number
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
    labels: int32 [n], the training label of each.
    tokens: int32 [n, length], or uint16, half the memory, where the vocabulary allows.
    counts: int32 [n], before cutting (Tokenizer.encode).
    left_out: captions of the source that are not among them.
  """

  record: np.ndarray
  number: np.ndarray
  labels: np.ndarray
  tokens: np.ndarray
  counts: np.ndarray
  left_out: int

  @property
  def length(self) -> int:
    return self.tokens.shape[1]

  def read(self, at: int, record: Record) -> tuple[str, np.ndarray]:
    """Caption `at`, of this record, and its tokens: int32 [length]."""
    return record.captions[self.number[at]], self.tokens[at].astype(np.int32)

  def report(self) -> str:
    """How many of them `length` cuts, as a line."""
    return cut_report(self.counts, self.length)


@dataclasses.dataclass(frozen=True)
class StreamedCaptions:
  """The same for a `Stream`: none is held, each is encoded when it is read.

  So it comes to light only then that one has no words: `read` raises, as a picture that
  cannot be read does, and the row of training shows another example.
  """

  stream: Stream
  tokenizer: Tokenizer
  length: int

  @property
  def record(self) -> np.ndarray:
    return self.stream.record

  @property
  def number(self) -> np.ndarray:
    return self.stream.number

  @property
  def labels(self) -> np.ndarray:
    return self.stream.labels

  @property
  def left_out(self) -> int:
    return self.stream.left_out

  def read(self, at: int, record: Record) -> tuple[str, np.ndarray]:
    """Caption `at`, of this record, and its tokens: int32 [length].

    Raises:
      NoWords: it has none.
      DatasetError: the record has no such caption.
    """
    number = int(self.number[at])
    if number >= len(record.captions):
      raise DatasetError(
        f"{record.image} has {len(record.captions)} captions, and the index asks for "
        f"number {number}: write the shards again"
      )
    caption = record.captions[number]
    words = isinstance(caption, str)
    if words:
      tokens, counts = self.tokenizer.encode([caption], self.length)
      words = counts[0] > _EMPTY
    if not words:
      raise NoWords(f"{record.image}: {say(number, caption)}")
    return caption, tokens[0]

  def report(self) -> str:
    """How many of a sample, drawn from all of the stream, `length` cuts, as a line."""
    whole = len(self.record)
    texts, sample = [], min(whole, _SAMPLE)
    # Not evenly spaced: then of records with two captions all might be the first.
    drawn = np.random.default_rng(0).choice(whole, sample, replace=False)
    for at in np.sort(drawn).tolist():
      with contextlib.suppress(ImageError):
        captions = self.stream[int(self.record[at])].captions
        texts += captions[self.number[at] : self.number[at] + 1]
    texts = [text for text in texts if isinstance(text, str)]
    report = cut_report(self.tokenizer.encode(texts, self.length)[1], self.length)
    if sample < whole:
      report += f": a sample of {whole:,}, which are encoded as they are read"
    return report


def usable(
  dataset: Dataset, tokenizer: Tokenizer, length: int, damage: Damage
) -> Captions | StreamedCaptions:
  """The captions to train on; the pictures of all others are added to `damage`.

  Of a stream these are all its texts, and what was known to be bad when it was written
  is added: also pictures that could not be read then.
  """
  if dataset.stream is not None:
    for kind, names in dataset.stream.bad.items():
      for name, reason in names.items():
        damage.add(name, kind, reason)
    return StreamedCaptions(dataset.stream, tokenizer, length)
  record, number = index(dataset)
  texts = [text for each in dataset.records for text in each.captions]
  is_text = np.array([isinstance(text, str) for text in texts], bool)
  tokens, counts = tokenizer.encode(
    [text if good else "" for text, good in zip(texts, is_text, strict=True)], length
  )
  good = counts > _EMPTY
  blame(dataset, record[~good], number[~good], damage)
  left_out = int((~good).sum()) + unusable(dataset)
  if not good.all():  # else no copy of what may be gigabytes
    record, number, tokens, counts = (a[good] for a in (record, number, tokens, counts))
  if tokenizer.vocab_size <= 2**16:
    tokens = tokens.astype(np.uint16)
  labels = training_labels(dataset)[record]
  return Captions(record, number, labels, tokens, counts, left_out)


def training_labels(dataset: Dataset) -> np.ndarray:
  """int32 [records]: training label of every record, 0..N-1 by sorted identity."""
  labels = {identity: i for i, identity in enumerate(dataset.identities)}
  return np.asarray([labels[record.identity] for record in dataset.records], np.int32)


def unusable(dataset: Dataset) -> int:
  """How many captions of the source are no text, and so not among the records'."""
  return sum(len(record.unusable) for record in dataset.records)


def blame(dataset: Dataset, record, number, damage: Damage) -> None:
  """Adds to `damage` the pictures without captions, with unusable or empty ones.

  record, number: int [k], the captions that have no words.
  """
  wrong: dict[int, list[str]] = {}
  for i, j in zip(record, number, strict=True):
    said = say(j, dataset.records[i].captions[j])
    wrong.setdefault(int(i), []).append(said)
  for i, each in enumerate(dataset.records):
    if reason := fault(each, wrong.get(i, ())):
      damage.add(each.image, CAPTION, reason)


def fault(record: Record, more: Sequence[str] = ()) -> str:
  """What is wrong with a record's captions, and `more`; "" for nothing."""
  reasons = [*record.unusable, *more]
  if record.captions and not reasons:
    return ""
  return f"{record.image}: {'; '.join(reasons) or 'no caption'}"


def say(number: int, caption: object) -> str:
  """Why a caption is no use: it is empty, or no text."""
  if isinstance(caption, str):
    return f"caption {number} is empty ({_short(caption)})"
  return f"caption {number} is no text but {type(caption).__name__} {_short(caption)}"


def _short(value: object) -> str:
  text = repr(value)
  return text if len(text) <= 40 else f"{text[:37]}..."
