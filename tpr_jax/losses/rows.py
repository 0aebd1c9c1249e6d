"""What the losses over rows of a similarity matrix share."""

import jax
import jax.numpy as jnp

# Added to nothing, only written over masked logits: far below any logit, yet finite, so
# that a fully masked row has a softmax and a gradient.
MASKED = -1e9


def only_valid(logits: jax.Array, valid: jax.Array | None) -> jax.Array:
  """[B, B] logits whose invalid columns take no part in a softmax along the row."""
  if valid is None:
    return logits
  return jnp.where(valid[None, :], logits, MASKED)


def zero_invalid(loss: jax.Array, valid: jax.Array | None) -> jax.Array:
  """[B] loss with 0 where `valid` is False."""
  return loss if valid is None else jnp.where(valid, loss, 0.0)
