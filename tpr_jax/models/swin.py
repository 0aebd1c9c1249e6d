"""Swin Transformer as an image tower: Liu et al., arXiv:2103.14030.

Stages of pre-LN blocks whose attention stays inside windows; every odd block of a stage
shifts the grid by half a window. Between stages 2 x 2 neighbours are merged into one
token of twice the width. As in MRA (arXiv:2507.10195) the output is the tokens of the
last stage with their mean before them, and any picture is taken whose stages' grids
consist of whole windows, not squares alone; nothing is padded.
Initial values: normal with std 0.02, which is what the original's truncated normal is
(it cuts at +-2, a hundred deviations away); biases 0; patches as in `layers.patches`.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.models.clip_vision import normalise
from tpr_jax.models.layers.attention import SelfAttention
from tpr_jax.models.layers.dense import Dense
from tpr_jax.models.layers.drop_path import drop_path
from tpr_jax.models.layers.mlp import Mlp
from tpr_jax.models.layers.norm import LayerNorm
from tpr_jax.models.layers.patches import Patches
from tpr_jax.models.layers.recompute import recomputed
from tpr_jax.ops import windows as window_ops

_STD = 0.02


def grids(
  image_size: tuple[int, int], patch: int = 4, stages: int = 4
) -> tuple[tuple[int, int], ...]:
  """(rows, columns) of every stage: 384x256 -> (96, 64), (48, 32), (24, 16), (12, 8).

  Raises:
    ValueError: an image that patches, or merged patches, do not fill.
  """
  unit = patch * 2 ** (stages - 1)
  if min(patch, stages) < 1 or any(size < unit or size % unit for size in image_size):
    raise ValueError(
      f"swin: image_size {tuple(image_size)} (height, width) does not fill"
      f" {stages} stages of patches of {patch} pixels, each half as fine as the one"
      f" before; both must be multiples of {unit}"
    )
  return tuple(
    tuple(size // (patch * 2**stage) for size in image_size) for stage in range(stages)
  )


def windows(
  image_size: tuple[int, int],
  window: int,
  last: int | None = None,
  *,
  patch: int = 4,
  stages: int = 4,
) -> tuple[int, ...]:
  """The window of every stage: `window`, and no more than the shorter side of its grid.

  224x224 with 7 -> (7, 7, 7, 7); 384x128 with 8 -> (8, 8, 8, 4), since the last grid is
  12x4; 384x256 with 8 and last=4, as MRA has it -> (8, 8, 8, 4).

  Args:
    last: of the last stage, where it shall be another one.

  Raises:
    ValueError: as `grids`, or a window that does not divide its grid.
  """
  sizes = grids(image_size, patch, stages)
  wanted = [window] * (stages - 1) + [window if last is None else last]
  found = tuple(min(w, *grid) for w, grid in zip(wanted, sizes, strict=True))
  _check_windows(image_size, sizes, found)
  return found


def _check_windows(
  image_size: tuple[int, int], sizes: Sequence[tuple[int, int]], found: Sequence[int]
) -> None:
  for stage, (grid, window) in enumerate(zip(sizes, found, strict=True)):
    if window < 1 or grid[0] % window or grid[1] % window:
      common = math.gcd(*grid)
      fitting = [w for w in range(1, common + 1) if common % w == 0]
      where = "the last stage" if stage == len(sizes) - 1 else f"stage {stage}"
      raise ValueError(
        f"swin: of images {tuple(image_size)}, {where} has a grid of {grid[0]} x"
        f" {grid[1]}, which windows of {window} x {window} do not fill; those of"
        f" {', '.join(map(str, fitting))} do. Choose one of them (`last` sets that"
        " of the last stage alone) or another image size"
      )


class Block(nn.Module):
  """x = x + attention of windows(ln_1(x));  x = x + mlp(ln_2(x)).

  In training: dropout behind the attention's and both of the MLP's projections, and
  stochastic depth of either branch; rng "dropout"."""

  heads: int
  window: int
  shift: int
  epsilon: float = 1e-5
  dropout: float = 0.0
  drop_path: float = 0.0
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """[B, rows, columns, D] -> the same."""
    grid = x.shape[1:3]
    keep = lambda y: drop_path(y, self.drop_path, train, self.make_rng)
    y = LayerNorm(self.epsilon, self.dtype, name="ln_1")(x)
    if self.shift:
      y = jnp.roll(y, (-self.shift, -self.shift), axis=(1, 2))
    y = window_ops.partition(y, self.window)
    kwargs = dict(out_std=_STD, dtype=self.dtype)
    bias = self._bias(x.shape[0], grid)
    attention = SelfAttention(self.heads, std=_STD, narrow=True, name="attn", **kwargs)
    y = attention(y, bias)
    y = window_ops.merge(y, self.window, grid)
    if self.shift:
      y = jnp.roll(y, (self.shift, self.shift), axis=(1, 2))
    x = x + keep(nn.Dropout(self.dropout)(y, deterministic=not train)).astype(x.dtype)
    y = LayerNorm(self.epsilon, self.dtype, name="ln_2")(x)
    kwargs |= dict(activation="gelu", hidden_std=_STD, dropout=self.dropout)
    return (x + keep(Mlp(name="mlp", **kwargs)(y, train))).astype(x.dtype)

  def _bias(self, batch: int, grid: tuple[int, int]) -> jax.Array:
    shape = ((2 * self.window - 1) ** 2, self.heads)
    normal = nn.initializers.normal(_STD)
    table = self.param("relative_position_bias", normal, shape, jnp.float32)
    return window_ops.attention_bias(table, batch, grid, self.window, self.shift)


class Merge(nn.Module):
  """Each 2 x 2 tokens side by side, normalised, to one of twice the width."""

  epsilon: float = 1e-5
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, rows, columns, D] -> [B, rows / 2, columns / 2, 2 D]."""
    # The order of the pretrained weights: down a column first, then to the right.
    pieces = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
    y = LayerNorm(self.epsilon, self.dtype, name="ln")(jnp.concatenate(pieces, axis=-1))
    kwargs = dict(use_bias=False, std=_STD, dtype=self.dtype, name="reduction")
    return Dense(2 * x.shape[-1], **kwargs)(y).astype(x.dtype)


class Stage(nn.Module):
  """Blocks of one width, every odd one shifted, and the merging behind them.

  One entry of `drop_path` for each block."""

  drop_path: tuple[float, ...]
  heads: int
  window: int
  merge: bool
  epsilon: float = 1e-5
  dropout: float = 0.0
  remat: bool = False
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """[B, rows, columns, D] -> the same, or [B, rows / 2, columns / 2, 2 D]."""
    through = lambda block, x: block(x, train)
    through = recomputed(through) if self.remat else through
    # One window along a side leaves nothing to shift across.
    shift = self.window // 2 if min(x.shape[1:3]) > self.window else 0
    for i, rate in enumerate(self.drop_path):
      block = Block(
        heads=self.heads,
        window=self.window,
        shift=shift if i % 2 else 0,
        epsilon=self.epsilon,
        dropout=self.dropout,
        drop_path=rate,
        dtype=self.dtype,
        name=f"block_{i}",
      )
      x = through(block, x)
    return Merge(self.epsilon, self.dtype, name="merge")(x) if self.merge else x


class SwinTower(nn.Module):
  """Swin-B by default. The function `windows` makes the field of that name.

  Attributes:
    image_size: (height, width) in pixels.
    windows: of every stage.
    pixel_mean, pixel_std: of uint8 pictures, scaled to 0..1.
    dropout: behind the patches and in every block, in training.
    drop_path: of the last block; it grows linearly from 0 at the first.
    remat: each block is recomputed in the backward pass.
  """

  image_size: tuple[int, int]
  windows: tuple[int, ...]
  pixel_mean: tuple[float, float, float]
  pixel_std: tuple[float, float, float]
  patch: int = 4
  width: int = 128
  depths: tuple[int, ...] = (2, 2, 18, 2)
  heads: tuple[int, ...] = (4, 8, 16, 32)
  epsilon: float = 1e-5
  dropout: float = 0.0
  drop_path: float = 0.0
  remat: bool = False
  dtype: str = "float32"
  stream: str = "float32"  # dtype of what the blocks add to

  @nn.compact
  def __call__(self, image: jax.Array, train: bool = False) -> jax.Array:
    """uint8 or normalised float32 [B, H, W, 3] -> [B, 1 + N, D] in `dtype`.

    D is width x 2^(stages - 1), N the cells of the last grid, row by row; token 0 is
    their mean.

    Raises:
      ValueError: images of another size, fields that do not belong together, and what
        `grids` and `windows` refuse.
    """
    if tuple(image.shape[1:]) != (*self.image_size, 3):
      raise ValueError(
        f"images are {tuple(image.shape[1:])}; this tower was built for"
        f" {(*self.image_size, 3)} (image_size of the model)"
      )
    first = self._grids()[0]
    x = normalise(image, self.pixel_mean, self.pixel_std)
    patch = (self.patch, self.patch)
    x = Patches(
      self.width, patch, patch, self.dtype, use_bias=True, name="patch_embedding"
    )(x)
    x = LayerNorm(self.epsilon, self.stream, name="ln_patch")(x)
    x = nn.Dropout(self.dropout)(x, deterministic=not train)
    x = x.reshape(-1, *first, self.width)
    done, total = 0, sum(self.depths)
    for i, depth in enumerate(self.depths):
      blocks = range(done, done + depth)
      x = Stage(
        drop_path=tuple(self.drop_path * at / max(total - 1, 1) for at in blocks),
        heads=self.heads[i],
        window=self.windows[i],
        merge=i < len(self.depths) - 1,
        epsilon=self.epsilon,
        dropout=self.dropout,
        remat=self.remat,
        dtype=self.dtype,
        name=f"stage_{i}",
      )(x, train)
      done += depth
    x = LayerNorm(self.epsilon, self.dtype, name="ln_post")(x)
    x = x.reshape(x.shape[0], -1, x.shape[-1])
    mean = jnp.mean(x.astype(jnp.float32), axis=1, keepdims=True)
    return jnp.concatenate([mean.astype(x.dtype), x], axis=1)

  def _grids(self) -> tuple[tuple[int, int], ...]:
    stages = len(self.depths)
    if not len(self.heads) == len(self.windows) == stages:
      raise ValueError(
        f"swin: depths {self.depths}, heads {self.heads} and windows {self.windows}"
        " have one entry for each stage; give them the same length"
      )
    sizes = grids(self.image_size, self.patch, stages)
    _check_windows(self.image_size, sizes, self.windows)
    return sizes
