"""Filtering-WoRA's config: the numbers of its code, and what its presets freeze."""

import importlib

import jax
import jax.numpy as jnp
import pytest

from tests.test_aptm_config import fields, shapes
from tpr_jax import config as configs
from tpr_jax import freezing, objectives, optim
from tpr_jax.core import tree
from tpr_jax.data import views
from tpr_jax.models import adapters, build
from tpr_jax.program import with_views


def get(argument=None, file="filtering_wora"):
  configs.expose_shipped()
  return importlib.import_module(f"configs.{file}").get_config(argument).lock()


def test_pre_training_has_the_numbers_of_the_code():
  c = get("mals")
  assert (c.optim.lr, c.optim.weight_decay, c.optim.clip) == (1e-4, 0.01, 1.0)
  assert (c.optim.b1, c.optim.b2, c.optim.eps) == (0.9, 0.98, 1e-8)
  assert (c.data.batch, c.objective.itm_group, c.train.epochs) == (1200, 150, 32.0)
  schedule = c.optim.schedule
  assert schedule.kind == "linear"
  assert round(schedule.warmup_epochs * 1_510_330 / 1200) == 2600
  assert len(c.optim.groups) == 1  # of decay: nothing is faster
  assert c.objective.itm_smoothing == 0.0
  weights = objectives.active(c.losses)
  assert weights == pytest.approx(objectives.active(get("mals", "aptm").losses))


@pytest.mark.parametrize("name", ["cuhk_pedes", "icfg_pedes", "rstpreid"])
def test_fine_tuning_has_the_numbers_of_the_code(name):
  c, aptm = get(name), get(name, "aptm")
  assert (c.optim.lr, c.optim.weight_decay) == (1e-4, 0.01)
  assert c.optim.clip == (1.0 if name == "rstpreid" else 0.0)
  assert (c.data.batch, c.objective.itm_group) == (960, 120)
  assert c.objective.itm_smoothing == 0.1 and aptm.objective.itm_smoothing == 0.0
  assert c.optim.schedule == aptm.optim.schedule
  assert c.optim.groups == aptm.optim.groups
  same = ("model.pixel_mean", "model.drop_path", "train.epochs", "data.image")
  for path in same:
    part, field = path.split(".")
    assert c[part][field] == aptm[part][field], path


def test_the_published_polish_of_cuhk_pedes():
  c = get("cuhk_pedes,preset=published_cuhk")
  assert (c.optim.lr, c.optim.weight_decay) == (1e-7, 0.05)
  with pytest.raises(ValueError, match="preset=published_cuhk is of cuhk_pedes"):
    get("rstpreid,preset=published_cuhk")
  with pytest.raises(ValueError, match="preset=paper: expected one of"):
    get("preset=paper")


def test_presets_freeze_what_they_say():
  for preset, trained in (("code", 129_511_931), ("figure", 4_077_563)):
    c = get(f"cuhk_pedes,preset={preset}")
    rules = adapters.rules(c.model.adapters)
    assert len(adapters.adapted(rules, shapes())) == 99
    frozen = freezing.frozen(c.optim.freeze, rules, shapes())
    beside = 1_671_110  # the adapters, which these shapes are without
    assert freezing.count(frozen, shapes()) + beside == trained


def test_the_method_the_rank_and_the_decay_are_options():
  c = get("cuhk_pedes,method=dora,rank=4")
  ((_, options),) = c.model.adapters
  assert options == dict(method="dora", rank=4)
  with pytest.raises(adapters.AdapterError, match="unknown method 'wara'"):
    build.settings(dict(fields(c), adapters=get("method=wara").model.adapters))
  name = "visual/stage_2/block_0/mlp/fc/adapter/"
  for argument, decay in (("cuhk_pedes", 1.0), ("cuhk_pedes,decay_scales=False", 0.0)):
    groups = get(argument).optim.groups
    for leaf in ("alpha", "beta", "magnitude"):
      assert optim.group_factors(groups, name + leaf) == (2.0, decay)
    for leaf in "ab":
      assert optim.group_factors(groups, name + leaf) == (2.0, 1.0)


@pytest.mark.parametrize("name", ["rendered", "rendered_target", "mals"])
def test_input_losses_and_towers_agree(name):
  c = get(name)
  with_views(c, fields(c), views.build(c.data.views))


def test_the_embedded_run_has_adapters_on_every_map_of_its_tower():
  c = get()
  model = build.build(fields(c), vocab_size=100, heads=("itm", "mlm"))
  image = jnp.zeros((1, *c.model.image_size, 3), jnp.uint8)
  text = jnp.ones((1, c.text.length), jnp.int32)
  made = jax.eval_shape(model.init, jax.random.key(0), image, text)["params"]
  own = {adapters.of_leaf(name) for name in tree.names(made)} - {None}
  assert own == {n for n in adapters.layers(made) if n.startswith("visual/")}
  frozen = freezing.frozen(c.optim.freeze, model.adapters, made)
  groups = tree.without(made, frozen)
  optim.make_optimizer(c.optim, groups, steps=10, steps_per_epoch=5)


def test_cfam_takes_adapters_too():
  c = get("cuhk_pedes,adapters=wora", "cfam")
  ((pattern, options),) = c.model.adapters
  assert options == dict(method="wora", rank=8) and "blocks" in pattern
  assert get("cuhk_pedes", "cfam").model.adapters == ()
  with pytest.raises(ValueError, match="adapters=worra: expected one of"):
    get("cuhk_pedes,adapters=worra", "cfam")


def test_rules_can_be_given_on_the_command_line():
  value = configs.resolve("configs/filtering_wora.py")
  words = 'model.adapters=(("^visual/", {"method": "lora", "rank": 2}),)'
  c = configs.overridden(value, [words, 'optim.freeze=("^text/",)'])
  read_back = configs.ConfigDict(configs.plain(c))
  for config in (c, read_back):  # a run's config.json has lists
    ((pattern, spec),) = adapters.rules(config.model.adapters)
    assert (pattern, spec.method, spec.rank) == ("^visual/", "lora", 2)
    assert tuple(config.optim.freeze) == ("^text/",)
