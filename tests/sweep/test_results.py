"""The statistics of a sweep, against numpy, and how they are printed."""

import numpy as np
import pytest

from tpr_jax import config as configs
from tpr_jax.sweep import results, table


def test_mean_deviation_and_paired_differences_are_numpys(place):
  rng = np.random.default_rng(0)
  seeds = (3, 1, 4, 15)
  values = rng.uniform(20, 70, (2, len(seeds)))
  names = [f"{r}-seed{s}" for r in "AB" for s in seeds]
  made = place.plan(seeds=seeds)
  for single in made.runs:
    single.folder.mkdir(parents=True)
    score = dict(zip(names, values.ravel(), strict=True))[single.folder.name]
    found = {"test": {"t2i": {"R1": score}}, "test_coarse": {"t2i": {"mAP": 1}}}
    configs.write_json(single.folder / "results.json", {"evals": found})
  summary = results.collect(made, {}, "")
  for line, own in zip(summary["rows"], values, strict=True):
    found = line["scores"]["test/R1"]
    assert found["n"] == line["n"] == len(seeds)
    assert found["mean"] == pytest.approx(np.mean(own), rel=1e-12)
    assert found["std"] == pytest.approx(np.std(own, ddof=1), rel=1e-12)
    assert line["scores"]["test_coarse/mAP"]["std"] == 0.0
  a, b = summary["rows"]
  difference = values[1] - values[0]
  assert a["paired"] is None
  assert list(b["paired"]["values"].values()) == pytest.approx(difference)
  assert b["paired"]["mean"] == pytest.approx(difference.mean())
  assert b["paired"]["std"] == pytest.approx(difference.std(ddof=1))


@pytest.mark.parametrize(
  ("values", "signed", "text"),
  [
    ([], False, "–"),
    ([56.04], False, "56.0"),
    ([56.04], True, "+56.0"),
    ([54.0, 58.0], False, "56.0 ± 2.8"),
    ([-0.01, -0.03], True, "+0.0 ± 0.0"),
    ([-1.5, -2.5], True, "-2.0 ± 0.7"),
  ],
)
def test_numbers_as_they_are_printed(values, signed, text):
  assert table.number(results.spread(values), signed) == text
