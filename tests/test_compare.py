"""Two evaluations of the same queries: what is found, and what is refused."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.test_evaluate import features, people
from tpr_jax import compare, evaluate, rankings
from tpr_jax.compare import CompareError
from tpr_jax.metrics.uncertainty import Bootstrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
FEW = Bootstrap(resamples=200)
PEOPLE = people([{"twin_group": i % 2 or None} for i in range(16)])


def evaluated(folder, wrong, data=PEOPLE, name="test", **options):
  """A folder with results and rankings: captions of the persons in `wrong` miss."""
  found = evaluate.score(features(data, wrong=wrong), data, **options)
  (folder / "rankings").mkdir(parents=True, exist_ok=True)
  np.savez(folder / "rankings" / f"{name}.npz", **found.rankings)
  results = {"msd_variant": "paper", "evals": {name: {**found.scores, "note": ""}}}
  path = folder / "results.json"
  if path.exists():
    results["evals"] |= json.loads(path.read_text())["evals"]
  path.write_text(json.dumps(results))
  return folder


def change(folder, name="test", **arrays):
  path = folder / "rankings" / f"{name}.npz"
  found = {**dict(np.load(path)), **arrays}
  np.savez(path, **{k: v for k, v in found.items() if v is not None})


@pytest.fixture
def two(tmp_path):
  """A errs on 2 people, B on the same and 6 more."""
  a = evaluated(tmp_path / "a", {1, 2}, group_by="twin_group")
  b = evaluated(tmp_path / "b", {1, 2, 4, 6, 8, 10, 12, 14}, group_by="twin_group")
  return a, b


# ---- what is found


def test_a_known_difference(two):
  found = compare.folders(*two, FEW)
  entry = found["evals"]["test"]
  assert (entry["queries"], entry["identities"]) == (32, 16)
  r1 = entry["scores"]["R1"]
  assert (r1["a"], r1["b"]) == (pytest.approx(87.5), pytest.approx(50.0))
  assert r1["difference"] == pytest.approx(37.5)
  assert r1["low"] < 37.5 < r1["high"] and r1["low"] > 0
  # Six people differ, all for A: two sign patterns of 64 are as far out.
  assert r1["exact"] and r1["p"] == pytest.approx(2 / 64)
  assert list(entry["scores"]) == list(evaluate.SCORES)
  assert found["remarks"] == []


def test_the_values_are_those_of_the_results(two):
  found = compare.folders(*two, FEW)["evals"]["test"]
  for side, folder in zip("ab", two, strict=True):
    results = json.loads((folder / "results.json").read_text())["evals"]["test"]
    for name, row in found["scores"].items():
      assert row[side] == pytest.approx(results["t2i"][name])
    for group, part in found["groups"].items():
      assert part["queries"] == results["groups"][group]["queries"]
      assert part["scores"]["mAP"][side] == pytest.approx(
        results["groups"][group]["mAP"]
      )
  assert set(found["groups"]) == {"near twins", "others"}


def test_a_run_and_itself_differ_by_nothing(two):
  for row in compare.folders(two[0], two[0], FEW)["evals"]["test"]["scores"].values():
    assert (row["difference"], row["low"], row["high"], row["p"]) == (0, 0, 0, 1)


def test_turned_around_the_sign_turns(two):
  one = compare.folders(*two, FEW)["evals"]["test"]["scores"]
  other = compare.folders(*two[::-1], FEW)["evals"]["test"]["scores"]
  for name in one:
    assert one[name]["difference"] == pytest.approx(-other[name]["difference"])
    assert one[name]["p"] == other[name]["p"]


def test_queries_without_a_match_are_left_out(tmp_path):
  data = people([{}] * 8)
  folders = []
  for name, wrong in (("a", {1}), ("b", {1, 3})):
    found = evaluate.score(features(data, wrong=wrong, broken=("0/0", "0/1")), data)
    folder = tmp_path / name
    (folder / "rankings").mkdir(parents=True)
    np.savez(folder / "rankings" / "test.npz", **found.rankings)
    results = {"evals": {"test": found.scores}}
    (folder / "results.json").write_text(json.dumps(results))
    folders.append(folder)
  entry = compare.folders(*folders, FEW)["evals"]["test"]
  assert (entry["queries"], entry["identities"]) == (14, 7)


def test_one_identity_gives_numbers_and_no_interval(tmp_path):
  truths = [{"kind": "one"}, *[{"kind": "many"}] * 7]
  folders = [
    evaluated(tmp_path / name, wrong, people(truths), group_by="kind")
    for name, wrong in (("a", {3}), ("b", {0}))
  ]
  found = compare.folders(*folders, FEW)
  row = found["evals"]["test"]["groups"]["kind=one"]["scores"]["R1"]
  assert set(row) == {"a", "b", "difference"} and row["difference"] == 100
  text = compare.table(found)
  assert "kind=one: all queries are of one identity, so there is no interval" in text


# ---- which are compared


def test_what_only_one_has_is_said(two):
  evaluated(two[0], {3}, name="more")
  found = compare.folders(*two, FEW)
  assert list(found["evals"]) == ["test"]
  assert found["remarks"] == [f"more is in {two[0]} only: not compared."]


def test_single_evaluations_are_compared_whatever_their_names(tmp_path):
  a = evaluated(tmp_path / "a", {1}, name="clip")
  b = evaluated(tmp_path / "b", {2}, name="irra")
  assert list(compare.folders(a, b, FEW)["evals"]) == ["clip / irra"]
  evaluated(b, {3}, name="other")
  with pytest.raises(CompareError, match=r"no evaluation in common: .*clip; .*other"):
    compare.folders(a, b, FEW)


def test_older_files_have_one_group_a_query(two):
  for folder in two:
    with np.load(folder / "rankings" / "test.npz") as archive:
      group = archive["group"]
    assert group.shape[1] == 1
    change(folder, group=group[:, 0])
  found = compare.folders(*two, FEW)
  assert set(found["evals"]["test"]["groups"]) == {"near twins", "others"}


def test_groups_that_differ_are_not_compared(two):
  change(two[0], group=None)
  found = compare.folders(*two, FEW)
  assert "groups" not in found["evals"]["test"]
  assert "not grouped alike" in found["remarks"][0]


# ---- what is refused


@pytest.mark.parametrize(
  ("array", "place", "value", "message"),
  [
    ("identity", 5, 1234, r"1 of 32 differ.*query 5: identity 48 and 1234 \(.*a/rank"),
    ("query_digest", 9, 1, "1 of 32 differ, the first of them query 9: other texts"),
    ("gallery_identity", 3, 99, "gallery item 3: identity 49 and 99"),
    ("gallery_digest", 0, 1, "gallery item 0: other names of the images"),
  ],
)
def test_other_queries_or_another_gallery(two, array, place, value, message):
  found = np.load(two[1] / "rankings" / "test.npz")[array].copy()
  found[place] = value
  change(two[1], **{array: found})
  with pytest.raises(CompareError, match=f"test: .*{message}"):
    compare.folders(*two, FEW)


def test_another_number_of_queries(two, tmp_path):
  other = evaluated(tmp_path / "c", {1}, people([{}] * 15))
  with pytest.raises(CompareError, match=r"test: 32 times a query in .*, 30 in"):
    compare.folders(two[0], other, FEW)


def test_texts_that_are_not_known_are_said(two):
  change(two[1], query_digest=None)
  (remark,) = compare.folders(*two, FEW)["remarks"]
  assert "the texts are not known to" in remark and "b/rankings/test.npz" in remark


def test_two_kinds_of_msd(two):
  path = two[1] / "results.json"
  path.write_text(path.read_text().replace('"paper"', '"released_script"'))
  with pytest.raises(CompareError, match=r"mSD is 'paper' in .*'released_script' in"):
    compare.folders(*two, FEW)


def test_files_that_are_not_there_or_too_old(two, tmp_path):
  with pytest.raises(CompareError, match=r"none has no results.json"):
    compare.folders(tmp_path / "none", two[1], FEW)
  change(two[0], inp=None)
  with pytest.raises(
    rankings.RankingError, match=r"no array 'inp'.*older.*--mode=eval"
  ):
    compare.folders(*two, FEW)
  change(two[0], inp=np.zeros(3))
  with pytest.raises(rankings.RankingError, match=r"'inp' has shape \(3,\), with 32"):
    compare.folders(*two, FEW)
  (two[0] / "rankings" / "test.npz").write_text("no zip")
  with pytest.raises(rankings.RankingError, match="cannot be read"):
    compare.folders(*two, FEW)


# ---- what people get


def test_the_table_and_the_files(two, tmp_path, capsys):
  found = compare.run(*two, tmp_path / "out", FEW)
  assert json.loads((tmp_path / "out" / "compare.json").read_text()) == found
  printed = capsys.readouterr().out
  line = next(row for row in printed.splitlines() if row.startswith("test "))
  assert line.split()[:5] == ["test", "R1", "87.50", "50.00", "+37.50"]
  assert line.split()[-1] == "0.0312"
  assert "200 resamples, seed 0" in printed and "32 queries of 16 identities" in printed
  page = (tmp_path / "out" / "compare.md").read_text()
  assert "| test | R1 | 87.50 | 50.00 | +37.50 |" in page
  assert page.count("\n|") == 2 + 3 * 6  # head, rule; all queries and two groups


def command(folder, *arguments):
  done = subprocess.run(
    [sys.executable, "-m", "tpr_jax.main", *arguments],
    cwd=folder,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert "Traceback" not in done.stderr, done.stderr
  return done


def test_from_two_feature_files_to_a_comparison(tmp_path):
  rng = np.random.default_rng(0)
  ids, look = np.repeat(np.arange(20), 2), rng.standard_normal((20, 8))
  for name, noise in (("ours", 0.5), ("theirs", 1.5)):
    near = lambda noise=noise: look[ids] + noise * rng.standard_normal((40, 8))
    np.savez(
      tmp_path / f"{name}.npz",
      query=near(),
      gallery=near(),
      query_ids=ids,
      gallery_ids=ids,
      query_side=np.arange(40) % 2,
    )
    done = command(
      tmp_path, "--mode=eval", f"--features={name}.npz", f"--out={name}",
      "--group_by=side", "--ci_resamples=100",
    )  # fmt: skip
    assert done.returncode == 0 and "side=1" in done.stdout, done.stderr
  done = command(tmp_path, "--mode=compare", "--run=ours", "--with=theirs")
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / "ours" / "compare.json").read_text())
  scores = found["evals"]["ours / theirs"]["scores"]
  assert scores["mAP"]["low"] > 0 and scores["mAP"]["p"] < 0.01
  assert f"{scores['mAP']['difference']:+.2f}" in done.stdout
  assert len(found["remarks"]) == 2  # neither texts nor names were given


@pytest.mark.parametrize(
  ("arguments", "parts"),
  [
    (["--mode=compare", "--run=a"], ["--run=A --with=B"]),
    (["--mode=compare", "--run=a", "--with=b"], ["a has no results.json"]),
    (["--mode=compare", "--run=a", "--with=b", "--ci_resamples=0"], ["at least 40"]),
    (
      ["--mode=eval", "--features=f.npz", "--run=a"],
      ["--features=FILE takes no --run"],
    ),
    (["--mode=train", "--features=f.npz"], ["--features is for --mode=eval"]),
    (["--mode=eval", "--run=a", "--group_by=x"], ["--group_by is for --mode=eval and"]),
    (["--mode=eval", "--run=a", "--with=b"], ["--with is for --mode=compare"]),
  ],
  ids=["one run", "no runs", "no resamples", "both", "train", "group", "with"],
)
def test_flags_that_do_not_go_together(tmp_path, arguments, parts):
  done = command(tmp_path, *arguments)
  assert done.returncode == 1
  assert all(part in done.stderr for part in ("error: ", *parts)), done.stderr
  assert list(tmp_path.iterdir()) == []
