"""Identity classification: L_cid of CFAM (UFineBench, CVPR 2024) and IRRA's id loss.

The paper names cross-modal identity classification and gives no formula. Ours, `fused`:
a pair is classified into N identities or class N, "these two are not one person":
  L_p = -log softmax(logits_p)[label_p].
`shared` is IRRA's instance loss (arXiv:2303.12501): one classifier of N identities for
both modalities, L_i = (CE(image_i) + CE(text_i)) / 2.
"""

import jax
import jax.numpy as jnp


def cross_entropy(
  logits: jax.Array, labels: jax.Array, valid: jax.Array | None = None
) -> jax.Array:
  """[P, C], int [P] in 0..C-1 -> [P] float32, 0 where not valid.

  A label outside 0..C-1 gives NaN: it is a mistake in the data, not a class.
  """
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  inside = (labels >= 0) & (labels < logits.shape[-1])
  index = jnp.where(inside, labels, 0)
  loss = -jnp.take_along_axis(log_p, index[:, None], axis=-1)[:, 0]
  loss = jnp.where(inside, loss, jnp.nan)
  return loss if valid is None else jnp.where(valid, loss, 0.0)


def pair_labels(
  image_ids: jax.Array, text_ids: jax.Array, num_classes: int
) -> jax.Array:
  """int [P], int [P] identities of the two sides -> int32 [P] labels of `fused`.

  The identity where both sides have the same, else `num_classes` (the extra class). So
  a "hard negative" that is another picture of the same person, which only
  `matching.hard_negatives(exclude="pair")` yields, is not taught to be two people.
  """
  return jnp.where(image_ids == text_ids, image_ids, num_classes).astype(jnp.int32)


def fused(
  pair_classes: jax.Array,
  image_ids: jax.Array,
  text_ids: jax.Array,
  valid: jax.Array | None = None,
) -> jax.Array:
  """[P, N + 1] logits, identities of both sides [P] -> [P] float32, unreduced."""
  labels = pair_labels(image_ids, text_ids, pair_classes.shape[-1] - 1)
  return cross_entropy(pair_classes, labels, valid)


def shared(
  image_classes: jax.Array,
  text_classes: jax.Array,
  ids: jax.Array,
  valid: jax.Array | None = None,
) -> jax.Array:
  """[B, N], [B, N] logits, int [B] -> [B] float32: the mean of the two modalities."""
  image_loss = cross_entropy(image_classes, ids, valid)
  return 0.5 * (image_loss + cross_entropy(text_classes, ids, valid))
