"""Meshes and placement rules on eight virtual devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tpr_jax.core import sharding


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
