"""Windows of a grid of tokens, and what their attention adds to its logits.

Liu et al., Swin Transformer, arXiv:2103.14030, section 3.2: attention inside windows
that do not overlap, in every other block of a grid that is shifted cyclically, with a
learnt bias for the position of the query relative to the key.
Shapes: B batch, W windows of an image, L = window^2 tokens of one, H heads, D width.
"""

import jax
import jax.numpy as jnp
import numpy as np

APART = -100.0  # added to the logits of tokens that only the cyclic shift made meet


def partition(x: jax.Array, window: int) -> jax.Array:
  """[B, rows, columns, D] -> [B * W, L, D]; windows, and tokens in them, row by row.

  Rows and columns are multiples of the window.
  """
  batch, rows, columns, width = x.shape
  x = x.reshape(batch, rows // window, window, columns // window, window, width)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, window * window, width)


def merge(x: jax.Array, window: int, grid: tuple[int, int]) -> jax.Array:
  """[B * W, L, D] -> [B, *grid, D]: the inverse of `partition`."""
  rows, columns, width = *grid, x.shape[-1]
  x = x.reshape(-1, rows // window, columns // window, window, window, width)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows, columns, width)


def relative_index(window: int) -> np.ndarray:
  """int32 [L, L]: row of the bias table for query i and key j of a window.

  (dy + window - 1) (2 window - 1) + (dx + window - 1), where (dy, dx) is the place of
  the query minus that of the key.
  """
  y, x = np.divmod(np.arange(window * window, dtype=np.int32), window)
  dy, dx = (place[:, None] - place[None, :] + window - 1 for place in (y, x))
  return dy * (2 * window - 1) + dx


def zones(grid: tuple[int, int], window: int, shift: int) -> np.ndarray:
  """int32 [W, L]: which of nine zones each token of the shifted grid came from.

  Along each axis: those before the last window, the rest of it, and the last `shift`,
  which the cyclic shift brought there from the other end.
  """
  rows, columns = (
    (np.arange(size) >= size - window) + (np.arange(size) >= size - shift).astype(int)
    for size in grid
  )
  label = (3 * rows[:, None] + columns[None, :]).astype(np.int32)
  cut = label.reshape(grid[0] // window, window, grid[1] // window, window)
  return cut.transpose(0, 2, 1, 3).reshape(-1, window * window)


def attention_bias(
  table: jax.Array, batch: int, grid: tuple[int, int], window: int, shift: int
) -> jax.Array:
  """What `ops.attention.attend` adds to the logits of the windows of B images.

  Args:
    table: float32 [(2 window - 1)^2, H].
    batch: B.
    shift: of the grid; 0: none, and all windows share one bias.

  Returns:
    float32 [1, H, L, L] without a shift, otherwise [B * W, H, L, L].
  """
  bias = table[relative_index(window)].transpose(2, 0, 1)  # [H, L, L]
  if shift == 0:
    return bias[None]
  label = zones(grid, window, shift)
  apart = jnp.asarray(label)[:, :, None] != jnp.asarray(label)[:, None, :]
  bias = bias[None] + jnp.where(apart, APART, 0.0)[:, None]  # [W, H, L, L]
  return jnp.broadcast_to(bias, (batch, *bias.shape)).reshape(-1, *bias.shape[1:])
