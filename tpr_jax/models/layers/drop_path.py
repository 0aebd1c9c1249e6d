"""Stochastic depth: Huang et al., arXiv:1603.09382, per example."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def drop_path(
  y: jax.Array, rate: float, train: bool, make_rng: Callable[[str], jax.Array]
) -> jax.Array:
  """A residual branch [B, ...], in training 0 for an example with probability `rate`.

  What is kept is divided by 1 - rate. A function and no module, so that the draws are
  those of the block that calls it.

  Args:
    make_rng: of that block (`self.make_rng`); asked for "dropout" only where something
      may be dropped.
  """
  if not train or rate == 0.0:
    return y
  keep = 1.0 - rate
  shape = (y.shape[0],) + (1,) * (y.ndim - 1)
  kept = jax.random.bernoulli(make_rng("dropout"), keep, shape)
  return jnp.where(kept, y / jnp.asarray(keep, y.dtype), 0)
