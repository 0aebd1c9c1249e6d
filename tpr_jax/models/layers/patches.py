"""Images -> patches -> tokens, for any patch, stride and image size."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.core import numerics


def grid(
  image_size: tuple[int, int], patch: tuple[int, int], stride: tuple[int, int]
) -> tuple[int, int]:
  """Rows and columns of patches; what does not fill a patch is cut off (floor).

  384x128 with patch and stride 16 -> (24, 8); with 14 -> (27, 9).

  Raises:
    ValueError: the image is smaller than one patch.
  """
  rows, columns = (
    (size - p) // s + 1 for size, p, s in zip(image_size, patch, stride, strict=True)
  )
  if rows < 1 or columns < 1 or min(*patch, *stride) < 1:
    raise ValueError(
      f"patches: image {tuple(image_size)} cannot hold a patch {tuple(patch)} with"
      f" stride {tuple(stride)}; all are (height, width) in pixels"
    )
  return rows, columns


class Patches(nn.Module):
  """A convolution with kernel `patch` and step `stride`, by default without bias.

  When patches do not overlap it runs as one matrix product, which is faster in both
  directions on CPU; the kernel has the shape of a convolution's either way. Initially
  normal with PyTorch's default variance 1 / (3 fan_in), as OpenAI's `conv1`."""

  width: int
  patch: tuple[int, int]
  stride: tuple[int, int]
  dtype: str = "float32"
  use_bias: bool = False

  @nn.compact
  def __call__(self, image: jax.Array) -> jax.Array:
    """[B, H, W, 3] -> [B, rows * columns, width], row by row."""
    high, wide = self.patch
    rows, columns = grid(image.shape[1:3], self.patch, self.stride)
    channels = image.shape[-1]
    kernel = self.param(
      "kernel",
      nn.initializers.normal(1 / math.sqrt(3 * high * wide * channels)),
      (high, wide, channels, self.width),
      jnp.float32,
    )
    if tuple(self.stride) == tuple(self.patch):
      x = image[:, : rows * high, : columns * wide]
      x = x.reshape(-1, rows, high, columns, wide, channels)
      x = x.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape[0], rows * columns, -1)
      flat = kernel.reshape(-1, self.width)
      x = numerics.contract("abi,io->abo", x, flat, self.dtype)
    else:
      x = self._overlapping(image, kernel).reshape(-1, rows * columns, self.width)
    if self.use_bias:
      x = x + self.param("bias", nn.initializers.zeros, (self.width,), jnp.float32)
    return x.astype(self.dtype)

  def _overlapping(self, image: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
      image.astype(self.dtype),
      kernel.astype(self.dtype),
      window_strides=tuple(self.stride),
      padding="VALID",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
