"""The pool: random captions that a pair's own caption is compared with.

Drawn once from (seed, corpus) and the same for every image. The published code draws
10,000 with replacement and without a seed from the training captions of CUHK-PEDES; for
MALS from one caption of each image, the last (a dict keyed by image).
"""

import dataclasses
import hashlib
from typing import Any

import numpy as np

from tpr_jax.data import kept
from tpr_jax.data.record import Dataset, ImageError
from tpr_jax.filter import rule
from tpr_jax.filter.problems import FilterError
from tpr_jax.filter.settings import Pool

_STREAM = 0xF117E2  # of random numbers, apart from those of other uses of a seed


@dataclasses.dataclass(frozen=True)
class Drawn:
  """P captions, in the order drawn.

  Attributes:
    texts: the captions.
    people, keys: int32 [P], numbers from 0 of their persons and of the captions
      themselves; None where these do not exclude a caption.
    person_of, key_of: sorted int64: what the numbers stand for.
    corpus: how many captions there were to draw from.
  """

  texts: tuple[str, ...]
  people: np.ndarray | None
  keys: np.ndarray | None
  person_of: np.ndarray
  key_of: np.ndarray
  corpus: int

  def about(self) -> dict[str, Any]:
    """Plain values: how many there are, of how many, and which."""
    digest = hashlib.sha1("\n".join(map(kept.caption_sha1, self.texts)).encode())
    return dict(drawn_from=self.corpus, digest=digest.hexdigest())

  def numbers(self, identity: np.ndarray, key: np.ndarray) -> list[Any]:
    """[int32 [N], int32 [M]] of pairs, as `rule.Counter` takes them; or None."""
    return [
      None if mine is None else _numbered(values, known)
      for mine, values, known in (
        (self.people, identity, self.person_of),
        (self.keys, key, self.key_of),
      )
    ]


def draw(data: Dataset, counts: np.ndarray, asked: Pool) -> Drawn:
  """Draws the pool from a split.

  Args:
    counts: int32 [N], captions of each record.

  Raises:
    FilterError: there are no captions, or fewer than are asked for, not to be drawn
      twice.
  """
  has = np.flatnonzero(counts)
  one = asked.one_caption_per_image
  total = len(has) if one else int(counts.sum())
  where = f"{data.name}/{data.split}"
  if not total:
    raise FilterError(f"pool: {where} has no captions to draw from")
  if total < asked.size and not asked.replace:
    noun = "images with captions" if one else "captions"
    raise FilterError(
      f"--config.pool.size={asked.size:,}: {where} has {total:,} {noun}, fewer than are"
      f" to be drawn; set pool.size={total} at most, or pool.replace=True"
    )
  rng = np.random.default_rng([asked.seed, _STREAM])
  chosen = rng.choice(total, asked.size, replace=asked.replace)
  if one:
    record, number = has[chosen], counts[has[chosen]] - 1
  else:
    record, number = _pair(data, counts, chosen)
  texts, people, keys = [], [], []
  for at, which in zip(record.tolist(), number.tolist(), strict=True):
    try:
      found = data.records[at]
    except ImageError as error:
      raise FilterError(
        f"pool: a caption of {where} cannot be read: {error}"
      ) from error
    texts.append(str(found.captions[which]))
    people.append(found.identity)
    keys.append(kept.pair_key(found.image, kept.caption_sha1(texts[-1])))
  person_of, person = np.unique(np.array(people, np.int64), return_inverse=True)
  key_of, key = np.unique(np.array(keys, np.int64), return_inverse=True)
  return Drawn(
    tuple(texts),
    person.astype(np.int32) if asked.exclude_same_id else None,
    key.astype(np.int32) if asked.exclude_self else None,
    person_of,
    key_of,
    total,
  )


def _pair(data, counts, chosen):
  """Numbers of captions -> (record, number within it)."""
  if data.stream is not None:
    return data.stream.record[chosen], data.stream.number[chosen]
  ends = np.cumsum(counts, dtype=np.int64)
  record = np.searchsorted(ends, chosen, side="right")
  return record, chosen - (ends[record] - counts[record])


def _numbered(values: np.ndarray, known: np.ndarray) -> np.ndarray:
  """int32: the place of each value among the sorted ones; rule.OTHER: it is not."""
  at = np.minimum(np.searchsorted(known, values), len(known) - 1)
  return np.where(known[at] == values, at, rule.OTHER).astype(np.int32)
