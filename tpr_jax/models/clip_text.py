"""CLIP's causal text transformer: Radford et al., arXiv:2103.00020.

Departure, after IRRA (arXiv:2303.12501): the whole sequence is normalised by `ln_final`
and projected, not the end-of-text token alone.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.core import numerics
from tpr_jax.models.layers.block import Blocks
from tpr_jax.models.layers.dense import Dense
from tpr_jax.models.layers.lookup import lookup
from tpr_jax.models.layers.norm import LayerNorm
from tpr_jax.models.watch import Watch
from tpr_jax.ops import masks


def check_end(vocab_size: int, end_id: int) -> None:
  """Refuses a vocabulary in which `end_of_text` would find another token.

  Raises:
    ValueError: the end token is not the last one.
  """
  if end_id != vocab_size - 1:
    raise ValueError(
      f"text.tokenizer: the end token has id {end_id} of {vocab_size:,}; CLIP's text"
      " tower finds the end of a caption by its highest id, so that it has to be the"
      " last. WordPiece vocabularies are for BERT's towers: use 'people' or one of"
      " CLIP's"
    )


def end_of_text(ids: jax.Array) -> jax.Array:
  """int [B, L] -> int [B]: the end token has the highest id of the vocabulary."""
  return jnp.argmax(ids, axis=1)


def real_tokens(ids: jax.Array) -> jax.Array:
  """int [B, L] -> bool [B, L], True up to and including end-of-text."""
  return jnp.arange(ids.shape[1])[None, :] <= end_of_text(ids)[:, None]


def end_feature(tokens: jax.Array, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
  """[B, L, D], [B, L] -> (float32 unit rows [B, D], the same before the division)."""
  end = end_of_text(ids)[:, None, None]
  feature = jnp.take_along_axis(tokens, end, axis=1)[:, 0].astype(jnp.float32)
  return numerics.unit(feature), feature


class TextTower(nn.Module):
  """Token and position embeddings, causal blocks, a final norm, a projection."""

  vocab_size: int
  length: int  # of the position table: the longest text
  width: int
  layers: int
  heads: int
  joint_dim: int
  activation: str
  epsilon: float
  drop_path: float = 0.0
  remat: bool = False
  dtype: str = "float32"
  stream: str = "float32"  # dtype of what the blocks add to

  @nn.compact
  def __call__(
    self,
    ids: jax.Array,
    train: bool = False,
    watch: Watch | None = None,
    end_only: bool = False,
  ) -> jax.Array:
    """int [B, L <= length] -> [B, L, joint_dim]; ids start, words, end, padding.

    With `end_only` [B, 1, joint_dim], of the end token: the last block does no work for
    the others.

    Watched, all that comes after the first watched block is float32, and the result
    [B, 1, joint_dim], of the end token."""
    length = ids.shape[1]
    if length > self.length:
      raise ValueError(
        f"texts have {length} tokens; the position table holds {self.length}"
        " (text_length of the model)"
      )
    table = self.param(
      "token_embedding",
      nn.initializers.normal(0.02),
      (self.vocab_size, self.width),
      jnp.float32,
    )
    position = self.param(
      "position_embedding",
      nn.initializers.normal(0.01),
      (self.length, self.width),
      jnp.float32,
    )
    x = (lookup(table, ids) + position[:length]).astype(self.stream)
    mask = masks.Causal(length)
    x = Blocks(
      self.layers,
      self.heads,
      self.activation,
      self.epsilon,
      self.drop_path,
      self.remat,
      self.dtype,
      name="blocks",
    )(x, mask, train, watch, end_of_text(ids) if end_only else None)
    dtype = self.dtype if watch is None else watch.dtype
    x = LayerNorm(self.epsilon, dtype, name="ln_final")(x)
    return Dense(self.joint_dim, use_bias=False, dtype=dtype, name="projection")(x)
