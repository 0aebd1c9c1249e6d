"""Meshes and placement rules on eight virtual devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tpr_jax.core import sharding, tree


def test_mesh_fills_the_free_axis():
  mesh = sharding.make_mesh(dict(data=-1, fsdp=2, tensor=1))
  assert dict(mesh.shape) == dict(data=4, fsdp=2, tensor=1)
  assert sharding.batch_shards(mesh) == 8


@pytest.mark.parametrize(
  ("sizes", "message"),
  [
    (dict(data=3), "needs 3 devices, found 8"),
    (dict(data=-1, fsdp=3), "needs 6 devices, found 8"),
    (dict(data=-1, fsdp=-1), "at most one is -1"),
    (dict(dta=8), "unknown axis 'dta'"),
  ],
)
def test_mesh_errors(sizes, message):
  with pytest.raises(ValueError, match=message):
    sharding.make_mesh(sizes)


def test_rules_place_parameters_and_moments_alike():
  mesh = sharding.make_mesh(dict(data=2, fsdp=2, tensor=2))
  params = {"a": {"kernel": jnp.zeros((6, 8)), "bias": jnp.zeros(3)}}
  state = {"params": params, "mu": params, "count": jnp.zeros(())}
  rules = (("a/kernel$", (None, "tensor")), ("a/", "fsdp"), (".*", "replicate"))
  placed = sharding.state_shardings(state, mesh, rules)
  assert placed["params"]["a"]["kernel"].spec == PartitionSpec(None, "tensor")
  assert placed["mu"]["a"]["kernel"].spec == PartitionSpec(None, "tensor")
  assert placed["mu"]["a"]["bias"].spec == PartitionSpec()  # 3 does not divide
  assert placed["count"].spec == PartitionSpec()


def test_fsdp_splits_the_largest_dimension_that_divides():
  mesh = sharding.make_mesh(dict(data=2, fsdp=4))
  placed = sharding.state_shardings(
    {"w": jnp.zeros((4, 9, 8))}, mesh, ((".*", "fsdp"),)
  )
  assert placed["w"].spec == PartitionSpec(None, None, "fsdp")


def test_rule_errors_name_the_parameter():
  mesh = sharding.make_mesh(dict(data=4, tensor=2))
  tree = {"w": jnp.zeros((3, 4))}
  with pytest.raises(ValueError, match=r"w .* 3 is not a multiple of the 2 devices"):
    sharding.state_shardings(tree, mesh, ((".*", ("tensor", None)),))
  with pytest.raises(ValueError, match="unknown rule 'split'"):
    sharding.state_shardings(tree, mesh, ((".*", "split"),))


def test_to_global_keeps_rows():
  mesh = sharding.make_mesh(dict(data=-1))
  rows = np.arange(48, dtype=np.float32).reshape(16, 3)
  found = sharding.to_global({"x": rows}, sharding.batch_sharding(mesh))["x"]
  np.testing.assert_array_equal(jax.device_get(found), rows)
  assert len(found.addressable_shards) == 8
  assert found.addressable_shards[0].data.shape == (2, 3)


# ---- named rules


def spec(rule, shape, **sizes):
  mesh = sharding.make_mesh(sizes)
  leaf = jax.ShapeDtypeStruct(shape, jnp.float32)
  return sharding.state_shardings({"w": leaf}, mesh, (("w", rule),))["w"].spec


@pytest.mark.parametrize(
  ("rule", "shape", "expected"),
  [
    ("column", (8, 4), PartitionSpec("fsdp", "tensor")),
    ("column", (3, 4), PartitionSpec(None, ("tensor", "fsdp"))),  # 3 does not divide
    ("column", (8, 3), PartitionSpec("fsdp")),
    ("column", (3, 3), PartitionSpec()),
    ("column", (4,), PartitionSpec("tensor")),
    ("row", (8, 4), PartitionSpec(("tensor", "fsdp"))),
    ("row", (2, 4), PartitionSpec("tensor", "fsdp")),
    ("row", (3, 4), PartitionSpec(None, "fsdp")),
    ("row", (4,), PartitionSpec()),
    ("fsdp", (2, 4, 3), PartitionSpec(None, "fsdp")),
    ("fsdp", (), PartitionSpec()),
    ("replicate", (8, 8), PartitionSpec()),
    ((("fsdp", "tensor"), None), (8, 3), PartitionSpec(("fsdp", "tensor"))),
    ([None, "tensor"], [3, 8], PartitionSpec(None, "tensor")),  # as JSON has it
  ],
)
def test_named_rules_split_what_divides(rule, shape, expected):
  assert spec(rule, tuple(shape), data=2, fsdp=2, tensor=2) == expected


def test_named_rules_ask_for_nothing_on_an_axis_of_one_device():
  assert spec("row", (8, 8), fsdp=8) == PartitionSpec("fsdp")
  assert spec("column", (8, 8), data=4, tensor=2) == PartitionSpec(None, "tensor")
  assert spec("column", (8, 8), data=8) == PartitionSpec()


@pytest.mark.parametrize(
  ("rule", "message"),
  [
    (("tensor",), r"w \(4, 8\) has 2 dimensions, its rule \('tensor',\) has 1"),
    (("tensr", None), "unknown axis 'tensr'"),
    (("tensor", "tensor"), "uses an axis twice"),
    ((None, ("data", "fsdp", "tensor")), None),
    ((("data", "fsdp", "tensor"), None), r"4 is not a multiple of the 8 devices"),
    ("rows", "unknown rule 'rows' for w"),
  ],
)
def test_exact_rules_are_strict(rule, message):
  if message is None:
    assert spec(rule, (4, 8), data=2, fsdp=2, tensor=2)[1] == rule[1]
    return
  with pytest.raises(ValueError, match=message):
    spec(rule, (4, 8), data=2, fsdp=2, tensor=2)


def test_rules_see_the_names_of_parameters_not_of_the_state():
  mesh = sharding.make_mesh(dict(fsdp=8))
  params = {"text": {"table": jnp.zeros((8, 3))}, "table": jnp.zeros((8, 3))}
  state = {"params": params, "opt": [{"mu": params, "nu": params}]}
  placed = tree.flat(sharding.state_shardings(state, mesh, (("^table", "fsdp"),)))
  split = {name for name, found in placed.items() if found.spec != PartitionSpec()}
  assert split == {"params/table", "opt/0/mu/table", "opt/0/nu/table"}


def test_auto_stands_for_the_default_rules_after_ones_own():
  own = ("mlp/fc", "replicate")
  assert sharding.expand((own, "auto")) == (own, *sharding.AUTO)
  assert sharding.expand("auto") == sharding.expand(("auto",)) == sharding.AUTO
  with pytest.raises(ValueError, match="'atuo' is neither 'auto' nor a pair"):
    sharding.expand(("atuo",))
  with pytest.raises(ValueError, match="neither 'auto' nor a pair"):
    sharding.expand(((".*", "fsdp", 1),))


def test_the_rules_of_older_runs_still_place_a_model():
  old = [[".*", "replicate"]]  # what their config.json holds
  mesh = sharding.make_mesh(dict(fsdp=4, tensor=2))
  placed = sharding.state_shardings({"w": jnp.zeros((8, 8))}, mesh, old)
  assert placed["w"].spec == PartitionSpec()


# ---- what a run is told


PARAMS = {"a": {"kernel": jnp.zeros((8, 8)), "bias": jnp.zeros(8)}}


@pytest.mark.parametrize(
  ("sizes", "rules", "message"),
  [
    (dict(data=8), ("auto", ("b/kernl", "fsdp")), "'b/kernl' matches no parameter"),
    (dict(data=4, tensor=2), (("a/", "fsdp"),), "mesh.tensor=2: .* split no parameter"),
    (dict(fsdp=8), ((".*", "replicate"),), "mesh.fsdp=8: .* split no parameter"),
    (dict(data=8), (("a/", "fsd"),), "unknown rule 'fsd'"),
  ],
)
def test_rules_that_do_nothing_are_errors(sizes, rules, message):
  with pytest.raises(ValueError, match=message):
    sharding.check_rules(PARAMS, sharding.make_mesh(sizes), rules)


def test_rules_may_be_for_a_head_that_is_left_out():
  mesh = sharding.make_mesh(dict(fsdp=8))
  complete = {**PARAMS, "head": {"kernel": jnp.zeros(8)}}
  rules = (("^head/", "replicate"), "auto")
  sharding.check_rules(PARAMS, mesh, rules, lambda: complete)
  with pytest.raises(ValueError, match="matches no parameter"):
    sharding.check_rules(PARAMS, mesh, rules)


def test_the_mesh_is_described_in_one_line():
  state = {"w": jnp.zeros((256, 1024)), "b": jnp.zeros((128, 1024))}  # 1 and 0.5 MiB
  mesh = sharding.make_mesh(dict(data=2, fsdp=4))
  placed = sharding.state_shardings(state, mesh, (("w", "fsdp"),))
  assert sharding.describe(state, placed) == (
    "mesh: data 2 x fsdp 4 = 8 devices; 1.0 of 1.5 MiB of state are split, 0.8 MiB on"
    " each device"
  )
  one = sharding.make_mesh({}, jax.devices()[:1])
  placed = sharding.state_shardings(state, one, ("auto",))
  assert sharding.describe(state, placed) == "mesh: 1 device; 1.5 MiB of state"


def test_split_does_nothing_outside_of_a_step():
  x = jnp.zeros((8, 8))
  assert sharding.split(x, "batch", "tensor") is x
  assert not sharding.divides("tensor", 8)
  with jax.set_mesh(jax.make_mesh((8,), ("model",))):  # somebody else's mesh
    assert jax.jit(lambda x: sharding.split(x, "batch"))(np.ones((8, 8))).sum() == 64


def test_a_step_gathers_parameters_and_cuts_gradients():
  mesh = sharding.make_mesh(dict(data=2, fsdp=2, tensor=2))
  params = {"w": jnp.arange(64.0).reshape(8, 8)}
  params_sh = sharding.state_shardings(params, mesh, (("w", "column"),))
  seen = []

  def grad_fn(params, batch, key):
    del key
    seen.append(sharding.divides("tensor", 4) and not sharding.divides("tensor", 3))
    loss = lambda p: jnp.sum(sharding.split(batch["x"] @ p["w"], "batch", "tensor"))
    value, grads = jax.value_and_grad(loss)(params)
    return (value, {}), grads

  batch = {"x": np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)}
  placed = jax.jit(
    sharding.on_mesh(grad_fn, mesh, params_sh),
    in_shardings=(params_sh, sharding.batch_sharding(mesh), None),
  )
  (value, _), grads = placed(params, batch, jax.random.key(0))
  (expected, _), wanted = grad_fn(params, batch, None)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  np.testing.assert_allclose(grads["w"], wanted["w"], rtol=1e-5, atol=1e-5)
  assert grads["w"].sharding == params_sh["w"] and seen[0]
