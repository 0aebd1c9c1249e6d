"""Which pairs stay, given how many captions of the pool fit each at least as well.

  k            c < k
  quantile     c < k with k = quantile x captions of the pool, rounded
  keep_ratio   the share with the smallest c; ties by s_0, larger first, then by place

min_pairs_per_id is ours (the published code protects no identity): of a person with
fewer pairs left, the best so many stay, by the same order.
"""

import dataclasses
from typing import Any

import numpy as np

from tpr_jax.filter.settings import Cut


@dataclasses.dataclass(frozen=True)
class Scored:
  """n pairs, in the split's order.

  Attributes:
    s0: float32 [n], NaN where the picture cannot be read. c: int32 [n], -1 there.
    person: int64 [n].
  """

  s0: np.ndarray
  c: np.ndarray
  person: np.ndarray

  @property
  def real(self) -> np.ndarray:
    """bool [n]: has it been scored?"""
    return self.c >= 0

  def order(self) -> np.ndarray:
    """int [m]: the scored pairs, best first."""
    at = np.flatnonzero(self.real)
    return at[np.lexsort((at, -self.s0[at], self.c[at]))]


def threshold(asked: Cut, pool: int) -> int | None:
  """k; None where a share of the pairs is asked for."""
  if asked.by == "keep_ratio":
    return None
  return int(asked.value) if asked.by == "k" else max(1, round(asked.value * pool))


def decide(scored: Scored, asked: Cut, pool: int) -> np.ndarray:
  """bool [n]: the pairs that stay; one that has no score never does.

  Args:
    pool: captions of the pool.
  """
  k = threshold(asked, pool)
  if k is None:
    keep = np.zeros(len(scored.c), bool)
    keep[scored.order()[: round(asked.value * int(scored.real.sum()))]] = True
  else:
    keep = scored.real & (scored.c < k)
  if asked.min_pairs_per_id:
    keep |= _best(scored, asked.min_pairs_per_id)
  return keep


def _best(scored: Scored, least: int) -> np.ndarray:
  """bool [n]: the best `least` pairs of each person."""
  order = scored.order()
  order = order[np.argsort(scored.person[order], kind="stable")]
  person = scored.person[order]
  first = np.flatnonzero(np.r_[True, person[1:] != person[:-1]][: len(person)])
  place = np.arange(len(person)) - np.repeat(first, np.diff(np.r_[first, len(person)]))
  found = np.zeros(len(scored.c), bool)
  found[order[place < least]] = True
  return found


def summary(scored: Scored, keep: np.ndarray) -> dict[str, Any]:
  """Counts for the header: plain values."""
  people = len(np.unique(scored.person[scored.real]))
  return dict(
    pairs=len(keep),
    kept=int(keep.sum()),
    unreadable=int((~scored.real).sum()),
    identities=people,
    identities_kept=len(np.unique(scored.person[keep])),
  )
