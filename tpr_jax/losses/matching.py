"""Hard negatives and the matching loss L_m of CFAM: UFineBench (CVPR 2024), Eq. 5.

For each image the most similar text of another identity, and for each text the most
similar image of another identity, make 2B negative pairs beside the B positive ones.
  L = -(y log p + (1 - y) log(1 - p)),  p = sigmoid(logit), for each of the 3B pairs.
Eq. 5 as printed lacks the minus and has "1 - log p": a misprint. The paper says
"unpaired" texts and images; excluding the whole identity is ours, `exclude="pair"` is
the letter of the paper.
Shapes: B pairs in the GLOBAL batch.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp

EXCLUDE = ("identity", "pair")


class HardNegatives(NamedTuple):
  """For image j of the batch a text, for text i an image; False: there was none."""

  text_of_image: jax.Array  # int32 [B]
  text_valid: jax.Array  # bool [B]
  image_of_text: jax.Array  # int32 [B]
  image_valid: jax.Array  # bool [B]


class Pairs(NamedTuple):
  """The 3B pairs of the loss, as rows of the batch; three neighbours are of one row.

  Row i gives (image i, text i), (image i, its hard text), (its hard image, text i).
  """

  image: jax.Array  # int32 [3B]
  text: jax.Array  # int32 [3B]
  label: jax.Array  # float32 [3B]: 1 for the B positive pairs
  valid: jax.Array  # bool [3B]


def hard_negatives(
  similarity: jax.Array,
  ids: jax.Array,
  *,
  exclude: str = "identity",
  valid: jax.Array | None = None,
) -> HardNegatives:
  """[B, B] similarities, rows texts, columns images -> the hardest negatives.

  Args:
    similarity: text i and image i are a pair. Ties: the lowest index. No gradient.
    ids: int [B] identity of pair i.
    exclude: "identity": no text or image of the same identity is a negative. "pair":
      only the pair itself is not.
    valid: bool [B]; a pair that is not valid is no negative and has none.

  Raises:
    ValueError: unknown `exclude`.
  """
  if exclude not in EXCLUDE:
    raise ValueError(f"matching: exclude={exclude!r}; expected one of {EXCLUDE}")
  count = similarity.shape[0]
  if exclude == "identity":
    allowed = ids[:, None] != ids[None, :]
  else:
    allowed = ~jnp.eye(count, dtype=bool)
  if valid is not None:
    allowed = allowed & valid[:, None] & valid[None, :]
  # Both masks are symmetric, so one `any` tells both directions.
  found = jnp.any(allowed, axis=1)
  score = jax.lax.stop_gradient(similarity.astype(jnp.float32))
  score = jnp.where(allowed, score, -jnp.inf)
  return HardNegatives(
    text_of_image=jnp.argmax(score, axis=0).astype(jnp.int32),
    text_valid=found,
    image_of_text=jnp.argmax(score, axis=1).astype(jnp.int32),
    image_valid=found,
  )


def pairs(negatives: HardNegatives, *, valid: jax.Array | None = None) -> Pairs:
  """The pairs that the batch and its hard negatives make."""
  count = negatives.text_of_image.shape[0]
  own = jnp.arange(count, dtype=jnp.int32)
  positive = jnp.ones(count, bool) if valid is None else valid
  one, zero = jnp.ones(count, jnp.float32), jnp.zeros(count, jnp.float32)
  return Pairs(
    image=_in_turn(own, own, negatives.image_of_text),
    text=_in_turn(own, negatives.text_of_image, own),
    label=_in_turn(one, zero, zero),
    valid=_in_turn(positive, negatives.text_valid, negatives.image_valid),
  )


def sides(
  image: jax.Array,
  text: jax.Array,
  negatives: HardNegatives,
  *,
  everywhere: Iterable[jax.Array],
) -> tuple[jax.Array, jax.Array]:
  """[B, ...], [B, ...] -> both sides of the pairs, [3B, ...]: `x[pairs.image]`.

  Args:
    everywhere: the same two arrays, as every device of a mesh holds them whole
      (`sharding.gather`): negatives are looked up there, and own rows never travel.
  """
  images, texts = everywhere
  return (
    _in_turn(image, image, images[negatives.image_of_text]),
    _in_turn(text, texts[negatives.text_of_image], text),
  )


def _in_turn(*rows: jax.Array) -> jax.Array:
  """Three [B, ...] -> [3B, ...]: the three of row 0, of row 1, ... A batch that is
  split over devices stays where it is, which one after the other would not."""
  return jnp.stack(rows, axis=1).reshape(-1, *rows[0].shape[1:])


def bce(
  logits: jax.Array, labels: jax.Array, valid: jax.Array | None = None
) -> jax.Array:
  """[P] logits, [P] labels in {0, 1} -> [P] float32 of the formula, 0 where not valid.

  Reduce with `numerics.masked_mean(loss, valid)`: the mean over the valid pairs.
  """
  logits = logits.astype(jnp.float32)
  # -log sigmoid(x) = softplus(-x): no logarithm of a rounded probability.
  loss = labels * jax.nn.softplus(-logits) + (1 - labels) * jax.nn.softplus(logits)
  return loss if valid is None else jnp.where(valid, loss, 0.0)
