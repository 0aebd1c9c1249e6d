"""Windows, shifts and biases against loops over pairs of tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tpr_jax.ops import attention, windows


def test_windows_and_their_tokens_run_row_by_row():
  grid = np.arange(2 * 6 * 4).reshape(2, 6, 4, 1)
  cut = np.asarray(windows.partition(jnp.asarray(grid), 2))[..., 0]
  assert cut.shape == (2 * 6, 4)
  for image in range(2):
    for row in range(3):
      for column in range(2):
        piece = grid[image, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_array_equal(
          cut[image * 6 + row * 2 + column], piece.reshape(-1)
        )
  np.testing.assert_array_equal(windows.merge(cut[..., None], 2, (6, 4)), grid)


@pytest.mark.parametrize("window", [1, 3, 4])
def test_relative_index_is_query_minus_key(window):
  found = windows.relative_index(window)
  for i in range(window**2):
    for j in range(window**2):
      dy, dx = i // window - j // window, i % window - j % window
      row = (dy + window - 1) * (2 * window - 1) + dx + window - 1
      assert found[i, j] == row
  assert len(np.unique(found)) == (2 * window - 1) ** 2


@pytest.mark.parametrize(
  "grid, window, shift", [((12, 8), 4, 2), ((6, 9), 3, 1), ((8, 8), 4, 0)]
)
def test_attention_over_a_shifted_grid_by_pairs(grid, window, shift):
  """Tokens see each other if they are in one window of the shifted grid without the
  cyclic wrap; the bias is the table's row for where they are in the picture."""
  rng = np.random.default_rng(0)
  heads, depth, batch = 2, 3, 2
  table = rng.normal(size=((2 * window - 1) ** 2, heads)).astype(np.float32)
  q, k, v = rng.normal(size=(3, batch, *grid, heads, depth)).astype(np.float32)

  def cut(x):
    moved = np.roll(x, (-shift, -shift), (1, 2)).reshape(batch, *grid, -1)
    return windows.partition(jnp.asarray(moved), window).reshape(
      -1, window**2, heads, depth
    )

  bias = windows.attention_bias(jnp.asarray(table), batch, grid, window, shift)
  out = attention.attend(cut(q), cut(k), cut(v), bias)
  out = windows.merge(out.reshape(*out.shape[:2], -1), window, grid)
  found = np.roll(out, (shift, shift), (1, 2)).reshape(q.shape)

  # Windows of the shifted grid start at shift + i * window; what is left at either end
  # is a window of its own, cut off by the border.
  place = lambda at: (at - shift) // window
  places = [(y, x) for y in range(grid[0]) for x in range(grid[1])]
  for y, x in places:
    seen = [(r, c) for r, c in places if (place(r), place(c)) == (place(y), place(x))]
    rows = [
      (y - r + window - 1) * (2 * window - 1) + x - c + window - 1 for r, c in seen
    ]
    at = tuple(np.array(seen).T)
    for b in range(batch):
      for h in range(heads):
        logits = k[b, *at, h] @ q[b, y, x, h] / np.sqrt(depth) + table[rows, h]
        weight = np.exp(logits - logits.max())
        expected = weight / weight.sum() @ v[b, *at, h]
        np.testing.assert_allclose(found[b, y, x, h], expected, atol=1e-5)


def test_the_bias_of_windows_apart_is_minus_100():
  bias = windows.attention_bias(jnp.zeros((49, 1)), 3, (8, 8), 4, 2)
  assert bias.shape == (3 * 4, 1, 16, 16)
  first, _, _, last = np.asarray(bias).reshape(3, 4, 16, 16)[1]
  assert not first.any()  # the window that no border meets
  assert set(np.unique(last)) == {0.0, -100.0} and (last == 0).sum() == 4 * 4**2


def test_gradients_of_the_table_are_sums_over_pairs():
  weight = np.random.default_rng(0).normal(size=(8, 2, 9, 9)).astype(np.float32)
  total = lambda t: jnp.sum(windows.attention_bias(t, 2, (6, 6), 3, 1) * weight)
  found = jax.grad(total)(jnp.zeros((25, 2)))
  expected = np.zeros((25, 2))
  np.add.at(expected, windows.relative_index(3), weight.sum(0).transpose(1, 2, 0))
  np.testing.assert_allclose(found, expected, atol=1e-5)
