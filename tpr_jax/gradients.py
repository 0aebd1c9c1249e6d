"""The gradient of an objective: of the whole batch at once, or in micro-batches.

Gradient caching (Gao et al., arXiv:2101.06983): the losses of retrieval need the whole
batch, but only few numbers of each example. So every micro-batch is encoded without a
gradient, the loss of the whole batch gives the gradient of those few numbers, and each
micro-batch is encoded once more to carry its share of it back to the parameters. The
sum is the gradient of the whole batch; memory is that of one micro-batch, and the
price is one more forward pass.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from tpr_jax import dual_masking
from tpr_jax.core.types import GradFn, Metrics
from tpr_jax.objectives import Objective


def loss_fn(objective: Objective) -> Callable[..., tuple[jax.Array, Metrics]]:
  """loss(params, batch, key) -> (scalar, metrics): the whole batch at once."""

  def loss(params, batch, key):
    mask_key, drop_key = jax.random.split(key)
    batch = objective.prepare(batch, mask_key)
    return objective.reduce(params, objective.encode(params, batch, drop_key), batch)

  return loss


def make_grad_fn(objective: Objective, *, micro_batches: int = 1) -> GradFn:
  """The gradient in `micro_batches` equal parts of the batch; 1: all at once.

  Raises:
    ValueError: fewer than one micro-batch, or scores of words (`dual_masking.check`)
      that need the whole batch; at the first call: a batch that cannot be
      split evenly.
  """
  if micro_batches < 1:
    raise ValueError(f"train.micro_batches={micro_batches}: expected 1 or more")
  if objective.dual is not None:
    dual_masking.check(objective.dual.dual, micro_batches=micro_batches)
  if micro_batches == 1:
    return jax.value_and_grad(loss_fn(objective), has_aux=True)

  def grad_fn(params, batch, key):
    mask_key, drop_key = jax.random.split(key)
    batch = objective.prepare(batch, mask_key)
    pieces = jax.tree.map(lambda x: _split(x, micro_batches), batch)
    pieces = (pieces, jax.random.split(drop_key, micro_batches))

    out = lax.map(lambda piece: objective.encode(params, *piece), pieces)
    if "scores" in out:  # of words: the second pass need not make them again
      pieces[0].setdefault("scores", out["scores"])
    (loss, metrics), (grads, cotangents) = jax.value_and_grad(
      objective.reduce, argnums=(0, 1), has_aux=True
    )(params, jax.tree.map(_join, out), batch)
    cotangents = jax.tree.map(lambda x: _split(x, micro_batches), cotangents)

    def back(total, step):
      piece, cotangent = step
      _, pull = jax.vjp(lambda p: objective.encode(p, *piece), params)
      return jax.tree.map(jnp.add, total, *pull(cotangent)), None

    grads, _ = lax.scan(back, grads, (pieces, cotangents))
    return (loss, metrics), grads

  return grad_fn


def _split(x: jax.Array, count: int) -> jax.Array:
  """[B, ...] -> [count, B / count, ...]: every count-th row.

  So each part takes its rows from all devices alike, and none moves between them.
  """
  if x.shape[0] % count:
    raise ValueError(
      f"a batch of {x.shape[0]} cannot be split evenly into train.micro_batches={count}"
    )
  return x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)


def _join(x: jax.Array) -> jax.Array:
  """The inverse of `_split`."""
  return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])
