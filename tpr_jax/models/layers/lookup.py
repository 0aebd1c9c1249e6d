"""Rows of a table by their numbers: what a text tower begins with."""

import jax
import jax.numpy as jnp
from jax import lax


@jax.custom_vjp
def lookup(table: jax.Array, ids: jax.Array) -> jax.Array:
  """[V, D], int [...] in 0..V-1 -> [..., D]: row ids[i] of the table at i.

  The gradient is that of indexing: into zeros of the table's size, rows are added. On a
  CPU these zeros wait for the gradient of the rows, by a number of it that is 0 (or
  NaN, where the gradient has no value anyway): XLA's compiler makes what depends on
  nothing at the very start of a step, and it would be held all the while.
  """
  return jnp.take(table, ids, axis=0)


def _forward(table, ids):
  return lookup(table, ids), (table, ids)


def _backward(kept, gradient):
  table, ids = kept

  def zeros(gradient):
    return jnp.zeros(table.shape, gradient.dtype)

  def late_zeros(gradient):
    one = lax.slice(gradient, (0,) * gradient.ndim, (1,) * gradient.ndim)
    return jnp.broadcast_to(jnp.minimum(jnp.abs(one.reshape(())), 0), table.shape)

  empty = lax.platform_dependent(gradient, cpu=late_zeros, default=zeros)
  return empty.at[ids].add(gradient).astype(table.dtype), None


lookup.defvjp(_forward, _backward)
