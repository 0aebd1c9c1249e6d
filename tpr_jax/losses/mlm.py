"""Random masking of caption tokens: BERT's rule (arXiv:1810.04805), in IRRA and CFAM.

Each word token is chosen with probability `share`; of the chosen, `mask` become the
mask token, `random` a random word token, and the rest stay as they are. As text
augmentation (CFAM; the paper gives no rates, these are those of IRRA's MLM) the new ids
are used; as masked language modelling the labels are too:
  L = -(sum over chosen positions of log softmax(logits)[label]) / their number.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

NOT_CHOSEN = -1


def mask_tokens(
  keys: jax.Array,
  ids: jax.Array,
  *,
  mask_id: int,
  vocab_size: int,
  special_ids: Sequence[int],
  share: float | jax.Array = 0.15,
  mask: float = 0.8,
  random: float = 0.1,
  at_least_one: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Masks word tokens; row b depends on keys[b] and ids[b] only.

  Args:
    keys: [B] JAX keys, one for each row (so that no other row matters).
    ids: int32 [B, L]: start at position 0, words, end-of-text (the highest id), then
      padding. Start, end and padding are never touched, whatever their ids.
    vocab_size: random tokens come from 0..vocab_size-1 ...
    special_ids: ... without these and without `mask_id`: start, end, padding.
    share: probability that a word token is chosen; float32 [B, L]: of each one (where
      it is 0, nothing is ever chosen).
    at_least_one: if no token was chosen, the first word token is masked (for MLM).

  Returns:
    int32 [B, L] new ids; int32 [B, L] labels: the old id where chosen, else -1.

  Raises:
    ValueError: rates that are no probabilities.
  """
  known = 0.0 if isinstance(share, jax.Array) else share  # a tracer cannot be asked
  if min(known, mask, random) < 0 or known > 1 or mask + random > 1:
    raise ValueError(
      f"mask_tokens: share={share}, mask={mask}, random={random}; expected"
      " probabilities with mask + random at most 1"
    )
  barred = tuple(sorted({mask_id, *special_ids}))
  positions = jnp.arange(ids.shape[1])

  def row(key, tokens, share):
    choose_key, kind_key, word_key = jax.random.split(key, 3)
    word = (positions >= 1) & (positions < jnp.argmax(tokens))
    chosen = word & (jax.random.uniform(choose_key, tokens.shape) < share)
    kind = jax.random.uniform(kind_key, tokens.shape)
    if at_least_one:
      forced = word & (positions == 1) & (share > 0) & ~jnp.any(chosen)
      chosen, kind = chosen | forced, jnp.where(forced, 0.0, kind)
    drawn = jax.random.randint(word_key, tokens.shape, 0, vocab_size - len(barred))
    for taken in barred:  # ascending: step over each barred id in turn
      drawn = drawn + (drawn >= taken)
    new = jnp.where(kind < mask + random, drawn, tokens)
    new = jnp.where(kind < mask, mask_id, new)
    labels = jnp.where(chosen, tokens, NOT_CHOSEN)
    return jnp.where(chosen, new, tokens).astype(jnp.int32), labels.astype(jnp.int32)

  return jax.vmap(row)(keys, ids, jnp.broadcast_to(share, ids.shape))


def chosen(labels: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
  """int [B, L] labels -> (positions, labels) of the chosen ones, [B, min(most, L)].

  Rows with fewer are filled with positions that were not chosen, whose label is -1.
  """
  at = jnp.argsort(labels == NOT_CHOSEN, axis=1, stable=True)[:, :most]
  return at, jnp.take_along_axis(labels, at, axis=1)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """[B, L, V] logits, int [B, L] labels (-1: not chosen) -> two float32 [B].

  The sum of the cross entropies of each text, and the number of its chosen positions;
  the loss is the sum of the first over the sum of the second, over the GLOBAL batch.
  """
  chosen = labels != NOT_CHOSEN
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  index = jnp.where(chosen, labels, 0)[..., None]
  each = -jnp.take_along_axis(log_p, index, axis=-1)[..., 0]
  total = jnp.sum(jnp.where(chosen, each, 0.0), axis=1)
  return total, jnp.sum(chosen, axis=1).astype(jnp.float32)
