"""Matrices of tiny runs: what cells hold, what is skipped, what goes wrong."""

import dataclasses
import os
import shutil
import statistics

import numpy as np
import pytest

from tests.matrix import place
from tpr_jax import compare, model_eval
from tpr_jax.data.record import Dataset, Record
from tpr_jax.experiment import Experiment
from tpr_jax.matrix import cells, run
from tpr_jax.metrics import per_query, uncertainty


def stamp(out):
  """File -> when it was written, of all cells."""
  return {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*.*")}


@pytest.fixture(scope="module")
def filled(runs, tmp_path_factory):
  """(out, config) of a finished matrix with everything; not to be changed."""
  out = tmp_path_factory.mktemp("matrix") / "out"
  config = place.config({"fine": f"{runs['a']}+{runs['b']}", "one": runs["b"]})
  with config.unlocked():
    config.columns.fine.group_by, config.columns.fine.i2t = "twin_group", True
    config.columns.fine.options.twins = 2
  assert place.fill(config, out) == 0
  return out, config


@pytest.fixture
def copy(filled, runs, tmp_path):
  """(out, rows -> runs, both to be changed, config(rows))."""
  shutil.copytree(filled[0], tmp_path / "out")
  rows = runs.copies(tmp_path / "runs")

  def config(**own):
    c = filled[1].copy_and_resolve_references().unlock()
    c.rows.fine, c.rows.one = f"{rows['a']},{rows['b']}", rows["b"]
    c.rows.update(own)
    return c.lock()

  return tmp_path / "out", rows, config


def test_every_file_is_there_and_nothing_half_written(filled):
  out, _ = filled
  names = {f"matrix.{kind}" for kind in ("json", "txt", "md", "csv", "tex", "png")}
  assert {path.name for path in out.iterdir()} == names | {"cells", "matrix.lock"}
  assert not [p for p in out.rglob("*") if "partial" in p.name or p.suffix == ".tmp"]
  assert (out / "matrix.png").read_bytes().startswith(b"\x89PNG")
  for folder in ("fine/a/fine", "fine/b/coarse", "one/b/fine", "one/b/coarse"):
    column = folder.rpartition("/")[2]
    assert (out / "cells" / folder / "rankings" / f"{column}.npz").exists()


def test_a_cell_is_the_evaluation_of_the_run(filled, runs, tmp_path):
  """Encoded by the run's own code, with its own config."""
  out, config = filled
  shutil.copytree(runs["a"], tmp_path / "a")
  own = runs.config.copy_and_resolve_references().unlock()
  own.evals = type(own)({"fine": config.columns.fine})
  own.eval.ci_resamples = 50
  Experiment(own.lock(), tmp_path / "a").evaluate()
  expected = place.read(tmp_path / "a", "results.json")["evals"]["fine"]
  found = place.cell(out, "fine", "a", "fine")["evals"]["fine"]
  assert set(found["groups"]) == {"near twins", "others"}
  for part in ("t2i", "i2t"):
    assert found[part]["queries"] == expected[part]["queries"] == 10
    for score in per_query.SCORES:
      assert found[part][score] == pytest.approx(expected[part][score], abs=1e-3)
  ours = np.load(out / "cells/fine/a/fine/rankings/fine.npz")
  theirs = np.load(tmp_path / "a" / "rankings" / "fine.npz")
  np.testing.assert_allclose(ours["score"], theirs["score"], atol=1e-6)
  np.testing.assert_array_equal(ours["query_digest"], theirs["query_digest"])


def test_two_seeds_have_a_mean_and_a_deviation_and_one_an_interval(filled):
  out, _ = filled
  row, one = place.read(out)["rows"]
  assert [model["model"] for model in row["models"]] == ["a", "b"]
  for column in ("fine", "coarse"):
    values = {
      name: place.cell(out, "fine", name, column)["evals"][column]["t2i"]["mAP"]
      for name in ("a", "b")
    }
    found = row["cells"][column]["t2i"][""]["mAP"]
    assert found["values"] == values and found["n"] == 2 and "ci" not in found
    assert found["mean"] == pytest.approx(statistics.fmean(values.values()))
    assert found["std"] == pytest.approx(statistics.stdev(values.values()))
    assert values["a"] != values["b"]
    alone = one["cells"][column]["t2i"][""]["mAP"]
    assert alone["mean"] == values["b"] and alone["std"] is None
    low, high = alone["ci"]
    assert low <= alone["mean"] <= high
  assert set(row["cells"]["fine"]["t2i"]) == {"", "near twins", "others"}
  assert row["cells"]["fine"]["i2t"][""]["R1"]["n"] == 2
  assert set(row["cells"]["coarse"]) == {"t2i"}


def test_cells_can_be_compared(filled):
  out, _ = filled
  a, b = (out / "cells" / "fine" / name / "fine" for name in ("a", "b"))
  found = compare.folders(a, b, uncertainty.Bootstrap(resamples=50))
  row = found["evals"]["fine"]["scores"]["mAP"]
  mine = place.read(out)["rows"][0]["cells"]["fine"]["t2i"][""]["mAP"]["values"]
  assert row["a"] == pytest.approx(mine["a"], abs=1e-3)
  assert row["b"] == pytest.approx(mine["b"], abs=1e-3)


def test_the_same_command_again_loads_nothing(copy, monkeypatch, capsys):
  out, _, config = copy
  before, told = stamp(out), place.read(out)
  monkeypatch.setattr(model_eval.Options, "load", None)
  assert place.fill(config(), out) == 0
  assert "6 cells" in capsys.readouterr().out.replace("finished before", "cells")
  assert stamp(out) == before
  again = place.read(out)
  assert [r["cells"] for r in again["rows"]] == [r["cells"] for r in told["rows"]]


def test_a_model_is_loaded_once_and_a_test_set_built_once(runs, tmp_path, monkeypatch):
  loaded, built = [], []
  load, build = model_eval.Options.load, run.data_build.dataset
  monkeypatch.setattr(
    model_eval.Options, "load", lambda self, p: loaded.append(p) or load(self, p)
  )
  monkeypatch.setattr(
    run.data_build, "dataset", lambda *a: built.append(a[3]) or build(*a)
  )
  config = place.config({"fine": runs["a"], "one": runs["b"]})
  assert place.fill(config, tmp_path / "out") == 0
  assert loaded == [runs["a"], runs["b"]] and len(built) == 2


def test_a_changed_model_is_done_again_and_said(copy, capsys):
  out, rows, config = copy
  old = place.cell(out, "fine", "a", "fine")
  before = stamp(out)
  shutil.rmtree(rows["a"])
  shutil.copytree(rows["b"], rows["a"])  # other weights under the same name
  assert place.fill(config(), out) == 0
  text = capsys.readouterr().out
  assert "fine (a) on fine is done again: other weights" in text
  assert "fine (b) on fine is done again" not in text
  new = place.cell(out, "fine", "a", "fine")
  assert new["made_from"]["weights"] != old["made_from"]["weights"]
  assert new["evals"] == place.cell(out, "fine", "b", "fine")["evals"]
  changed = {path for path, when in stamp(out).items() if before.get(path) != when}
  assert {p.relative_to(out / "cells").parts[:2] for p in changed} == {("fine", "a")}
  assert "are the same weights" in "".join(place.read(out)["remarks"])


def test_a_model_that_has_moved_is_the_same(copy, monkeypatch):
  out, rows, config = copy
  shutil.move(rows["b"], rows["b"] + "2")
  elsewhere = os.path.join(os.path.dirname(rows["b"]), "deep", "b")
  shutil.copytree(rows["b"] + "2", elsewhere)
  monkeypatch.setattr(model_eval.Options, "load", None)
  assert place.fill(config(one=elsewhere, fine=f"{rows['a']},{elsewhere}"), out) == 0


def test_another_test_is_done_again(copy, capsys):
  out, _, config = copy
  changed = config().unlock()
  changed.columns.fine.options.seed, changed.columns.fine.i2t = 9, False
  changed.rows.fine = ""
  assert place.fill(changed.lock(), out) == 0
  text = capsys.readouterr().out
  assert "one on fine is done again: other data, test.i2t, test.options.seed" in text
  assert "one on coarse is done again" not in text


@pytest.mark.parametrize("damage", ["results", "ranking"])
def test_a_damaged_cell_is_done_again(copy, capsys, damage):
  out, _, config = copy
  folder, before = out / "cells/one/b/coarse", place.read(out)
  if damage == "results":
    (folder / "results.json").write_text('{"evals": ')
  else:
    (folder / "rankings" / "coarse.npz").unlink()
  assert place.fill(config(), out) == 0
  why = "files cannot be read" if damage == "results" else "ranking file is missing"
  assert f"one on coarse is done again: its {why}" in capsys.readouterr().out
  mean = lambda found: found["rows"][1]["cells"]["coarse"]["t2i"][""]["mAP"]["mean"]
  assert mean(place.read(out)) == pytest.approx(mean(before), abs=1e-3)


def test_the_digest_of_data_sees_every_part_of_a_record():
  one = Record("1.jpg", 3, ("a man", "a boy"), "test", "x", {"source": "cam"})

  def digest(**change):
    records = (dataclasses.replace(one, **change),)
    return cells.data_digest(Dataset("x", "test", records, None))

  others = [
    digest(image="2.jpg"),
    digest(identity=4),
    digest(captions=("a man a boy",)),
    digest(truth={"source": "phone"}),
  ]
  assert digest() == digest()
  assert len({digest(), *others}) == 5
