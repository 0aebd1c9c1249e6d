"""Two processes encode a split, and rank, as one does; one's error is both's."""

import json

import jax
import numpy as np
import pytest

from tests import several, several_encoding
from tpr_jax.core import processes, sharding


@pytest.fixture(scope="module")
def two(tmp_path_factory):
  """What each of two processes found."""
  folder = tmp_path_factory.mktemp("two")
  run = several.Several(
    folder, f"--out={folder}", module="tests.several_encoding", timeout=60
  )
  assert run.wait() == [0, 0], run.said(0) + run.said(1)
  return [json.loads((folder / f"worker{i}.json").read_text()) for i in (0, 1)]


@pytest.fixture(scope="module")
def one():
  """The same in this process, with as many devices."""
  mesh = sharding.make_mesh({"data": -1}, jax.devices()[:4])
  return json.loads(json.dumps(several_encoding.work(mesh)))


def test_features_are_those_of_one_process_to_the_byte(one, two):
  for found in two:
    for key in ("digest", "arrays", "records", "captions"):
      assert found[key] == one[key], key


def test_a_picture_is_read_by_one_process_and_no_other(one, two):
  first, second = (found["asked"] for found in two)
  assert first == [r for r in one["asked"] if r % 8 < 4]
  assert second == [r for r in one["asked"] if r % 8 >= 4]
  assert one["asked"] == list(range(several_encoding.RECORDS))
  assert one["given"] == len(one["captions"])
  assert one["given"] == two[0]["given"] + two[1]["given"]


def test_broken_pictures_are_listed_whoever_met_them(one, two):
  assert [name for name, _ in one["broken"]] == ["13.png", "18.png", "5.png"]
  assert all("cut short after" in why for _, why in one["broken"])
  assert two[0]["broken"] == two[1]["broken"] == one["broken"]


def test_nothing_to_evaluate_is_an_error_everywhere(one, two):
  assert "no readable image" in one["nothing"]
  assert [found["nothing"] for found in two] == [one["nothing"]] * 2


@pytest.mark.parametrize("split", ["False", "True"], ids=["whole", "split"])
def test_rankings_are_those_of_one_process(one, two, split):
  for found in two:
    assert found["ranked"][split]["exact"] == one["ranked"][split]["exact"]
    for key in ("ap", "sd", "scores"):
      ours, theirs = (np.array(x["ranked"][split][key]) for x in (found, one))
      np.testing.assert_allclose(ours, theirs, rtol=2e-6)


def test_the_error_of_one_is_raised_in_all(two):
  assert two[1]["together"] == "DatasetError: no folder /data here"
  assert (
    two[0]["together"] == "PeerError: process 1: DatasetError: no folder /data here"
  )


def test_after_leaving_none_waits_for_another(two):
  assert two[0]["ended"] - two[1]["ended"] > 2.5


def test_devices_of_a_mesh_may_be_in_any_order(one, two):
  for found in (each["crossed"] for each in two):
    for key in ("digest", "records", "captions", "broken"):
      assert found[key] == one[key], key
  assert sorted(two[0]["crossed"]["asked"] + two[1]["crossed"]["asked"]) == one["asked"]


def test_where_only_parameters_are_split_both_read_everything(one, two):
  for found in (each["tensor"] for each in two):
    for ours, theirs in zip(found["features"], one["features"], strict=True):
      np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for key in ("records", "captions", "broken", "asked", "given"):
      assert found[key] == one[key], key


# ---- what one process can show


def test_shares_of_a_batch():
  halves = {0: {0, 1}, 1: {2, 3}}
  assert [sharding._share(halves, p, 4) for p in (0, 1)] == [(0, 2), (1, 2)]
  # Devices of a mesh need not be in the order of their processes.
  crossed = {0: {1, 3}, 1: {0, 2}}
  assert [sharding._share(crossed, p, 4) for p in (0, 1)] == [(1, 2), (0, 2)]
  pairs = {0: {0}, 1: {0}, 2: {1}, 3: {1}}
  assert [sharding._share(pairs, p, 2) for p in range(4)] == [(0, 2)] * 2 + [(1, 2)] * 2


@pytest.mark.parametrize(
  ("held", "shards"),
  [
    ({0: {0, 1}, 1: {2}}, 3),
    ({0: {0, 1}, 1: {1, 2}}, 3),
    ({1: {0, 1}}, 2),
  ],
  ids=["unequal", "overlapping", "none"],
)
def test_a_mesh_without_equal_shares_is_an_error(held, shards):
  with pytest.raises(ValueError, match="process 0 has no share of its own"):
    sharding._share(held, 0, shards)


def test_one_process_reads_all():
  assert sharding.batch_share(sharding.make_mesh(dict(data=4, fsdp=2))) == (0, 1)


@pytest.mark.parametrize("spec", [("data",), (), (None, "data")])
def test_put_places_what_device_put_would(spec):
  mesh = sharding.make_mesh(dict(data=4, fsdp=2))
  where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
  tree = {"a": np.arange(32.0).reshape(4, 8), "b": [np.ones((8, 4), np.int32)]}
  ours, theirs = sharding.put(tree, where), jax.device_put(tree, where)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    assert a.sharding == b.sharding and a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def test_together_lets_an_error_through_in_one_process():
  with pytest.raises(KeyError, match="lost"), processes.together():
    raise KeyError("lost")
  with processes.together():
    pass
  processes.leave()
