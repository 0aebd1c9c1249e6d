"""The scores that are means over queries, from the numbers kept for each query.

Rank-k = [first_rank <= k], AP, INP and SD: ranking.py and msd.py hold the formulas.
No JAX here: files of finished evaluations are read without it.
"""

import numpy as np

RANKS = (1, 5, 10)
SCORES = (*(f"R{k}" for k in RANKS), "mAP", "mINP", "mSD")  # higher is better


def values(first_rank, ap, inp, sd) -> dict[str, np.ndarray]:
  """Score -> float64 [Q] in [0, 1], the values whose mean is the score.

  A score that no query with a match has is left out: mSD, where a ranking has been put
  into another order (metrics/rerank.py).

  Args:
    first_rank: int [Q], 1-based rank of the first match; 0 without a match, which
      hits at no k.
    ap, inp, sd: float [Q]; NaN without a match.
  """
  rank = np.asarray(first_rank)
  columns = [(rank > 0) & (rank <= k) for k in RANKS] + [ap, inp, sd]
  found = {
    name: np.asarray(value, np.float64)
    for name, value in zip(SCORES, columns, strict=True)
  }
  real = rank > 0
  undefined = lambda value: real.any() and np.isnan(value[real]).all()
  return {name: value for name, value in found.items() if not undefined(value)}
