"""Scores of tokens from the last time that their caption was seen, for every caption.

GA-DMS's released code masks by the scores of the previous epoch. A caption is seen once
an epoch, and read here before it is written, so one table serves: what is read was
written at the last visit. It is part of the training state, saved and resumed with it,
float16, and its rows are spread over the devices that split the batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tpr_jax.dual_masking import FIRST_SCORE

# Rows are filled up to a multiple, so that any number of devices shares them alike, and
# a run may be resumed on another number.
MULTIPLE = 1024


class ScoreTable(NamedTuple):
  """Its size: captions that are trained on, and tokens of a text."""

  captions: int
  length: int

  def create(self) -> jax.Array:
    """float16 [N, L] where nothing was seen yet; N: captions, filled up."""
    rows = -(-self.captions // MULTIPLE) * MULTIPLE
    return jnp.full((rows, self.length), FIRST_SCORE, jnp.float16)


def read(table: jax.Array, captions: jax.Array, length: int) -> jax.Array:
  """[N, L], int [B] -> float32 [B, length]."""
  return table[captions, :length].astype(jnp.float32)


def write(table: jax.Array, captions: jax.Array, scores: jax.Array) -> jax.Array:
  """The table with [B, length] new scores; where a batch shows a caption twice, the
  larger score of each token counts, in whatever order they come."""
  length = scores.shape[1]
  scores = scores.astype(table.dtype)
  emptied = table.at[captions, :length].set(jnp.zeros((), table.dtype))
  return emptied.at[captions, :length].max(scores)
