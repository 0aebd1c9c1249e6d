"""Similarity distribution (SD): UFineBench, arXiv:2312.03441, Sec. 3.4, Eq. 1 and 2.

On similarities mapped to [0, 1] by s = (cos + 1) / 2, taken in rank order:

  PNR = 1 - exp(-x),  x = mean(s of matches) / mean(s of non-matches)   (k = 1)
  ASP = (1/n+) sum_k [ sum_{i<=j_k} s_i over matches ] / [ sum_{i<=j_k} s_i ]
  SD  = PNR * ASP;  mSD is the mean over queries.

The script that the authors published (`mSD_Calculator.py`) computes something else:
it sorts the match flags but not the similarities, and so multiplies the similarity of
gallery column c with the flag of rank c + 1. Its PNR stays near 1 - exp(-1) = 0.632
whatever the model is, and the tables in the paper cannot come from it (CFAM L/14 on
UFine6926 has mSD / mAP = 0.788, above that ceiling). So variant "paper" is the equation
above and the default; "released_script" is the script's arithmetic, for comparing with
numbers made by it. The script does not say how it breaks ties, and yields NaN for a
query without a match and where every item matches; here ties go to the lowest gallery
column and the two cases are defined.

Defined cases: no non-match, or all non-matches at s = 0: PNR = 1. Where everything
down to a match has s = 0, its ASP term is 0/0; it is taken as the limit of equal
similarities, k / j_k. Shapes: Q queries, G gallery columns, R places for matches.

Worked example: cosines (0.8, -0.6, 0, 0) with matches 0 and 3 are s = (0.9, 0.2, 0.5,
0.5) and ranks 1 and 3. x = 0.7 / 0.35 = 2, PNR = 0.86466,
ASP = (0.9 / 0.9 + 1.4 / 1.9) / 2 = 0.86842, SD = 0.75089.
"""

import jax.numpy as jnp

VARIANTS = ("paper", "released_script")


def similarity(cosine):
  """Cosine in [-1, 1], rounding errors beyond it cut off -> s in [0, 1]."""
  return jnp.clip(0.5 * cosine + 0.5, 0.0, 1.0)


def positive_negative_ratio(match_sum, matches, other_sum, others):
  """PNR [Q] from sums of s and numbers of items; 1 where the denominator is empty."""
  empty = (others == 0) | (other_sum <= 0)
  match_mean = match_sum / matches
  other_mean = jnp.where(empty, 1.0, other_sum / jnp.maximum(others, 1))
  return jnp.where(empty, 1.0, -jnp.expm1(-match_mean / other_mean))


def from_ranks(ranks, match, before, other_sum, size):
  """SD of the paper from the matches' ranks.

  Args:
    ranks: int32 [Q, R], 0 where there is no match.
    match: float32 [Q, R], s of the matches.
    before: float32 [Q, R], sum of s over all items ranked before the match.
    other_sum: float32 [Q], sum of s over the non-matches.
    size: number of gallery items.

  Returns:
    float32 [Q], NaN for a query without a match.
  """
  real = ranks > 0
  match = jnp.where(real, match, 0.0)
  number = real.sum(axis=1)
  # Matches down to and including this one: [Q, R, R], small since R is.
  above = real[:, None, :] & (ranks[:, None, :] <= ranks[:, :, None])
  positive = jnp.where(above, match[:, None, :], 0.0).sum(axis=2)
  total = before + match
  flat = above.sum(axis=2) / jnp.maximum(ranks, 1)
  share = jnp.where(total > 0, positive / jnp.where(total > 0, total, 1.0), flat)
  asp = jnp.where(real, share, 0.0).sum(axis=1) / number
  return asp * positive_negative_ratio(
    match.sum(axis=1), number, other_sum, size - number
  )


def from_flags(s, flags, size):
  """SD of rows of similarities and flags, multiplied place by place as they stand.

  With `s` by rank this is the paper's equation; with `s` by gallery column it is the
  published script.

  Args:
    s: float32 [Q, G], 0 in columns that only pad (these stand last).
    flags: bool [Q, G]: is the item at this rank a match?
    size: number of gallery items.
  """
  number = flags.sum(axis=1)
  positive = jnp.where(flags, s, 0.0)
  total = jnp.cumsum(s, axis=1)
  precision = jnp.cumsum(flags, axis=1) / jnp.arange(1, s.shape[1] + 1)
  ratio = jnp.cumsum(positive, axis=1) / jnp.where(total > 0, total, 1.0)
  share = jnp.where(total > 0, ratio, precision)
  asp = jnp.where(flags, share, 0.0).sum(axis=1) / number
  other_sum = jnp.where(flags, 0.0, s).sum(axis=1)
  return asp * positive_negative_ratio(
    positive.sum(axis=1), number, other_sum, size - number
  )


def flags_from_ranks(ranks, columns):
  """int32 [Q, R] ranks, 0 = none -> bool [Q, columns], True at the matches' ranks."""
  rows = jnp.arange(ranks.shape[0])[:, None]
  at = jnp.where(ranks > 0, ranks - 1, columns)  # out of range: dropped
  return jnp.zeros((ranks.shape[0], columns), bool).at[rows, at].set(True, mode="drop")
