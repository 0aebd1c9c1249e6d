"""Retrieval metrics of any size: blocks of queries against the gallery, under jit.

The queries x gallery matrix is never held whole: a block of queries is scored, ranked
and reduced to a few numbers per query before the next one starts. Ranking is by
descending cosine, ties by the lowest gallery index, so that a result depends neither
on the device nor on the block size nor on the number of shards. Scores are float32 at
the highest matrix precision, everywhere.

Queries are put into buckets by their number of matches. Up to `COUNTED` of them, ranks
come from counting the items before each match (`ranking.rank_matches`); beyond that the
block's rows are sorted, so that no query's cost grows with its matches.

With a mesh, queries are spread over all of its devices. The gallery is copied to each
of them, or, above `REPLICATED` bytes, split over all of them: each scores every query
of the block against its part, and an all-to-all hands each device whole rows.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from tpr_jax.core import sharding
from tpr_jax.metrics import msd, per_query, ranking
from tpr_jax.metrics import rows as prepared

# Scores of one block of queries, on each device. A million columns leave 64 rows: with
# fewer, reading the gallery for each block takes longer than the products.
BLOCK_BYTES = 256 << 20
# Most rows of a block. More make a CPU no faster, and take memory: several blocks are
# under way at once.
MOST_ROWS = dict(cpu=128, other=1024)
REPLICATED = 2 << 30  # largest gallery, in bytes, that every device gets whole
LANES = dict(cpu=64, other=1024)  # columns counted at a time (`ranking.rank_matches`)
COUNTED = 512  # most matches ranked by counting; a sort is cheaper beyond that
# Places for matches, of which `_chosen` takes a few: each is a program to compile.
_BUCKETS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, COUNTED)
_PROGRAM = 0.5  # seconds to compile one
_COMPARISON = 1e-10  # seconds for one place and one gallery item


@dataclasses.dataclass(frozen=True)
class Result:
  """Per-query values; Q queries, K = `top`.

  Attributes:
    matches: int32 [Q], number of gallery items of the query's identity.
    first_rank: int32 [Q], 1-based rank of the first match; 0 without a match.
    ap, inp, sd: float32 [Q] in [0, 1]; NaN without a match.
    top: int32 [Q, K], gallery indices of the best items, best first; -1 beyond the
      end of a gallery with fewer than K items.
    top_score: float32 [Q, K], their cosines; NaN where `top` is -1.
    gallery: number of gallery items.
  """

  matches: np.ndarray
  first_rank: np.ndarray
  ap: np.ndarray
  inp: np.ndarray
  sd: np.ndarray
  top: np.ndarray
  top_score: np.ndarray
  gallery: int

  def per_query(self) -> dict[str, np.ndarray]:
    """Score -> float64 [Q] in [0, 1]: what its mean is made of."""
    return per_query.values(self.first_rank, self.ap, self.inp, self.sd)

  def subset(self, mask) -> "Result":
    """The chosen queries (bool [Q] or indices) against the same gallery."""
    mask = np.asarray(mask)
    if mask.dtype == bool and mask.shape != self.matches.shape:
      raise ValueError(
        f"subset: mask of shape {mask.shape} for {len(self.matches)} queries"
      )
    rows = {
      field.name: getattr(self, field.name)[mask]
      for field in dataclasses.fields(self)
      if field.name != "gallery"
    }
    return Result(**rows, gallery=self.gallery)

  def summary(self) -> dict[str, float | int]:
    """Means over the queries that have a match, in percent, and the counts.

    Keys: R1 R5 R10 mAP mINP mSD, `chance` (the Rank-1 of a random ranking), `queries`
    (all), `gallery`, `unmatched` (queries without a match, left out of the means).

    Raises:
      ValueError: no query has a match.
    """
    real = self.matches > 0
    if not real.any():
      raise ValueError(_no_match(len(self.matches), self.gallery))
    percent = lambda x: 100.0 * float(np.mean(x[real], dtype=np.float64))
    return dict(
      **{name: percent(values) for name, values in self.per_query().items()},
      chance=percent(self.matches / self.gallery),
      queries=len(real),
      gallery=self.gallery,
      unmatched=int((~real).sum()),
    )


def evaluate(
  query,
  gallery,
  query_ids,
  gallery_ids,
  *,
  msd_variant="paper",
  block=None,
  top=10,
  mesh=None,
  split_gallery=None,
) -> Result:
  """Ranks the gallery for every query.

  Args:
    query: [Q, D], gallery: [G, D]; numpy or JAX, made float32 rows of length 1 here.
    query_ids: [Q], gallery_ids: [G]; a gallery item matches where they are equal.
    msd_variant: "paper", or "released_script" (see `metrics/msd.py`).
    block: queries scored at a time on each device; default: as many as keep their
      scores within `BLOCK_BYTES`.
    top: how many best items to return for each query.
    mesh: `jax.sharding.Mesh` whose devices share the work; every process must hold
      the same arrays. Default: the first device.
    split_gallery: with a mesh, whether each device holds only a part of the gallery;
      default: where it is larger than `REPLICATED`.

  Raises:
    ValueError: arrays that don't fit together, a NaN, infinite or all-zero feature
      (names the first bad row), an unknown variant, no query with a match.
  """
  if msd_variant not in msd.VARIANTS:
    raise ValueError(
      f"msd_variant {msd_variant!r} is unknown; expected one of {msd.VARIANTS}"
    )
  if top < 1 or (block is not None and block < 1):
    raise ValueError(f"top={top} and block={block} must be at least 1")
  query, gallery = np.asarray(query), np.asarray(gallery)
  norms = prepared.norms(query, "query"), prepared.norms(gallery, "gallery")
  if query.shape[1] != gallery.shape[1]:
    raise ValueError(
      f"queries have {query.shape[1]} dimensions, the gallery has {gallery.shape[1]}"
    )
  query_ids, gallery_ids = prepared.dense_ids(
    query_ids, gallery_ids, len(query), len(gallery)
  )
  matches, starts, by_id = prepared.match_lists(query_ids, gallery_ids)
  if not matches.any():
    raise ValueError(_no_match(len(query), len(gallery)))
  size = len(gallery)
  if split_gallery is None:
    split_gallery = 4 * gallery.size > REPLICATED
  layout = _Layout(mesh, split_gallery and mesh is not None)
  # Whole strips for the counting, and equal parts for the devices.
  extra = -size % (_of_backend(LANES) * (layout.devices if layout.split else 1))
  query = prepared.unit_rows(query, norms[0])
  gallery = prepared.unit_rows(gallery, norms[1], extra)
  lists = matches, starts, by_id
  out = _rank_all(
    query, gallery, query_ids, gallery_ids, lists, layout, block, top, msd_variant
  )
  return Result(matches=matches.astype(np.int32), gallery=size, **out)


def _of_backend(values):
  """The value for this kind of device."""
  return values["cpu" if jax.default_backend() == "cpu" else "other"]


def _rank_all(
  query, gallery, query_ids, gallery_ids, lists, layout, block, top, variant
):
  """Walks the queries, block by block and bucket by bucket -> fields of `Result`.

  Args:
    gallery: unit rows; the first of them are real, one for each of `gallery_ids`.
    lists: (matches, starts, by_id) of `rows.match_lists`; the rest as in `evaluate`,
      with unit features and dense identities.
  """
  size, lanes = len(gallery_ids), _of_backend(LANES)
  extra = len(gallery) - size
  gallery_on = layout.put_gallery(gallery)
  ids_on = layout.put_whole(np.pad(gallery_ids, (0, extra), constant_values=-1))
  out = _empty(len(query), top)
  for places, rows in _buckets(lists[0], size):
    # Also bounds the counters [block, places, lanes] of the counting.
    fits = max(BLOCK_BYTES // (4 * max(size + extra, 2 * places * lanes)), 1)
    even = -(-len(rows) // layout.devices)
    step = min(block or min(fits, _of_backend(MOST_ROWS)), even) * layout.devices
    run = _compiled(layout, places, size, min(top, size), variant, lanes)
    pending = []
    for at in range(0, len(rows), step):
      some = rows[at : at + step]
      filled = np.concatenate([some, np.repeat(some[:1], step - len(some))])
      columns = _columns(filled, *lists, places)
      parts = layout.put_rows((query[filled], query_ids[filled], columns))
      pending.append((some, run(*parts, gallery_on, ids_on)))
      if len(pending) > 2:  # keep the device busy, without piling up results
        _store(out, *pending.pop(0))
    for item in pending:
      _store(out, *item)
  return out


def _rank_block(
  query, query_ids, columns, gallery, gallery_ids, *, size, top, variant, lanes, axes
):
  """One device's block of queries -> dict of per-query values.

  Args:
    query: float32 [q, D]; query_ids: int32 [q].
    columns: int32 [q, R] columns of the matches, -1 = none; R = 0: sort instead.
    gallery: float32 [G, D], or this device's part of it; gallery_ids: int32 [G],
      -1 in columns that only pad. The first `size` columns are real.
    axes: mesh axes over which the gallery is split; () if it is here whole.
  """
  if axes:
    query = jax.lax.all_gather(query, axes, axis=0, tiled=True)
  scores = jnp.dot(
    query,
    gallery.T,
    precision=jax.lax.Precision.HIGHEST,
    preferred_element_type=jnp.float32,
  )
  if axes:
    scores = jax.lax.all_to_all(scores, axes, split_axis=0, concat_axis=1, tiled=True)
  real = gallery_ids >= 0
  s = jnp.where(real, msd.similarity(scores), 0.0)
  # -0 and 0 are one score; some sorts would tell them apart.
  scores = jnp.where(real, jnp.where(scores == 0, 0.0, scores), -jnp.inf)
  score, best = jax.lax.top_k(scores, top)  # equal scores: lowest index first
  same = query_ids[:, None] == gallery_ids
  if columns.shape[1]:
    ranks, before = ranking.rank_matches(scores, columns, s, lanes=lanes)
    values = ranking.from_ranks(ranks)
    if variant == "paper":
      match = jnp.take_along_axis(s, jnp.maximum(columns, 0), axis=1)
      other = jnp.where(same, 0.0, s).sum(axis=1)
      sd = msd.from_ranks(ranks, match, before, other, size)
    else:
      sd = msd.from_flags(s, msd.flags_from_ranks(ranks, s.shape[1]), size)
  else:
    order = ranking.order(scores)
    flags = jnp.take_along_axis(same, order, axis=1)
    values = ranking.from_flags(flags)
    by_rank = jnp.take_along_axis(s, order, axis=1)
    sd = msd.from_flags(by_rank if variant == "paper" else s, flags, size)
  return dict(values, sd=sd, top=best.astype(jnp.int32), top_score=score)


@dataclasses.dataclass(frozen=True)
class _Layout:
  """Where the arrays live: on one device, or over all axes of a mesh."""

  mesh: jax.sharding.Mesh | None
  split: bool

  @property
  def devices(self):
    return 1 if self.mesh is None else self.mesh.devices.size

  @property
  def rows(self):
    return PartitionSpec(self.mesh.axis_names)

  def _put(self, tree, spec):
    if self.mesh is None:
      return jax.device_put(tree, jax.local_devices()[0])
    return sharding.put(tree, NamedSharding(self.mesh, spec))

  def put_rows(self, tree):
    return self._put(tree, self.rows if self.mesh else None)

  def put_whole(self, tree):
    return self._put(tree, PartitionSpec())

  def put_gallery(self, gallery):
    return self._put(gallery, self.rows if self.split else PartitionSpec())


@functools.lru_cache(maxsize=64)
def _compiled(layout, places, size, top, variant, lanes):
  """Jitted `_rank_block`; `places` is in the key, as each has its own shapes."""
  axes = layout.mesh.axis_names if layout.split else ()
  body = functools.partial(
    _rank_block, size=size, top=top, variant=variant, lanes=lanes, axes=axes
  )
  if layout.mesh is None:
    return jax.jit(body)
  rows, whole = layout.rows, PartitionSpec()
  spread = jax.shard_map(
    body,
    mesh=layout.mesh,
    in_specs=(rows, rows, rows, rows if layout.split else whole, whole),
    out_specs=rows,
    check_vma=False,  # the counting loop starts from constants
  )
  # Replicated at the end, so that every process can read all of it.
  return jax.jit(spread, out_shardings=NamedSharding(layout.mesh, whole))


def _chosen(matches, size):
  """The `_BUCKETS` that cost least: empty places are compared for nothing, too.

  Args:
    matches: int [Q], none above COUNTED; size: number of gallery items.
  """
  number = np.bincount(np.searchsorted(_BUCKETS, matches), minlength=len(_BUCKETS))
  # best[j]: the cheapest way to place the queries of the first j buckets.
  best = [(0.0, ())]
  for j, places in enumerate(_BUCKETS, start=1):
    ways = []
    for i in range(j):
      queries = int(number[i:j].sum())
      cost = _PROGRAM + _COMPARISON * places * queries * size if queries else 0.0
      ways.append((best[i][0] + cost, best[i][1] + ((places,) if queries else ())))
    best.append(min(ways))
  return best[-1][1]


def _buckets(matches, size):
  """(places, rows of the queries) of each bucket; 0 places: more than COUNTED."""
  counted = matches <= COUNTED
  lower = -1
  for places in _chosen(matches[counted], size):
    yield places, np.flatnonzero((matches > lower) & (matches <= places))
    lower = places
  if not counted.all():
    yield 0, np.flatnonzero(~counted)


def _columns(rows, matches, starts, by_id, places):
  """int32 [rows, places] gallery columns of the matches, -1 where there is none."""
  offset = np.arange(places)
  at = np.minimum(starts[rows, None] + offset, len(by_id) - 1)
  return np.where(offset < matches[rows, None], by_id[at], -1).astype(np.int32)


def _empty(queries, top):
  values = {key: np.full(queries, np.nan, np.float32) for key in ("ap", "inp", "sd")}
  return dict(
    values,
    first_rank=np.zeros(queries, np.int32),
    top=np.full((queries, top), -1, np.int32),
    top_score=np.full((queries, top), np.nan, np.float32),
  )


def _store(out, rows, values):
  for key, value in values.items():
    value = np.asarray(value)[: len(rows)]
    if value.ndim == 2:
      out[key][rows, : value.shape[1]] = value
    else:
      out[key][rows] = value


def _no_match(queries, size):
  return (
    f"none of the {queries} queries has a match among the {size} gallery items; the"
    " identities of queries and gallery must come from the same split and numbering"
  )
