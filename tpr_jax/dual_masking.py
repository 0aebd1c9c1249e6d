"""Gradient-attention guided dual masking: GA-DMS (arXiv:2509.09118) on two towers.

A step reads a caption three times: whole, for the score of each token (no parameter
learns from it); with words hidden that score low, for the losses that match it with
images; with words hidden that score high, for masked words. This file makes the scores
and both captions; objectives.py trains on them. `configs/common.py` says what each
field of `objective.dual` does.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tpr_jax.core.types import Batch, Metrics, Outputs, Params
from tpr_jax.losses import dual_masks, mlm
from tpr_jax.models import clip_text
from tpr_jax.models.watch import TARGETS, Watch
from tpr_jax.ops import token_scores

SCORES = ("gass", "grad_eclip", "cosine", "random", "none")
REFRESHES = ("same_step", "previous_epoch")
FIRST_SCORE = 0.85  # of every token, where the table of scores is still empty
_SCORE_KEY, _MASK_KEY = 0, 1


def check(dual: Mapping[str, Any], *, micro_batches: int = 1) -> None:
  """Raises ValueError where fields of `objective.dual` cannot be used."""
  choices = dict(
    score=SCORES,
    score_refresh=REFRESHES,
    score_norm=token_scores.NORMS,
    attn_denominator=token_scores.DENOMINATORS,
    score_rows=token_scores.ROWS,
    grad_target=TARGETS,
    corruption_noise=dual_masks.CORRUPTIONS,
    corruption_mtp=dual_masks.CORRUPTIONS,
    force_one=dual_masks.FORCED,
  )
  for name, known in choices.items():
    if dual[name] not in known:
      raise ValueError(f"objective.dual.{name}={dual[name]!r}: expected one of {known}")
  for name in ("alpha_noise", "alpha_info"):
    if not 0 <= dual[name] <= 1:
      raise ValueError(f"objective.dual.{name}={dual[name]}: expected a probability")
  scales = tuple(dual["score_scales"])
  if not scales or any(not isinstance(c, int) or c < 1 for c in scales):
    raise ValueError(
      f"objective.dual.score_scales={scales}: expected sizes of pools, such as (1, 2)"
    )
  if dual["score_layers"] < 1 or dual["gass_heads"] < 0:
    raise ValueError(
      f"objective.dual.score_layers={dual['score_layers']},"
      f" gass_heads={dual['gass_heads']}: expected at least one block, and 0 (the"
      " tower's own) or a number of heads"
    )
  if dual["score_norm"] == "batch" and micro_batches > 1:
    raise ValueError(
      "objective.dual.score_norm='batch' takes minimum and maximum of the whole batch,"
      f" which train.micro_batches={micro_batches} never has at once: use 'per_sample'"
    )


@dataclasses.dataclass(frozen=True)
class DualMasking:
  """Scores and masks of captions, pure in their arguments.

  Attributes:
    model: a `DualEncoder`.
    dual: the config's `objective.dual`.
    rules: as of `dual_masks.draw`.
  """

  model: Any
  dual: Mapping[str, Any]
  rules: Mapping[str, Any]

  @property
  def delayed(self) -> bool:
    """Whether masks take the scores of a caption's last visit (a table has them)."""
    return self.dual["score_refresh"] == "previous_epoch"

  def mask(self, params: Params, image: Outputs, batch: Batch) -> tuple[Outputs, Batch]:
    """What each caption gets: (outputs, the batch with its captions in three forms).

    Args:
      image: what `encode_image` gave for the batch.
      batch: `text`, `keys` [B], and `scores` [B, L] where they are known: those of a
        table (`delayed`), or of an earlier pass over the same rows.

    Returns:
      `scores` [B, L] of the given parameters and, float32 [B], how many words there
      are and how many each mask hides; `text` with the noise mask, `masked` and
      `labels` with the informative one.
    """
    score_keys, mask_keys = row_keys(batch["keys"])
    text, used = batch["text"], batch.get("scores")
    fresh = used
    if used is None or self.delayed:
      fresh = self.scores(params, image, text, score_keys)
    used = used if self.delayed else fresh
    views = self.views(mask_keys, text, used.astype(jnp.float32))
    words = token_scores.words(clip_text.end_of_text(text), text.shape[1])
    counts = dict(
      word_count=words,
      noise_hidden=views.noise != text,
      words_hidden=views.labels != mlm.NOT_CHOSEN,
    )
    out = {k: jnp.sum(v, axis=1).astype(jnp.float32) for k, v in counts.items()}
    masked = dict(text=views.noise, masked=views.informative, labels=views.labels)
    return dict(out, scores=fresh), {**batch, **masked}

  def metrics(self, out: Outputs) -> Metrics:
    """Shares of the words that each mask hides; the scores, if a table keeps them."""
    total = out["word_count"].sum()
    found = {name: out[name].sum() / total for name in ("noise_hidden", "words_hidden")}
    return dict(found, scores=out["scores"]) if self.delayed else found

  def scores(
    self, params: Params, image: Outputs, text: jax.Array, keys: jax.Array
  ) -> jax.Array:
    """float32 [B, L] in 0..1, 0 at start, end and padding; nothing learns from them.

    Args:
      image: what `encode_image` gave for the captions' images.
      text: int [B, L] whole captions.
      keys: [B], for `score="random"`.
    """
    params, image = jax.lax.stop_gradient((params, image))
    ends, length = clip_text.end_of_text(text), text.shape[1]
    valid, kind = token_scores.words(ends, length), self.dual["score"]
    if kind == "random":
      drawn = jax.vmap(lambda key: jax.random.uniform(key, (length,)))(keys)
      return jnp.where(valid, drawn, 0.0)
    if kind == "cosine":
      out = self.model.apply({"params": params}, text, method="encode_text")
      patches = image["image_tokens"][:, 1:]  # without the class token
      found = token_scores.best_cosine(out["text_tokens"], patches, valid)
    else:
      seen, gradients = self._gradients(params, image["image"], text, ends)
      found = self._from_gradients(seen, gradients, ends, valid)
    return jax.lax.stop_gradient(found)

  def _gradients(self, params, image, text, ends):
    """([n Attended], float32 [n, B, D]): of the watched blocks, and dSIM of each."""
    dual, tower = self.dual, self.model.text

    def similarity(deltas):
      heads = dual["gass_heads"] or None
      watch = Watch(deltas, ends, target=dual["grad_target"], heads=heads)
      rows = self.model.apply({"params": params}, text, watch, method="watched_text")
      # Captions do not meet in the towers: one gradient of the sum is that of each.
      return jnp.sum(rows * image), watch.seen

    deltas = jnp.zeros((dual["score_layers"], len(text), tower.width), jnp.float32)
    gradients, seen = jax.grad(similarity, has_aux=True)(deltas)
    return seen, gradients

  def _from_gradients(self, seen, gradients, ends, valid):
    dual, plain = self.dual, self.dual["score"] == "grad_eclip"
    scales = (1,) if plain else tuple(dual["score_scales"])
    layers = []
    for block, gradient in zip(seen, gradients, strict=True):
      weight = token_scores.spatial_weight(
        block.q, block.k, ends, scales=scales, rows=dual["score_rows"]
      )
      each = token_scores.importance(gradient, block.v, weight)
      if not plain:
        each = token_scores.layer_score(
          each, block.weights, valid, denominator=dual["attn_denominator"]
        )
      layers.append(each)
    whole = token_scores.combine(layers, valid)
    return token_scores.normalise(whole, "per_sample" if plain else dual["score_norm"])

  def views(
    self, keys: jax.Array, text: jax.Array, score: jax.Array
  ) -> dual_masks.Views:
    """Both masked captions; keys [B], int [B, L], float32 [B, L]."""
    names = (
      "alpha_noise",
      "alpha_info",
      "gamma_noise",
      "gamma_info",
      "sharpness",
      "corruption_noise",
      "corruption_mtp",
      "force_one",
    )
    fields = {name: self.dual[name] for name in names}
    return dual_masks.draw(keys, text, score, rules=self.rules, **fields)


def row_keys(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
  """[B] keys -> [B] for scores, [B] for masks."""
  fold = jax.vmap(jax.random.fold_in, in_axes=(0, None))
  return fold(keys, _SCORE_KEY), fold(keys, _MASK_KEY)


def with_gradient_share(x: jax.Array, share: float) -> jax.Array:
  """x whose gradient is `share` of its own; 1.0: x itself."""
  return x if share == 1.0 else share * x + (1 - share) * jax.lax.stop_gradient(x)
