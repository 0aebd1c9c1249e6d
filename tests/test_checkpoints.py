"""Checkpoints: whole or absent, kept by score and recency, restored anywhere."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.data.noise import dataset
from tpr_jax.checkpoints import CheckpointError, Checkpoints, abstract
from tpr_jax.core import sharding, tree
from tpr_jax.core.types import TrainState
from tpr_jax.data import pipeline, tokenizer

FSDP = ((".*", "fsdp"),)
WHOLE = ((".*", "replicate"),)
TX = optax.adam(1e-3)


def mesh_of(count, **sizes):
  return sharding.make_mesh(sizes or {"data": count}, jax.devices()[:count])


ONE = mesh_of(1)


def make_state(seed=0, rows=8, extra=None):
  rng = np.random.default_rng(seed)
  kernel = jnp.asarray(rng.normal(size=(rows, 4)), jnp.float32)
  params = {"visual": {"kernel": kernel, "bias": jnp.arange(4.0)}}
  if extra:
    params[extra] = {"kernel": jnp.ones((2, 2))}
  return TrainState(
    step=jnp.asarray(seed, jnp.int32), params=params, opt_state=TX.init(params)
  )


def wanted(state, mesh=ONE, rules=WHOLE):
  return abstract(state, sharding.state_shardings(state, mesh, rules))


def batches(**options):
  given = dict(pipe="resize(16,8)|flip(0.5)", length=8, batch=4, seed=3, threads=1)
  return pipeline.train_iterator(
    dataset(), tokenizer.build("people"), **{**given, **options}
  )


def write(saved, steps, scores=None):
  """A checkpoint for each step; `scores` by step."""
  for step in steps:
    saved.save(step, make_state(step), {"step": step}, (scores or {}).get(step))
  saved.wait()


def assert_equal(found, expected):
  assert tree.names(found) == tree.names(expected)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  """(folder, state, batches that followed) of one checkpoint at step 7."""
  folder = tmp_path_factory.mktemp("run") / "checkpoints"
  state, data = make_state(7), batches()
  for _ in range(5):
    next(data)
  saved = Checkpoints(folder)
  meta = {"step": 7, "config": {"seed": 0, "sizes": [1, 2]}, "versions": {"a": "1"}}
  saved.save(7, state, {**meta, "data": data.get_state()}, score=50.0)
  saved.wait()
  saved.close()
  return folder, state, [next(data) for _ in range(3)]


def test_state_meta_and_data_position_come_back(written):
  folder, state, following = written
  data = batches()
  saved = Checkpoints(folder)
  found, meta = saved.restore(7, wanted(state))
  data.set_state(meta["data"])
  saved.close()
  assert_equal(found, state)
  assert meta["step"] == 7 and meta["versions"] == {"a": "1"}
  assert meta["config"] == {"seed": 0, "sizes": [1, 2]}
  for expected in following:
    batch = next(data)
    for key in expected:
      np.testing.assert_array_equal(batch[key], expected[key])


def test_parameters_alone_come_back_without_the_optimizer(written):
  folder, state, _ = written
  saved = Checkpoints(folder, read_only=True)
  assert_equal(saved.restore_params(7, wanted(state.params)), state.params)
  saved.close()


@pytest.mark.parametrize(
  ("sizes", "rules"), [(dict(data=8), WHOLE), (dict(data=2, fsdp=4), FSDP)]
)
def test_saved_on_any_layout_restored_on_any_other(tmp_path, sizes, rules):
  state, mesh = make_state(3), mesh_of(8, **sizes)
  spread = jax.device_put(state, sharding.state_shardings(state, mesh, rules))
  saved = Checkpoints(tmp_path / "c")
  saved.save(3, spread, {"step": 3})
  saved.wait()
  for target, target_rules in [
    (ONE, WHOLE),
    (mesh_of(8), WHOLE),
    (mesh_of(8, fsdp=8), FSDP),
  ]:
    ask = wanted(state, target, target_rules)
    found, _ = saved.restore(3, ask)
    assert_equal(found, state)
    params = saved.restore_params(3, ask.params)
    assert_equal(params, state.params)
    for leaf, spec in zip(
      jax.tree.leaves((found.params, params)),
      jax.tree.leaves((ask.params, ask.params)),
      strict=True,
    ):
      assert leaf.sharding.is_equivalent_to(spec.sharding, leaf.ndim)
  saved.close()


def test_the_newest_two_and_the_best_are_kept(tmp_path):
  folder = tmp_path / "c"
  saved = Checkpoints(folder)
  write(saved, [1, 2, 3, 4, 5], {1: 10.0, 2: 30.0, 3: 20.0, 4: 25.0, 5: 5.0})
  assert (saved.latest(), saved.best()) == (5, 2)
  saved.close()
  assert sorted(int(p.name) for p in folder.iterdir()) == [2, 4, 5]
  again = Checkpoints(folder, read_only=True)
  assert (again.latest(), again.best()) == (5, 2)
  assert again.scores() == {2: 30.0, 4: 25.0, 5: 5.0}
  again.close()


def test_equal_scores_keep_and_name_the_latest(tmp_path):
  saved = Checkpoints(tmp_path / "c")
  write(saved, [1, 2, 3, 4, 5], {1: 30.0, 2: 30.0, 3: 20.0, 4: 25.0, 5: 5.0})
  assert saved.best() == 2
  saved.close()
  assert sorted(int(p.name) for p in (tmp_path / "c").iterdir()) == [2, 4, 5]


def test_without_scores_only_the_newest_are_kept_and_none_is_best(tmp_path):
  saved = Checkpoints(tmp_path / "c", keep_last=1)
  write(saved, [1, 2, 3])
  assert (saved.latest(), saved.best(), saved.scores()) == (3, None, {})
  saved.close()
  assert [p.name for p in (tmp_path / "c").iterdir()] == ["3"]


def test_a_checkpoint_without_a_score_never_displaces_a_scored_one(tmp_path):
  # An interruption saves without a validation.
  saved = Checkpoints(tmp_path / "c")
  write(saved, [1, 2, 3, 4], {1: 10.0})
  assert (saved.latest(), saved.best()) == (4, 1)
  saved.close()
  again = Checkpoints(tmp_path / "c")
  assert again.scores() == {1: 10.0}
  write(again, [5, 6], {5: 20.0})  # selection goes on where it was
  assert (again.latest(), again.best()) == (6, 5)
  again.close()
  assert sorted(int(p.name) for p in (tmp_path / "c").iterdir()) == [5, 6]


def test_a_step_is_written_once(tmp_path):
  saved = Checkpoints(tmp_path / "c")
  write(saved, [1])
  saved.save(1, make_state(2), {"step": 1})
  saved.wait()
  found, _ = saved.restore(1, wanted(make_state(1)))
  assert_equal(found, make_state(1))
  saved.close()


def test_an_empty_folder_has_neither_latest_nor_best(tmp_path):
  saved = Checkpoints(tmp_path / "c")
  assert (saved.latest(), saved.best(), saved.scores()) == (None, None, {})
  saved.close()


# ---- what does not fit


def test_a_missing_step_says_which_there_are(written):
  folder, state, _ = written
  saved = Checkpoints(folder, read_only=True)
  with pytest.raises(CheckpointError, match=r"no checkpoint of step 8.*\[7\]"):
    saved.restore(8, wanted(state))
  with pytest.raises(CheckpointError, match=r"no checkpoint of step 8.*\[7\]"):
    saved.restore_params(8, wanted(state.params))
  saved.close()


def test_reading_a_missing_folder_is_an_error_and_makes_nothing(tmp_path):
  with pytest.raises(CheckpointError, match="is this a run's folder"):
    Checkpoints(tmp_path / "c", read_only=True)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(rows=9), r"visual/kernel.*\(8, 4\).*\(9, 4\)"),
    (dict(extra="matcher"), "matcher/kernel"),
  ],
)
@pytest.mark.parametrize("part", ["state", "params"])
def test_another_model_is_named_by_what_differs(written, change, message, part):
  folder, _, _ = written
  other = make_state(7, **change)
  saved = Checkpoints(folder, read_only=True)
  with pytest.raises(CheckpointError, match=message) as caught:
    if part == "state":
      saved.restore(7, wanted(other))
    else:
      saved.restore_params(7, wanted(other.params))
  assert len(str(caught.value)) < 1000  # for people, not a dump of both trees
  saved.close()


def test_a_parameter_too_many_in_the_checkpoint_is_named(tmp_path):
  saved = Checkpoints(tmp_path / "c")
  saved.save(1, make_state(1, extra="matcher"), {"step": 1})
  saved.wait()
  small = make_state(1)
  with pytest.raises(CheckpointError, match="matcher/kernel"):
    saved.restore(1, wanted(small))
  # Evaluation drops heads on purpose: the parameters asked for are all there.
  assert_equal(saved.restore_params(1, wanted(small.params)), small.params)
  saved.close()


def test_meta_is_plain_json_on_disk(written):
  folder, _, _ = written
  meta = json.loads((folder / "7" / "meta" / "metadata").read_text())
  assert meta["config"]["sizes"] == [1, 2]
