"""The evaluation of APTM and MRA again, slowly: whole matrices, process by process."""

import numpy as np


def unit_matrix(matrix):
  return (matrix - matrix.min()) / (matrix.max() - matrix.min())


def evaluation(cosine, views, top, weight, processes):
  """[Q, G] of the descendants of ALBEF, process by process, with whole matrices.

  views: second scores [Q, G], of which only those of the shortlist are looked at.
  """
  total = np.zeros(cosine.shape)
  step = len(cosine) // processes + 1
  for process in range(processes):
    mine = range(process * step, min((process + 1) * step, len(cosine)))
    if not mine:
      continue  # a matrix of one number, which cannot be scaled
    parts = []
    for scores in views:
      matrix = np.full(cosine.shape, 1000.0)
      for query in mine:
        shortlist = np.argsort(-cosine[query], kind="stable")[:top]
        matrix[query] = scores[query, shortlist].min()
        matrix[query, shortlist] = scores[query, shortlist]
      parts.append(unit_matrix(matrix))
    total += np.mean(parts, axis=0) + weight * unit_matrix(cosine)
  # Processes without rows would have added their cosines too.
  idle = sum(process * step >= len(cosine) for process in range(processes))
  return total + idle * weight * unit_matrix(cosine)


def list_numbers(flags):
  """bool [G] in the order of a list -> (first rank, AP, INP)."""
  ranks = 1 + np.flatnonzero(flags)
  if not len(ranks):
    return 0, np.nan, np.nan
  precision = (1 + np.arange(len(ranks))) / ranks
  return ranks[0], precision.mean(), len(ranks) / ranks[-1]
