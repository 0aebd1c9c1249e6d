"""Which tokens of a caption are wrong on purpose, by the truth of rendered people.

With `word_noise`, a record's truth has for each caption `wrong_spans`, characters
[start, end) of phrases that tell what the person does not have (rendered/sets.py). A
token is wrong where it has a character in such a span. Captions that were given to the
wrong picture as a whole (`pair_noise`) are another kind of noise: their spans mark the
words that were changed, not all that does not fit.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from tpr_jax.data.record import DatasetError, Record
from tpr_jax.data.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Word:
  """A word of a caption, split at white space.

  Attributes:
    text: as it is written, punctuation included.
    positions: of its tokens in the ids of `Tokenizer.encode`; one at least.
    wrong: whether any of these tokens is.
  """

  text: str
  positions: tuple[int, ...]
  wrong: bool


def wrong_tokens(
  tokenizer: Tokenizer, record: Record, number: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
  """(wrong, word): bool [length] each, for the ids of `encode([caption], length)`.

  wrong: tokens with a character in a wrong span. word: tokens between start and end;
  `wrong` holds for no other. A token that is cut off is in neither.

  Args:
    number: which caption of the record.

  Raises:
    DatasetError: the record does not know which words are wrong.
    TokenizerError: the tokenizer cannot tell which characters a token stands for.
  """
  wrong = tokens_in(tokenizer, record, number, length, wrong_spans(record, number))
  whole = [(0, len(record.captions[number]))]
  return wrong, tokens_in(tokenizer, record, number, length, whole)


def tokens_in(
  tokenizer: Tokenizer,
  record: Record,
  number: int,
  length: int,
  spans: Sequence[tuple[int, int]],
) -> np.ndarray:
  """bool [length]: tokens with a character in any of the spans [start, end)."""
  kept = _kept(tokenizer, record, number, length)
  found = np.zeros(length, bool)
  found[1 : len(kept) + 1] = _meets(kept, spans)
  return found


def words(
  tokenizer: Tokenizer, record: Record, number: int, length: int
) -> tuple[Word, ...]:
  """The words of a caption, split at white space, with their tokens.

  A word of which no token is kept is left out: of a caption that is cut, or characters
  that the tokenizer's cleaning removes. None is wrong where the record does not know.

  Raises:
    TokenizerError: the tokenizer cannot tell which characters a token stands for.
  """
  spans = _kept(tokenizer, record, number, length)
  wrong = _meets(spans, wrong_spans(record, number) if known(record) else ())
  found = []
  for match in re.finditer(r"\S+", record.captions[number]):
    inside = np.flatnonzero(_meets(spans, [match.span()]))
    if len(inside):
      places = tuple((inside + 1).tolist())
      found.append(Word(match.group(), places, bool(wrong[inside].any())))
  return tuple(found)


def known(record: Record) -> bool:
  """Whether the record knows which of its words are wrong."""
  return "caption_truth" in record.truth


def word_scores(chosen: Sequence[Word], scores: np.ndarray) -> np.ndarray:
  """float32 [W]: mean over the tokens of each word; scores [length], of the ids."""
  scores = np.asarray(scores, np.float64)
  means = [scores[list(word.positions)].mean() for word in chosen]
  return np.array(means, np.float32)


def wrong_spans(record: Record, number: int) -> list[tuple[int, int]]:
  """[start, end) in characters of what is wrong in one caption.

  Raises:
    DatasetError: the record does not know.
  """
  truth = record.truth.get("caption_truth")
  if truth is None or "wrong_spans" not in truth[number]:
    raise DatasetError(
      f"{record.image} ({record.source or 'its source'}) does not know which words are"
      " wrong: only rendered people do, their noise set by data.options.word_noise"
    )
  return [(int(start), int(end)) for start, end in truth[number]["wrong_spans"]]


def _kept(tokenizer: Tokenizer, record: Record, number: int, length: int) -> np.ndarray:
  """int32 [n, 2]: spans of the ids 1 to n that are left of a caption that is cut."""
  return tokenizer.spans(record.captions[number])[: length - 2]


def _meets(spans: np.ndarray, others: Sequence[tuple[int, int]]) -> np.ndarray:
  """bool [n]: does a span have a character in any of the others?"""
  others = np.asarray(others, int).reshape(-1, 2)
  start = np.maximum(spans[:, :1], others[:, 0])
  end = np.minimum(spans[:, 1:], others[:, 1])
  return (start < end).any(axis=1)
