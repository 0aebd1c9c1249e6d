"""Batch normalisation whose running statistics are ordinary parameters.

Ioffe & Szegedy, arXiv:1502.03167. `mean` and `variance` live in "params" beside `scale`
and `bias`, so that checkpoints, exports and evaluation carry them like all else; their
gradient is zero. A training step writes them itself:

  out, sown = model.apply(variables, ..., train=True, mutable=["running"])
  for path, value in batch_norm.updated(params, sown["running"]).items(): ...

Under `jit` over a mesh the batch is the GLOBAL one (PyTorch without SyncBN: each
device's). The running variance is that of the batch as it stands, divided by n
(PyTorch's by n - 1).
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.core import tree

COLLECTION = "running"


class BatchNorm(nn.Module):
  """(x - mean) / sqrt(variance + epsilon) * scale + bias over the rows of a batch."""

  epsilon: float = 1e-5
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """[B, D] -> [B, D] in `dtype`; float32 inside.

    train: with the batch's own mean and variance, which are sown into "running" where
    that collection is mutable. Else with the running ones, which nothing changes.

    Raises:
      ValueError: one row in training: its variance is 0 and the result `bias`.
    """
    width = x.shape[-1]
    table = lambda name, start: self.param(name, start, (width,), jnp.float32)
    ones, zeros = nn.initializers.ones, nn.initializers.zeros
    scale, bias = table("scale", ones), table("bias", zeros)
    mean, variance = table("mean", zeros), table("variance", ones)
    x = x.astype(jnp.float32)
    if train:
      if x.shape[0] < 2:
        raise ValueError(
          "batch norm: found a training batch of 1 row, expected 2 at least: its"
          " variance is 0. Raise the batch size"
        )
      mean = jnp.mean(x, axis=0)
      variance = jnp.mean(jnp.square(x - mean), axis=0)
      if not self.is_initializing():
        self.sow(COLLECTION, "mean", mean)
        self.sow(COLLECTION, "variance", variance)
    else:
      mean, variance = jax.lax.stop_gradient((mean, variance))
    y = (x - mean) * jax.lax.rsqrt(variance + self.epsilon) * scale + bias
    return y.astype(self.dtype)


def updated(
  params: Any, sown: Mapping[str, Any], momentum: float = 0.9
) -> dict[str, jax.Array]:
  """The running statistics after a step; may be traced.

  Args:
    params: the tree that the step ran with.
    sown: the collection "running" of that step. A layer that was called several times
      has as many values, in the order of the calls: each is folded in, in turn.
    momentum: the share of the old value that each call leaves (PyTorch's is 1 - this).

  Returns:
    name of the parameter ("image_projection/bn/mean") -> its new value; empty where no
    layer was called in training.
  """
  old, new = tree.flat(params), {}
  for name, value in tree.flat(sown).items():  # "image_projection/bn/mean/0"
    path = name.rpartition("/")[0]
    before = new.get(path, old[path])
    value = jax.lax.stop_gradient(value)
    new[path] = momentum * before + (1.0 - momentum) * value
  return new
