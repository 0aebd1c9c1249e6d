"""The lowest cosine of all pairs, in blocks of queries: Q x G never exists.

The highest is the first place of a ranking; the lowest stands in none.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tpr_jax.metrics import rows as prepared

_BLOCK = 1 << 22  # pairs scored at a time


def lowest(query, gallery) -> float:
  """The lowest cosine of any query with any gallery item.

  Args:
    query: [Q, D], gallery: [G, D]; made unit rows here.

  Raises:
    ValueError: a feature that is no number, or has no direction.
  """
  query, gallery = np.asarray(query), np.asarray(gallery)
  query = prepared.unit_rows(query, prepared.norms(query, "query"))
  gallery = prepared.unit_rows(gallery, prepared.norms(gallery, "gallery"))
  on_device = jnp.asarray(gallery)
  step = min(max(_BLOCK // len(gallery), 1), len(query))
  found = []
  for at in range(0, len(query), step):
    block = query[at : at + step]
    # One shape to compile; a query counted twice changes no minimum.
    whole = np.concatenate([block, np.repeat(block[:1], step - len(block), axis=0)])
    found.append(_lowest(whole, on_device))
  return float(min(map(float, found)))


@jax.jit
def _lowest(query, gallery):
  """float32 [q, D], [G, D] -> float32 []."""
  return jnp.dot(query, gallery.T, precision=jax.lax.Precision.HIGHEST).min()
