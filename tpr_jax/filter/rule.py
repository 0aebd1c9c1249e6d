"""How many random captions fit an image as well as its own: what a pair is cut by.

Filtering-WoRA (arXiv:2404.10292), as its code does it. Q vectors v_q of an image, t of
its caption, t_j of the D captions of a pool, all of length 1:

  s(I, T) = max_q v_q . t       s_0 = s(I, T)       s_j = s(I, T_j)
  c = #{j : s_j >= s_0}         the pair is kept iff c < k

The code sorts s_0 with all s_j in descending order, L[0..D], and drops the pair iff
s_0 <= L[k]: the same. Ties count against the pair.

Whether s_j >= s_0 must not hang on the last bit of a sum that a block of another size,
or another device, adds up in another order. So sums are made exact. Each number is
split into two whole ones, x = a / 2^11 + b / 2^L, L = floor(23.9 - log2(dim) / 2), and
all sums of products of those stay below 2^24, where float32 holds every whole number:
by Cauchy-Schwarz, sum |a a'| <= 2^22 and sum (|a b'| + |b a'|) <= 2^L sqrt(dim). Then

  s = (a . a') / 2^22 + (a . b' + b . a') / 2^(11 + L),

rounded once, is one and the same number wherever it is computed. What is left out,
b . b' and the rounding of x to 2^-L, changes s by some 1e-6.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tpr_jax.filter.problems import FilterError

_HIGH = 2.0**11
_LENGTH = 1e-2  # how far from 1 the length of a row may be
ROWS = 2048  # vectors of images at a time on each device
TILE = 1024  # captions of the pool at a time
_MOST = 8  # captions of an image in one row; of more, the image has several rows
NOBODY, OTHER = -1, -2  # numbers that no caption of the pool and no pair share


def split(x: jax.Array) -> jax.Array:
  """float32 [..., D], rows of length 1 -> [..., 2, D], the whole numbers a and b."""
  low = 2.0 ** math.floor(23.9 - math.log2(x.shape[-1]) / 2)
  high = jnp.round(x * _HIGH)
  return jnp.stack([high, jnp.round((x - high / _HIGH) * low)], axis=-2)


def similarity(image: jax.Array, text: jax.Array, equation: str) -> jax.Array:
  """s without the maximum over q: float32, the same bits in any shape.

  Args:
    image, text: [..., 2, D], of `split`.
    equation: of einsum, for the dimensions before those two, without them, such as
      "bq,t->bqt".
  """
  inputs, out = equation.split("->")
  left, right = inputs.split(",")
  dim = image.shape[-1]
  dot = functools.partial(
    jnp.einsum,
    f"{left}z,{right}z->{out}",
    precision=jax.lax.Precision.HIGHEST,
    preferred_element_type=jnp.float32,
  )
  flat = lambda x: x.reshape(*x.shape[:-2], 2 * dim)
  low = 2.0 ** math.floor(23.9 - math.log2(dim) / 2)
  whole = dot(image[..., 0, :], text[..., 0, :])
  cross = dot(flat(image), flat(text[..., ::-1, :]))
  return whole / _HIGH**2 + cross / (_HIGH * low)


def _count(
  image: jax.Array,
  text: jax.Array,
  person: jax.Array,
  key: jax.Array,
  pool: jax.Array,
  people: jax.Array,
  keys: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """(s_0 float32 [B, C], c int32 [B, C]) of B images with C captions each.

  Args:
    image: float32 [B, Q, D]; text: float32 [B, C, D].
    person: int32 [B], key: int32 [B, C]; a caption of the pool with the person or the
      key of a pair does not count.
    pool: [n, TILE, 2, D], of `split`; people, keys: int32 [n, TILE], NOBODY in both
      where a row only pads.
  """
  image, text = split(image), split(text)
  own = similarity(image, text, "bq,bc->bcq").max(axis=-1)

  def add(total, part):
    others, who, which = part
    score = similarity(image, others, "bq,t->bqt").max(axis=1)  # [B, T]
    counts = (who != person[:, None]) & ~((who == NOBODY) & (which == NOBODY))
    hit = (score[:, None, :] >= own[:, :, None]) & counts[:, None, :]
    hit &= which != key[:, :, None]
    return total + hit.sum(axis=-1, dtype=jnp.int32), None

  start = jnp.zeros(own.shape, jnp.int32)
  return own, jax.lax.scan(add, start, (pool, people, keys))[0]


class Counter:
  """Scores pairs against one pool of captions, on all devices that it is given.

  Args:
    pool: float32 [P, D], rows of length 1: the captions of the pool.
    people, keys: int32 [P] >= 0: of whom each caption is, and which it is; where a
      pair has the same number, the caption does not count against it. None: it does.
    rows: vectors of images at a time on each device; tile: captions at a time.
    devices: default: this process's.

  Raises:
    FilterError: rows that are not numbers, or not of length 1.
  """

  def __init__(
    self,
    pool: np.ndarray,
    people: np.ndarray | None = None,
    keys: np.ndarray | None = None,
    *,
    rows: int = ROWS,
    tile: int = TILE,
    devices: Sequence[Any] | None = None,
  ):
    check(pool, "caption {} of the pool")
    self.size, self._rows = len(pool), rows
    devices = jax.local_devices() if devices is None else list(devices)
    mesh = Mesh(np.array(devices), ("rows",))
    self._devices = len(devices)
    whole, spread = PartitionSpec(), PartitionSpec("rows")
    self._whole, self._spread = (NamedSharding(mesh, s) for s in (whole, spread))
    self._asked = people is not None, keys is not None
    other = np.zeros(len(pool), np.int32)
    numbers = [other if n is None else np.asarray(n, np.int32) for n in (people, keys)]
    extra = -len(pool) % tile
    padded = [np.pad(n, (0, extra), constant_values=NOBODY) for n in numbers]
    rows_ = np.pad(pool.astype(np.float32), ((0, extra), (0, 0)))
    tiles = rows_.reshape(-1, tile, pool.shape[1])
    self._pool = jax.device_put(np.asarray(jax.jit(split)(tiles)), self._whole)
    self._numbers = [jax.device_put(n.reshape(-1, tile), self._whole) for n in padded]
    mapped = jax.shard_map(
      _count,
      mesh=mesh,
      in_specs=(spread,) * 4 + (whole,) * 3,
      out_specs=spread,
      check_vma=False,  # the count starts from a constant
    )
    self._run = jax.jit(mapped)

  def __call__(
    self,
    image: np.ndarray,
    text: np.ndarray,
    counts: np.ndarray,
    people: np.ndarray | None = None,
    keys: np.ndarray | None = None,
  ) -> tuple[np.ndarray, np.ndarray]:
    """(s_0 float32 [M], c int32 [M]) of M captions of N images, in order.

    Args:
      image: float32 [N, Q, D]; text: float32 [M, D]; all rows of length 1.
      counts: int [N], how many captions each image has, M in all.
      people: int32 [N], keys: int32 [M], as of the pool; OTHER for what it lacks.

    Raises:
      FilterError: rows that are not numbers, or not of length 1.
    """
    check(image.reshape(-1, image.shape[-1]), "row {} of the images")
    check(text, "row {} of the texts")
    most = min(_MOST, 1 << max(int(counts.max(initial=1)) - 1, 0).bit_length())
    at = _table(counts, most)  # [R, most], -1 where there is none
    owner = np.repeat(np.arange(len(counts)), -(-counts // most))
    n, m = len(image), len(text)
    # A number that the pool lacks: what was not asked for excludes nothing.
    if people is None or not self._asked[0]:
      people = np.full(n, OTHER, np.int32)
    if keys is None or not self._asked[1]:
      keys = np.full(m, OTHER, np.int32)
    block = max(1, self._rows // image.shape[1]) * self._devices
    own, count = np.zeros(m, np.float32), np.zeros(m, np.int32)
    waiting: list[tuple[np.ndarray, Any]] = []
    for start in range(0, len(at), block):
      some, who = at[start : start + block], owner[start : start + block]
      short = block - len(some)
      some = np.pad(some, ((0, short), (0, 0)), constant_values=-1)
      who = np.pad(who, (0, short))  # row 0 again: it is thrown away
      pick = np.maximum(some, 0)
      parts = (image[who], text[pick], people[who], keys[pick])
      placed = jax.device_put(parts, self._spread)
      waiting.append((some, self._run(*placed, self._pool, *self._numbers)))
      if len(waiting) > 2:  # keep the devices busy, without piling up
        _store(own, count, *waiting.pop(0))
    for item in waiting:
      _store(own, count, *item)
    return own, count


def _table(counts: np.ndarray, most: int) -> np.ndarray:
  """int [R, most]: the captions of each image, in as many rows as they need."""
  first = np.cumsum(counts) - counts
  rows = -(-counts // most)
  image = np.repeat(np.arange(len(counts)), rows)
  place = np.arange(len(image)) - np.repeat(np.cumsum(rows) - rows, rows)
  offset = place[:, None] * most + np.arange(most)
  return np.where(offset < counts[image, None], first[image, None] + offset, -1)


def _store(own: np.ndarray, count: np.ndarray, at: np.ndarray, found: Any) -> None:
  real = at >= 0
  own[at[real]], count[at[real]] = (np.asarray(x)[real] for x in found)


def check(rows: np.ndarray, name: str) -> None:
  """Raises FilterError where [n, D] rows are not of length 1; `name` holds {}."""
  length = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
  bad = np.flatnonzero(~(np.abs(length - 1) <= _LENGTH))
  if not len(bad):
    return
  first = length[bad[0]]
  broken = not np.isfinite(first)
  what = "holds NaN or infinity" if broken else "is not of length 1"
  raise FilterError(
    f"{name.format(bad[0])} {what}"
    f" (length {first:.4g}; {len(bad):,} such rows of {len(rows):,}): "
    + (
      "the scorer's weights or its precision are broken"
      if broken
      else "a scorer must give unit rows"
    )
  )
