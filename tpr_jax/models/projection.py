"""Tokens of one modality -> the feature that is compared by cosine: APTM and MRA.

Two forms. arXiv:2306.02898 (and MRA on RSTPReid) maps token 0, of width 768 or 1024, to
256 (`TokenProjection`). MRA's released code (arXiv:2507.10195; the paper says "MLPs")
pools the other tokens into three bins, which for an image are three stripes of a body,
lays them side by side, and maps them to 2048 through batch normalisation and dropout
(`BinProjection`); texts keep token 0 before the bins, images leave it out, so that both
have 3072 numbers in BERT-base and Swin-B. Features are no unit rows yet.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.models.layers.batch_norm import BatchNorm
from tpr_jax.models.layers.dense import Dense
from tpr_jax.ops import bins as bin_ops


def pooled(
  tokens: jax.Array, mask: jax.Array | None = None, *, bins: int, first: bool
) -> jax.Array:
  """[B, 1 + M, D] -> float32 [B, (first + bins) D]: means of tokens 1 .. M, by bins.

  Args:
    mask: bool [B, 1 + M], the tokens that count; None: all, padding too (released).
      Token 0 is no part of any bin, whatever its mask.
    first: keep token 0, before the bins.
  """
  tokens = tokens.astype(jnp.float32)
  mask = None if mask is None else mask[:, 1:]
  rows = bin_ops.adaptive_bins(tokens[:, 1:], bins, mask)
  if first:
    rows = jnp.concatenate([tokens[:, :1], rows], axis=1)
  return rows.reshape(rows.shape[0], -1)


class TokenProjection(nn.Module):
  """A linear map of token 0; initial kernel N(0, 0.02), ours."""

  joint_dim: int = 256
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, tokens: jax.Array, mask: jax.Array | None = None, train: bool = False
  ) -> jax.Array:
    """[B, 1 + M, D] -> float32 [B, E]; `mask` and `train` change nothing."""
    y = Dense(self.joint_dim, std=0.02, dtype=self.dtype, name="linear")(tokens[:, 0])
    return y.astype(jnp.float32)


class BinProjection(nn.Module):
  """Bins of the tokens, batch normalisation, dropout, a linear map (see `pooled`).

  The kernel starts at N(0, 1e-5) as in the released code: its scale is lost where
  features become unit rows, and with it a first step of Adam turns them far more."""

  joint_dim: int = 2048
  first: bool = False  # True for texts
  bins: int = 3
  dropout: float = 0.5
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, tokens: jax.Array, mask: jax.Array | None = None, train: bool = False
  ) -> jax.Array:
    """[B, 1 + M, D], bool [B, 1 + M] or None -> float32 [B, E].

    In training each call normalises with its own batch (models/layers/batch_norm.py).
    """
    x = pooled(tokens, mask, bins=self.bins, first=self.first)
    x = BatchNorm(dtype=self.dtype, name="bn")(x, train)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    y = Dense(self.joint_dim, std=1e-5, dtype=self.dtype, name="dense")(x)
    return y.astype(jnp.float32)
