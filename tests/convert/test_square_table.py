"""Square tables that stand for other grids, against PyTorch's own interpolation."""

import numpy as np
import pytest

from tpr_jax.convert import square_table

GRIDS = [(24, 8), (27, 9), (12, 5), (7, 16), (32, 31), (1, 3), (2, 1), (5, 5), (1, 1)]


def table(grid, seed=0, width=8):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(1 + grid[0] * grid[1], width)).astype(np.float32)


@pytest.mark.parametrize("grid", GRIDS)
def test_pytorch_interpolates_the_square_to_the_grid(grid):
  torch = pytest.importorskip("torch")
  ours = table(grid)
  made, size = square_table.to_square(ours, grid)
  square = torch.from_numpy(made[1:]).reshape(1, size, size, -1).permute(0, 3, 1, 2)
  found = torch.nn.functional.interpolate(
    square, size=grid, mode="bicubic", align_corners=False
  )
  found = found.permute(0, 2, 3, 1).reshape(-1, made.shape[1])
  np.testing.assert_allclose(found, ours[1:], atol=5e-6)
  np.testing.assert_array_equal(made[0], ours[0])


@pytest.mark.parametrize("grid", GRIDS)
def test_there_and_back(grid):
  ours = table(grid)
  made, size = square_table.to_square(ours, grid)
  assert made.shape == (1 + size * size, 8) and made.dtype == np.float32
  assert size >= max(grid)
  back = square_table.from_square(made, grid)
  if all(size // side % 2 and size % side == 0 for side in grid):
    np.testing.assert_array_equal(back, ours)  # picked, not computed
  np.testing.assert_allclose(back, ours, atol=1e-6 * np.abs(ours).max())
  # Nothing wild between the cells: other picture sizes read there.
  assert np.abs(made).max() < 3 * np.abs(ours).max()


def test_weights_are_pytorchs_for_growing_and_shrinking():
  torch = pytest.importorskip("torch")
  for old, new in ((5, 12), (12, 5), (7, 7), (1, 4), (9, 2)):
    eye = torch.eye(old)[None, None]
    found = torch.nn.functional.interpolate(
      eye, size=(new, old), mode="bicubic", align_corners=False
    )
    np.testing.assert_allclose(square_table.weights(old, new), found[0, 0], atol=1e-6)


def test_wrong_sizes_are_named():
  with pytest.raises(ValueError, match=r"1 \+ 6 rows is not of the grid \(2, 2\)"):
    square_table.to_square(table((3, 2)), (2, 2))
  with pytest.raises(ValueError, match=r"1 \+ 6 rows is of no square"):
    square_table.from_square(table((3, 2)), (2, 2))


def test_a_table_that_is_not_exact_is_refused():
  broken = table((12, 5))
  broken[3] = np.nan
  with pytest.raises(ValueError, match="12 x 12 gives the grid"):
    square_table.to_square(broken, (12, 5))
