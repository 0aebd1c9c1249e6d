"""Token sequences averaged in bins or over a region: MRA (arXiv:2507.10195).

Bin i of n covers floor(i M / n) .. ceil((i + 1) M / n) - 1 of M tokens, as torch's
AdaptiveAvgPool1d has it: where n does not divide M, neighbours share tokens. Of image
patches in row-major order, three bins are three horizontal stripes of a body.
With a mask a bin is the mean of its tokens that are masked in; one without any takes
the mean of all that are (ours: MRA's paper averages a region's patches, its released
code pools all patches of the image instead).
Shapes: B sequences, M tokens of them, D width.
"""

import jax
import jax.numpy as jnp


def edges(length: int, bins: int) -> tuple[tuple[int, int], ...]:
  """[start, end) of each bin among `length` tokens.

  Raises:
    ValueError: no bins, or no tokens.
  """
  if bins < 1 or length < 1:
    raise ValueError(
      f"bins: {bins} bins of {length} tokens; expected 1 or more of both"
    )
  return tuple((i * length // bins, -(-(i + 1) * length // bins)) for i in range(bins))


def adaptive_bins(
  tokens: jax.Array, bins: int, mask: jax.Array | None = None
) -> jax.Array:
  """[B, M, D] -> float32 [B, bins, D], averages of neighbouring tokens.

  Args:
    tokens: of any floating dtype; sums are float32.
    mask: bool [B, M], True: counts. A sequence without any True gives 0.

  Raises:
    ValueError: no bins, no tokens, or a mask of another shape.
  """
  spans = edges(tokens.shape[1], bins)
  if mask is None:
    tokens = tokens.astype(jnp.float32)
    return jnp.stack([tokens[:, a:b].mean(axis=1) for a, b in spans], axis=1)
  whole = region_mean(tokens, mask)
  parts = [
    jnp.where(
      mask[:, a:b].any(axis=1, keepdims=True),
      region_mean(tokens[:, a:b], mask[:, a:b]),
      whole,
    )
    for a, b in spans
  ]
  return jnp.stack(parts, axis=1)


def region_mean(tokens: jax.Array, mask: jax.Array) -> jax.Array:
  """[B, M, D], bool [B, M] -> float32 [B, D], the mean of the tokens masked in.

  A sequence without any gives 0.

  Raises:
    ValueError: a mask of another shape.
  """
  if mask.shape != tokens.shape[:2]:
    raise ValueError(
      f"bins: a mask of shape {mask.shape} for tokens {tokens.shape}; expected one"
      f" bool for each token, {tokens.shape[:2]}"
    )
  mask = mask.astype(bool)
  # `where` and not a product, so that a NaN that is masked out cannot leak in.
  total = jnp.where(mask[..., None], tokens.astype(jnp.float32), 0.0).sum(axis=1)
  return total / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)


def region_sequence(
  tokens: jax.Array, region: jax.Array, *, show_mean: bool = True
) -> tuple[jax.Array, jax.Array]:
  """The tokens of an image as cross-attention sees them for one of its regions.

  Args:
    tokens: [B, 1 + N, D] the whole image's: the mean of its patches, then the patches.
    region: bool [B, N], True: the patch is in the region.
    show_mean: False hides the region's mean too, as MRA's released code does.

  Returns:
    [B, 1 + N, D] in the dtype of `tokens`: the region's mean, then all patches;
    bool [B, 1 + N]: what may be attended to.
  """
  patches = tokens[:, 1:]
  mean = region_mean(patches, region)[:, None].astype(tokens.dtype)
  first = jnp.full((region.shape[0], 1), show_mean)
  sequence = jnp.concatenate([mean, patches], axis=1)
  return sequence, jnp.concatenate([first, region.astype(bool)], axis=1)
