"""How much each token of a caption speaks for its own image: GA-DMS's scores.

GA-DMS (arXiv:2509.09118, EMNLP 2025). SIM_b is the cosine of caption b and its image,
a^l its attention output in block l before the projection, g^l = dSIM / da^l at the end
token; q, k, v, A of that block as in models/watch.py. For position j
  w_j   = cos(MSP(q)_end, MSP(k)_j), its minimum taken to 0 and its maximum to 1
  I_j   = w_j sum_d g_d v_jd                                                 (signed)
  Sa_j  = A_j valid_j / (sum_i A_i valid_i + 1e-8)
  s     = normalised ReLU(mean_l I^l Sa^l) valid.
MSP (multi-scale pooling) averages groups of c positions, stretches them back linearly,
and takes the mean over the scales c. Where the paper and its released code differ:
  `denominator="importance"`   the code divides A by sum_i I_i over all positions, which
                               is signed: a negative sum turns the order round
  `norm="batch"`               the code's minimum and maximum are of the whole batch
The code sums layers, the paper takes their mean: the same after normalisation. Neither
says how s is normalised in the paper; "per_sample" is what its masks need.
Shapes: B captions, L positions, D width; float32 throughout.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from tpr_jax.core import numerics

DENOMINATORS = ("attention", "importance")
NORMS = ("per_sample", "batch")
ROWS = ("all", "text")
TINY = 1e-8


def words(ends: jax.Array, length: int) -> jax.Array:
  """int [B] places of the end tokens -> bool [B, L]: neither start, end nor padding."""
  place = jnp.arange(length)[None, :]
  return (place > 0) & (place < ends[:, None])


def pooling(rows: jax.Array, length: int, scales: Sequence[int]) -> jax.Array:
  """MSP over the first n positions as a matrix: int [B] n -> float32 [B, L, L].

  Position i is the sum of row i of the matrix times what is pooled; a remainder of less
  than c positions is a group of its own. Positions are centres of cells: i is read at
  (i + 1/2) m / n - 1/2 of the m groups, never outside of the first and the last. Rows
  of the matrix beyond the first n mean nothing.
  """
  place = jnp.arange(length)

  def one(count):
    total = jnp.zeros((length, length), jnp.float32)
    for scale in scales:
      groups = -(-count // scale)
      at = jnp.maximum((place + 0.5) * groups / count - 0.5, 0.0)
      low = jnp.floor(at).astype(jnp.int32)
      high = jnp.minimum(low + 1, groups - 1)
      part = (at - low)[:, None]
      group = (place // scale)[None, :]
      weight = (1 - part) * (group == low[:, None]) + part * (group == high[:, None])
      size = jnp.minimum(scale, count - (place // scale) * scale)
      total += jnp.where(place < count, weight / jnp.maximum(size, 1), 0.0)
    return total / len(scales)

  return jax.vmap(one)(rows)


def spatial_weight(
  q: jax.Array,
  k: jax.Array,
  ends: jax.Array,
  *,
  scales: Sequence[int] = (1, 2),
  rows: str = "all",
) -> jax.Array:
  """w: [B, L, D] x 2, int [B] -> [B, L] in 0..1.

  Args:
    rows: "all" positions are pooled and give the minimum and maximum, as in the paper's
      code; "text": those up to the end token alone, so that padding changes nothing.
  """
  length = q.shape[1]
  if rows not in ROWS:
    raise ValueError(f"token scores: rows={rows!r}; expected one of {ROWS}")
  count = ends + 1 if rows == "text" else jnp.full_like(ends, length)
  # The same matrix for every caption where all have as many positions.
  pool = pooling(count if rows == "text" else count[:1], length, scales)
  at_end = jnp.take_along_axis(
    jnp.broadcast_to(pool, (len(ends), length, length)), ends[:, None, None], axis=1
  )
  query = jnp.einsum("bj,bjd->bd", at_end[:, 0], q, precision=numerics.FULL)
  keys = jnp.einsum("bij,bjd->bid" if len(pool) > 1 else "xij,bjd->bid", pool, k)
  cosine = jnp.einsum("bd,bjd->bj", numerics.unit(query), numerics.unit(keys))
  there = jnp.arange(length)[None, :] < count[:, None]
  low = jnp.min(jnp.where(there, cosine, jnp.inf), axis=1, keepdims=True)
  high = jnp.max(jnp.where(there, cosine, -jnp.inf), axis=1, keepdims=True)
  return jnp.where(there, (cosine - low) / (high - low + TINY), 0.0)


def importance(gradient: jax.Array, v: jax.Array, weight: jax.Array) -> jax.Array:
  """I: gradient at the end token [B, D], values [B, L, D], w [B, L] -> [B, L]."""
  return jnp.einsum("bd,bjd->bj", gradient, v) * weight


def layer_score(
  importance: jax.Array,
  attention: jax.Array,
  valid: jax.Array,
  *,
  denominator: str = "attention",
) -> jax.Array:
  """I Sa of one block: [B, L], A of the end token [B, L], bool [B, L] -> [B, L]."""
  if denominator not in DENOMINATORS:
    raise ValueError(
      f"token scores: denominator={denominator!r}; expected one of {DENOMINATORS}"
    )
  attention = attention * valid
  below = attention if denominator == "attention" else importance
  share = attention / (jnp.sum(below, axis=1, keepdims=True) + TINY)
  return jnp.where(valid, importance * share, 0.0)


def combine(layers: Sequence[jax.Array], valid: jax.Array) -> jax.Array:
  """ReLU of the mean over the layers' [B, L], 0 where not valid."""
  return jnp.where(valid, jax.nn.relu(sum(layers) / len(layers)), 0.0)


def normalise(score: jax.Array, norm: str = "per_sample") -> jax.Array:
  """[B, L] -> [B, L]: minimum to 0 and maximum to 1; 0 where they are the same.

  Args:
    norm: over each caption's positions ("per_sample"), or the whole batch's.
  """
  if norm not in NORMS:
    raise ValueError(f"token scores: norm={norm!r}; expected one of {NORMS}")
  axis = 1 if norm == "per_sample" else None
  low = jnp.min(score, axis=axis, keepdims=True)
  span = jnp.max(score, axis=axis, keepdims=True) - low
  return jnp.where(span > 0, (score - low) / jnp.where(span > 0, span, 1.0), 0.0)


def best_cosine(text: jax.Array, patches: jax.Array, valid: jax.Array) -> jax.Array:
  """[B, L, D] tokens, [B, P, D] patches of its image, bool [B, L] -> [B, L] in 0..1.

  Each word's largest cosine with a patch (after Tan et al., NAM, CVPR 2024), over the
  words of its caption: the smallest becomes 0, the largest 1; one word alone gets 1.
  """
  cosine = jnp.einsum("bld,bpd->blp", numerics.unit(text), numerics.unit(patches))
  best = jnp.max(cosine, axis=2)
  low = jnp.min(jnp.where(valid, best, jnp.inf), axis=1, keepdims=True)
  span = jnp.max(jnp.where(valid, best, -jnp.inf), axis=1, keepdims=True) - low
  score = jnp.where(span > 0, (best - low) / jnp.where(span > 0, span, 1.0), 1.0)
  return jnp.where(valid, score, 0.0)
