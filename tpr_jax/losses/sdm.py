"""Similarity distribution matching (SDM): Jiang & Ye, IRRA, arXiv:2303.12501.

  p_ij = softmax_j(scale s_ij)     q_ij = y_ij / sum_k y_ik,     y_ij = [id_i = id_j]
  L_i  = sum_j p_ij (log p_ij - log(q_ij + eps)), text->image plus text<-image.
CFAM (UFineBench, CVPR 2024) uses it on the global cosines (L_gs) and on the mean cosine
of parts (L_ls). Soft labels, off by default, as in IRRA's code: y_ij = 1 for the same
image and 0.3 for another image of the same identity. One departure from that code: it
divides y by `y.sum(1)` without keepdims, that is column j by the sum of row j; here
row i is divided by its own sum. Both agree for hard labels.
Shapes: B pairs in the GLOBAL batch.
"""

import jax
import jax.numpy as jnp

from tpr_jax.losses import rows


def sdm(
  similarity: jax.Array,
  ids: jax.Array,
  scale: jax.Array | float,
  *,
  image_ids: jax.Array | None = None,
  other_image: float = 0.3,
  eps: float = 1e-8,
  valid: jax.Array | None = None,
) -> jax.Array:
  """[B, B] cosines, rows texts, columns images -> [B] float32, unreduced.

  Args:
    similarity: float32; text i and image i are a pair.
    ids: int [B] identity of pair i.
    scale: 1 / temperature (50 in CFAM).
    image_ids: int [B]; given: soft labels, see above.
    other_image: label of another image of the same identity, with `image_ids`.
    valid: bool [B]; a pair that is not valid gets loss 0 and is nobody's column.
  """
  labels = (ids[:, None] == ids[None, :]).astype(jnp.float32)
  if image_ids is not None:
    same_image = (image_ids[:, None] == image_ids[None, :]).astype(jnp.float32)
    labels = jnp.where(same_image > 0, labels, other_image * labels)
  if valid is not None:
    labels = labels * valid[None, :]
  total = jnp.sum(labels, axis=1, keepdims=True)
  target = labels / jnp.where(total > 0, total, 1.0)
  logits = scale * similarity.astype(jnp.float32)
  loss = _divergence(logits, target, eps, valid)
  loss = loss + _divergence(logits.T, target, eps, valid)
  return rows.zero_invalid(loss, valid)


def _divergence(
  logits: jax.Array, target: jax.Array, eps: float, valid: jax.Array | None
) -> jax.Array:
  """[B, B], [B, B] whose rows sum to 1 -> [B]: the formula along each row."""
  log_p = jax.nn.log_softmax(rows.only_valid(logits, valid), axis=1)
  return jnp.sum(jnp.exp(log_p) * (log_p - jnp.log(target + eps)), axis=1)
