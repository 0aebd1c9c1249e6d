"""The vectors of an index in memory, and the exact best of them.

A search is one product of a matrix and a vector: it reads every number once, and
numpy's BLAS does that at the speed of memory. So nothing is compiled for it, and a
search by a stored vector imports no JAX, unless there are so many (coarse.py) that
copies of eight bits are read first.
"""

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tpr_jax.search import coarse
from tpr_jax.search.store import Store, rows_of

_PRODUCTS = 1 << 25  # similarities held at once by a batch of queries
_HEAD = 16  # digits of a hash that are kept in memory: 64 bits
_SAMPLE = 65_536  # rows that stand for all, where these stay in the store
_WHOLE = "problem is null"
_ROUNDING = 1e-6  # spread of cosines that are equal but for rounding


class Gallery:
  """The whole pictures of one version of a store.

  Args:
    whole: all their vectors are read, too; else a sample of them.

  Attributes:
    vectors: float32 [N, D], unit rows; None: they stay in the store.
    sample, sampled: without them, float32 [S, D] of the rows int64 [S].
    ids: int64 [N] `_rowid`.
    order: int64 [N], the place of each path among all of them: ties are in this order,
      whatever the order of the files in the store.
    heads: uint64 [N], the first 16 digits of the hash of each content.
  """

  def __init__(self, store: Store, whole: bool = True):
    self._store = store
    paths, ids, heads = [], [], []
    for batch in store.read(["path", "hash"], _WHOLE, ids=True):
      paths.append(batch["path"])
      ids.append(batch["_rowid"].to_numpy())
      heads += [int(each[:_HEAD], 16) for each in batch["hash"].to_pylist()]
    self.ids = np.concatenate(ids or [np.zeros(0)]).astype(np.int64)
    self.heads = np.array(heads, np.uint64)
    self._by_head = np.argsort(self.heads, kind="stable")
    count = len(self.ids)
    ranks = pc.rank(pa.chunked_array(paths, pa.string()), tiebreaker="first")
    self.order = ranks.to_numpy().astype(np.int64)
    self._by_id = np.argsort(self.ids, kind="stable")
    self.vectors = self._vectors() if whole else None
    if not whole:
      drawn = np.random.default_rng(0).choice(count, min(_SAMPLE, count), replace=False)
      self.sampled = np.sort(drawn)
      self.sample = store.vectors(self.ids[self.sampled])

  def _vectors(self) -> np.ndarray:
    # Filled in place: a list of parts and their concatenation would need twice as much.
    found = np.empty((len(self), self._store.dim), np.float32)
    for batch in self._store.read(["vector"], _WHOLE, ids=True):
      at = self.places(batch["_rowid"].to_numpy().astype(np.int64))
      found[at] = rows_of(batch["vector"], self._store.dim)
    return found

  @functools.cached_property
  def copies(self) -> coarse.Coarse | None:
    """Of `vectors` in eight bits, made when they are first asked for; None: there are
    too few for it to pay."""
    return coarse.Coarse(self.vectors) if len(self) >= coarse.LEAST else None

  def places(self, ids: np.ndarray) -> np.ndarray:
    """int64 [n] `_rowid`, all of them known -> int64 [n] rows."""
    return self._by_id[np.searchsorted(self.ids, ids, sorter=self._by_id)]

  def row(self, at: int) -> np.ndarray:
    """float32 [D] of one row."""
    if self.vectors is None:
      return self._store.vectors(self.ids[at : at + 1])[0]
    return self.vectors[at]

  def __len__(self) -> int:
    return len(self.ids)

  def among(self, ids: np.ndarray) -> np.ndarray:
    """int64 [M] `_rowid` -> bool [N], which rows they are."""
    return np.isin(self.ids, ids)

  def like(self, key: str) -> np.ndarray:
    """int64 rows whose content's hash may be `key` (32 hex digits): it begins so."""
    head = np.uint64(int(key[:_HEAD], 16))
    ends = [
      np.searchsorted(self.heads, head, side, sorter=self._by_head)
      for side in ("left", "right")
    ]
    return self._by_head[slice(*ends)]

  def best(
    self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
  ) -> list[np.ndarray]:
    """Rows of the k largest cosines of each query, best first; exact.

    Args:
      queries: float32 [Q, D].
      allowed: bool [N]; None: all.

    Returns:
      int64 [min(k, allowed rows)] for each query.
    """
    found: list[np.ndarray] = []
    step = max(1, _PRODUCTS // max(len(self), 1))
    for start in range(0, len(queries), step):
      scores = queries[start : start + step] @ self.vectors.T
      found += [best(each, self.order, k, allowed) for each in scores]
    return found


def best(
  scores: np.ndarray, order: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> np.ndarray:
  """The k rows with the largest scores, best first; of equal scores the lowest order.

  Args:
    scores: float [N], finite. order: int [N], distinct. allowed: bool [N]; None: all.

  Returns:
    int64 [min(k, allowed rows)].
  """
  rows = None if allowed is None else np.flatnonzero(allowed)
  values = scores if rows is None else scores[rows]
  k = min(k, len(values))
  if k < 1:
    return np.zeros(0, np.int64)
  # All that reach the k-th value, so that those equal to it are chosen by order.
  last = np.partition(values, len(values) - k)[len(values) - k]
  near = np.flatnonzero(values >= last)
  if rows is not None:
    near = rows[near]
  return near[np.lexsort((order[near], -scores[near]))][:k]


def moments(values: np.ndarray) -> tuple[float, float]:
  """(mean, deviation) of similarities float [N]; without any spread, which tells
  nothing apart, the deviation is infinite."""
  wide = values.astype(np.float64)
  spread = float(wide.std()) if len(wide) else 0.0
  mean = float(wide.mean()) if len(wide) else 0.0
  return mean, spread if spread > _ROUNDING else np.inf


def standard(
  cosines: Sequence[np.ndarray],
  shares: Sequence[float],
  of_all: Sequence[tuple[float, float]],
) -> np.ndarray:
  """Several similarities of the same rows as one: the weighted sum of standard scores.

    z_n = sum_j w_j (s_jn - mean_j) / sd_j

  Cosines of two pictures are larger, and spread wider, than those of a sentence and a
  picture: added as they are, the picture alone would decide. In its own standard
  deviations over the whole gallery, each says how unusual a match is.

  Args:
    cosines: J arrays, float32 [N]. shares: J weights.
    of_all: J `moments`, of the whole gallery.

  Returns:
    float64 [N].
  """
  total = np.zeros(len(cosines[0]))
  for values, share, (mean, spread) in zip(cosines, shares, of_all, strict=True):
    total += share * (values.astype(np.float64) - mean) / spread
  return total
