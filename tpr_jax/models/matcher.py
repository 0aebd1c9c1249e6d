"""The matcher of CFAM: are these image parts and text parts one person's?

UFineBench (CVPR 2024): two transformer blocks and an MLP with a sigmoid. Ours: the
parts of both are concatenated, each with a learnt embedding of its modality; the blocks
are pre-LN, without a norm after the last; tokens are mean-pooled before the MLP.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.models.layers.block import Blocks
from tpr_jax.models.layers.dense import Dense
from tpr_jax.models.layers.mlp import quick_gelu


class Matcher(nn.Module):
  """Parts of P pairs -> P logits; sigmoid(logit) is the probability of a match."""

  layers: int = 2
  heads: int = 8
  dtype: str = "float32"
  stream: str = "float32"  # dtype of what the blocks add to

  @nn.compact
  def __call__(self, image_parts: jax.Array, text_parts: jax.Array) -> jax.Array:
    """[P, K, W], [P, K, W] -> float32 [P]."""
    width = image_parts.shape[-1]
    modality = self.param(
      "modality", nn.initializers.normal(0.02), (2, width), jnp.float32
    )
    x = jnp.concatenate([image_parts + modality[0], text_parts + modality[1]], axis=1)
    x = Blocks(self.layers, self.heads, dtype=self.dtype, name="blocks")(
      x.astype(self.stream)
    )
    x = jnp.mean(x.astype(jnp.float32), axis=1)
    x = quick_gelu(Dense(width, dtype=self.dtype, name="fc")(x))
    # The logit itself is float32: it decides a re-ranking.
    return Dense(1, std=0.02, name="logit")(x)[:, 0]
