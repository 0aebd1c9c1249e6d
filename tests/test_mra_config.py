"""configs/mra.py: what its presets change."""

import importlib

import pytest

from tpr_jax import config as configs


def get(arg):
  configs.expose_shipped()
  return importlib.import_module("configs.mra").get_config(arg)


def changed(arg, preset):
  """Field -> (default, preset's)."""
  found = configs.differences(
    configs.plain(get(arg)), configs.plain(get(f"{arg},preset={preset}"))
  )
  return set(found)


def test_what_the_paper_has_otherwise_in_pretraining():
  c = get("sda,preset=paper")
  assert (c.objective.itm_group, c.objective.region_positives) == (0, "pair")
  assert c.optim.lr * c.optim.schedule.end == pytest.approx(5e-6)
  assert c.losses.region_itc == c.losses.region_itm == 0.8
  assert len(changed("sda", "paper")) == 3, changed("sda", "paper")


def test_what_the_code_has_otherwise_in_pretraining():
  c = get("sda,preset=released")
  assert c.losses.region_itc == c.losses.region_itm == 0.64
  assert (c.objective.region_feature, c.objective.region_mean) == ("image", False)
  assert (c.objective.region_positives, c.optim.schedule.end) == ("phrase", 0.0)
  assert c.data.views.mask.rule == "released"
  assert len(changed("sda", "released")) == 5, changed("sda", "released")


def test_what_the_paper_has_otherwise_in_fine_tuning():
  c, default = get("rstpreid,preset=paper"), get("rstpreid")
  assert (c.optim.lr, c.train.epochs) == (5e-5, 30.0)
  assert (default.optim.lr, default.train.epochs) == (6e-5, 10.0)
  assert c.optim.schedule.kind == "linear" and default.optim.schedule.kind == "step"
  assert (c.objective.label_smoothing, default.objective.label_smoothing) == (0.0, 0.2)
  assert c.optim.schedule.end == 0.0
  assert not c.losses.eda_itc and default.losses.eda_itc == 0.8


def test_an_unknown_preset_is_named():
  with pytest.raises(ValueError, match="preset=code: expected one of"):
    get("sda,preset=code")
