"""The matching head of APTM and MRA: is this text about this image?

arXiv:2306.02898 and arXiv:2507.10195 (released code): Dense to twice the width,
LayerNorm, GELU, Dense to two classes over the first token behind the fusion encoder;
class 1 is "matched". Initial kernels N(0, 0.02), ours.
"""

import flax.linen as nn
import jax

from tpr_jax.models.layers.dense import Dense
from tpr_jax.models.layers.mlp import exact_gelu
from tpr_jax.models.layers.norm import LayerNorm

MATCHED = 1  # the class


class Itm(nn.Module):
  """First tokens of P pairs -> logits of "not matched" and "matched"."""

  dtype: str = "float32"

  @nn.compact
  def __call__(self, first: jax.Array) -> jax.Array:
    """[P, D] -> float32 [P, 2]."""
    x = Dense(2 * first.shape[-1], std=0.02, dtype=self.dtype, name="fc")(first)
    x = exact_gelu(LayerNorm(1e-5, self.dtype, name="ln")(x))
    # The logits themselves are float32: they decide a re-ranking.
    return Dense(2, std=0.02, name="logits")(x)
