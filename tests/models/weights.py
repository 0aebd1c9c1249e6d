"""Parameters without compiling an initialiser: values drawn by numpy."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from tpr_jax.core import tree


def drawn(module: nn.Module, *inputs: Any, seed: int = 0) -> dict[str, Any]:
  """Variables of `module` for these inputs: kernels scaled by fan-in, nothing at 0."""
  shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
  rng = np.random.default_rng(seed)

  def value(name: str, leaf: Any) -> np.ndarray:
    fan_in = np.prod(leaf.shape[:-1]) if name.endswith("kernel") else 4.0
    values = rng.normal(0.0, fan_in**-0.5, leaf.shape)
    return (values + name.endswith("scale")).astype(np.float32)

  return tree.map_named(value, shapes)
