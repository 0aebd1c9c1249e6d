"""The pre-LN transformer block of CLIP, and a stack of them.

  x = x + attention(ln_1(x));  x = x + mlp(ln_2(x))    Radford et al., arXiv:2103.00020.
Initial values are those of OpenAI's `initialize_parameters` for its text transformer,
here used for both towers (its vision tower keeps PyTorch's defaults): normal with
std width^-0.5 (qkv), (2 width)^-0.5 (mlp/fc), and (2 layers width)^-0.5 for the two
projections that write to the residual stream; biases 0.
"""

import flax.linen as nn
import jax

from tpr_jax.models.layers.attention import SelfAttention, at
from tpr_jax.models.layers.drop_path import drop_path
from tpr_jax.models.layers.layout import row_major
from tpr_jax.models.layers.mlp import Mlp
from tpr_jax.models.layers.norm import LayerNorm
from tpr_jax.models.layers.recompute import recomputed
from tpr_jax.models.watch import Watch
from tpr_jax.ops import masks


def residual_std(width: int, layers: int) -> float:
  """Standard deviation of the kernels that write to the residual stream."""
  return (2 * layers * width) ** -0.5


class Block(nn.Module):
  """One pre-LN block. In training a whole residual branch of an example is left out
  with probability `drop_path` (stochastic depth, arXiv:1603.09382); rng "dropout"."""

  heads: int
  out_std: float
  activation: str = "quick_gelu"
  epsilon: float = 1e-5
  drop_path: float = 0.0
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    mask: masks.Mask,
    train: bool,
    watch: Watch | None = None,
    only: jax.Array | None = None,
  ) -> jax.Array:
    """[B, L, D] -> [B, L, D]; mask as in ops/masks.py.

    With `only`, int [B]: of these positions alone, [B, 1, D]."""
    kwargs = dict(out_std=self.out_std, dtype=self.dtype)
    y = LayerNorm(self.epsilon, self.dtype, name="ln_1")(x)
    y = SelfAttention(self.heads, name="attn", **kwargs)(y, mask, watch, only)
    x = x if watch is None else watch.kept(x)
    x = x if only is None else at(x, only)
    x = row_major((x + self._keep(y, train)).astype(x.dtype))
    y = LayerNorm(self.epsilon, self.dtype, name="ln_2")(x)
    y = Mlp(activation=self.activation, name="mlp", **kwargs)(y)
    x = row_major((x + self._keep(y, train)).astype(x.dtype))
    return x if watch is None else watch.state(x)

  def _keep(self, y: jax.Array, train: bool) -> jax.Array:
    return drop_path(y, self.drop_path, train, self.make_rng)


class Blocks(nn.Module):
  """`layers` blocks `block_0`.. in a plain loop, so that each keeps its own name.

  `drop_path` grows linearly from 0 at the first block to its value at the last.
  `remat` recomputes each block in the backward pass: less memory, more
  time (the benchmarks `memory` and `remat`)."""

  layers: int
  heads: int
  activation: str = "quick_gelu"
  epsilon: float = 1e-5
  drop_path: float = 0.0
  remat: bool = False
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    mask: masks.Mask = None,
    train: bool = False,
    watch: Watch | None = None,
    only: jax.Array | None = None,
  ) -> jax.Array:
    """[B, L, D] -> [B, L, D]; watched blocks have the watch's heads and dtype.

    With `only`, int [B]: [B, 1, D] of these positions, and the last block does no work
    for others."""
    for i in range(self.layers):
      seen_by = watch and watch.of(i, self.layers)
      made = Block(
        heads=(seen_by and seen_by.heads) or self.heads,
        out_std=residual_std(x.shape[-1], self.layers),
        activation=self.activation,
        epsilon=self.epsilon,
        drop_path=self.drop_path * i / max(self.layers - 1, 1),
        dtype=seen_by.dtype if seen_by else self.dtype,
        name=f"block_{i}",
      )
      last = only if i == self.layers - 1 else None
      if self.remat and watch is None and only is None:
        x = recomputed(lambda made, x, mask: made(x, mask, train))(made, x, mask)
      else:
        x = made(x, mask, train, seen_by, last)
    return x
