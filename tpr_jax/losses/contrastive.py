"""InfoNCE, the loss of CLIP: Radford et al., arXiv:2103.00020, Figure 3.

  L_i = -(log softmax_j(scale s_ij)[i] + log softmax_j(scale s_ji)[i]) / 2
The positive of text i is image i alone: another pair of the same identity counts as a
negative, as in baseline No. 0 of UFineBench's ablation.
Shapes: B pairs in the GLOBAL batch.
"""

import jax
import jax.numpy as jnp

from tpr_jax.losses import rows


def infonce(
  similarity: jax.Array, scale: jax.Array | float, *, valid: jax.Array | None = None
) -> jax.Array:
  """[B, B] cosines, rows texts, columns images -> [B] float32, unreduced.

  Args:
    scale: 1 / temperature.
    valid: bool [B]; a pair that is not valid gets loss 0 and is nobody's column.
  """
  logits = scale * similarity.astype(jnp.float32)
  to_image = jax.nn.log_softmax(rows.only_valid(logits, valid), axis=1)
  to_text = jax.nn.log_softmax(rows.only_valid(logits.T, valid), axis=1)
  loss = -0.5 * (jnp.diagonal(to_image) + jnp.diagonal(to_text))
  return rows.zero_invalid(loss, valid)
