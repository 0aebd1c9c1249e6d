"""A run scored in two stages: its results, its table, its report, its comparison.

Its config is of the time before mirror images and scaled sums.
"""

import json
import re
import shutil

import numpy as np
import pytest

from tests import small_run, written_run
from tpr_jax import compare
from tpr_jax import config as configs
from tpr_jax.experiment import Experiment
from tpr_jax.metrics.uncertainty import Bootstrap
from tpr_jax.report import tables


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """(folder, printed results, config) of a run that was scored in two stages."""
  folder, config = tmp_path_factory.mktemp("runs") / "cfam", small_run.config()
  config.eval.rerank.update(by="matcher", top=4)
  config.evals.test.note = "a control"
  with config.unlocked():
    del config.evals["test_coarse"], config.eval["flip"]
    for field in ("combine", "processes", "cache"):
      del config.eval.rerank[field]
  config.train.keep_last = 1
  written_run.write(folder, scores={3: 20.0}, config=config)
  run = json.loads((folder / "run.json").read_text())
  configs.write_json(folder / "run.json", {**run, "seconds": {}})
  Experiment(config, folder).evaluate()
  return folder, json.loads((folder / "results.json").read_text()), config


def test_both_rankings_are_in_the_results(run):
  folder, results, _ = run
  assert list(results["evals"]) == ["test", "test.reranked"]
  one, two = results["evals"]["test"], results["evals"]["test.reranked"]
  assert "rerank" not in one and "mSD" in one["t2i"] and "i2t" in one
  assert two["rerank"]["by"] == "matcher" and two["rerank"]["top"] == 4
  assert two["rerank"]["combine"] == "sum" and two["rerank"]["views"] == 1
  assert set(two["groups"]) == {"near twins", "others"} and "i2t" not in two
  assert one["note"] == "a control" and two["note"].startswith("a control; the first 4")
  assert two["note"].count("a control") == 1
  for name, entry in results["evals"].items():
    ranking = np.load(folder / "rankings" / f"{name}.npz")
    rank1 = 100 * np.mean(ranking["first_rank"] == 1)
    assert entry["t2i"]["R1"] == pytest.approx(rank1)
    assert ranking["top"].shape == (10, 4 if name.endswith("reranked") else 10)
  # The same images in another order.
  tops = [np.load(folder / "rankings" / f"{n}.npz")["top"] for n in results["evals"]]
  np.testing.assert_array_equal(np.sort(tops[0][:, :4]), np.sort(tops[1]))
  assert (tops[0][:, :4] != tops[1]).any()


def test_the_table_and_the_report_have_the_row(run):
  folder, results, config = run
  text = tables.results_table(results)
  row = next(line for line in text.splitlines() if line.startswith("test.reranked "))
  assert row.split()[6] == "–"  # mSD, after R1 R5 R10 mAP mINP
  # Once with its scores, once with its intervals.
  assert sum(line.startswith("test.reranked ") for line in text.splitlines()) == 2
  assert "the first 4 of each query of test ordered again by matcher" in text
  (folder / "report.html").unlink()
  Experiment(config, folder).report()  # as --mode=report does
  page = (folder / "report.html").read_text(encoding="utf-8")
  text = re.sub(r"base64,[^\"']*", "", page)
  assert "test.reranked" in text and "not at hand" not in text and "nan" not in text


def test_compare_sets_the_two_stages_side_by_side(run, tmp_path):
  folder, results, _ = run
  found = compare.run(folder, folder, tmp_path, Bootstrap(resamples=50))
  assert list(found["evals"]) == ["test.reranked / test"]
  scores = found["evals"]["test.reranked / test"]["scores"]
  assert list(scores) == ["R1", "R5", "R10", "mAP", "mINP"]
  for side, name in (("a", "test.reranked"), ("b", "test")):
    expected = results["evals"][name]["t2i"]["mAP"]
    assert scores["mAP"][side] == pytest.approx(expected, abs=1e-4)
  assert 0 < scores["mAP"]["p"] <= 1
  assert "no mSD" in (tmp_path / "compare.md").read_text()


def test_a_run_of_before_the_fields_is_resumed_and_scored_with_them(run, tmp_path):
  config, folder = run[2], tmp_path / "run"
  shutil.copytree(run[0], folder)
  new = small_run.config()
  with new.unlocked():
    new.evals, new.train = config.evals, config.train
  new.eval.flip = True
  new.eval.rerank.update(by="matcher", top=4, combine="dist", global_weight=0.002)
  assert "eval.flip: None -> True" in configs.occupied(folder, configs.plain(new))
  assert not configs.occupied(folder, configs.plain(new), resume=True)
  Experiment(new, folder).evaluate()
  evals = json.loads((folder / "results.json").read_text())["evals"]
  about, note = (evals["test.reranked"][name] for name in ("rerank", "note"))
  assert (about["combine"], about["processes"], about["views"]) == ("dist", 4, 2)
  assert about["pairs"] == 2 * 4 * evals["test"]["t2i"]["queries"]
  assert note.startswith("a control; features averaged with those of mirror images; ")
  assert "matcher + 0.002 x cosine, scaled as 4 processes do, mean of image" in note
