"""The exact best of many rows, read in a quarter of their bytes.

A search reads every row, and takes as long as memory takes to hand them over. Here a
row x has a copy of whole numbers in eight bits, x ~ s c, and the length of what that
leaves out, e = |x - s c|. By Cauchy and Schwarz

    |x . q - s (c . q)| <= e |q|

so that only rows whose upper bound reaches the k-th largest lower bound can be among
the best k: some hundreds of a million, which are then compared in float32.
"""

from typing import Any, NamedTuple

import numpy as np

LEAST = 200_000  # rows; fewer are compared in less time than a program starts in
_LARGEST = 127
_BLOCK = 1_024  # rows at once: some megabytes, which a processor's cache holds


class Near(NamedTuple):
  """rows: int64 [n], every row that can be among the best k. cosines: float32 [n], of
  them. about: float32 [N], of all rows (of those allowed), as the copies give them."""

  rows: np.ndarray
  cosines: np.ndarray
  about: np.ndarray


class Coarse:
  """The copies of some rows; a quarter of their memory beside them.

  Args:
    vectors: float32 [N, D], unit rows, which stay where they are.
  """

  def __init__(self, vectors: np.ndarray):
    import jax  # not above: an index of fewer rows is asked without

    self._vectors = vectors
    codes = np.empty(vectors.shape, np.int8)
    scale, left = (np.empty(len(vectors), np.float32) for _ in range(2))
    for start in range(0, len(vectors), _BLOCK):
      part = slice(start, start + _BLOCK)
      codes[part], scale[part], left[part] = _copied(vectors[part])
    # Of both sums, in float32: |sum_i| <= 1 and D roundings of 2^-24 each.
    self._bound = left + np.float32(2 * vectors.shape[1] * 2.0**-24)
    self._codes, self._scale = jax.device_put((codes, scale))
    self._scan = jax.jit(_scan)

  def near(self, query: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Near:
    """What the best k rows are among.

    Args:
      query: float32 [D].
      allowed: bool [N]; None: all.
    """
    about = np.asarray(self._scan(self._codes, self._scale, query))
    bound = self._bound * np.linalg.norm(query)
    among = None if allowed is None else np.flatnonzero(allowed)
    if among is not None:
      about, bound = about[among], bound[among]
    k = min(k, len(about))
    if k < 1:
      return Near(np.zeros(0, np.int64), np.zeros(0, np.float32), about)
    least = np.partition(about - bound, len(about) - k)[len(about) - k]
    rows = np.flatnonzero(about + bound >= least)
    rows = rows if among is None else among[rows]
    return Near(rows, cosines(self._vectors, rows, query), about)


def cosines(vectors: np.ndarray, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
  """float32 [n]: vectors[rows] @ query, each sum by itself, so that it is the same
  whichever rows it is asked with."""
  found = np.empty(len(rows), np.float32)
  for start in range(0, len(rows), _BLOCK):
    part = slice(start, start + _BLOCK)
    found[part] = np.einsum("nd,d->n", vectors[rows[part]], query)
  return found


def _copied(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """float32 [n, D] -> (c int8 [n, D], s float32 [n], e float32 [n])."""
  scale = np.abs(rows).max(axis=1) / _LARGEST
  near = rows / np.where(scale > 0, scale, 1)[:, None]
  codes = np.rint(near, out=near).astype(np.int8)
  near *= scale[:, None]
  near -= rows
  return codes, scale, np.sqrt(np.einsum("nd,nd->n", near, near))


def _scan(codes: Any, scale: Any, query: Any) -> Any:
  """jax.Array int8 [N, D], float32 [N], float32 [D] -> float32 [N]."""
  return (codes.astype(np.float32) * query).sum(axis=1) * scale
