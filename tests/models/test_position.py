import jax
import numpy as np
import pytest

from tpr_jax.models import position


def bilinear_slow(table, new):
  """Pixel by pixel, by the definition of align_corners=False without anti-aliasing."""
  out = np.zeros((*new, table.shape[-1]))
  for i in range(new[0]):
    for j in range(new[1]):
      y = max((i + 0.5) * table.shape[0] / new[0] - 0.5, 0.0)
      x = max((j + 0.5) * table.shape[1] / new[1] - 0.5, 0.0)
      y0, x0 = int(y), int(x)
      y1, x1 = min(y0 + 1, table.shape[0] - 1), min(x0 + 1, table.shape[1] - 1)
      top = table[y0, x0] * (1 - (x - x0)) + table[y0, x1] * (x - x0)
      bottom = table[y1, x0] * (1 - (x - x0)) + table[y1, x1] * (x - x0)
      out[i, j] = top * (1 - (y - y0)) + bottom * (y - y0)
  return out


@pytest.mark.parametrize("old, new", [((14, 14), (24, 8)), ((16, 16), (27, 9))])
def test_image_table(old, new):
  table = np.random.default_rng(0).normal(size=(1 + old[0] * old[1], 5))
  table = table.astype(np.float32)
  out = position.resize_image_table(table, new)
  assert out.shape == (1 + new[0] * new[1], 5) and out.dtype == np.float32
  np.testing.assert_array_equal(out[0], table[0])
  grid = table[1:].reshape(*old, 5)
  np.testing.assert_allclose(
    out[1:].reshape(*new, 5), bilinear_slow(grid, new), atol=1e-6
  )
  by_jax = jax.image.resize(grid, (*new, 5), "bilinear", antialias=False)
  np.testing.assert_allclose(out[1:].reshape(*new, 5), by_jax, atol=1e-5)


def test_image_table_against_torch():
  torch = pytest.importorskip("torch")
  table = np.random.default_rng(1).normal(size=(1 + 49, 4)).astype(np.float32)
  grid = torch.from_numpy(table[1:].reshape(1, 7, 7, 4)).permute(0, 3, 1, 2)
  expected = torch.nn.functional.interpolate(
    grid, size=(12, 4), mode="bilinear", align_corners=False
  )
  expected = expected.permute(0, 2, 3, 1).reshape(-1, 4).numpy()
  out = position.resize_image_table(table, (12, 4))
  np.testing.assert_allclose(out[1:], expected, atol=1e-5)


def test_text_table_77_to_168():
  table = np.random.default_rng(2).normal(size=(77, 6))
  out = position.resize_text_table(table, 168)
  at = (np.arange(168) + 0.5) * 77 / 168 - 0.5
  for d in range(6):
    np.testing.assert_allclose(out[:, d], np.interp(at, np.arange(77), table[:, d]))


def test_the_same_size_is_the_same_table():
  table = np.random.default_rng(3).normal(size=(1 + 6, 4)).astype(np.float32)
  same = position.resize_image_table(table, (3, 2), old_grid=(3, 2))
  np.testing.assert_array_equal(same, table)
  np.testing.assert_array_equal(position.resize_text_table(table, 7), table)


def test_a_table_that_is_not_square_needs_its_grid():
  with pytest.raises(ValueError, match="old_grid"):
    position.resize_image_table(np.zeros((1 + 6, 4)), (3, 3))
