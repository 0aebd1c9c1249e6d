"""How the cosines of matched and of unmatched pairs are spread: two histograms.

Bins are fixed, `BINS` of equal width over [-1, 1], so that files of different models
can be laid over each other. Bin i counts the cosines in [edge_i, edge_i+1), the last
one also 1; what rounding puts beyond an end counts in the outermost bin.

Matched pairs are all counted: they are few, and one product per identity makes them.
Unmatched pairs are nearly all of the Q x G pairs: all of them up to `MOST_PAIRS`, above
that those of a seeded sample of the queries, each with the whole gallery. How many
queries these were is part of the result.

The two means are those whose ratio is PNR's x (metrics/msd.py), before the mapping to
[0, 1] and averaged over the queries: for each query with a match (and a non-match) the
mean cosine of its matches and of its non-matches. These need no sample: the sum of all
cosines of a query is its product with the sum of the gallery.

In blocks: Q x G never exists. Shapes: Q queries, G gallery items, D dimensions.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from tpr_jax.metrics import rows as prepared

BINS = 200  # with one more place, below 256: bins of unmatched pairs are uint8
MOST_PAIRS = 1 << 22  # unmatched pairs that are counted without drawing queries
_BLOCK = 1 << 20  # pairs scored at a time


@dataclasses.dataclass(frozen=True)
class Distributions:
  """Counts of pairs by cosine.

  Attributes:
    edges: float64 [BINS + 1], from -1 to 1.
    matched: int64 [BINS], of all queries.
    unmatched: int64 [BINS], of `unmatched_queries` queries.
    unmatched_queries: all, or as many as were drawn.
    queries: number of queries, with or without a match.
    means: float64 [2], mean over queries of the mean cosine of their matched and of
      their unmatched pairs; NaN where no query has both.
  """

  edges: np.ndarray
  matched: np.ndarray
  unmatched: np.ndarray
  unmatched_queries: int
  queries: int
  means: np.ndarray

  def arrays(self) -> dict[str, np.ndarray]:
    """What is kept of it, by the names in `rankings/NAME.npz` (rankings.py)."""
    return {
      "bins": self.edges.astype(np.float32),
      "matched": self.matched,
      "unmatched": self.unmatched,
      "unmatched_queries": np.array(self.unmatched_queries),
      "mean_cosine": self.means,
    }


def count(
  query, gallery, query_ids, gallery_ids, *, seed=0, most_pairs=MOST_PAIRS
) -> Distributions:
  """Counts the pairs.

  Args:
    query: [Q, D], gallery: [G, D]; made unit rows here.
    query_ids: [Q], gallery_ids: [G]; a pair is matched where they are equal.
    seed: draws the queries of the unmatched pairs, where Q x G is above `most_pairs`.
  """
  query, gallery = np.asarray(query), np.asarray(gallery)
  query = prepared.unit_rows(query, prepared.norms(query, "query"))
  gallery = prepared.unit_rows(gallery, prepared.norms(gallery, "gallery"))
  ids = np.unique(np.concatenate([query_ids, gallery_ids]), return_inverse=True)[1]
  query_ids, gallery_ids = ids[: len(query)], ids[len(query) :]
  by_id = _Places(gallery_ids)
  matched, match_sum = _matched(query, gallery, query_ids, by_id)
  used = min(len(query), max(most_pairs // len(gallery), 1))
  chosen = np.arange(len(query))
  if used < len(query):
    rng = np.random.default_rng([seed, len(query)])
    chosen = np.sort(rng.choice(len(query), used, replace=False))
  unmatched = _unmatched(query[chosen], gallery, query_ids[chosen], by_id)
  start, stop = by_id.ends(query_ids)
  return Distributions(
    edges=np.linspace(-1.0, 1.0, BINS + 1),
    matched=matched,
    unmatched=unmatched,
    unmatched_queries=used,
    queries=len(query),
    means=_means(query, gallery, match_sum, stop - start),
  )


class _Places:
  """Where in the gallery each identity is."""

  def __init__(self, gallery_ids):
    self.order = np.argsort(gallery_ids, kind="stable")
    self._sorted = gallery_ids[self.order]

  def ends(self, ids):
    """int64 ([n], [n]): the rows of each identity are `order[start:stop]`."""
    return tuple(np.searchsorted(self._sorted, ids, side) for side in ("left", "right"))

  def pairs(self, ids):
    """(rows, columns) of every matched pair, rows counting `ids`."""
    start, stop = self.ends(ids)
    number = stop - start
    rows = np.repeat(np.arange(len(ids)), number)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(number) - number, number)
    return rows, self.order[np.repeat(start, number) + place]


def _matched(query, gallery, query_ids, by_id):
  """(int64 [BINS], float64 [Q] sum of the cosines of each query's matches)."""
  counts, sums = np.zeros(BINS, np.int64), np.zeros(len(query))
  order = np.argsort(query_ids, kind="stable")
  first = np.flatnonzero(np.diff(query_ids[order], prepend=-1))
  starts, stops = by_id.ends(query_ids[order[first]])
  waiting, size = [], 0
  for rows, start, stop in zip(
    np.split(order, first[1:]), starts.tolist(), stops.tolist(), strict=True
  ):
    if start == stop:
      continue
    items = gallery[by_id.order[start:stop]].T
    step = max(_BLOCK // (stop - start), 1)
    for at in range(0, len(rows), step):
      scores = query[rows[at : at + step]] @ items
      sums[rows[at : at + step]] = scores.sum(axis=1, dtype=np.float64)
      waiting.append(scores.ravel())
      size += scores.size
      if size >= _BLOCK:
        counts += _histogram(waiting)
        waiting, size = [], 0
  return counts + _histogram(waiting), sums


def _histogram(parts):
  """Arrays of cosines -> int64 [BINS]."""
  scores = np.concatenate([np.zeros(0, np.float32), *parts])
  bins = np.clip((scores + 1.0) * (BINS / 2), 0, BINS - 1).astype(np.uint8)
  return _count_bytes(bins)[:BINS]


def _unmatched(query, gallery, query_ids, by_id):
  """int64 [BINS]."""
  counts = np.zeros(BINS, np.int64)
  step = min(max(_BLOCK // len(gallery), 1), len(query))
  gallery = jnp.asarray(gallery)
  for at in range(0, len(query), step):
    block = query[at : at + step]
    padded = np.pad(block, ((0, step - len(block)), (0, 0)))  # one shape to compile
    bins = np.array(_score_bins(padded, gallery))[: len(block)]
    bins[by_id.pairs(query_ids[at : at + step])] = BINS  # a place of its own
    counts += _count_bytes(bins)[:BINS]
  return counts


@jax.jit
def _score_bins(query, gallery):
  """float32 [q, D], [G, D] -> uint8 [q, G]."""
  scores = jnp.dot(query, gallery.T, precision=jax.lax.Precision.HIGHEST)
  return jnp.clip((scores + 1.0) * (BINS / 2), 0, BINS - 1).astype(jnp.uint8)


def _count_bytes(values):
  """uint8 of any shape -> int64 [256], counted two at a time: `bincount` of many small
  numbers spends its time on making them large."""
  flat = values.ravel()
  two = flat[: len(flat) // 2 * 2].view(np.uint16)
  counts = np.bincount(two, minlength=1 << 16).reshape(256, 256)
  counts = counts.sum(axis=0) + counts.sum(axis=1)
  counts[flat[len(two) * 2 :]] += 1  # the odd one, if there is one
  return counts


def _means(query, gallery, match_sum, number):
  """float64 [2]; match_sum [Q], number int [Q] of matches."""
  others = len(gallery) - number
  both = (number > 0) & (others > 0)
  if not both.any():
    return np.full(2, np.nan)
  total = query[both] @ gallery.sum(axis=0)
  match_sum, number, others = match_sum[both], number[both], others[both]
  pairs = match_sum / number, (total - match_sum) / others
  return np.array([part.mean() for part in pairs])
