"""CLIP's vision transformer over any image size: Radford et al., arXiv:2103.00020.

Departure, after IRRA (arXiv:2303.12501): the whole sequence is normalised by `ln_post`
and projected, not the class token alone.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.core import numerics
from tpr_jax.models.layers import patches
from tpr_jax.models.layers.block import Blocks
from tpr_jax.models.layers.dense import Dense
from tpr_jax.models.layers.norm import LayerNorm
from tpr_jax.ops import flash, masks


def normalise(
  image: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]
) -> jax.Array:
  """uint8 [..., 3] -> float32 (x / 255 - mean) / std; float32 is taken as done already.

  Raises:
    TypeError: any other dtype.
  """
  if image.dtype == jnp.uint8:
    scaled = image.astype(jnp.float32) / 255.0
    return (scaled - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)
  if image.dtype == jnp.float32:
    return image
  raise TypeError(
    f"image is {image.dtype}; expected uint8 (0..255, normalised here) or float32"
    " (normalised already)"
  )


class VisionTower(nn.Module):
  """ViT with a class token. Sizes are (height, width) in pixels."""

  image_size: tuple[int, int]
  patch: tuple[int, int]
  stride: tuple[int, int]
  width: int
  layers: int
  heads: int
  joint_dim: int
  pixel_mean: tuple[float, float, float]
  pixel_std: tuple[float, float, float]
  activation: str
  epsilon: float
  drop_path: float = 0.0
  remat: bool = False
  dtype: str = "float32"
  stream: str = "float32"  # dtype of what the blocks add to

  @nn.compact
  def __call__(
    self, image: jax.Array, train: bool = False, class_only: bool = False
  ) -> jax.Array:
    """uint8 or normalised float32 [B, H, W, 3] -> [B, 1 + rows * columns, joint_dim].

    Token 0 is the class token; the others run over the patches row by row. With
    `class_only` there is no other, and the last block does no work for them.
    """
    if tuple(image.shape[1:]) != (*self.image_size, 3):
      raise ValueError(
        f"images are {tuple(image.shape[1:])}; this tower was built for"
        f" {(*self.image_size, 3)} (image_size of the model)"
      )
    x = normalise(image, self.pixel_mean, self.pixel_std)
    x = patches.Patches(
      self.width, self.patch, self.stride, self.dtype, name="patch_embedding"
    )(x)
    normal = nn.initializers.normal(self.width**-0.5)
    rows, columns = patches.grid(self.image_size, self.patch, self.stride)
    embedding = self.param("class_embedding", normal, (self.width,), jnp.float32)
    shape = (1 + rows * columns, self.width)
    position = self.param("position_embedding", normal, shape, jnp.float32)
    x = x.astype(self.stream)
    embedding = jnp.broadcast_to(embedding.astype(x.dtype), (x.shape[0], 1, self.width))
    x = jnp.concatenate([embedding, x], axis=1) + position.astype(x.dtype)
    x = LayerNorm(self.epsilon, self.stream, name="ln_pre")(x)
    first = jnp.zeros(x.shape[0], jnp.int32)
    count = x.shape[1]
    spare = flash.spare(count, self.dtype)
    x = jnp.pad(x, ((0, 0), (0, spare), (0, 0)))
    mask = masks.First(count, count + spare) if spare else None
    x = Blocks(
      self.layers,
      self.heads,
      self.activation,
      self.epsilon,
      self.drop_path,
      self.remat,
      self.dtype,
      name="blocks",
    )(x, mask, train, only=first if class_only else None)[:, :count]
    x = LayerNorm(self.epsilon, self.dtype, name="ln_post")(x)
    return Dense(self.joint_dim, use_bias=False, dtype=self.dtype, name="projection")(x)


def class_feature(tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
  """[B, T, D] -> (float32 unit rows [B, D], the same before division by the length)."""
  feature = tokens[:, 0].astype(jnp.float32)
  return numerics.unit(feature), feature
