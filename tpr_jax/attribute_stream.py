"""The attribute stream of APTM (arXiv:2306.02898): prompts beside captions.

Every image of a batch is told of its attributes by the same few sentences: by cosine
(attr_itc), by the cross-encoder's matching head (attr_itm, some prompts a step), and by
masked words of each prompt beside an image that it is true of (attr_mlm). A part of
CrossObjective (cross_objective.py); losses/attributes.py has the formulas. All of it
needs the whole batch: an image is drawn for each prompt, and prompts are no rows of it.

The released code draws prompts and images on each GPU, for its own rows; here for the
global batch.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tpr_jax.core import numerics, sharding
from tpr_jax.core.types import Metrics, Params
from tpr_jax.losses import attributes, mlm
from tpr_jax.models import bert
from tpr_jax.models.cross_encoder import View

LOSSES = ("attr_itc", "attr_itm", "attr_mlm")
# (image tokens [P, T, D_v], text tokens, text mask, key) -> float32 [P, 2]
PairLogits = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


def check(choices: Mapping[str, Any]) -> None:
  """Raises ValueError for a field of the config's `objective` that cannot be used."""
  if not 0 <= choices["attr_smoothing"] < 1:
    raise ValueError(
      f"objective.attr_smoothing={choices['attr_smoothing']}: expected 0 to below 1"
    )
  if choices["attr_prompts"] < 1:
    raise ValueError(
      f"objective.attr_prompts={choices['attr_prompts']}: expected 1 or more, the"
      " prompts that attr_itm draws for a step"
    )


@dataclasses.dataclass(frozen=True)
class AttributeStream:
  """What of the objective reads prompts. P prompts of L tokens, A = P / 2 attributes.

  Attributes:
    model: a `CrossEncoder` with the heads that the losses need.
    names: those of `LOSSES` that are active.
    smoothing: of the targets of attr_itc and attr_itm.
    drawn: prompts of a step of attr_itm.
    prompts: data/prompts.py: `Encoded`; its masked ones where attr_mlm is active.

  Raises:
    ValueError: more prompts are to be drawn than there are.
  """

  model: nn.Module
  names: frozenset[str]
  smoothing: float
  drawn: int
  prompts: Any

  def __post_init__(self):
    count = len(self.prompts.ids)
    if "attr_itm" in self.names and self.drawn > count:
      raise ValueError(
        f"objective.attr_prompts={self.drawn}: there are {count} prompts"
        " (data.views.attributes)"
      )

  def view(self, params: Params, key: jax.Array) -> View:
    """The prompts as the text tower reads them, [P, L, D_t]."""
    ids = jnp.asarray(self.prompts.ids)
    tokens = self._apply(params, key, ids, True, method="text_tokens")
    return View("text", tokens, bert.real_tokens(ids))

  def terms(
    self,
    params: Params,
    prompts: View | None,
    features: tuple[jax.Array, jax.Array] | None,
    image: jax.Array,
    labels: jax.Array,
    temperature: jax.Array,
    key: jax.Array,
    pair_logits: PairLogits,
  ) -> Metrics:
    """Name of the loss -> float32 [], the active ones.

    Args:
      prompts: of `view`; None where attr_mlm alone is active.
      features: unit rows of images [B, E] and prompts [P, E], for attr_itc.
      image: tokens, [B, T, D_v]; labels: int [B, A].
    """
    match_key, word_key = jax.random.split(key)
    true, terms = attributes.prompt_labels(labels), {}
    if "attr_itc" in self.names:
      cosine = numerics.similarity(*features)
      smoothing = dict(smoothing=self.smoothing)
      found = attributes.contrast(cosine, labels, temperature, **smoothing)
      terms["attr_itc"] = found.mean()
    if "attr_itm" in self.names:
      terms["attr_itm"] = self._matching(prompts, image, true, match_key, pair_logits)
    if "attr_mlm" in self.names:
      terms["attr_mlm"] = self._words(params, image, true, word_key)
    return terms

  def _matching(self, prompts, image, labels, key, pair_logits) -> jax.Array:
    draw_key, drop_key = jax.random.split(key)
    chosen = attributes.draw_prompts(draw_key, labels.shape[1], self.drawn)
    rows = image.shape[0]

    def everywhere(x):  # the prompts beside every image: pairs stay where images are
      x = jnp.broadcast_to(x[chosen], (rows, self.drawn, *x.shape[1:]))
      return sharding.split(x.reshape(-1, *x.shape[2:]), "batch")

    images = jnp.repeat(image, self.drawn, axis=0)
    text, mask = everywhere(prompts.tokens), everywhere(prompts.mask)
    logits = pair_logits(images, text, mask, drop_key)
    logits = logits.reshape(rows, self.drawn, 2)
    found = attributes.matching(logits, labels[:, chosen], smoothing=self.smoothing)
    return found.mean()

  def _words(self, params, image, labels, key) -> jax.Array:
    image_key, mask_key, drop_key = jax.random.split(key, 3)
    chosen, found = attributes.draw_images(image_key, labels)
    at = jnp.arange(len(chosen))
    way = jax.random.randint(mask_key, at.shape, 0, len(self.prompts.masked))
    masked = jnp.asarray(self.prompts.masked)[way, at]
    hidden = jnp.asarray(self.prompts.labels)[way, at]
    most = int((self.prompts.labels != mlm.NOT_CHOSEN).sum(axis=-1).max())
    places, words = mlm.chosen(hidden, most)
    text_key, drop_key = jax.random.split(drop_key)
    real = bert.real_tokens(jnp.asarray(self.prompts.ids))
    states = self._apply(params, text_key, masked, True, real, method="text_tokens")
    images = sharding.gather(image)[chosen]
    rest = states, real, images, places, True
    logits = self._apply(params, drop_key, *rest, method="masked_words")
    total, count = mlm.cross_entropy(logits, words)
    total, count = (jnp.where(found, x, 0.0).sum() for x in (total, count))
    return total / jnp.maximum(count, 1.0)

  def _apply(self, params, key, *args, method):
    variables, rngs = {"params": params}, {"dropout": key}
    return self.model.apply(variables, *args, method=method, rngs=rngs)
