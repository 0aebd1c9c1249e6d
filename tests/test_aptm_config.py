"""APTM's config: the numbers of its code, its groups of parameters, what is refused."""

import functools
import importlib

import jax
import jax.numpy as jnp
import pytest

from tpr_jax import config as configs
from tpr_jax import objectives, optim, program
from tpr_jax.core import tree
from tpr_jax.data import build as data_build
from tpr_jax.data import transforms, views
from tpr_jax.models import build, build_cross


def module():
  configs.expose_shipped()
  return importlib.import_module("configs.aptm")


def get(argument=None):
  return module().get_config(argument).lock()


FINE_TUNING = ("cuhk_pedes", "icfg_pedes", "rstpreid", "pedes_json", "folder", "lines")
STREAM = dict(attr_itc=0.8 / 3, attr_itm=0.8 / 3, attr_mlm=0.8 / 3)


def test_pre_training_has_the_numbers_of_the_code():
  c = get("mals")
  assert tuple(c.model.image_size) == (384, 128)
  assert (c.model.projection, c.model.joint_dim) == ("token", 256)
  assert (c.model.vision_dropout, c.model.drop_path, c.model.text_dropout) == (
    0.0, 0.1, 0.1
  )  # fmt: skip
  assert (c.optim.lr, c.train.epochs, c.data.batch) == (1e-4, 32.0, 600)
  assert c.objective.itm_group == 150
  schedule = c.optim.schedule
  per_epoch = 1_510_330 / c.data.batch
  assert schedule.kind == "linear"
  assert round(schedule.warmup_epochs * per_epoch) == 2600
  assert objectives.active(c.losses) == pytest.approx(
    dict(itc=1.0, itm=1.0, mlm=1.0, **STREAM)
  )
  assert (c.objective.attr_smoothing, c.objective.attr_prompts) == (0.4, 5)
  assert c.objective.label_smoothing == 0.0
  assert c.data.views.attributes == "mals" and not c.data.views.eda.synonyms
  assert tuple(c.model.pixel_mean) == (0.4416847, 0.41812873, 0.4237452)
  assert not c.evals  # MALS has no test split


@pytest.mark.parametrize("name", FINE_TUNING)
def test_fine_tuning_has_the_numbers_of_the_code(name):
  c = get(name)
  assert (c.optim.lr, c.train.epochs, c.data.batch) == (1e-4, 30.0, 480)
  assert c.objective.itm_group == 120
  schedule = c.optim.schedule
  assert (schedule.kind, schedule.warmup_epochs) == ("step", 0.1 * c.train.epochs)
  assert objectives.active(c.losses) == dict(
    itc=1.0, itm=1.0, mlm=1.0, eda_itc=0.8, eda_itm=0.8
  )
  assert c.objective.label_smoothing == 0.0 and c.data.views.attributes == ""
  rerank = c.eval.rerank
  assert (rerank.by, rerank.top, rerank.combine) == ("itm", 128, "single")
  assert rerank.global_weight == 0.002 and not c.eval.flip
  assert (c.data.options.get("rule") == "icfg_rstp") == (
    name in ("icfg_pedes", "rstpreid")
  )


@pytest.mark.parametrize(
  ("name", "first", "last"),
  [
    ("mals", 0.4416847, 0.301009),
    ("shards", 0.4416847, 0.301009),
    ("cuhk_pedes", 0.38901278, 0.23368555),
    ("folder", 0.38901278, 0.23368555),
    ("icfg_pedes", 0.30941582, 0.2366199),
    ("rstpreid", 0.27722597, 0.25293276),
    ("rendered", 0.48145466, 0.27577711),
  ],
)
def test_pictures_are_normalised_by_the_numbers_of_their_set(name, first, last):
  c = get(name)
  assert (c.model.pixel_mean[0], c.model.pixel_std[2]) == (first, last)
  if name == "rendered":
    return
  ops = transforms.build(c.data.image).ops
  fill = tuple(round(255 * m) for m in c.model.pixel_mean)
  erase = transforms.Erase(0.6, aspect=(0.3, 3.3333333333), fill=fill, uniform=True)
  assert ops == (
    transforms.Resize(384, 128, "bicubic"),
    transforms.Flip(0.5),
    transforms.RandAugment(2, 7),
    transforms.dataclasses.replace(erase, tries=100),
  )


@pytest.mark.parametrize("name", ["rendered", "rendered_synthetic", "rendered_target"])
def test_the_embedded_run_has_the_stream_where_it_pre_trains(name):
  c = get(name)
  on = name != "rendered_target"
  assert (c.model.variant, c.model.projection) == ("swin_tiny", "token")
  assert (c.data.views.attributes == "rendered") == c.data.options.labels == on
  assert (set(STREAM) <= set(objectives.active(c.losses))) == on
  assert not c.data.options.regions
  known = set(data_build.options_of(name))
  for options in (c.data.options, *(entry.options for entry in c.evals.values())):
    assert set(options) <= known
  plain = get(f"{name},attributes=False")
  assert plain.data.views.attributes == "" and plain.losses.attr_itm == 0.0
  assert not plain.data.options.labels


@pytest.mark.parametrize("name", ["rendered", "mals", "cuhk_pedes"])
def test_input_losses_and_towers_agree(name):
  c = get(name)
  program.with_views(c, fields(c), views.build(c.data.views))
  released = get(f"{name},preset=released")
  assert (c.data.views.mask.rule, released.data.views.mask.rule) == (
    "words", "released"
  )  # fmt: skip


def test_losses_and_labels_need_each_other():
  c = get("rendered").unlock()
  c.data.views.attributes = ""
  with pytest.raises(ValueError, match=r"attr_itc reads what data\.views\.attributes"):
    program.with_views(c, fields(c), views.build(c.data.views))
  c = get("rendered").unlock()
  c.losses.update(dict.fromkeys(STREAM, 0.0))
  with pytest.raises(ValueError, match=r"data\.views\.attributes: no loss reads it"):
    program.with_views(c, fields(c), views.build(c.data.views))
  c = get("rendered").unlock()
  c.losses.mlm, c.data.views.mask.rule = 0.0, ""
  with pytest.raises(ValueError, match=r"attr_mlm reads what data\.views\.mask\.rule"):
    program.with_views(c, fields(c), views.build(c.data.views))


def fields(c):
  found = {k: v for k, v in c.model.items() if not k.startswith("init_")}
  found.update(text_length=c.text.length, dtype="float32")
  return build_cross.settings(found)


@functools.cache
def shapes():
  """Of Swin-B and BERT-base with all heads."""
  c = get("cuhk_pedes")
  made = build.build(fields(c), vocab_size=30_522, heads=("itm", "mlm"))
  image = jnp.zeros((1, 384, 128, 3), jnp.uint8)
  text = jnp.ones((1, 56), jnp.int32)
  return jax.eval_shape(lambda k: made.init(k, image, text), jax.random.key(0))[
    "params"
  ]


def test_parameters_are_those_of_the_paper():
  assert tree.count(shapes()) == 214_456_629


def test_what_is_trained_twice_as_fast():
  """Fine-tuning: the upper halves, the heads, and the projections too."""
  groups, fast = get("cuhk_pedes").optim.groups, set()
  for name in tree.names(shapes()):
    lr, _ = optim.group_factors(groups, name)
    assert lr in (1.0, 2.0)
    if lr == 2.0:
      fast.add("/".join(name.split("/")[: 2 if name[:4] in ("visu", "text") else 1]))
  assert fast == {
    "visual/stage_2",
    "visual/stage_3",
    *(f"text/layer_{i}" for i in (4, 5, 10, 11)),
    "itm",
    "words",
    "image_projection",
    "text_projection/linear",
  }
  groups = get("mals").optim.groups
  fast = {n for n in tree.names(shapes()) if optim.group_factors(groups, n)[0] == 2.0}
  assert len({name.split("/")[1] for name in fast}) == 6
  assert all("/cross" in name for name in fast)


def test_direct_transfer_is_scored_where_a_root_is_given():
  c = get("mals,transfer_root=/data,transfer=cuhk_pedes+rstpreid")
  assert {n: (e.name, e.root, e.split) for n, e in c.evals.items()} == {
    name: (name, "/data", "test") for name in ("cuhk_pedes", "rstpreid")
  }


@pytest.mark.parametrize(
  ("argument", "message"),
  [
    ("preset=paper", "preset=paper: expected one of"),
    ("mal", "Did you mean 'mals'"),
    ("cuhk_pedes,transfer_root=/data", "for pre-training on files alone"),
    ("mals,transfer_root=/data,transfer=cuhk", "transfer='cuhk'.*cuhk_pedes"),
  ],
)
def test_what_cannot_be_is_an_error(argument, message):
  with pytest.raises(ValueError, match=message):
    get(argument)
