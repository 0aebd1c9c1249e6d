"""Watching the attention of a text tower: what its blocks compute, and its gradient.

A `Watch` is handed to `TextTower`, whose last blocks then run in float32, report what
token scores need (ops/token_scores.py) and add a `delta` at the end token. With delta 0
nothing changes, and the gradient of any number by delta is that number's gradient by
what the block computed there: of all layers at once, in one backward pass. Behind the
last attention only the end token goes on, for nothing else is asked for.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct

TARGETS = ("attention", "state")


class Attended(struct.PyTreeNode):
  """What one block computes; B texts, L positions, width D.

  Attributes:
    q, k, v: float32 [B, L, D], heads side by side.
    weights: float32 [B, L], attention of the end token, mean over the heads.
  """

  q: jax.Array
  k: jax.Array
  v: jax.Array
  weights: jax.Array


class Watch:
  """Of one pass of a text tower through its last `len(deltas)` blocks.

  Args:
    deltas: float32 [B, D] for each of them, added at the end token to `target`.
    ends: int [B], position of the end token.
    target: "attention", a block's attention output before its projection, or "state",
      what the block returns.
    heads: of the watched blocks' attention; None: the tower's own.

  Attributes:
    seen: an `Attended` for each of the blocks, filled by the pass.
  """

  dtype = "float32"

  def __init__(
    self,
    deltas: Sequence[jax.Array],
    ends: jax.Array,
    *,
    target: str = "attention",
    heads: int | None = None,
  ):
    if target not in TARGETS:
      raise ValueError(f"watch: target={target!r}; expected one of {TARGETS}")
    self._deltas, self._ends, self._target = list(deltas), ends, target
    self.heads, self.seen = heads, []

  def of(self, block: int, blocks: int) -> "Watch | None":
    """This watch for the blocks that it watches, the last ones; None for the others.

    Raises:
      ValueError: there are fewer blocks than watched ones.
    """
    count = len(self._deltas)
    if count > blocks:
      raise ValueError(
        f"the tower has {blocks} blocks; {count} of them are to be watched"
      )
    return self if block >= blocks - count else None

  def attention(self, q, k, v, weights, y) -> jax.Array:
    """Called by the attention: [B, L, H, D / H] x 3, [B, H, L, L], [B, L, D] -> what
    goes on of the last, [B, L, D] or [B, 1, D]."""
    flat = (x.astype(jnp.float32).reshape(y.shape) for x in (q, k, v))
    rows = jnp.take_along_axis(weights, self._ends[:, None, None, None], axis=2)
    self.seen.append(Attended(*flat, weights=jnp.mean(rows[:, :, 0], axis=1)))
    y = self.kept(y)
    return self._add(y) if self._target == "attention" else y

  def kept(self, x: jax.Array) -> jax.Array:
    """Of [B, L, D] the end token alone, [B, 1, D], once every block has attended."""
    if len(self.seen) < len(self._deltas):
      return x
    return jnp.take_along_axis(x, self._ends[:, None, None], axis=1)

  def state(self, x: jax.Array) -> jax.Array:
    """Called by the block with what it returns, and returns that."""
    return self._add(x) if self._target == "state" else x

  def _add(self, x: jax.Array) -> jax.Array:
    delta = self._deltas[len(self.seen) - 1][:, None].astype(x.dtype)
    if x.shape[1] == 1:
      return x + delta
    at_end = jnp.arange(x.shape[1])[None, :] == self._ends[:, None]
    return x + jnp.where(at_end[:, :, None], delta, 0)
