"""Adapters on layers of the towers: rules, first values, merging, published counts."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import test_aptm_config, tiny, tiny_cross
from tests.models import weights as drawing
from tpr_jax import freezing
from tpr_jax.core import tree
from tpr_jax.models import adapters, build
from tpr_jax.models.adapters import AdapterError
from tpr_jax.models.layers import adapter
from tpr_jax.models.layers.dense import Dense
from tpr_jax.models.swin import SwinTower
from tpr_jax.ops import lowrank

EVERY = "/(qkv|q|kv|out|fc|proj|reduction|projection|linear)$"
CASES = {
  "lora": dict(method="lora", rank=2),
  "dora": dict(method="dora", rank=2),
  "dora per input": dict(method="dora", rank=2, norm_per="input", a_init="normal"),
  "wora": dict(method="wora", rank=2),
  "wora, relative": dict(method="wora", rank=2, m_relative=True, norm_per="output"),
}
FAMILIES = {"clip": tiny, "cross": tiny_cross}


@functools.cache
def drawn(family, case, remat=False):
  """(plain model, adapted model, drawn variables of the latter, inputs)."""
  module = FAMILIES[family]
  rules = adapters.rules([(EVERY, CASES[case])])
  if family == "clip":
    plain = build.build(dict(tiny.FIELDS, remat=remat), vocab_size=tiny.VOCAB)
  else:
    fields = dict(remat=remat, projection="token", vision_depths=(1, 1))
    plain = tiny_cross.model(dict(itc=1.0, itm=1.0), **fields)
  adapted = plain.clone(adapters=rules)
  made = module.batch(2)
  inputs = (made["image"], made["text"])
  return plain, adapted, drawing.drawn(adapted, *inputs)["params"], inputs


def largest(found, expected):
  """Largest difference of outputs, in units of the largest entry of each."""
  return max(
    float(np.abs(np.float64(found[k]) - np.float64(x)).max() / np.abs(x).max())
    for k, x in expected.items()
    if x.dtype != bool
  )


@functools.cache
def applied(model, method=None):
  return jax.jit(functools.partial(model.apply, method=method))


@pytest.mark.parametrize(
  ("family", "case"), [*(("clip", case) for case in CASES), ("cross", "wora")]
)
def test_a_fresh_adapter_changes_nothing_and_a_merged_one_nothing_more(family, case):
  plain, adapted, params, inputs = drawn(family, case)
  leaves = tree.flat(params)
  own = {name for name in leaves if adapters.of_leaf(name)}
  base = tree.nested({k: v for k, v in leaves.items() if k not in own})
  # Of Swin + BERT, which is slow to compile, one tower.
  inputs, method = (inputs, None) if family == "clip" else (inputs[:1], "encode_image")
  run = lambda model, p: jax.device_get(applied(model, method)({"params": p}, *inputs))

  starts = {n: jnp.zeros_like(x) if n.endswith("/b") else x for n, x in leaves.items()}
  starts |= {n: jnp.ones(()) for n in own if n.endswith("/beta")}
  starts = adapters.restarted(
    adapted.adapters, jax.tree.map(jnp.asarray, tree.nested(starts)), ()
  )
  out = run(adapted, tree.nested(leaves))
  expected = run(plain, base)
  assert largest(run(adapted, starts), expected) < 1e-5
  assert largest(out, expected) > 1e-2

  merged = adapters.merged(adapted.adapters, leaves)
  assert set(merged) == set(tree.names(base))
  assert largest(run(plain, tree.nested(merged)), out) < 1e-5


def test_towers_that_are_recomputed_have_their_adapters_too():
  for family in FAMILIES:
    _, adapted, params, inputs = drawn(family, "wora")
    _, again, _, _ = drawn(family, "wora", remat=True)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
      jnp.shape, jax.eval_shape(again.init, jax.random.key(0), *inputs)["params"]
    )
    if family == "clip":  # quick to compile
      one, other = (applied(m)({"params": params}, *inputs) for m in (adapted, again))
      assert largest(other, one) < 1e-6


def test_first_values():
  for options in CASES.values():
    of = adapters.spec(options)
    with adapter.in_use(((".*", of),)):
      made = jax.eval_shape(Dense(48).init, jax.random.key(0), jnp.zeros((1, 16)))
    names = {name: leaf.shape for name, leaf in made["params"]["adapter"].items()}
    assert set(names) == adapter.leaf_names(of)
    assert (names["a"], names["b"]) == ((16, 2), (2, 48))
    per = {"input": (16, 1), "output": (1, 48), "": None}[of.norm_per]
    assert names.get("magnitude") == per
  kernel = jax.random.normal(jax.random.key(1), (400, 3))
  normal = adapter.first_a(jax.random.key(0), 400, adapters.spec(dict(method="wora")))
  assert float(normal.std()) == pytest.approx(8**-0.5, rel=0.05)
  uniform = adapter.first_a(jax.random.key(0), 400, adapters.spec(dict(method="lora")))
  assert 0.045 < np.abs(uniform).max() <= 0.05  # 1 / sqrt(400)
  wora = adapters.spec(dict(method="wora"))
  np.testing.assert_allclose(
    adapter.first_magnitude(kernel, wora), np.linalg.norm(kernel, axis=1)[:, None], 1e-6
  )


def test_dropout_is_of_what_the_adapter_reads_and_of_training_alone():
  rules = adapters.rules([(".*", dict(method="lora", rank=2, dropout=0.5))])
  layer, x = Dense(5), jax.random.normal(jax.random.key(0), (64, 6))
  with adapter.in_use(rules):
    params = drawing.drawn(layer, x)["params"]
    apply = lambda **rngs: layer.apply({"params": params}, x, rngs=rngs)
    plain, train = apply(), apply(dropout=jax.random.key(1))
    again = apply(dropout=jax.random.key(2))
  base = x @ params["kernel"] + params["bias"]
  low = plain - base
  assert np.abs(train - plain).max() > 0.1 and np.abs(train - again).max() > 0.1
  # Half of the inputs twice as large: right on the average.
  factors = adapter.factors(rules[0][1], params["kernel"], params["adapter"])
  assert np.linalg.matrix_rank(np.asarray(train - base), tol=1e-3) == 2
  np.testing.assert_allclose(low, 4.0 * x @ factors.a @ factors.b, atol=1e-4)


def test_weights_may_be_bfloat16_where_they_are_used():
  rules = adapters.rules([(".*", dict(method="wora", rank=2))])
  x = jax.random.normal(jax.random.key(0), (8, 16))
  with adapter.in_use(rules):
    params = drawing.drawn(Dense(24), x)
    exact = Dense(24).apply(params, x)
    rounded = Dense(24, dtype="bfloat16").apply(params, x.astype(jnp.bfloat16))
  assert rounded.dtype == jnp.bfloat16
  assert 0 < largest({"y": rounded}, {"y": exact}) < 0.03
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(params))


# ---- the published numbers


def aptm():
  c = test_aptm_config.get("cuhk_pedes")
  rules = ((r"^visual/stage_.*/(qkv|out|fc|proj|reduction)$", dict(method="wora")),)
  made = build.build(
    dict(test_aptm_config.fields(c), adapters=rules),
    vocab_size=30_522,
    heads=("itm", "mlm"),
  )
  image = jnp.zeros((1, 384, 128, 3), jnp.uint8)
  text = jnp.ones((1, 56), jnp.int32)
  shapes = jax.eval_shape(lambda k: made.init(k, image, text), jax.random.key(0))
  return made.adapters, shapes["params"]


def numbers(params, pattern):
  return tree.count(
    {n: x for n, x in tree.flat(params).items() if re.search(pattern, n)}
  )


def test_counts_of_wora_on_aptm():
  rules, params = aptm()
  chosen = adapters.adapted(rules, params)
  assert len(chosen) == 99 and all(spec.rank == 8 for spec in chosen.values())
  assert tree.count(params) == 214_456_629 + 1_671_110
  assert numbers(params, "/adapter/[ab]$") == 1_583_104
  assert numbers(params, "/adapter/magnitude$") == 87_808
  assert numbers(params, "/adapter/(alpha|beta)$") == 198
  code = freezing.frozen((), rules, params)
  assert tree.count(params) - freezing.count(code, params) == 86_615_808
  assert freezing.count(code, params) == 129_511_931
  visual = {n: x for n, x in tree.flat(params).items() if n.startswith("visual/")}
  assert tree.count({n: x for n, x in visual.items() if n not in code}) == 1_808_318
  figure = freezing.frozen(("^text/",), rules, params)
  assert freezing.count(figure, params) == 4_077_563


def test_counts_of_the_other_methods():
  tower = SwinTower((384, 128), (8, 8, 8, 4), (0.5,) * 3, (0.5,) * 3)
  image = jnp.zeros((1, 384, 128, 3), jnp.uint8)

  def params(method):
    rules = adapters.rules([("stage_.*/", dict(method=method))])
    with adapter.in_use(rules):
      return jax.eval_shape(tower.init, jax.random.key(0), image)["params"]

  dora = params("dora")
  assert numbers(dora, "/adapter/magnitude$") == 110_080
  assert numbers(dora, "/adapter/") - 110_080 == 1_583_104
  lora = params("lora")
  assert numbers(lora, "/adapter/") == numbers(lora, "/adapter/[ab]$") == 1_583_104


def test_defaults_are_those_of_the_table():
  table = {
    "lora": ("", False, False, False, True, "kaiming"),
    "dora": ("output", False, False, True, True, "kaiming"),
    "wora": ("input", True, True, False, False, "normal"),
  }
  for method, expected in table.items():
    s = adapters.spec(dict(method=method))
    assert (
      s.norm_per,
      s.learn_scale,
      s.learn_base_scale,
      s.detach_norm,
      s.scale_by_rank,
      s.a_init,
    ) == expected
    assert (s.rank, s.alpha_init, s.beta_init) == (8, 8.0, 1.0)
    assert (s.dropout, s.m_relative) == (0.0, False)


# ---- rules


@functools.cache
def layers(family):
  module = FAMILIES[family]
  return jax.eval_shape(module.init_fn(module.model()), jax.random.key(0))


def test_the_first_rule_that_matches_counts():
  rules = adapters.rules(
    [("/qkv$", dict(method="lora", rank=1)), ("^visual/", dict(method="wora", rank=2))]
  )
  found = adapters.adapted(rules, layers("clip"))
  assert {n.rpartition("/")[2] for n in found} == {
    "qkv",
    "out",
    "fc",
    "proj",
    "projection",
  }
  assert all((s.method == "lora") == n.endswith("/qkv") for n, s in found.items())
  assert "text/blocks/block_0/attn/qkv" in found  # no head has a qkv here
  assert "visual/patch_embedding" not in found  # a convolution


@pytest.mark.parametrize(
  ("rule", "message"),
  [
    (("x", dict(method="worra")), "unknown method 'worra'; did you mean 'wora'?"),
    (("x", dict(rank=2)), "unknown method None"),
    (("x", dict(method="wora", rnak=2)), "unknown option 'rnak'; did you mean 'rank'?"),
    (("x", dict(method="wora", rank="2")), "rank='2': expected a int, for example 8"),
    (("x", dict(method="wora", rank=0)), "rank=0: expected 1 or more"),
    (("x", dict(method="lora", dropout=1.0)), "dropout=1.0: expected 0 to below 1"),
    (("x", dict(method="dora", norm_per="inputs")), "did you mean 'input'?"),
    (("x", dict(method="dora", norm_per="")), "unknown norm_per ''"),
    (("x", dict(method="lora", norm_per="input")), "lora does not: leave it out"),
    (("x", dict(method="wora", a_init="uniform")), "unknown a_init 'uniform'"),
    (("x", dict(method="wora", beta_init=0)), "beta_init=0.0: expected above 0"),
    (("x", dict(method="lora", beta_init=0.5)), "beta_init=0.5: expected 1, for lora"),
    (("(", dict(method="wora")), "'(' is no regular expression"),
    ("visual", "'visual' is no pair of a regex and options"),
    (("visual", "wora"), "'wora' are no options"),
  ],
)
def test_a_rule_that_cannot_be_is_an_error(rule, message):
  with pytest.raises(AdapterError, match=re.escape(message)):
    build.settings(dict(tiny.FIELDS, adapters=(rule,)))


def test_rules_that_no_layer_takes_are_errors():
  wora = dict(method="wora", rank=2)
  rules = adapters.rules([("visual/stages_.*/qkv", wora)])
  message = r"no dense layer; the nearest of \d+ are visual/stage_\d/block_\d/attn/qkv"
  with pytest.raises(AdapterError, match=message):
    adapters.check(rules, layers("cross"))
  rules = adapters.rules([("visual", wora), ("visual/stage_0", wora)])
  with pytest.raises(AdapterError, match=r"an earlier rule takes \('visual'\)"):
    adapters.check(rules, layers("cross"))
  rules = adapters.rules([("^mlm/", wora)])  # a head that this model lacks
  everything = functools.partial(dict, mlm={"q": {"kernel": np.zeros((2, 2))}})
  adapters.check(rules, layers("clip"), everything)
  with pytest.raises(AdapterError):
    adapters.check(rules, layers("clip"))


def test_a_rank_above_the_layer_is_an_error():
  model = tiny.model().clone(
    adapters=adapters.rules([("/qkv$", dict(method="lora", rank=17))])
  )
  with pytest.raises(
    ValueError, match=r"rank=17 of \S+/attn/qkv, whose kernel is 16 x 48"
  ):
    jax.eval_shape(tiny.init_fn(model), jax.random.key(0))


def test_adapters_of_a_run_stay_where_the_model_has_them_and_merge_elsewhere():
  _, adapted, params, _ = drawn("clip", "wora")
  weights = tree.flat(params)
  ours = adapters.rules([("^visual/.*/qkv$", CASES["wora"])])
  found = adapters.fitted(adapted.adapters, weights, ours)
  layer = "visual/blocks/block_0/attn/qkv"
  np.testing.assert_array_equal(found[f"{layer}/kernel"], weights[f"{layer}/kernel"])
  assert {adapters.of_leaf(n) for n in found} - {None} == {
    "visual/blocks/block_0/attn/qkv"
  }
  merged = adapters.merged(adapted.adapters, weights)
  other = "visual/blocks/block_0/mlp/fc/kernel"
  np.testing.assert_array_equal(found[other], merged[other])
  message = "attn/qkv has another kind of adapter: rank 2 there and 4 here"
  with pytest.raises(AdapterError, match=message):
    adapters.fitted(
      adapted.adapters,
      weights,
      adapters.rules([("/qkv$", dict(CASES["wora"], rank=4))]),
    )
  # What only training and the start need may change.
  adapters.fitted(
    adapted.adapters,
    weights,
    adapters.rules([(".", dict(CASES["wora"], alpha_init=2.0))]),
  )


def test_merging_needs_every_leaf_and_a_rule():
  _, adapted, params, _ = drawn("clip", "wora")
  weights = tree.flat(params)
  name = "visual/blocks/block_0/attn/qkv/adapter/beta"
  with pytest.raises(AdapterError, match=f"{name} is missing"):
    adapters.merged(adapted.adapters, {n: x for n, x in weights.items() if n != name})
  with pytest.raises(AdapterError, match="has an adapter, and no rule"):
    adapters.merged((), weights)


def test_a_merged_kernel_is_in_float32():
  spec = adapters.spec(dict(method="wora", rank=1, alpha_init=2.0, beta_init=0.5))
  leaves = dict(a=[[1.0], [2.0]], b=[[0.5, -0.25]], alpha=2.0, beta=0.5)
  leaves["magnitude"] = [[5.0], [5.0]]
  weights = {f"x/adapter/{n}": np.float32(v) for n, v in leaves.items()}
  weights["x/kernel"] = np.float32([[3, 4], [0, 5]])
  found = adapters.merged((("x", spec),), weights)
  assert set(found) == {"x/kernel"} and found["x/kernel"].dtype == np.float32
  expected = [[4.28746463, 2.57247878], [4.0, 3.0]]
  np.testing.assert_allclose(found["x/kernel"], expected, rtol=1e-6)
  length = lowrank.norms(jnp.asarray(found["x/kernel"]), "input")
  np.testing.assert_allclose(length, [[5.0], [5.0]], rtol=1e-6)
