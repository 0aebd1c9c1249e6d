"""The post-LN transformer layer of BERT: Devlin et al., arXiv:1810.04805.

  x = LN(x + attention(x))
  x = LN(x + cross_attention(x, image))      layers with `cross` alone
  x = LN(x + mlp(x))
The cross-attention block is that of ALBEF (arXiv:2107.07651), whose fusion encoder APTM
(arXiv:2306.02898) and MRA (arXiv:2507.10195) have. Dropout: of the attention weights,
and of each of the three branches before it is added. Initial kernels are
N(0, 0.02), as BERT's.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.models.layers.attention import Heads
from tpr_jax.models.layers.dense import Dense
from tpr_jax.models.layers.mlp import ACTIVATIONS
from tpr_jax.models.layers.norm import LayerNorm
from tpr_jax.models.layers.recompute import recomputed
from tpr_jax.ops import attention as attention_ops

STD = 0.02
# For those who ask where a text looks (models/cross_maps.py): the collection that the
# weights of cross-attention are sown into, where it is mutable, and the one that holds
# what is added to them, where there is one.
SEEN, NUDGE = "intermediates", "nudge"

# What a layer's cross-attention looks at: image tokens [B, T, D_v], or the keys and
# values that `CrossAttention.keys` made of them.
Keys = tuple[jax.Array, jax.Array]


class SelfAttention(nn.Module):
  """Self-attention with dropout; `qkv` holds q, k and v side by side."""

  width: int
  heads: int
  dropout: float = 0.0
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, x: jax.Array, mask: jax.Array | None, train: bool = False
  ) -> jax.Array:
    """[B, L, D] -> [B, L, D]; mask as in `ops.attention.attend`."""
    q, k, v = Heads(3, self.width, self.heads, self.dtype, STD, name="qkv")(x)
    # None where there is nothing to drop: devices have attention without weights.
    dropping = train and self.dropout
    drop = nn.Dropout(self.dropout, deterministic=False) if dropping else None
    y = attention_ops.attend(q, k, v, mask, drop=drop).reshape(x.shape)
    return Dense(self.width, std=STD, dtype=self.dtype, name="out")(y)


class CrossAttention(nn.Module):
  """A text's tokens attend to an image's; `kv` holds k and v side by side.

  The image's keys and values depend on the image alone: `keys` makes them once for all
  the texts that they are compared with."""

  width: int
  heads: int
  dropout: float = 0.0
  dtype: str = "float32"

  def setup(self):
    self.q = Heads(1, self.width, self.heads, self.dtype, STD)
    self.kv = Heads(2, self.width, self.heads, self.dtype, STD)
    self.out = Dense(self.width, std=STD, dtype=self.dtype)
    self.drop = nn.Dropout(self.dropout)

  def keys(self, tokens: jax.Array) -> Keys:
    """[B, T, D_v] -> keys and values, each [B, T, H, D / H]."""
    k, v = self.kv(tokens)
    return k, v

  def __call__(
    self,
    x: jax.Array,
    image: jax.Array | Keys,
    mask: jax.Array | None,
    train: bool = False,
  ) -> jax.Array:
    """[B, L, D], tokens or keys of B images -> [B, L, D]; mask as in `attend`."""
    (q,) = self.q(x)
    k, v = image if isinstance(image, tuple) else self.keys(image)
    drop = lambda weights: self._dropped(weights, train)
    y = attention_ops.attend(q, k, v, mask, drop=drop).reshape(x.shape)
    return self.out(y)

  def _dropped(self, weights: jax.Array, train: bool) -> jax.Array:
    """[B, H, L, T] after dropout; see SEEN and NUDGE."""
    self.sow(SEEN, "weights", weights)
    if self.has_variable(NUDGE, "weights"):
      weights = weights + self.get_variable(NUDGE, "weights")
    return self.drop(weights, deterministic=not train)


class FeedForward(nn.Module):
  """Dense(hidden), GELU with the error function, Dense(width)."""

  width: int
  hidden: int
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[..., D] -> [..., D]."""
    x = Dense(self.hidden, std=STD, dtype=self.dtype, name="fc")(x)
    proj = Dense(self.width, std=STD, dtype=self.dtype, name="proj")
    run = lambda proj, x: proj(ACTIVATIONS["gelu"](x))
    return recomputed(run, always=False)(proj, x)


class PostNormLayer(nn.Module):
  """One layer (see the top of this file); rng "dropout" in training."""

  width: int
  hidden: int
  heads: int
  cross: bool = False
  dropout: float = 0.0
  epsilon: float = 1e-12
  dtype: str = "float32"
  stream: str = "float32"  # dtype of what the blocks add to

  def setup(self):
    shared = dict(dropout=self.dropout, dtype=self.dtype)
    norm = lambda: LayerNorm(self.epsilon, self.stream)
    self.attn = SelfAttention(self.width, self.heads, **shared)
    self.ln_attn = norm()
    if self.cross:
      self.cross_attn = CrossAttention(self.width, self.heads, **shared)
      self.ln_cross = norm()
    self.mlp = FeedForward(self.width, self.hidden, self.dtype)
    self.ln_mlp = norm()
    self.drop = nn.Dropout(self.dropout)

  def keys(self, tokens: jax.Array) -> Keys:
    """As `CrossAttention.keys`."""
    return self.cross_attn.keys(tokens)

  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array | None,
    image: jax.Array | Keys | None,
    image_mask: jax.Array | None,
    train: bool,
  ) -> jax.Array:
    """[B, L, D] -> [B, L, D].

    Args:
      mask: over the text's tokens, as in `ops.attention.attend`.
      image: tokens [B, T, D_v] or what `keys` returned; used with `cross` alone.
      image_mask: over the image's tokens, as `mask`.
    """
    drop = lambda y: self.drop(y, deterministic=not train)
    x = self.ln_attn(x + drop(self.attn(x, mask, train)))
    if self.cross:
      x = self.ln_cross(x + drop(self.cross_attn(x, image, image_mask, train)))
    return self.ln_mlp(x + drop(self.mlp(x)))


def join(keys: Keys) -> jax.Array:
  """Keys and values -> one array [B, T, 2 D]; `part` is its inverse."""
  return jnp.concatenate([side.reshape(*side.shape[:2], -1) for side in keys], axis=-1)


def part(joined: jax.Array, heads: int) -> Keys:
  """[B, T, 2 D] -> keys and values, each [B, T, H, D / H]."""
  shape = (*joined.shape[:2], heads, joined.shape[-1] // (2 * heads))
  k, v = jnp.split(joined, 2, axis=-1)
  return k.reshape(shape), v.reshape(shape)
