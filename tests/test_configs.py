"""Every config builds, holds the published numbers, and says what is misspelt."""

import functools
import importlib
import re
from types import SimpleNamespace

import jax
import pytest
from ml_collections import ConfigDict

from tests.models.test_build import decoder, fused, matcher, towers
from tpr_jax import config as configs
from tpr_jax import experiment, objectives, optim, program
from tpr_jax.core import tree
from tpr_jax.data import build as data_build
from tpr_jax.data import published, transforms
from tpr_jax.initial import Initial
from tpr_jax.models import build, cross_variants
from tpr_jax.models.variants import VARIANTS

# See tests/sweep, tests/curate, tests/matrix, tests/filter.
NO_RUNS = (*configs.FRAGMENTS, "sweeps", "cross", "matrix", "filter")
FILES = sorted(
  path.stem
  for path in configs.shipped_folder().glob("*.py")
  if path.stem not in NO_RUNS
)
RECIPES = [f"cfam:{name}" for name in ("cuhk_pedes", "icfg_pedes", "rstpreid")]
RECIPES.append("cfam:ufine6926")


def module(file):
  configs.expose_shipped()
  return importlib.import_module(f"configs.{file}")


def get(value):
  """ "cfam:ufine6926,variant=tiny" -> its config, locked as a run has it."""
  file, _, argument = value.partition(":")
  return module(file).get_config(argument or None).lock()


def everything():
  """Every file, every name and every variant, and each without an argument."""
  for file in FILES:
    names = getattr(module(file), "NAMES", ())
    yield file
    for name in names:
      yield f"{file}:{name}"
      yield f"{file}:{name},overfit=True"
      cross = hasattr(module(file), "cross_recipe")
      variants = cross_variants.VARIANTS if cross else VARIANTS
      yield from (f"{file}:{name},variant={variant}" for variant in variants)


ALL = list(everything())


@functools.cache
def parts(value, num_classes=50, **losses):
  """(experiment without its tokenizer, shapes of the parameters)."""
  config = get(value)
  config.losses.update(losses)
  vocab = 1_000 if config.text.tokenizer == "people" else 49_408
  words = SimpleNamespace(vocab_size=vocab, end_id=vocab - 1)
  made = experiment.Experiment.__new__(experiment.Experiment)
  made.config, made.tokenizer = config, words
  made.initial = Initial("", (), {})
  made.fields = made._fields()
  model = made.model(num_classes)
  return made, jax.eval_shape(made.init_fn(model), jax.random.key(0))


def test_the_files_are_found():
  assert {"cfam", "irra", "clip"} <= set(FILES)
  assert len(ALL) >= 1 + len(module("cfam").NAMES) * (2 + len(VARIANTS))


@pytest.mark.parametrize("value", ALL)
def test_every_config_builds_and_agrees_with_itself(value):
  config = get(value)
  size = tuple(config.model.image_size)
  assert transforms.build(config.data.image).size == size
  evaluation = transforms.build(config.data.eval_image)
  assert evaluation.size == size and evaluation.deterministic
  assert objectives.active(config.losses)
  assert config.data.val == "" or config.data.val_share == 0.0
  assert config.train.select in experiment.evaluate.SCORES
  plain = configs.plain(config)
  assert configs.differences(plain, configs.plain(ConfigDict(plain))) == []
  known = set(data_build.options_of(config.data.name))
  assert set(config.data.options) <= known
  for entry in config.evals.values():
    assert set(entry.options) <= set(
      data_build.options_of(entry.name or config.data.name)
    )
    assert entry.split in data_build.SPLITS
  assert set(config.data.val_options) <= known


@pytest.mark.parametrize("name", module("cfam").NAMES)
def test_selection_never_reads_a_test_split(name):
  data = get(f"cfam:{name}").data
  assert data.train == "train" and data.val in ("val", "")
  if name in published.COUNTS:  # where the source has no val, training people are held
    has_val = "val" in published.COUNTS[name]
    assert (data.val == "val", data.val_share > 0) == (has_val, not has_val)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["rendered", "cuhk_pedes"])
def test_every_size_builds_and_every_parameter_group_exists(name, variant):
  made, shapes = parts(f"cfam:{name},variant={variant}")
  assert {"visual", "text", "granularity", "matcher", "identity_fused"} == set(shapes)
  optim.make_optimizer(made.config.optim, shapes, steps=10, steps_per_epoch=5)
  pixels = tuple(made.config.model.image_size)
  grid = [(a - p) // s + 1 for a, p, s in zip(
    pixels, made.config.model.patch, made.config.model.stride, strict=True
  )]  # fmt: skip
  assert grid[0] * grid[1] + 1 in {
    leaf.shape[0] for leaf in jax.tree.leaves(shapes["visual"])
  }


@pytest.mark.parametrize(
  ("variant", "clip", "joint"),
  [
    ("B/16", towers((768, 12), (512, 12), 512, 16, 193, 168), 512),
    ("L/14", towers((1024, 24), (768, 12), 768, 14, 244, 168), 768),
  ],
)
def test_parameters_are_those_of_clip_and_the_heads(variant, clip, joint):
  _, shapes = parts(f"cfam:cuhk_pedes,variant={variant}", num_classes=11_003)
  assert tree.count(shapes["visual"]) + tree.count(shapes["text"]) == clip
  heads = decoder(joint) + matcher() + fused(joint, 11_003)
  assert tree.count(shapes) == clip + heads


def test_the_published_sizes_are_the_default():
  assert get("cfam:cuhk_pedes") == get("cfam:cuhk_pedes,variant=B/16")
  assert get("cfam") == get("cfam:rendered") == get("cfam:rendered,variant=tiny")


@pytest.mark.parametrize("value", RECIPES)
def test_the_recipe_has_the_numbers_of_the_paper_and_of_irra(value):
  c = get(value)
  assert (c.optim.name, c.optim.b1, c.optim.b2, c.optim.eps) == (
    "adam", 0.9, 0.999, 1e-3
  )  # fmt: skip
  assert (c.optim.weight_decay, c.optim.decay, c.optim.clip) == (4e-5, "l2", 0.0)
  assert dict(c.optim.schedule) == dict(
    kind="cosine", per="step", warmup_epochs=5.0, warmup_from=0.1, end=0.0
  )
  assert (c.train.epochs, c.train.steps, c.data.batch) == (60.0, 0, 64)
  assert (c.data.sampler, c.text.length) == ("random", 168)
  assert (c.text.mask_share, c.text.mask_as_mask, c.text.mask_as_random) == (
    0.15, 0.8, 0.1
  )  # fmt: skip
  assert dict(c.losses) == dict(
    infonce=0.0, sdm=1.0, sdm_local=1.0, matching=1.0, identity=1.0, mlm=0.0
  )
  assert c.objective.dual.score == "none"
  assert {k: v for k, v in c.objective.items() if k != "dual"} == dict(
    temperature=0.02,
    learn_temperature=False,
    soft_labels=False,
    negatives="local",
    exclude="identity",
    identity="fused",
    mlm_share=0.15,
    mlm_in_place=False,
  )
  assert c.eval.msd_variant == "paper"
  assert (c.eval.ci_level, c.eval.ci_resamples) == (0.95, 2000)
  m = c.model
  assert (m.part_queries, m.part_width, m.part_layers, m.part_heads) == (16, 512, 2, 8)
  assert (m.matcher_layers, m.matcher_heads, m.dtype) == (2, 8, "auto")
  assert tuple(m.image_size) == (384, 128) and tuple(m.stride) == (16, 16)
  m = SimpleNamespace(**build.settings(parts(value)[0].fields))  # without weights
  assert m.activation == "quick_gelu" and m.epsilon == 1e-5
  assert tuple(m.pixel_mean) == (0.48145466, 0.4578275, 0.40821073)
  assert tuple(m.pixel_std) == (0.26862954, 0.26130258, 0.27577711)


@pytest.mark.parametrize("value", RECIPES)
def test_the_recipe_augments_pictures_as_irra_does(value):
  ops = transforms.build(get(value).data.image).ops
  assert ops == (
    transforms.Resize(384, 128, "bilinear"),
    transforms.Flip(0.5, "keep"),
    transforms.PadCrop(10),
    transforms.Erase(0.5, (0.02, 0.4), (0.3, 3.3), "mean"),
  )


def test_learning_rates_and_decay_of_each_kind_of_parameter():
  made, shapes = parts("cfam:cuhk_pedes")
  c, seen = made.config.optim, set()
  for name in tree.names(shapes):
    lr, decay = optim.group_factors(c.groups, name)
    pretrained, bias = name.startswith(("visual/", "text/")), name.endswith("bias")
    expected = (1e-5 if pretrained else 5e-5) * (2 if bias else 1)
    assert c.lr * lr == pytest.approx(expected), name
    assert c.weight_decay * decay == (0.0 if bias else 4e-5), name
    seen.add((pretrained, bias))
  assert len(seen) == 4


def test_irra_groups_and_schedule_are_those_of_the_released_code():
  made, shapes = parts("irra:cuhk_pedes")
  c = made.config.optim
  assert set(shapes) == {"visual", "text", "identity_shared", "mlm"}
  expected = {
    "visual/blocks/block_0/attn/qkv/kernel": (1, 1),
    "visual/blocks/block_0/attn/qkv/bias": (2, 0),
    "visual/class_embedding": (1, 1),
    "text/token_embedding": (1, 1),
    "text/ln_final/scale": (1, 1),
    "text/ln_final/bias": (2, 0),
    "identity_shared/classifier/kernel": (5, 1),
    "identity_shared/classifier/bias": (5, 0),
    "mlm/cross_attn/q/kernel": (5, 1),
    "mlm/cross_attn/q/bias": (2, 0),
    "mlm/blocks/block_3/mlp/fc/kernel": (5, 1),
    "mlm/blocks/block_3/ln_1/scale": (5, 1),
    "mlm/blocks/block_3/ln_1/bias": (2, 0),
    "mlm/ln_text/scale": (1, 1),
    "mlm/ln_text/bias": (2, 0),
    "mlm/ln_post/scale": (1, 1),
    "mlm/head/words/kernel": (5, 1),
    "mlm/head/ln/scale": (5, 1),
    "mlm/head/words/bias": (5, 0),
  }
  names = tree.names(shapes)
  assert set(expected) <= set(names)
  for name, factors in expected.items():
    assert optim.group_factors(c.groups, name) == factors, name
  assert {optim.group_factors(c.groups, name) for name in names} == {
    (1, 1), (2, 0), (5, 1), (5, 0)
  }  # fmt: skip
  assert dict(c.schedule) == dict(
    kind="cosine", per="epoch", warmup_epochs=5.0, warmup_from=0.1, end=0.0
  )
  assert (made.config.text.length, made.config.text.mask_share) == (77, 0.0)
  assert made.config.objective.mlm_in_place
  model = build.settings(made.fields)
  assert (model["mlm_layers"], model["mlm_heads"]) == (4, 8)


def test_the_clip_baseline_has_the_towers_alone():
  made, shapes = parts("clip:cuhk_pedes")
  assert set(shapes) == {"visual", "text"}
  assert objectives.active(made.config.losses) == {"infonce": 1.0}


# ---- the ablation, as the config's own text gives it


def ablation():
  """Row -> {field: value}, read from the docstring of configs/cfam.py."""
  rows, row = {}, None
  text = module("cfam").__doc__.partition("The ablation")[2]
  for line in text.splitlines()[1:]:
    start = re.match(r"  \d (\S.*?) +(--config|the default)", line)
    if start:
      row = rows.setdefault(start.group(1), {})
    for field, value in re.findall(r"--config\.losses\.(\w+)=(\d+)", line):
      row[field] = float(value)
  return rows


@pytest.mark.parametrize("name", ["rendered", "cuhk_pedes"])
@pytest.mark.parametrize("number", range(5))
def test_the_rows_of_the_ablation_have_numbers(name, number):
  by_number = get(f"cfam:{name},ablation={number}").losses
  by_overrides = get(f"cfam:{name}").losses.copy_and_resolve_references().unlock()
  by_overrides.update(list(ablation().values())[number])
  assert by_number.to_dict() == by_overrides.to_dict()


@pytest.mark.parametrize("texts", ["fine", "medium", "coarse"])
@pytest.mark.parametrize("file", ["cfam", "irra", "clip"])
def test_training_on_texts_of_one_granularity(file, texts):
  c = get(f"{file}:rendered,texts={texts}")
  assert c.data.options.granularity == c.data.val_options.granularity == (texts,)
  asked = {name: entry.options.granularity for name, entry in c.evals.items()}
  assert asked == dict(
    test_fine=("fine",),
    test_medium=("medium",),
    test_coarse=("coarse",),
    test_mixed=("fine", "medium", "coarse"),
  )
  assert len({entry.options.seed for entry in c.evals.values()}) == 1


@pytest.mark.parametrize(
  ("row", "active", "heads"),
  [
    ("InfoNCE", {"infonce"}, set()),
    ("+ L_gs", {"sdm"}, set()),
    ("+ L_ls", {"sdm", "sdm_local"}, {"granularity"}),
    ("+ L_m", {"sdm", "sdm_local", "matching"}, {"granularity", "matcher"}),
    (
      "+ L_cid",
      {"sdm", "sdm_local", "matching", "identity"},
      {"granularity", "matcher", "identity_fused"},
    ),
  ],
)
@pytest.mark.parametrize("name", ["rendered", "cuhk_pedes"])
def test_each_row_of_the_ablation_by_its_overrides_alone(name, row, active, heads):
  made, shapes = parts(f"cfam:{name},variant=tiny", **ablation()[row])
  config = made.config
  # Small towers start from random weights: InfoNCE stays beside every row there.
  assert set(objectives.active(config.losses)) == active | {"infonce"}
  assert set(shapes) == {"visual", "text"} | heads
  objectives.make_objective(None, config.losses, config.objective, masking={})


def test_groups_of_heads_that_a_row_leaves_out_are_no_mistake():
  made, shapes = parts("cfam:cuhk_pedes", sdm_local=0, matching=0, identity=0)
  sizes = dict(vocab_size=made.tokenizer.vocab_size, num_classes=50)
  complete = program.model(made.config, made.fields, **sizes, heads=build.HEADS)
  every = lambda: jax.eval_shape(made.init_fn(complete), jax.random.key(0))
  steps = dict(steps=10, steps_per_epoch=5)
  optim.make_optimizer(made.config.optim, shapes, **steps, complete=every)
  misspelt = made.config.optim.copy_and_resolve_references()
  misspelt.groups = (("granularty/", 5.0, 1.0),)
  with pytest.raises(ValueError, match="'granularty/' matches no parameter"):
    optim.make_optimizer(misspelt, shapes, **steps, complete=every)


# ---- mistakes


@pytest.mark.parametrize(
  ("argument", "message"),
  [
    ("cuhk_pedse", "unknown name 'cuhk_pedse'. Did you mean 'cuhk_pedes'?"),
    ("ufine6926,varient=tiny", "unknown option 'varient'. Did you mean 'variant'?"),
    ("variant=B16", "unknown variant 'B16'. Did you mean 'B/16'?"),
    ("rendered,icfg_pedes", "unknown name 'icfg_pedes'"),
    ("overfit=yes", "overfit=yes: expected a bool, for example False"),
    ("overfit=1", "overfit=1: expected a bool"),
    ("=3", "unknown option ''"),
  ],
)
def test_a_misspelt_argument_names_the_nearest(argument, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    module("cfam").get_config(argument)


def test_every_error_lists_what_is_known():
  with pytest.raises(ValueError) as caught:
    module("cfam").get_config("xyzzy")
  assert all(name in str(caught.value) for name in module("cfam").NAMES)


@pytest.mark.parametrize(
  ("argument", "found"),
  [
    (None, ("a", 3, 0.5, False)),
    ("", ("a", 3, 0.5, False)),
    ("b", ("b", 3, 0.5, False)),
    (" b , count = 4 ", ("b", 4, 0.5, False)),
    ("share=1,flag=true", ("a", 3, 1.0, True)),
    ("flag=True,count=-1", ("a", -1, 0.5, True)),
  ],
)
def test_parsing_of_arguments(argument, found):
  module("cfam")  # makes `configs` importable
  common = importlib.import_module("configs.common")
  given = common.parse(argument, ("a", "b"), count=3, share=0.5, flag=False, word="")
  assert (given.name, given.count, given.share, given.flag) == found
  assert type(given.share) is float


def test_a_number_of_the_wrong_kind_is_an_error():
  module("cfam")
  common = importlib.import_module("configs.common")
  with pytest.raises(ValueError, match=r"count=2.5: expected a int, for example 3"):
    common.parse("count=2.5", ("a",), count=3)
  assert common.parse("word=2.5", ("a",), word="").word == "2.5"


@pytest.mark.parametrize(
  ("path", "near"),
  [
    ("optim.lrr", "optim.lr"),
    ("optm.lr", "optim.lr"),
    ("lr", "optim.lr"),
    ("data.bach", "data.batch"),
    ("losses.smd", "losses.sdm"),
    ("evals.test.optons.views", "evals.test.options.views"),
    ("optim.lr.x", "optim.lr"),
    ("optim.groups[0][1]", "optim.groups"),
  ],
)
def test_an_unknown_field_names_the_nearest(path, near):
  with pytest.raises(configs.ConfigError) as caught:
    configs.check_field(get("cfam"), path)
  assert f"--config.{path}: no such field; did you mean --config.{near}?" in str(
    caught.value
  )


def test_every_field_can_be_overridden():
  config = get("cfam")
  known = configs.fields(config)
  assert {"seed", "optim.lr", "evals.test.options.views", "shardings"} <= set(known)
  for path in (*known, "optim", "evals.test"):
    configs.check_field(config, path)
