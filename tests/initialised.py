"""Parameters of small models, of which one initialiser is compiled and not twenty.

Flax draws a parameter by its name: models that differ in their heads alone have equal
towers, and need but one initialisation.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tpr_jax.core import tree


class Initialised:
  """The parameters of models that are one but for their heads, by name."""

  def __init__(self):
    self._known: dict[str, np.ndarray] = {}

  def params(self, init: Callable[[jax.Array], Any]) -> Any:
    """What jax.jit(init) makes of the key 0."""
    key = jax.random.key(0)
    shapes = jax.eval_shape(init, key)
    known = self._known
    for name, leaf in tree.flat(shapes).items():
      if name not in known or known[name].shape != leaf.shape:
        known.update(tree.flat(jax.jit(init)(key)))
        break
    return tree.map_named(lambda name, _: known[name], shapes)
