import dataclasses

import jax
import numpy as np
import pytest

from tests.reference import metrics as reference
from tpr_jax.metrics import streaming

FIELDS = ("matches", "first_rank", "ap", "inp", "sd", "top", "top_score")


@pytest.fixture(autouse=True)
def few_shapes(monkeypatch):
  """Two buckets compile faster than five; `test_equals_slow_numpy` has all of them."""
  monkeypatch.setattr(streaming, "_BUCKETS", (4, streaming.COUNTED))


def unit(x):
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def problem(seed=0, queries=37, size=150, width=16, identities=40):
  """Uneven identities, some queries without a match, a few with many."""
  rng = np.random.default_rng(seed)
  gallery_ids = (identities * rng.random(size) ** 2).astype(np.int64) * 7 - 3
  query_ids = rng.integers(0, identities + 5, queries) * 7 - 3
  query, gallery = (unit(rng.standard_normal((n, width))) for n in (queries, size))
  return query, gallery, query_ids, gallery_ids


def signs(rng, rows, width=4):
  """Rows of +-1/2: unit length, and every cosine exact: a quarter of an integer."""
  return (rng.integers(0, 2, (rows, width)) - 0.5).astype(np.float32)


def assert_same(a, b, exact=("matches", "first_rank", "top"), rtol=2e-6):
  for name in FIELDS:
    compare = (
      np.testing.assert_array_equal
      if name in exact
      else lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6)
    )
    compare(getattr(a, name), getattr(b, name))


def check_against_reference(result, scores, query_ids, gallery_ids, variant):
  rows = reference.evaluate(scores, query_ids, gallery_ids, variant)
  for i, row in enumerate(rows):
    if row is None:
      assert result.matches[i] == 0 and result.first_rank[i] == 0
      assert np.isnan([result.ap[i], result.inp[i], result.sd[i]]).all()
      continue
    assert result.matches[i] == row["matches"]
    assert result.first_rank[i] == row["first_rank"]
    for name in ("ap", "inp", "sd"):
      assert getattr(result, name)[i] == pytest.approx(row[name], abs=1e-6), name
    shown = min(result.top.shape[1], len(gallery_ids))
    top, score = result.top[i, :shown], result.top_score[i, :shown]
    assert top.tolist() == row["top"][:shown].tolist()
    np.testing.assert_allclose(score, scores[i][top], atol=1e-6)
    assert (result.top[i, shown:] == -1).all()
  real = [row for row in rows if row is not None]
  summary = result.summary()
  assert summary["unmatched"] == len(rows) - len(real)
  assert summary["queries"] == len(rows)
  assert summary["gallery"] == len(gallery_ids)
  for k in (1, 5, 10):
    hits = [row["first_rank"] <= k for row in real]
    assert summary[f"R{k}"] == pytest.approx(100 * np.mean(hits))
  for key, name in (("mAP", "ap"), ("mINP", "inp"), ("mSD", "sd")):
    mean = 100 * np.mean([row[name] for row in real])
    assert summary[key] == pytest.approx(mean, abs=1e-4)  # of 100


@pytest.mark.parametrize("variant", ["paper", "released_script"])
@pytest.mark.parametrize("counted", [True, False])
def test_equals_slow_numpy(variant, counted, monkeypatch):
  buckets = (4, 16, 64, 256, streaming.COUNTED) if counted else (0,)
  monkeypatch.setattr(streaming, "_BUCKETS", buckets)
  if not counted:  # every query is then ranked by a sort
    monkeypatch.setattr(streaming, "COUNTED", -1)
  query, gallery, query_ids, gallery_ids = problem()
  result = streaming.evaluate(
    query, gallery, query_ids, gallery_ids, msd_variant=variant
  )
  assert 0 < result.summary()["unmatched"] < len(query)
  scores = query.astype(np.float64) @ gallery.T.astype(np.float64)
  check_against_reference(result, scores, query_ids, gallery_ids, variant)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("variant", ["paper", "released_script"])
def test_equals_slow_numpy_where_everything_matches_or_little_is_there(seed, variant):
  """Galleries of 1 to 9 items with many ties; for a third of the queries all match."""
  rng = np.random.default_rng(seed)
  size = (1, 2, 5, 9)[seed]
  query, gallery = signs(rng, 24), signs(rng, size)
  gallery_ids = np.zeros(size, int) if seed % 2 else rng.integers(0, 2, size)
  query_ids = np.arange(24) % 3  # 0: all or some, 1: some or none, 2: none
  result = streaming.evaluate(
    query, gallery, query_ids, gallery_ids, msd_variant=variant
  )
  assert (result.matches == 0).any() and (result.matches == size).any() == (
    seed % 2 == 1 or size == 1
  )
  check_against_reference(result, query @ gallery.T, query_ids, gallery_ids, variant)


def test_the_two_variants_differ():
  arrays = problem()
  paper = streaming.evaluate(*arrays).summary()
  script = streaming.evaluate(*arrays, msd_variant="released_script").summary()
  assert abs(paper["mSD"] - script["mSD"]) > 0.01
  assert paper["mAP"] == script["mAP"]


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("variant", ["paper", "released_script"])
def test_exact_ties_go_to_the_lowest_index(counted, variant, monkeypatch):
  if not counted:
    monkeypatch.setattr(streaming, "_BUCKETS", (0,))
    monkeypatch.setattr(streaming, "COUNTED", -1)
  rng = np.random.default_rng(1)
  query, gallery = signs(rng, 30), signs(rng, 140)  # 5 distinct cosines
  query_ids, gallery_ids = rng.integers(0, 12, 30), rng.integers(0, 12, 140)
  result = streaming.evaluate(
    query, gallery, query_ids, gallery_ids, msd_variant=variant
  )
  check_against_reference(result, query @ gallery.T, query_ids, gallery_ids, variant)


@pytest.mark.parametrize("width", [5, 512])
def test_copies_of_a_feature_tie_exactly(width):
  """Whatever the rounding of the matrix product, equal columns score the same."""
  rng = np.random.default_rng(2)
  query, gallery = rng.standard_normal((9, width)), rng.standard_normal((301, width))
  gallery[1::3], gallery[2::3] = gallery[:300:3], gallery[:300:3]
  ids = np.arange(301)
  # Query i is after item 3 i + 1, whose copy 3 i comes first, and 3 i + 2 later.
  result = streaming.evaluate(query, gallery, 3 * np.arange(9) + 1, ids, top=301)
  for i, row in enumerate(result.top.tolist()):
    place = row.index(3 * i)
    assert row[place : place + 3] == [3 * i, 3 * i + 1, 3 * i + 2]
    assert result.first_rank[i] == place + 2


def test_constant_features_do_not_look_like_success():
  """A collapsed model must not get the first rank for its own ties."""
  query, gallery = np.ones((20, 8)), np.ones((100, 8))
  result = streaming.evaluate(query, gallery, np.arange(40, 60), np.arange(100))
  assert result.first_rank.tolist() == list(range(41, 61))
  assert result.summary()["R10"] == 0


@pytest.mark.parametrize("block", [1, 16, 1000])
def test_block_size_does_not_matter(block):
  arrays = problem()
  assert_same(streaming.evaluate(*arrays), streaming.evaluate(*arrays, block=block))


def test_order_of_the_gallery_does_not_matter_without_ties():
  query, gallery, query_ids, gallery_ids = problem()
  order = np.random.default_rng(5).permutation(len(gallery))
  a = streaming.evaluate(query, gallery, query_ids, gallery_ids)
  b = streaming.evaluate(query, gallery[order], query_ids, gallery_ids[order])
  assert_same(a, dataclasses.replace(b, top=order[b.top].astype(np.int32)))


def test_released_script_depends_on_the_order_of_the_gallery():
  query, gallery, query_ids, gallery_ids = problem()
  order = np.random.default_rng(5).permutation(len(gallery))
  kind = dict(msd_variant="released_script")
  a = streaming.evaluate(query, gallery, query_ids, gallery_ids, **kind)
  b = streaming.evaluate(query, gallery[order], query_ids, gallery_ids[order], **kind)
  assert abs(a.summary()["mSD"] - b.summary()["mSD"]) > 1e-3


def test_every_bucket_gives_the_same_numbers(monkeypatch):
  """The same problem with few places, many places, and sorted."""
  arrays = problem(identities=6)
  results = []
  for buckets, counted in (((4, 16, 64, 512), 512), ((512,), 512), ((2, 8), 8)):
    monkeypatch.setattr(streaming, "_BUCKETS", buckets)
    monkeypatch.setattr(streaming, "COUNTED", counted)
    results.append(streaming.evaluate(*arrays))
  assert results[0].matches.max() > 16 and results[0].matches.min() < 8
  assert_same(results[0], results[1])
  assert_same(results[0], results[2])


@pytest.mark.parametrize("split, shape", [(False, (8,)), (True, (8,)), (True, (4, 2))])
def test_eight_devices_equal_one(split, shape, monkeypatch):
  assert jax.device_count() == 8
  monkeypatch.setattr(streaming, "_BUCKETS", (32,))
  mesh = jax.make_mesh(shape, ("data", "fsdp")[: len(shape)])
  for variant in ("paper", "released_script"):
    arrays = problem(identities=20)
    one = streaming.evaluate(*arrays, msd_variant=variant)
    eight = streaming.evaluate(
      *arrays, msd_variant=variant, mesh=mesh, split_gallery=split
    )
    assert_same(one, eight)


def test_a_large_gallery_is_split_by_itself(monkeypatch):
  monkeypatch.setattr(streaming, "_BUCKETS", (64,))
  mesh = jax.make_mesh((8,), ("data",))
  arrays = problem()
  one = streaming.evaluate(*arrays, mesh=mesh)
  monkeypatch.setattr(streaming, "REPLICATED", 100)
  asked = []
  layout = streaming._Layout
  monkeypatch.setattr(
    streaming, "_Layout", lambda mesh, split: asked.append(split) or layout(mesh, split)
  )
  assert_same(one, streaming.evaluate(*arrays, mesh=mesh))
  assert asked == [True]


def test_nothing_as_large_as_the_product_is_ever_held():
  """Temporaries of one block stay within a few times the budget for its scores."""
  places, q, size, width = 16, 64, 100 * 128, 32
  run = streaming._compiled(
    streaming._Layout(None, False), places, size, 10, "paper", 128
  )
  f, i = jax.numpy.float32, jax.numpy.int32
  of = jax.ShapeDtypeStruct
  compiled = run.lower(
    of((q, width), f),
    of((q,), i),
    of((q, places), i),
    of((size, width), f),
    of((size,), i),
  ).compile()
  temporary = compiled.memory_analysis().temp_size_in_bytes
  scores, cube = 4 * q * size, 4 * q * places * size
  assert temporary < 6 * scores < cube


def test_one_match_one_item():
  result = streaming.evaluate([[1.0, 0]], [[0.6, 0.8]], [3], [3])
  assert result.summary() == dict(
    R1=100, R5=100, R10=100, mAP=100, mINP=100, mSD=100, chance=100, queries=1,
    gallery=1, unmatched=0,
  )  # fmt: skip
  assert result.top.tolist() == [[0] + [-1] * 9]
  assert (
    result.top_score[0, 0] == pytest.approx(0.6)
    and np.isnan(result.top_score[0, 1:]).all()
  )


def test_all_others_opposite():
  """Mean of the non-matches is 0: the ratio is 1, and so is the whole."""
  for ids in ([5, 1, 2], [1, 5, 2]):
    gallery = [[1.0, 0] if i == 5 else [-1.0, 0] for i in ids]
    result = streaming.evaluate([[1.0, 0]], gallery, [5], ids)
    assert result.sd.tolist() == [1.0]


def test_lengths_of_features_do_not_matter():
  query, gallery, query_ids, gallery_ids = problem()
  grown = gallery * np.random.default_rng(0).uniform(0.1, 9, (len(gallery), 1))
  a = streaming.evaluate(query, gallery, query_ids, gallery_ids)
  assert_same(a, streaming.evaluate(query * 30, grown, query_ids, gallery_ids))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
@pytest.mark.parametrize("where", [0, 1])
def test_bad_feature_is_an_error_that_names_its_row(value, where):
  arrays = list(problem())
  arrays[where][[9, 11]] = value
  name = ("query", "gallery")[where]
  with pytest.raises(ValueError, match=f"{name} features: row 9 "):
    streaming.evaluate(*arrays)


def test_no_match_at_all_is_an_error():
  query, gallery, query_ids, gallery_ids = problem()
  with pytest.raises(ValueError, match="none of the 37 queries has a match"):
    streaming.evaluate(query, gallery, query_ids + 1, gallery_ids)


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(query_ids=np.zeros(3)), r"query_ids has shape \(3,\).*37 rows"),
    (dict(gallery_ids=np.zeros((150, 1))), r"gallery_ids has shape \(150, 1\)"),
    (dict(gallery=np.ones((150, 3))), "queries have 16 dimensions, the gallery has 3"),
    (dict(query=np.ones(16)), r"query features have shape \(16,\)"),
    (dict(gallery=np.ones((0, 16))), r"gallery features have shape \(0, 16\)"),
    (dict(msd_variant="published"), "'published'.*released_script"),
    (dict(top=0), "top=0"),
    (dict(block=0), "block=0"),
  ],
)
def test_errors_say_what_was_found(change, message):
  names = ("query", "gallery", "query_ids", "gallery_ids")
  arguments = dict(zip(names, problem(), strict=True)) | change
  with pytest.raises(ValueError, match=message):
    streaming.evaluate(**arguments)


def test_subset_is_the_same_queries_alone():
  query, gallery, query_ids, gallery_ids = problem()
  mask = np.arange(37) % 3 == 0
  whole = streaming.evaluate(query, gallery, query_ids, gallery_ids)
  part = streaming.evaluate(query[mask], gallery, query_ids[mask], gallery_ids)
  assert_same(whole.subset(mask), part)
  assert whole.subset(np.flatnonzero(mask)).summary() == whole.subset(mask).summary()
  with pytest.raises(ValueError, match="mask of shape"):
    whole.subset(mask[:-1])
  with pytest.raises(ValueError, match="none of the"):
    whole.subset(whole.matches == 0).summary()


def test_chance_is_what_random_features_reach():
  rng = np.random.default_rng(7)
  ids = rng.integers(0, 50, 400)
  query, gallery = rng.standard_normal((1500, 8)), rng.standard_normal((400, 8))
  summary = streaming.evaluate(query, gallery, rng.integers(0, 50, 1500), ids).summary()
  assert 1 < summary["chance"] < 3
  assert summary["R1"] == pytest.approx(summary["chance"], abs=1.2)


def test_identities_may_be_any_labels():
  query, gallery, query_ids, gallery_ids = problem()
  a = streaming.evaluate(query, gallery, query_ids, gallery_ids)
  names = lambda ids: np.array([f"person {i}" for i in ids])
  b = streaming.evaluate(query, gallery, names(query_ids), names(gallery_ids))
  assert_same(a, b)
