"""configs/filter.py and its fields: what they mean, and what they refuse."""

import pytest

from tests.filter.place import shipped
from tpr_jax import config as configs
from tpr_jax.filter import settings
from tpr_jax.filter.problems import FilterError


def read(argument, **fields):
  c = shipped(argument)
  c.scorer.place = "runs/a"
  for name, value in fields.items():
    group, _, field = name.partition("__")
    c[group][field] = value
  return settings.read(c.lock())


def test_the_pool_is_the_data_unless_another_is_named():
  own = read("cuhk_pedes,k=1800")
  assert own.pool.source is None
  assert own.pool.exclude_self and own.pool.exclude_same_id
  other = read("mals,k=49,pool=cuhk_pedes")
  assert other.pool.source.name == "cuhk_pedes"
  assert not other.pool.exclude_self and not other.pool.exclude_same_id


def test_the_published_preset():
  made = read("mals,preset=published")
  assert (made.cut.by, made.cut.value) == ("k", 49)
  assert made.pool.source.name == "cuhk_pedes" and made.pool.one_caption_per_image
  human = read("pedes_json,preset=published")
  assert (human.cut.by, human.cut.value) == ("k", 1800)
  assert human.pool.source is None and not human.pool.one_caption_per_image
  for found in (made, human):
    assert (found.pool.size, found.pool.seed, found.pool.replace) == (10_000, 0, True)
    assert not found.pool.exclude_self and not found.pool.exclude_same_id


@pytest.mark.parametrize(
  ("argument", "fields", "part"),
  [
    ("rendered", {}, "exactly one of k, quantile, keep_ratio .* found none"),
    ("rendered,k=3,keep_ratio=0.5", {}, "found k=3, keep_ratio=0.5"),
    ("rendered,preset=published,quantile=0.1", {}, "found k=1800, quantile=0.1"),
    ("rendered,keep_ratio=1.5", {}, "keep_ratio: found 1.5, expected a share"),
    ("rendered,k=-1", {}, "cut.k: found -1, expected a whole number, 1 or more"),
    ("rendered,k=1", dict(scorer__kind="tower"), "did you mean 'towers'"),
    ("rendered,k=1", dict(scorer__place=""), "expected the model that scores"),
    ("rendered,k=1", dict(scorer__dtype="float16"), "expected one of float32"),
    (
      "rendered,k=1",
      dict(scorer__kind="blip2_itc", scorer__tokenizer="people"),
      "would do nothing",
    ),
    (
      "rendered,k=1",
      dict(pool__root="D"),
      "pool.root or pool.options would do nothing",
    ),
    ("mals,k=1,pool=rendered", dict(pool__exclude_self=True), "another corpus than"),
    ("rendered,k=1", dict(data__split="trian"), "did you mean 'train'"),
    ("rendered,k=1", dict(pool__size=0), "pool.size: found 0"),
  ],
)
def test_values_that_cannot_be_are_named(argument, fields, part):
  with pytest.raises(FilterError, match=part):
    read(argument, **fields)


@pytest.mark.parametrize(
  ("argument", "near"),
  [
    ("rendered,keep_raito=0.5", "Did you mean 'keep_ratio'"),
    ("renderd,k=1", "Did you mean 'rendered'"),
    ("rendered,preset=publishd", "Did you mean 'published'"),
    ("rendered,k=1,pool=cuhk_pedse", "Did you mean 'cuhk_pedes'"),
  ],
)
def test_misspelt_options_name_the_nearest(argument, near):
  with pytest.raises(ValueError, match=near):
    shipped(argument)


def test_a_filter_is_told_from_a_run():
  assert settings.is_filter(shipped("rendered,k=1"))
  configs.expose_shipped()
  run = configs.read(configs.resolve("configs/cfam.py"))
  assert not settings.is_filter(run)
  assert run.data.filter == ""
