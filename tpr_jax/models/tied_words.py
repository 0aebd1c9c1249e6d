"""BERT's head for masked words, tied to the token table: arXiv:1810.04805.

logits = LN(gelu(x W + b)) E^T + c      E the table of embeddings, c a bias of its own
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.core import numerics
from tpr_jax.models.layers.dense import Dense
from tpr_jax.models.layers.mlp import exact_gelu
from tpr_jax.models.layers.norm import LayerNorm


class TiedWords(nn.Module):
  """States and the token table -> logits of the words."""

  epsilon: float = 1e-12
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: jax.Array, table: jax.Array) -> jax.Array:
    """[..., D], [V, D] -> float32 [..., V].

    V is large: hand over the masked positions alone where they are few.
    """
    width = x.shape[-1]
    y = Dense(width, std=0.02, dtype=self.dtype, name="dense")(x)
    y = LayerNorm(self.epsilon, self.dtype, name="ln")(exact_gelu(y))
    y = numerics.contract("nd,vd->nv", y.reshape(-1, width), table, self.dtype)
    y = y + self.param("bias", nn.initializers.zeros, table.shape[:1], jnp.float32)
    return y.reshape(*x.shape[:-1], -1)
