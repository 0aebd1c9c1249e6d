"""Image-text contrast of MRA and APTM (arXiv:2507.10195, arXiv:2306.02898), section
"ITC": a softmax over the batch, whose targets are all pairs of the same identity.

  s_ij = <text_i, image_j> / temperature
  y_ij = [id_i = id_j] / sum_k [id_i = id_k]
  t_ij = (1 - smoothing) y_ij + smoothing / B
  L_i  = -(sum_j t_ij log softmax_j(s_ij) + sum_j t_ij log softmax_j(s_ji)) / 2
For regions and their phrases an id is that of the phrase. The temperature divides here;
elsewhere in this folder a `scale` multiplies.
Shapes: B pairs in the GLOBAL batch.
"""

import jax
import jax.numpy as jnp

from tpr_jax.losses import rows


def itc(
  similarity: jax.Array,
  ids: jax.Array,
  temperature: jax.Array | float,
  *,
  smoothing: float = 0.0,
  feature_grad_scale: jax.Array | float = 1.0,
  valid: jax.Array | None = None,
) -> jax.Array:
  """[B, B] cosines, rows texts, columns images -> [B] float32, unreduced.

  Args:
    ids: int [B] identity (or image, or phrase) of pair i.
    temperature: 0.07 at the start of MRA's training, where it is learnt, not clamped.
    smoothing: share of the target that all B columns have alike; 0.2 when MRA is
      fine-tuned, where it is spread over images of the same identity too.
    feature_grad_scale: factor on the gradient of `similarity`, so of both features, not
      of the temperature. MRA's released training gathers features in a way that leaves
      1 / (number of GPUs) of it: 0.25 for its four.
    valid: bool [B]; a pair that is not valid gets loss 0 and is nobody's column.

  Raises:
    ValueError: a smoothing outside of 0..1.
  """
  if not 0 <= smoothing <= 1:
    raise ValueError(f"itc: smoothing={smoothing}; expected 0 to 1")
  cosine = similarity.astype(jnp.float32)
  constant = jax.lax.stop_gradient(cosine)
  # In this form the value is that of `cosine` to the last bit.
  cosine = constant + feature_grad_scale * (cosine - constant)
  column = jnp.ones(ids.shape, bool) if valid is None else valid
  same = ((ids[:, None] == ids[None, :]) & column[None, :]).astype(jnp.float32)
  target = same / jnp.maximum(jnp.sum(same, axis=1, keepdims=True), 1.0)
  uniform = column[None, :] / jnp.maximum(jnp.sum(column), 1)
  target = (1 - smoothing) * target + smoothing * uniform
  logits = cosine / temperature
  loss = 0.5 * (_entropy(logits, target, valid) + _entropy(logits.T, target, valid))
  return rows.zero_invalid(loss, valid)


def _entropy(
  logits: jax.Array, target: jax.Array, valid: jax.Array | None
) -> jax.Array:
  """[B, B] x 2 -> [B]: -sum_j t_ij log softmax_j(s_ij)."""
  log_p = jax.nn.log_softmax(rows.only_valid(logits, valid), axis=1)
  return -jnp.sum(target * log_p, axis=1)
