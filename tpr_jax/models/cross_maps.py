"""Where a text looks in an image: the cross-attention of a Swin + BERT model as maps.

Of the fusion layers' weights w [P, H, L, T] the mean over the heads, and over the rows
of some tokens of the text:

  words            the text's own tokens, without [CLS], [SEP] and padding
  cls              [CLS], which the ITM head reads
  words*gradient   as above, with w * relu(d logit / d w) in the place of w, of the ITM
  cls*gradient     head's logit of "pair": where looking speaks for the pair (the maps
                   of ALBEF, arXiv:2107.07651, Sec. 6.4, after Grad-CAM)

In the last layer the logit reads [CLS] alone, so the gradient of the words' rows is 0
there. The first image token, the mean of the others, is in no place and left out: a map
need not sum to 1. A pass that is not watched computes what it always did.
Shapes: P pairs, F fusion layers, H heads, L text tokens, T = 1 + N image tokens.
"""

from typing import Any

import jax
import jax.numpy as jnp

from tpr_jax.core.types import Params
from tpr_jax.models import bert
from tpr_jax.models.layers.post_norm import NUDGE, SEEN

BY = ("words", "cls", "words*gradient", "cls*gradient")


def check(model: Any, by: str) -> None:
  """Can this model be asked?

  Raises:
    ValueError: an unknown way, no fusion layers, or no ITM head where it needs one.
  """
  if by not in BY:
    raise ValueError(f"unknown map {by!r}; expected one of {', '.join(BY)}")
  text = getattr(model, "text", None)
  if not isinstance(text, bert.BertTower) or text.fusion_layer >= text.layers:
    raise ValueError(
      "the model has no fusion layers, whose cross-attention would be the map: that"
      " takes Swin + BERT (configs/mra.py) trained with the loss itm or mlm"
    )
  if by.endswith("gradient") and model.itm is None:
    raise ValueError(
      f"{by!r} needs the ITM head, and the model was trained without the loss itm; ask"
      f" for {by.partition('*')[0]!r}"
    )


def maps(
  model: Any, params: Params, image: jax.Array, text: jax.Array, by: str = "words"
) -> jax.Array:
  """P images and texts, pair by pair -> float32 [P, F, N], layers in their order.

  Args:
    model: a `CrossEncoder` that passes `check`; no dropout.
    image: [P, H, W, 3]; text: int [P, L] with a word at least.
    by: one of `BY`. A gradient is that of its own pair's logit alone.
  """
  check(model, by)
  mask = bert.real_tokens(text)
  tower = lambda name, x: model.apply({"params": params}, x, method=name)
  inputs = (tower("text_tokens", text), mask, tower("image_tokens", image))

  def run(method, **variables):
    variables = {"params": params, **variables}
    out, seen = model.apply(variables, *inputs, method=method, mutable=[SEEN])
    return out, seen[SEEN]

  if by.endswith("gradient"):

    def logit(nudge):
      out, seen = run("pair_logits", **{NUDGE: nudge})
      return jnp.sum(out[:, 1]), seen

    sown = jax.eval_shape(lambda: run("pair_logits")[1])
    zeros = lambda found: jnp.zeros(found[0].shape, jnp.float32)
    start = jax.tree.map(zeros, sown, is_leaf=lambda x: isinstance(x, tuple))
    slope, seen = jax.grad(logit, has_aux=True)(start)
    found = [
      weights * jax.nn.relu(_of_layer(slope, i)) for i, weights in _layers(model, seen)
    ]
  else:
    found = [weights for _, weights in _layers(model, run(_fused)[1])]
  rows = _words(mask) if by.startswith("words") else _first(mask)
  each = [jnp.einsum("phlt,pl->pt", weights, rows) for weights in found]
  return jnp.stack(each, axis=1)[:, :, 1:] / found[0].shape[1]


def _fused(module: Any, *inputs: jax.Array) -> jax.Array:
  return module.text.fusion(*inputs)


def _of_layer(tree: Any, layer: int) -> Any:
  return tree["text"][f"layer_{layer}"]["cross_attn"]["weights"]


def _layers(model: Any, seen: Any) -> list[tuple[int, jax.Array]]:
  """(number of the layer, its weights [P, H, L, T])."""
  layers = range(model.text.fusion_layer, model.text.layers)
  return [(i, _of_layer(seen, i)[0]) for i in layers]


def _words(mask: jax.Array) -> jax.Array:
  """bool [P, L] -> float32 [P, L], rows sum to 1: tokens that another follows, but for
  the first."""
  follows = jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))
  words = (mask & follows).at[:, 0].set(False).astype(jnp.float32)
  return words / jnp.maximum(words.sum(axis=1, keepdims=True), 1.0)


def _first(mask: jax.Array) -> jax.Array:
  return jnp.zeros(mask.shape, jnp.float32).at[:, 0].set(1.0)
