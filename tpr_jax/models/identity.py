"""Identity classifiers of CFAM (fused, over pairs) and of IRRA (shared, over features).

The paper names cross-modal identity classification and gives no formula; `fused` is
ours. `shared` is the instance loss of IRRA (arXiv:2303.12501). Both classifiers start
at N(0, 0.001) with bias 0, as IRRA's does.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.models.layers.dense import Dense
from tpr_jax.models.layers.mlp import quick_gelu
from tpr_jax.models.layers.norm import LayerNorm


class FusedIdentity(nn.Module):
  """Image and text feature of a pair -> one of N identities, or class N: two people."""

  identities: int

  @nn.compact
  def __call__(self, image: jax.Array, text: jax.Array) -> jax.Array:
    """[P, D], [P, D] -> float32 [P, N + 1]."""
    x = jnp.concatenate([image, text], axis=-1).astype(jnp.float32)
    x = LayerNorm(name="ln")(quick_gelu(Dense(image.shape[-1], name="project")(x)))
    return Dense(self.identities + 1, std=0.001, name="classifier")(x)


class SharedIdentity(nn.Module):
  """One linear classifier for the features of either modality."""

  identities: int

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """[B, D] -> float32 [B, N]."""
    features = features.astype(jnp.float32)
    return Dense(self.identities, std=0.001, name="classifier")(features)
