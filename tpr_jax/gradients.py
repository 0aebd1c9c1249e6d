"""The gradient of an objective: of the whole batch at once, or in micro-batches.

Gradient caching (Gao et al., arXiv:2101.06983): the losses of retrieval need the whole
batch, but only few numbers of each example. So every micro-batch is encoded without a
gradient, the loss of the whole batch gives the gradient of those few numbers, and each
micro-batch is encoded once more to carry its share of it back to the parameters. The
sum is the gradient of the whole batch; memory is that of one micro-batch, and the
price is one more forward pass. Devices add up their own rows of all micro-batches, and
their sums once; only where encoding draws random numbers (drop-path), which are of the
rows of all devices, they exchange the gradient of every micro-batch.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from tpr_jax import dual_masking, flops
from tpr_jax.core import jaxprs, pieces, sharding, tree
from tpr_jax.core.types import GradFn, Metrics, Params
from tpr_jax.cross_objective import CrossObjective
from tpr_jax.objectives import Objective


def loss_fn(
  objective: Objective | CrossObjective,
) -> Callable[..., tuple[jax.Array, Metrics]]:
  """loss(params, batch, key) -> (scalar, metrics): the whole batch at once."""

  def loss(params, batch, key):
    mask_key, drop_key = jax.random.split(key)
    batch = objective.prepare(batch, mask_key)
    return objective.reduce(params, objective.encode(params, batch, drop_key), batch)

  return loss


def make_grad_fn(
  objective: Objective | CrossObjective,
  *,
  micro_batches: int = 1,
  trained: Callable[[Params], Params] = lambda params: params,
) -> GradFn:
  """The gradient in `micro_batches` equal parts of the batch; 1: all at once.

  Args:
    trained: parameters -> those that train (`core.tree.without`). The gradient is of
      these alone and has their tree; of the others none is computed.

  Raises:
    ValueError: fewer than one micro-batch, or scores of words (`dual_masking.check`)
      that need the whole batch; at the first call: a batch that cannot be
      split evenly.
  """
  if micro_batches < 1:
    raise ValueError(f"train.micro_batches={micro_batches}: expected 1 or more")
  if objective.dual is not None:
    dual_masking.check(objective.dual.dual, micro_batches=micro_batches)

  def of_trained(fn, params):
    """fn(params, ...) as a function of the leaves that train, the others fixed."""
    return lambda part, *rest: fn(tree.replace(params, tree.flat(part)), *rest)

  if micro_batches == 1:
    loss = loss_fn(objective)

    def at_once(params, batch, key):
      made = jax.value_and_grad(of_trained(loss, params), has_aux=True)
      return made(trained(params), batch, key)

    return at_once

  def apart(arrays):
    field = "train.micro_batches"
    return jax.tree.map(lambda x: pieces.split(x, micro_batches, field), arrays)

  def grad_fn(params, batch, key):
    mask_key, drop_key = jax.random.split(key)
    batch = objective.prepare(batch, mask_key)
    parts = (apart(batch), jax.random.split(drop_key, micro_batches))

    with jax.named_scope(flops.REPEATED):
      out = lax.map(lambda part: objective.encode(params, *part), parts)
    if "scores" in out:  # of words: the second pass need not make them again
      parts[0].setdefault("scores", out["scores"])
    (loss, metrics), (grads, cotangents) = jax.value_and_grad(
      of_trained(objective.reduce, params), argnums=(0, 1), has_aux=True
    )(trained(params), jax.tree.map(pieces.join, out), batch)
    batches, keys = parts

    def carried_back(whole, rows):
      """Sum over the parts of what their cotangents are to the parameters."""
      params, keys = whole
      encode = of_trained(objective.encode, params)

      def back(total, part):
        *inputs, cotangent = part
        _, pull = jax.vjp(lambda p: encode(p, *inputs), trained(params))
        return jax.tree.map(jnp.add, total, *pull(cotangent)), None

      zeros = jax.tree.map(jnp.zeros_like, trained(params))
      batches, cotangents = rows
      return lax.scan(back, zeros, (batches, keys, cotangents))[0]

    rows = batches, apart(cotangents)
    if jaxprs.draws(objective.encode, params, *jax.tree.map(lambda x: x[0], parts)):
      more = carried_back((params, keys), rows)  # added up over devices for each part
    else:
      more = sharding.sum_of_rows(carried_back, (params, keys), rows, axis=1)
    grads = jax.tree.map(jnp.add, grads, more)
    return (loss, metrics), grads

  return grad_fn
