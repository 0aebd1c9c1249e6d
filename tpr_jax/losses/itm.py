"""Image-text matching of MRA and APTM (arXiv:2507.10195, arXiv:2306.02898), after ALBEF
(arXiv:2107.07651): does a cross-encoder see that an image and a text are one pair?

For each text an image, and for each image a text, of another identity is drawn:
  P(image j | text i) ~ w_ij = softmax_j(s_ij / temperature) + 1e-5,  w_ij = 0 if
  id_i = id_j;  texts by the softmax along the columns.
The softmax is over all columns, the true pairs' too: where these have nearly all of it,
the draw is nearly uniform. With the B true pairs the negatives make 3B, assembled by
`matching.pairs` and `matching.sides` as the hardest negatives are, classified in two:
  L_p = -log softmax(logits_p)[label_p],   class 1: a pair.
MRA draws among the 40 pairs of one GPU: `group`. Where a whole group has one identity
MRA's code stops; here the draw is then uniform among other identities of the batch.
Shapes: B pairs in the GLOBAL batch, P pairs of an image and a text.
"""

import jax
import jax.numpy as jnp

from tpr_jax.losses import identity, matching

FLOOR = 1e-5  # every other identity may be drawn, however unlike


def sample_negatives(
  key: jax.Array,
  similarity: jax.Array,
  ids: jax.Array,
  temperature: jax.Array | float,
  *,
  group: int | None = None,
  valid: jax.Array | None = None,
) -> matching.HardNegatives:
  """[B, B] cosines, rows texts, columns images -> negatives drawn at random.

  Args:
    similarity: text i and image i are a pair. No gradient, nor to the temperature.
    ids: int [B] identity (or image, or phrase) of pair i: no negative has the same.
    group: draw within `group` consecutive pairs; None: from the whole batch.
    valid: bool [B]; a pair that is not valid is no negative and has none.

  Returns:
    as of `matching.hard_negatives`: a row without any other identity in the batch is
    marked, and its index means nothing.

  Raises:
    ValueError: `group` is below 2 or does not divide B.
  """
  count = similarity.shape[0]
  if group is not None and (group < 2 or count % group):
    raise ValueError(
      f"itm: groups of {group} in a batch of {count} pairs; expected 2 or more that"
      " divide the batch, or None for one group"
    )
  other = ids[:, None] != ids[None, :]
  if valid is not None:
    other = other & valid[:, None] & valid[None, :]
  block = jnp.arange(count) // (group or count)
  inside = block[:, None] == block[None, :]
  if valid is not None:
    inside = inside & valid[None, :]
  logits = jax.lax.stop_gradient(similarity.astype(jnp.float32) / temperature)

  def draw(key, logits):
    weight = jax.nn.softmax(jnp.where(inside, logits, -jnp.inf), axis=1) + FLOOR
    allowed = other & inside
    log_w = jnp.where(allowed, jnp.log(weight), -jnp.inf)
    anybody = jnp.where(other, 0.0, -jnp.inf)
    log_w = jnp.where(allowed.any(axis=1, keepdims=True), log_w, anybody)
    return jax.random.categorical(key, log_w, axis=1).astype(jnp.int32)

  for_text, for_image = jax.random.split(key)
  found = other.any(axis=1)  # of a symmetric matrix: one `any` tells both directions
  return matching.HardNegatives(
    text_of_image=draw(for_image, logits.T),
    text_valid=found,
    image_of_text=draw(for_text, logits),
    image_valid=found,
  )


def cross_entropy(
  logits: jax.Array,
  labels: jax.Array,
  valid: jax.Array | None = None,
  *,
  smoothing: float = 0.0,
) -> jax.Array:
  """[P, 2] logits, [P] labels (1: a pair, 0: not) -> [P] float32, 0 where not valid.

  With smoothing s the target is 1 - s / 2 for the label and s / 2 for the other class.
  Reduce with `numerics.masked_mean(loss, valid)`: the mean over the valid pairs.

  Raises:
    ValueError: logits of another number of classes.
  """
  if logits.shape[1:] != (2,):
    raise ValueError(f"itm: logits of shape {logits.shape}; expected [P, 2]")
  labels = labels.astype(jnp.int32)
  loss = identity.cross_entropy(logits, labels, valid)
  if not smoothing:
    return loss
  other = identity.cross_entropy(logits, 1 - labels, valid)
  return (1 - smoothing / 2) * loss + smoothing / 2 * other
