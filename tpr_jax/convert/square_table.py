"""Position tables of grids that are no squares, in files that know squares alone.

`transformers.CLIPModel` keeps a square table of S x S positions and, asked with
`interpolate_pos_encoding=True`, resizes it to the grid of the picture by PyTorch's
bicubic interpolation (align_corners=False, no anti-aliasing; Keys 1981, a = -0.75).
That is linear and separable: ours = R T C^T. `to_square` finds a T with exactly this
property, `from_square` computes the right-hand side. All in float64 (numpy).
"""

import numpy as np

_A = -0.75  # PyTorch's choice of Keys' free parameter
ACCURACY = 1e-6  # of the way there and back in float32, relative to the largest value


def _near(t: np.ndarray) -> np.ndarray:
  """Keys' kernel at distance t in [0, 1]."""
  return ((_A + 2) * t - (_A + 3)) * t * t + 1


def _far(t: np.ndarray) -> np.ndarray:
  """Keys' kernel at distance t in [1, 2]."""
  return ((_A * t - 5 * _A) * t + 8 * _A) * t - 4 * _A


def weights(old: int, new: int) -> np.ndarray:
  """float64 [new, old]: row i holds the weights of the old cells in the new cell i.

  Cells beyond the border are the border's, as in PyTorch.
  """
  # The centres are PyTorch's, which computes them in float32.
  scale = np.float32(old) / np.float32(new)
  centre = scale * (np.arange(new, dtype=np.float32) + np.float32(0.5))
  centre = (centre - np.float32(0.5)).astype(np.float64)
  low = np.floor(centre).astype(int)
  t = centre - low
  made = np.zeros((new, old))
  for offset, values in enumerate([_far(t + 1), _near(t), _near(1 - t), _far(2 - t)]):
    at = np.clip(low - 1 + offset, 0, old - 1)
    np.add.at(made, (np.arange(new), at), values)
  return made


def side(grid: tuple[int, int]) -> int:
  """The S of the square that stands for a grid.

  An odd multiple of both sides is best: the centres of the grid's cells are then
  centres of the square's, and the resize only picks. The longer side always works.
  """
  longest = max(grid)
  for size in range(longest, 2 * longest + 1):
    if all(size % length == 0 and size // length % 2 for length in grid):
      return size
  return longest


def _spread(size: int, length: int) -> np.ndarray:
  """float64 [size, length]: P with weights(size, length) @ P = 1.

  Of all such P the nearest to a plain bicubic enlargement, so that pictures of other
  sizes find sensible values between the cells too.
  """
  down, up = weights(size, length), weights(length, size)
  return up + np.linalg.pinv(down) @ (np.eye(length) - down @ up)


def to_square(table: np.ndarray, grid: tuple[int, int]) -> tuple[np.ndarray, int]:
  """float32 [1 + rows * columns, D] -> (float32 [1 + S * S, D], S).

  Raises:
    ValueError: the table is not of the grid, or the square does not give it back to
      float32 accuracy.
  """
  rows, columns = grid
  if len(table) != 1 + rows * columns:
    raise ValueError(
      f"position table of 1 + {len(table) - 1} rows is not of the grid {grid}"
    )
  size = side(grid)
  cells = table[1:].reshape(rows, columns, -1).astype(np.float64)
  left, right = _spread(size, rows), _spread(size, columns)
  square = np.einsum("sr,rcd,tc->std", left, cells, right)
  square = square.reshape(size * size, -1).astype(table.dtype)
  made = np.concatenate([table[:1], square])
  error = np.abs(from_square(made, grid).astype(np.float64) - table).max()
  if not error <= ACCURACY * max(np.abs(table).max(), 1e-30):
    raise ValueError(
      f"a square position table of {size} x {size} gives the grid {grid} back with an"
      f" error of {error:.1e}, more than float32 allows"
    )
  return made, size


def from_square(table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
  """[1 + S * S, D] -> [1 + rows * columns, D], as `transformers` resizes it.

  Raises:
    ValueError: the table is of no square.
  """
  size = round((len(table) - 1) ** 0.5)
  if size * size != len(table) - 1:
    raise ValueError(f"position table of 1 + {len(table) - 1} rows is of no square")
  cells = table[1:].reshape(size, size, -1).astype(np.float64)
  rows, columns = (weights(size, length) for length in grid)
  cells = np.einsum("rs,std,ct->rcd", rows, cells, columns)
  cells = cells.reshape(-1, table.shape[1]).astype(table.dtype)
  return np.concatenate([table[:1], cells])
