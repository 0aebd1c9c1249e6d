"""Ranks of the matching gallery items, and the numbers made from ranks alone.

A gallery item comes before another when its similarity is higher, or equal and its
gallery index lower. For a query whose n+ matches have ranks j_1 < ... < j_{n+}
(1-based):

  Rank-k = [j_1 <= k]    AP = mean_k k / j_k    INP = n+ / j_{n+}

AP: the usual non-interpolated average precision. INP: Ye et al., "Deep Learning for
Person Re-identification: A Survey and Outlook", arXiv:2001.04193, Sec. 3.4.

No sort of the gallery is needed: the rank of a match is one plus the number of items
before it, and that is a count. Shapes: Q queries, G gallery columns, R places for
matches (places beyond a query's number of matches hold column -1).

Worked example: similarities (0.9, 0.2, 0.5, 0.5) with matches 0 and 3 give
ranks 1 and 3 (column 2 ties with 3 and has the lower index), so Rank-1 = 1,
AP = (1/1 + 2/3) / 2 = 0.8333 and INP = 2/3.
"""

import jax
import jax.numpy as jnp


def rank_matches(scores, columns, weights, *, lanes=128):
  """Counts, and weighs, what comes before each match.

  Args:
    scores: float32 [Q, G], no NaN and no -0.0; -inf in columns that only pad.
    columns: int32 [Q, R] gallery columns of the matches, -1 where there is none.
    weights: float32 [Q, G], what to sum over the items before a match.
    lanes: width of the strips that G, a multiple of it, is walked in. Only one strip
      is ever compared with all R matches, so [Q, R, G] never exists; and the sums
      run in `lanes` separate float32 accumulators, which keeps them accurate.

  Returns:
    ranks int32 [Q, R], 0 where there is no match, and the float32 [Q, R] sum of
    `weights` over the items before the match (itself not included).
  """
  at = jnp.maximum(columns, 0)
  # From the same matrix as all others, so that a match ties with itself exactly. As
  # integers, "at least m" is "more than m - 1": one comparison for an item and a match.
  keys = _sortable(scores)
  match = jnp.take_along_axis(keys, at, axis=1)  # [Q, R]
  own = at // lanes  # the strip of the match itself

  def strip(i, carry):
    count, weight = carry
    cut = lambda x: jax.lax.dynamic_slice_in_dim(x, i * lanes, lanes, 1)[:, None]
    before = cut(keys) > (match - (i < own))[:, :, None]  # ties before it, not after
    return count + before, weight + jnp.where(before, cut(weights), 0.0)

  shape = columns.shape + (lanes,)
  start = (jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32))
  count, weight = jax.lax.fori_loop(0, scores.shape[1] // lanes, strip, start)
  # Its own strip was counted like those after it: ties on its left are missing.
  split = lambda x: jnp.take_along_axis(
    x.reshape(len(x), -1, lanes), own[:, :, None], axis=1
  )
  left = jnp.arange(lanes) < (at % lanes)[:, :, None]
  tied = (split(keys) == match[:, :, None]) & left
  count = (count + tied).sum(axis=2)
  weight = (weight + jnp.where(tied, split(weights), 0.0)).sum(axis=2)
  real = columns >= 0
  return jnp.where(real, 1 + count, 0), jnp.where(real, weight, 0.0)


def _sortable(x):
  """float32 without NaN and without -0.0 -> int32 in the same order."""
  bits = jax.lax.bitcast_convert_type(x, jnp.int32)
  return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def from_ranks(ranks):
  """int32 [Q, R] ranks in any order, 0 = none -> dict of per-query values.

  `first_rank` int32 [Q], `ap` and `inp` float32 [Q]. Queries without a match get
  first_rank 0 and NaN.
  """
  none = jnp.iinfo(jnp.int32).max
  ordered = jnp.sort(jnp.where(ranks > 0, ranks, none), axis=1)
  real = ordered < none
  number = real.sum(axis=1).astype(jnp.float32)
  found = jnp.arange(1, ranks.shape[1] + 1, dtype=jnp.float32)
  ap = jnp.where(real, found / ordered, 0.0).sum(axis=1) / number
  first = jnp.where(real[:, 0], ordered[:, 0], 0)
  return dict(first_rank=first, ap=ap, inp=number / ranks.max(axis=1))


def from_flags(flags):
  """As `from_ranks`, from bool [Q, G]: is the item at this rank a match?

  For queries with so many matches that sorting the gallery is cheaper than counting.
  """
  rank = jnp.arange(1, flags.shape[1] + 1, dtype=jnp.int32)
  number = flags.sum(axis=1).astype(jnp.float32)
  precision = jnp.cumsum(flags, axis=1).astype(jnp.float32) / rank
  first = jnp.where(flags.any(axis=1), 1 + jnp.argmax(flags, axis=1), 0)
  last = jnp.max(jnp.where(flags, rank, 0), axis=1)
  ap = jnp.where(flags, precision, 0.0).sum(axis=1) / number
  return dict(first_rank=first.astype(jnp.int32), ap=ap, inp=number / last)


def order(scores):
  """float32 [Q, G] -> int32 [Q, G] columns by rank (ties: lowest column first)."""
  return jnp.argsort(scores, axis=1, stable=True, descending=True).astype(jnp.int32)
