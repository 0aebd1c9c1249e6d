"""Rows of a table by their numbers: what a text tower begins with."""

import jax
import jax.numpy as jnp

from tpr_jax.models.layers.recompute import first, later


@jax.custom_vjp
def lookup(table: jax.Array, ids: jax.Array) -> jax.Array:
  """[V, D], int [...] in 0..V-1 -> [..., D]: row ids[i] of the table at i.

  The gradient is that of indexing: into zeros of the table's size, rows are added. On a
  CPU these zeros wait for the gradient of the rows (`recompute.later`): XLA's compiler
  makes what depends on nothing at the very start of a step, and it would be held all
  the while.
  """
  return jnp.take(table, ids, axis=0)


def _forward(table, ids):
  return lookup(table, ids), (table, ids)


def _backward(kept, gradient):
  table, ids = kept
  zeros = later(jnp.zeros(table.shape, gradient.dtype), first(gradient))
  return zeros.at[ids].add(gradient).astype(table.dtype), None


lookup.defvjp(_forward, _backward)
