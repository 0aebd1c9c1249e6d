"""Features of any model as plain files: read, refused, scored, grouped, kept."""

import json
import pathlib
import sys

import numpy as np
import pytest

from tests.reference import metrics as reference
from tests.test_evaluate import features as made_features
from tests.test_evaluate import people
from tpr_jax import evaluate, feature_eval, feature_files, groups
from tpr_jax.evaluate import EvaluationError
from tpr_jax.feature_files import FeatureError
from tpr_jax.metrics.uncertainty import Bootstrap

FEW = Bootstrap(resamples=100)


def arrays(seed=0, persons=12):
  """A small file: three texts and two pictures a person."""
  rng = np.random.default_rng(seed)
  look = rng.standard_normal((persons, 8))
  query_ids = np.repeat(np.arange(persons), 3)
  gallery_ids = rng.permutation(np.repeat(np.arange(persons), 2))
  near = lambda ids: (look[ids] + rng.standard_normal((len(ids), 8))).astype(np.float32)
  return dict(
    query=near(query_ids),
    gallery=near(gallery_ids),
    query_ids=query_ids,
    gallery_ids=gallery_ids,
    query_text=np.array([f"person {i}, text {n}" for n, i in enumerate(query_ids)]),
    gallery_path=np.array([f"{n}.jpg" for n in range(len(gallery_ids))]),
    query_source=np.where(query_ids % 3 == 0, "day", "night"),
    query_camera=(query_ids % 2).astype(np.int16),
  )


def write(folder, name="mine.npz", **changes):
  """Path of a file with `changes`; None leaves an array out."""
  found = {k: v for k, v in {**arrays(), **changes}.items() if v is not None}
  np.savez(folder / name, **found)
  return str(folder / name)


def write_parquet(folder, found):
  """(one file with roles, "queries,gallery"): what `arrays` gives, as parquet."""
  pa = pytest.importorskip("pyarrow")
  from pyarrow import parquet

  sides = {}
  for side, extra in (("query", ("text", "source", "camera")), ("gallery", ("path",))):
    columns = dict(feature=list(found[side]), id=found[f"{side}_ids"].tolist())
    columns |= {name: found[f"{side}_{name}"].tolist() for name in extra}
    sides[side] = pa.table(columns)
    parquet.write_table(sides[side], folder / f"{side}.parquet")
  roles = [
    table.append_column("role", pa.array([side] * len(table)))
    for side, table in sides.items()
  ]
  both = pa.concat_tables(roles, promote_options="default")
  order = np.random.default_rng(0).permutation(len(both))
  order = (
    np.sort(order[: len(order) // 2]).tolist()
    + np.sort(order[len(order) // 2 :]).tolist()
  )
  parquet.write_table(both.take(order), folder / "both.parquet")
  return str(folder / "both.parquet"), order


# ---- reading and scoring


def test_the_scores_are_those_of_the_metrics(tmp_path, capsys):
  found, where = arrays(), write(tmp_path)
  results = feature_eval.run(where, None, feature_eval.Options())
  scores = results["evals"]["mine"]["t2i"]
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  rows = reference.evaluate(
    unit(found["query"]) @ unit(found["gallery"]).T,
    found["query_ids"],
    found["gallery_ids"],
  )
  assert scores["R1"] == pytest.approx(
    100 * np.mean([r["first_rank"] == 1 for r in rows])
  )
  for name, key in (("mAP", "ap"), ("mINP", "inp"), ("mSD", "sd")):
    assert scores[name] == pytest.approx(
      100 * np.mean([r[key] for r in rows]), rel=1e-5
    )
    low, high = scores["ci"]["scores"][name]
    assert low < scores[name] < high
  assert scores["ci"]["identities"] == 12 and scores["ci"]["resamples"] == 2000
  printed = capsys.readouterr().out
  assert f"{scores['R1']:.2f}" in printed and "95 % interval" in printed
  low, high = scores["ci"]["scores"]["mSD"]
  assert f"{low:.1f}–{high:.1f}" in printed
  assert list(tmp_path.iterdir()) == [tmp_path / "mine.npz"]


def test_intervals_can_be_turned_off(tmp_path, capsys):
  options = feature_eval.Options(intervals=None, i2t=True)
  scores = feature_eval.run(write(tmp_path), None, options)["evals"]["mine"]
  assert "ci" not in scores["t2i"] and "ci" not in scores["i2t"]
  assert "interval" not in capsys.readouterr().out


def test_groups_are_columns_of_the_queries(tmp_path):
  where = write(tmp_path)
  options = feature_eval.Options(group_by="source", intervals=FEW)
  found = feature_eval.run(where, None, options)["evals"]["mine"]
  assert {k: v["queries"] for k, v in found["groups"].items()} == {
    "source=day": 12,
    "source=night": 24,
  }
  r1 = {k: v["R1"] * v["queries"] for k, v in found["groups"].items()}
  assert sum(r1.values()) / 36 == pytest.approx(found["t2i"]["R1"])
  assert found["groups"]["source=day"]["ci"]["identities"] == 4
  read = feature_files.read(where)
  found = feature_files.groups(read, "camera, source")
  assert list(found) == ["camera", "source"]
  assert set(found["camera"]) == {"camera=0", "camera=1"}


def test_the_length_of_the_texts_is_a_group_unless_a_column_has_its_name(tmp_path):
  texts = ["one two"] * 6 + ["word " * 30] * 30
  where = write(tmp_path, query_text=np.array(texts))
  options = feature_eval.Options(group_by="length,source", intervals=None)
  found = feature_eval.run(where, None, options)["evals"]["mine"]["groups"]
  assert [found[name]["queries"] for name in found] == [6, 30, 12, 24]
  assert list(found)[:2] == ["length=0-10 words", "length=21-40 words"]
  own = feature_files.read(write(tmp_path, query_length=np.arange(36) % 2))
  assert set(feature_files.groups(own, "length")["length"]) == {"length=0", "length=1"}


def test_queries_without_a_value_are_in_no_group(tmp_path):
  text = np.where(np.arange(36) < 30, "day", "")
  number = np.where(np.arange(36) < 30, 2.0, np.nan)
  where = write(tmp_path, query_source=text, query_camera=number)
  found = feature_files.read(where)
  assert feature_files.groups(found, "source,camera") == {
    "source": ["source=day"] * 30 + [None] * 6,
    "camera": ["camera=2"] * 30 + [None] * 6,
  }


def test_one_identity_alone_has_no_interval(tmp_path, capsys):
  source = np.where(np.arange(36) < 3, "one", "many")
  where = write(tmp_path, query_source=source)
  options = feature_eval.Options(group_by="source", intervals=FEW)
  groups = feature_eval.run(where, None, options)["evals"]["mine"]["groups"]
  assert groups["source=one"]["ci"]["scores"] == {}
  assert set(groups["source=many"]["ci"]["scores"]) == set(evaluate.SCORES)
  assert "mine, source=one: all queries are of one identity: no interval" in (
    capsys.readouterr().out
  )


def test_identities_may_be_strings_and_floats_whole(tmp_path):
  found, options = arrays(), feature_eval.Options(intervals=FEW)
  expected = feature_eval.run(write(tmp_path), None, options)["evals"]["mine"]["t2i"]
  ids = (found["query_ids"], found["gallery_ids"])
  for change in (lambda x: np.char.mod("p%03d", x), lambda x: x.astype(np.float64)):
    query_ids, gallery_ids = map(change, ids)
    where = write(tmp_path, query_ids=query_ids, gallery_ids=gallery_ids)
    assert feature_eval.run(where, None, options)["evals"]["mine"]["t2i"] == expected


def test_half_precision_and_names_in_bytes(tmp_path):
  changes = dict(query=arrays()["query"].astype(np.float16))
  changes["gallery_path"] = arrays()["gallery_path"].astype(np.bytes_)
  found = feature_files.read(write(tmp_path, **changes))
  assert found.query.dtype == np.float32 and found.gallery_path[3] == "3.jpg"


def test_what_is_not_used_is_said(tmp_path, capsys):
  where = write(tmp_path, epoch=np.array(3), gallery_camera=np.zeros(24))
  feature_eval.run(where, None, feature_eval.Options(intervals=FEW))
  said = capsys.readouterr().out
  assert "'epoch' is not used" in said and "'gallery_camera' is not used" in said


def test_parquet_is_the_same(tmp_path):
  found = arrays()
  expected = feature_files.read(write(tmp_path))
  one, order = write_parquet(tmp_path, found)
  two = feature_files.read(f"{tmp_path}/query.parquet,{tmp_path}/gallery.parquet")
  assert two.name == "query" and not two.unused
  both = feature_files.read(one)
  rows = np.array([i for i in order if i < 36])
  items = np.array([i - 36 for i in order if i >= 36])
  for read, at, places in ((two, slice(None), slice(None)), (both, rows, items)):
    np.testing.assert_array_equal(read.query, expected.query[at])
    np.testing.assert_array_equal(read.gallery, expected.gallery[places])
    np.testing.assert_array_equal(read.query_ids, expected.query_ids[at])
    np.testing.assert_array_equal(read.gallery_ids, expected.gallery_ids[places])
    np.testing.assert_array_equal(read.gallery_path, expected.gallery_path[places])
    assert set(read.columns) == {"text", "source", "camera"}
    for name, values in read.columns.items():
      np.testing.assert_array_equal(values, expected.columns[name][at])
    assert feature_files.groups(read, "camera")["camera"][0] in ("camera=0", "camera=1")


# ---- what cannot be used


def nan(row, value=np.nan):
  rows = arrays()["gallery"]
  rows[row, 2] = value
  return rows


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(gallery_ids=None), r"has no array 'gallery_ids'; it has gallery, .*README"),
    (dict(query=np.zeros(36)), r"query is float64 \(36,\); expected numbers \[rows"),
    (dict(query=np.zeros((0, 8))), r"query is float64 \(0, 8\).*not empty"),
    (dict(query=np.ones((36, 9))), "query has 9 dimensions, gallery 8"),
    (dict(gallery=nan([4, 7])), "gallery holds NaN or infinity in 2 of 24 rows: 4, 7;"),
    (dict(gallery=nan(5, np.inf)), "1 of 24 rows: 5;"),
    (dict(query_ids=np.arange(35)), r"query_ids has shape \(35,\).*36 rows of 'query'"),
    (dict(query_source=np.zeros(3)), r"query_source has shape \(3,\)"),
    (dict(gallery_path=np.array(["a"])), r"gallery_path has shape \(1,\).*24 rows"),
    (
      dict(query_ids=np.array(["a"] * 36)),
      "query_ids are strings, gallery_ids numbers",
    ),
    (dict(query_ids=np.full(36, 0.5)), "query_ids is float64; expected whole numbers"),
    (dict(query_text=np.array(["a", 1] * 18, object)), "'query_text' holds Python obj"),
  ],
  ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bad_array_is_named(tmp_path, changes, message):
  where = write(tmp_path, **changes)
  with pytest.raises(FeatureError, match=message) as caught:
    feature_files.read(where)
  assert "mine.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_a_row_of_zeros_and_no_match_are_errors(tmp_path):
  query = arrays()["query"]
  query[7] = 0
  for changes, message in (
    (dict(query=query), r"mine.npz: query features: row 7 is all zero"),
    (
      dict(query_ids=np.arange(36) + 99),
      "mine.npz: none of the 36 queries has a match",
    ),
  ):
    where = write(tmp_path, **changes)
    with pytest.raises(EvaluationError, match=message):
      feature_eval.run(where, None, feature_eval.Options(intervals=FEW))


@pytest.mark.parametrize(
  ("place", "message"),
  [
    ("none.npz", "there is no file"),
    ("text.npz", "is no .npz, a file of named arrays"),
    ("cut.npz", "cannot be read as .npz"),
    ("single.npz", "is no .npz"),
    ("a.pt", "expected FILE.npz, FILE.parquet"),
    ("text.parquet", "cannot be read as parquet"),
  ],
)
def test_a_file_of_another_kind(tmp_path, place, message):
  if place.endswith("parquet"):
    pytest.importorskip("pyarrow")
  for name in ("text.npz", "a.pt", "text.parquet"):
    (tmp_path / name).write_text("no features")
  with (tmp_path / "single.npz").open("wb") as file:
    np.save(file, np.zeros(3))
  whole = bytearray(pathlib.Path(write(tmp_path)).read_bytes())
  whole[200:260] = bytes(60)  # the end, with the list of arrays, is still right
  (tmp_path / "cut.npz").write_bytes(whole)
  with pytest.raises(FeatureError, match=message):
    feature_files.read(str(tmp_path / place))


def test_bad_parquet_is_named(tmp_path):
  pa = pytest.importorskip("pyarrow")
  from pyarrow import parquet

  good = dict(
    feature=[[1.0, 2.0]] * 3, id=[1, 2, 1], role=["query", "query", "gallery"]
  )
  for changes, message in (
    (dict(id=None), "has no column 'id'; it has feature, role"),
    (dict(role=None), 'has no column "role"'),
    (dict(role=["query", "galery", "gallery"]), "role 'galery'"),
    (
      dict(feature=[[1.0, 2.0], [1.0], [0.0, 1.0]]),
      "row 1 has a feature of 1.* numbers",
    ),
    (dict(feature=[[1.0, 2.0], None, [0.0, 1.0]]), "row 1 has a feature of nan"),
    (dict(feature=[1.0, 2.0, 3.0]), "'feature' is double with 3 rows"),
    (dict(feature=[[1.0, 2.0], [None, 1.0], [0.0, 1.0]]), "query holds NaN.*rows: 1"),
  ):
    found = {k: v for k, v in {**good, **changes}.items() if v is not None}
    parquet.write_table(pa.table(found), tmp_path / "bad.parquet")
    with pytest.raises(FeatureError, match=message):
      feature_files.read(str(tmp_path / "bad.parquet"))


def test_without_pyarrow_the_error_says_what_to_install(tmp_path, monkeypatch):
  (tmp_path / "a.parquet").write_bytes(b"")
  monkeypatch.setitem(sys.modules, "pyarrow", None)
  with pytest.raises(FeatureError, match=r"needs pyarrow .*\.npz does not"):
    feature_files.read(str(tmp_path / "a.parquet"))


def test_a_group_that_is_not_there_names_the_nearest(tmp_path):
  found = feature_files.read(write(tmp_path, query_number=np.arange(36) / 7))
  with pytest.raises(FeatureError, match=r"has camera, number, source.*mean 'source'"):
    feature_files.groups(found, "sorce")
  empty = feature_files.read(write(tmp_path, query_source=np.array([""] * 36)))
  with pytest.raises(FeatureError, match="0 values of it"):
    feature_files.groups(empty, "source")


def test_a_column_of_too_many_values_is_no_group(tmp_path, monkeypatch):
  monkeypatch.setattr(groups, "MOST", 30)
  found = feature_files.read(write(tmp_path, query_number=np.arange(36)))
  with pytest.raises(FeatureError, match="36 values of it; expected 1 to 30"):
    feature_files.groups(found, "number")


# ---- kept


def test_results_and_rankings_are_written(tmp_path):
  where, out = write(tmp_path), tmp_path / "scored"
  options = feature_eval.Options(group_by="source", intervals=FEW)
  printed = feature_eval.run(where, out, options)
  results = json.loads((out / "results.json").read_text())
  assert results == printed and results["features"] == where
  ranking = dict(np.load(out / "rankings" / "mine.npz"))
  assert 100 * np.mean(ranking["inp"]) == pytest.approx(
    results["evals"]["mine"]["t2i"]["mINP"]
  )
  assert set(ranking["group"][:, 0]) == {"source=day", "source=night"}
  assert len(set(ranking["query_digest"].tolist())) == 36
  feature_eval.run(where, out, options)  # again: the same file, replaced


def test_the_folder_of_a_run_is_not_overwritten(tmp_path):
  where, out = write(tmp_path), tmp_path / "run"
  out.mkdir()
  (out / "results.json").write_text('{"selected_step": 3, "evals": {}}')
  with pytest.raises(FeatureError, match="is the folder of a run"):
    feature_eval.run(where, out, feature_eval.Options())
  assert "selected_step" in (out / "results.json").read_text()


def test_features_of_a_split_give_its_scores_again(tmp_path):
  data = people([{"twin_group": i % 2 or None} for i in range(8)], captions=2)
  found = made_features(data, wrong={2, 5}, broken=("3/1",))
  path = tmp_path / "features" / "test.npz"
  evaluate.save(found, data, path, group_by="twin_group")
  expected = evaluate.score(
    found, data, i2t=True, group_by="twin_group", intervals=FEW
  ).scores
  options = feature_eval.Options(group_by="twin_group", i2t=True, intervals=FEW)
  again = feature_eval.run(str(path), None, options)["evals"]["test"]
  assert again["t2i"] == expected["t2i"] and again["i2t"] == expected["i2t"]
  assert again["groups"] == {
    f"twin_group={name}": scores for name, scores in expected["groups"].items()
  }
  read = feature_files.read(str(path))
  assert read.text[0] == "text" and "3/1" not in read.gallery_path.tolist()
  assert read.columns["caption"].tolist()[:3] == [0, 1, 0]
  assert not list(path.parent.glob("*.tmp"))
