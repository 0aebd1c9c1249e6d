"""Probabilities of hits for a split: fitted, judged on another, written and read."""

import json

import numpy as np
import pytest

from tpr_jax import calibrate, calibration_files
from tpr_jax.data.damage import Damage
from tpr_jax.data.record import Dataset, Record
from tpr_jax.encoding import Features
from tpr_jax.report import alarms


def split(seed, people=60, views=2, strength=1.0, empty=()):
  """(features, dataset): one caption a picture; people have a direction each."""
  rng = np.random.default_rng(seed)
  records = tuple(
    Record(f"{n:04d}/{v}", 10 * n, ("a person",), "val", "made")
    for n in range(people)
    for v in range(views)
  )
  own = np.repeat(rng.normal(size=(people, 64)), views, axis=0)

  def rows():
    made = strength * own + rng.normal(size=own.shape)
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)

  number = np.arange(len(records), dtype=np.int32)
  features = Features(
    image=rows(),
    image_record=number,
    text=rows(),
    text_record=number,
    text_caption=np.zeros_like(number),
    damage=Damage("made/val", len(records)),
    empty=empty,
  )
  return features, Dataset("made", "val", records, lambda *_: None)


@pytest.fixture(scope="module")
def fitted():
  return calibrate.fit(*split(0), 1000, seed=0)


def test_it_says_what_it_was_fitted_on(fitted):
  expected = dict(data="made/val", queries=120, gallery=120, seed=0)
  assert fitted.calibration.source == expected


def test_other_people_are_judged_by_it(fitted):
  found = calibrate.judge(fitted, *split(1), 1000)["calibration"]
  assert (found["queries"], found["gallery"], found["asked"]) == (120, 120, 0.05)
  assert found["hits"]["error"] < 0.05
  assert sum(found["hits"]["count"]) == 2 * 120 * 20
  own, flat = (found["presence"][name] for name in ("probability", "cosine"))
  for shares in (own, flat):
    assert shares["false_alarms"] < 0.2
    assert shares["correct"] <= shares["detected"] <= 1
  assert own["detected"] > 0.5


def test_a_model_that_knows_nothing_detects_nothing():
  made = calibrate.fit(*split(0, strength=0.0), 1000, seed=0)
  found = calibrate.judge(made, *split(1, strength=0.0), 1000)["calibration"]
  assert found["presence"]["probability"]["detected"] < 0.25
  assert found["hits"]["error"] < 0.05  # and says so


def test_queries_without_words_or_match_are_left_out():
  features, data = split(2, empty=(3, 5))
  found = calibrate.fit(features, data, 1000, seed=0)
  assert found.calibration.source["queries"] == 118
  assert calibrate.fit(features, data, 50, seed=0).calibration.source["queries"] == 50


def test_too_few_people():
  with pytest.raises(calibrate.CalibrationError, match="found 20 queries and 20 pict"):
    calibrate.fit(*split(3, people=10), 1000, seed=0)


def test_a_test_of_one_person_is_not_judged(fitted):
  assert calibrate.judge(fitted, *split(4, people=1), 1000) == {}


def test_it_is_kept_in_the_folder(fitted, tmp_path):
  assert calibration_files.read(tmp_path) is None
  calibration_files.write(tmp_path, fitted.calibration)
  assert calibration_files.read(tmp_path) == fitted.calibration
  path = tmp_path / calibration_files.FILE
  for text, message in (("{", "cannot be read"), ("{}", "no calibration")):
    path.write_text(text)
    with pytest.raises(calibrate.CalibrationError, match=message):
      calibration_files.read(tmp_path)


def test_it_is_told_as_a_table_and_drawn(fitted):
  judged = calibrate.judge(fitted, *split(1), 1000)
  results = {"evals": {"test": json.loads(json.dumps(judged)), "control": {}}}
  _, about, head, _, first, second = alarms.lines(results)
  assert "lets 5% of those without pass" in about
  assert head.split()[:2] == ["threshold", "on"]
  assert first.split()[:2] == ["test", "probability"]
  assert second.split()[0] == "cosine"
  drawn = alarms.figure(results)
  assert drawn.light.startswith(b"\x89PNG") and drawn.light != drawn.dark
  assert alarms.lines({"evals": {"test": {}}}) == []
  assert alarms.figure({"evals": {"test": {}}}) is None
