"""Which words of a caption to hide, by how much each speaks for its image: GA-DMS.

GA-DMS (arXiv:2509.09118), with s in 0..1 the score of a token (ops/token_scores.py):
  noise mask        p_n = alpha_n sigmoid(lambda ((1 - s) - gamma_n))
  informative mask  p_i = alpha_i sigmoid(lambda (s - gamma_i))
The first hides words that seem wrong from the matching loss; the second hides words
that matter, to be told from the image. The paper writes one gamma and gives no values;
the released code has 0.9 and 0.1, so that both curves turn at s = 0.1 and
p_n / alpha_n + p_i / alpha_i = 1.
Shapes: B captions, L positions.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tpr_jax.losses import mlm

CORRUPTIONS = ("mask", "bert")
FORCED = ("none", "mtp", "both")


class Views(NamedTuple):
  """Two captions made of one; `labels`: of the informative one, as mlm's."""

  noise: jax.Array  # int32 [B, L]
  informative: jax.Array  # int32 [B, L]
  labels: jax.Array  # int32 [B, L]


def noise_probability(
  score: jax.Array, *, alpha: float = 0.2, sharpness: float = 20.0, gamma: float = 0.9
) -> jax.Array:
  """[...] scores -> p_n."""
  return alpha * jax.nn.sigmoid(sharpness * ((1 - score) - gamma))


def informative_probability(
  score: jax.Array, *, alpha: float = 0.3, sharpness: float = 20.0, gamma: float = 0.1
) -> jax.Array:
  """[...] scores -> p_i."""
  return alpha * jax.nn.sigmoid(sharpness * (score - gamma))


def draw(
  keys: jax.Array,
  ids: jax.Array,
  score: jax.Array,
  *,
  rules: Mapping[str, Any],
  alpha_noise: float = 0.2,
  alpha_info: float = 0.3,
  gamma_noise: float = 0.9,
  gamma_info: float = 0.1,
  sharpness: float = 20.0,
  corruption_noise: str = "mask",
  corruption_mtp: str = "bert",
  force_one: str = "mtp",
) -> Views:
  """Both views of each caption, drawn apart from each other.

  Args:
    keys: [B], one for each row.
    ids: int32 [B, L] whole captions.
    score: float32 [B, L]; read at words only.
    rules: `mask_id`, `vocab_size`, `special_ids` (start and end), and of BERT's
      corruption `mask` and `random`, as of `mlm.mask_tokens`.
    corruption_noise, corruption_mtp: what becomes of a word that is chosen: always the
      "mask" token, or "bert": mask, another word, or itself.
    force_one: where no word was chosen the first one is masked: in the "mtp" view (the
      informative one), in "both", or in "none".

  Padding (0), mask, start and end are never chosen, and never put in.
  """
  for name, value, known in (
    ("corruption_noise", corruption_noise, CORRUPTIONS),
    ("corruption_mtp", corruption_mtp, CORRUPTIONS),
    ("force_one", force_one, FORCED),
  ):
    if value not in known:
      raise ValueError(f"dual masks: {name}={value!r}; expected one of {known}")
  special = (0, *rules["special_ids"])
  words = ~jnp.isin(ids, jnp.asarray([rules["mask_id"], *special]))
  how = dict(mask_id=rules["mask_id"], vocab_size=rules["vocab_size"])
  kinds = dict(
    mask=dict(mask=1.0, random=0.0),
    bert=dict(mask=rules["mask"], random=rules["random"]),
  )

  def view(stream, chance, corruption, forced):
    return mlm.mask_tokens(
      jax.vmap(lambda key: jax.random.fold_in(key, stream))(keys),
      ids,
      special_ids=special,
      share=jnp.where(words, chance, 0.0),
      at_least_one=forced,
      **how,
      **kinds[corruption],
    )

  p_n = noise_probability(
    score, alpha=alpha_noise, sharpness=sharpness, gamma=gamma_noise
  )
  p_i = informative_probability(
    score, alpha=alpha_info, sharpness=sharpness, gamma=gamma_info
  )
  noise, _ = view(0, p_n, corruption_noise, force_one == "both")
  informative, labels = view(1, p_i, corruption_mtp, force_one != "none")
  return Views(noise, informative, labels)
