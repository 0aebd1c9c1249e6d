"""What attention may see: arrays, and masks by name, which cuDNN has kernels for."""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Causal:
  """Position i of `length` sees positions 0..i."""

  length: int

  def array(self) -> jax.Array:
    """bool [1, 1, L, L]."""
    return jnp.tril(jnp.ones((self.length, self.length), bool))[None, None]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class First:
  """Every position sees the first `count` of `length`."""

  count: int
  length: int

  def array(self) -> jax.Array:
    """bool [1, 1, 1, L]."""
    return (jnp.arange(self.length) < self.count)[None, None, None]


# An array broadcasts to [B, H, Lq, Lk]. Boolean: True may be seen; floating point: it
# is added to the logits.
Mask = jax.Array | Causal | First | None


def array(mask: Mask) -> jax.Array | None:
  """The array of a mask."""
  return mask.array() if isinstance(mask, Causal | First) else mask


def keys_only(valid: jax.Array) -> jax.Array:
  """bool [B, Lk] (True: a real token) -> bool [B, 1, 1, Lk]."""
  return valid[:, None, None, :]
