"""Tables of relative position biases for other windows, as Swin's authors resize them.

The positions of the source table are spread so that the outermost one lies where that
of the target does: 0, +-1, +-(1 + q), +-(1 + q + q^2), ... A cubic spline through them
is read at the integers. Near the middle, where most of attention is, positions keep
their distance; the released code of MRA (arXiv:2507.10195) does the same. scipy's
`RectBivariateSpline` without smoothing computes what its removed `interp2d` did.
"""

import numpy as np

from tpr_jax.convert.source import ConvertError

_LOWEST, _HIGHEST, _TOLERANCE = 1.01, 1.5, 1e-6


def ratio(source: int, target: int) -> float:
  """The q of tables of `source` x `source` and `target` x `target` positions.

  By bisection: 1 + q + ... + q^(source // 2 - 1) = target // 2, within [1.01, 1.5]; q
  is the end of that range where no q inside it will do.
  """
  low, high, q = _LOWEST, _HIGHEST, _LOWEST
  while high - low > _TOLERANCE:
    q = (low + high) / 2
    reach = (1 - q ** (source // 2)) / (1 - q)
    low, high = (low, q) if reach > target // 2 else (q, high)
  return q


def coordinates(source: int, target: int) -> np.ndarray:
  """float64 [source]: where the source's positions lie among the target's integers."""
  steps = ratio(source, target) ** np.arange(source // 2)
  side = np.cumsum(steps)
  return np.concatenate([-side[::-1], [0.0], side])


def side(rows: int) -> int:
  """2 window - 1, for a table of (2 window - 1)^2 rows.

  Raises:
    ConvertError: of no window.
  """
  found = round(rows**0.5)
  if found * found != rows or found % 2 == 0:
    raise ConvertError(
      f"a relative position table of {rows} rows is of no square window; expected"
      " (2 window - 1)^2 rows, 169 for windows of 7 x 7"
    )
  return found


def resize(table: np.ndarray, window: int) -> np.ndarray:
  """[(2 v - 1)^2, heads] of windows of v x v -> [(2 window - 1)^2, heads] float32.

  A table of that window already is returned as it is. Positions beyond the source's
  outermost one get its values.

  Raises:
    ConvertError: a table of no window, or of one below 3: too few for a cubic spline.
  """
  source, target = side(len(table)), 2 * window - 1
  if source == target:
    return table.astype(np.float32)
  if source < 4:
    raise ConvertError(
      f"a relative position table of {source} x {source} positions cannot be resized: a"
      " cubic spline needs those of windows of 3 x 3 at least"
    )
  from scipy import interpolate  # a second; most towers need none of it

  old = coordinates(source, target)
  new = np.arange(target, dtype=np.float64) - target // 2
  made = [
    interpolate.RectBivariateSpline(old, old, head.reshape(source, source))(new, new)
    for head in table.astype(np.float64).T
  ]
  return np.stack([head.reshape(-1) for head in made], axis=1).astype(np.float32)
