"""Position tables of pretrained towers, resized to another grid or length (numpy).

Both interpolate linearly between the centres of equal cells (`align_corners=False` of
PyTorch, without anti-aliasing), and hold the border values outside them. For images so
does IRRA (arXiv:2303.12501); for texts IRRA calls a helper that it does not define, and
the same rule along the length is ours.
"""

import numpy as np


def _weights(old: int, new: int) -> np.ndarray:
  """float64 [new, old]: row i holds the two weights that make the new cell i."""
  centre = (np.arange(new) + 0.5) * (old / new) - 0.5
  centre = np.clip(centre, 0, old - 1)
  low = np.floor(centre).astype(int)
  high = np.minimum(low + 1, old - 1)
  weights = np.zeros((new, old))
  np.add.at(weights, (np.arange(new), low), 1 - (centre - low))
  np.add.at(weights, (np.arange(new), high), centre - low)
  return weights


def resize_image_table(
  table: np.ndarray, grid: tuple[int, int], *, old_grid: tuple[int, int] | None = None
) -> np.ndarray:
  """[1 + h * w, D] -> [1 + rows * columns, D], the class token's row kept as it is.

  Args:
    grid: (rows, columns) wanted.
    old_grid: (h, w) of the table; None: a square.

  Raises:
    ValueError: the table does not fit the old grid, or is not of a square.
  """
  count = table.shape[0] - 1
  if old_grid is None:
    side = round(count**0.5)
    old_grid = (side, side)
  if old_grid[0] * old_grid[1] != count:
    raise ValueError(
      f"position table of 1 + {count} rows is not of a grid {old_grid}; pass old_grid"
    )
  patches = table[1:].reshape(*old_grid, -1).astype(np.float64)
  rows, columns = (_weights(o, n) for o, n in zip(old_grid, grid, strict=True))
  patches = np.einsum("ih,hwd,jw->ijd", rows, patches, columns)
  patches = patches.reshape(-1, table.shape[1]).astype(table.dtype)
  return np.concatenate([table[:1], patches])


def resize_text_table(table: np.ndarray, length: int) -> np.ndarray:
  """[L, D] -> [length, D], linear along the length."""
  resized = _weights(table.shape[0], length) @ table.astype(np.float64)
  return resized.astype(table.dtype)
