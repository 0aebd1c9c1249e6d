"""What is frozen: no gradient, no optimizer state, no change; on any mesh."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

from tests import layouts, tiny
from tpr_jax import freezing, gradients, program
from tpr_jax.core import sharding, tree
from tpr_jax.models import adapters

# Both axes of the norm, and q, k, v in another order where "tensor" divides the heads.
RULES = (
  ("^visual/.*/(qkv|out|fc|proj)$", dict(method="wora", rank=2)),
  ("^text/.*/(qkv|out|fc|proj)$", dict(method="dora", rank=2, learn_scale=True)),
)
FREEZE = ("token_embedding$", "/ln_[12]/")
STEPS = 5


@functools.cache
def program_of(layout, micro_batches=1, family="CLIP", freeze=FREEZE, given=RULES):
  c = layouts.config(family, micro_batches)
  c.optim.freeze, c.optim.eps = freeze, 1e-4
  made = program.build(
    c,
    # Drop-path is drawn for each piece of a batch.
    dict(layouts.fields(c), adapters=given, drop_path=0.0, vision_layers=1),
    tokenizer=layouts.TOKENIZER,
    num_classes=layouts.CLASSES,
    mesh=layouts.mesh(layout),
    steps=100,
    steps_per_epoch=10,
    captions=100,
  )
  return c, made


@functools.cache
def steps_of(layout, micro_batches=1, family="CLIP"):
  """(states before and after, metrics of each step): B, which starts at 0, drawn."""
  c, made = program_of(layout, micro_batches, family)
  where = layouts.mesh(layout)
  state = made.plan.create(jax.random.key(0))
  rng = np.random.default_rng(0)
  moved = {
    name: sharding.put(0.1 * rng.normal(size=x.shape).astype(np.float32), x.sharding)
    for name, x in tree.flat(state.params).items()
    if name.endswith("/adapter/b")
  }
  state = state.replace(params=tree.replace(state.params, moved))
  key, before, metrics = jax.random.key(5), jax.device_get(state), []
  lowered = made.step.lower(made.plan.shapes, program.batch_shapes(c, where)[0], key)
  step = lowered.compile()
  for at in range(STEPS):
    rows = sharding.to_global(layouts.batch(at), sharding.batch_sharding(where))
    state, found = step(state, rows, key)
    metrics.append({name: float(x) for name, x in found.items()})
  return before, jax.device_get(state), metrics


def test_what_is_frozen_stays_and_everything_else_moves():
  _, made = program_of(layouts.ONE)
  before, after, metrics = steps_of(layouts.ONE)
  old, new = tree.flat(before.params), tree.flat(after.params)
  assert made.frozen == freezing.frozen(FREEZE, made.model.adapters, before.params)
  for name, value in old.items():
    same = np.array_equal(new[name], value)
    assert same == (name in made.frozen), name
  assert metrics[-1]["loss"] != metrics[0]["loss"]
  kernels = {n for n in made.frozen if re.search("/(kernel|bias)$", n)}
  layers = adapters.adapted(made.model.adapters, before.params)
  assert len(layers) == 8
  assert kernels >= {f"{n}/{end}" for n in layers for end in ("kernel", "bias")}
  assert "text/token_embedding" in made.frozen and "visual/ln_post/scale" in old


def test_the_optimizer_has_a_state_of_what_trains_alone():
  _, made = program_of(layouts.ONE)
  _, after, _ = steps_of(layouts.ONE)
  moments = tree.flat(after.opt_state)
  trained = set(tree.names(after.params)) - made.frozen
  for kind in ("mu", "nu"):
    found = {n.partition(f"/{kind}/")[2] for n in moments if f"/{kind}/" in n}
    assert found == trained
  size = sum(x.nbytes for x in jax.tree.leaves(after.opt_state))
  count = freezing.count(made.frozen, after.params)
  assert 8 * count <= size <= 8 * count + 16  # and counters
  assert count < 0.5 * tree.count(after.params)
  said = freezing.describe(made.frozen, made.plan.shapes)
  assert said.startswith(f"{count:,} of {tree.count(after.params):,} parameters train")


def test_no_gradient_of_what_is_frozen_is_computed():
  _, made = program_of(layouts.ONE)
  objective = dataclasses.replace(layouts.objective("CLIP"), model=made.model)
  params = made.plan.shapes.params
  arguments = (params, layouts.batch(0), jax.random.key(0))
  fn = gradients.make_grad_fn(objective, trained=lambda p: tree.without(p, made.frozen))
  whole = gradients.make_grad_fn(objective)
  _, grads = jax.eval_shape(fn, *arguments)
  assert set(tree.names(grads)) == set(tree.names(params)) - made.frozen
  flops = [jax.jit(f).lower(*arguments).cost_analysis()["flops"] for f in (fn, whole)]
  assert flops[0] < 0.8 * flops[1]


@pytest.mark.parametrize(
  ("layout", "micro_batches"),
  [
    ("data 2 x fsdp 2 x tensor 2", 1),
    pytest.param(layouts.ONE, 2, marks=pytest.mark.proof),
  ],
)
def test_devices_and_micro_batches_change_nothing(layout, micro_batches):
  start, expected, numbers = steps_of(layouts.ONE)
  before, found, others = steps_of(layout, micro_batches)
  for one, other in zip(numbers, others, strict=True):
    assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
  frozen = program_of(layout, micro_batches)[1].frozen
  start, before, found = (tree.flat(s.params) for s in (start, before, found))
  for name, value in tree.flat(expected.params).items():
    np.testing.assert_allclose(before[name], start[name], rtol=1e-5, err_msg=name)
    if name in frozen:
      np.testing.assert_array_equal(found[name], before[name], err_msg=name)
      continue
    way = np.linalg.norm(value - start[name])
    assert np.linalg.norm(found[name] - value) <= 2e-3 * way, name


def test_patterns_leave_adapters_alone_and_must_match():
  shapes = program_of(layouts.ONE)[1].plan.shapes.params
  rules = adapters.rules(RULES)
  alone = freezing.frozen((".",), rules, shapes)
  left = set(tree.names(shapes)) - alone
  assert left and all(adapters.of_leaf(name) for name in left)
  with pytest.raises(ValueError, match=r"optim\.freeze: 'txt/' matches no parameter"):
    freezing.frozen(("txt/",), rules, shapes)
  with pytest.raises(ValueError, match="nothing is left that trains"):
    freezing.frozen((".",), (), tiny_shapes())
  head = lambda: {"mlm": {"kernel": np.zeros(2)}}
  assert freezing.frozen(("^mlm/",), (), tiny_shapes(), head) == frozenset()
  assert freezing.frozen((), (), tiny_shapes()) == frozenset()


def test_parts_of_a_tree():
  whole = {"a": {"x": 1, "y": 2}, "b": 3}
  assert tree.without(whole, ()) is whole
  part = tree.without(whole, {"a/x"})
  assert part == {"a": {"y": 2}, "b": 3} and tree.like(whole, {"a": {"y": 0}}) == {
    "a": {"y": 2}
  }
  with pytest.raises(KeyError, match="'a/z' is no leaf"):
    tree.without(whole, {"a/z"})


def tiny_shapes():
  return jax.eval_shape(tiny.init_fn(tiny.model()), jax.random.key(0))


def test_random_frozen_weights_are_an_error():
  frozen = {"a/kernel", "b/kernel"}
  message = r"^2 frozen leaves would stay random: a/kernel, b/kernel \(model\.init_from"
  with pytest.raises(ValueError, match=message):
    freezing.check_loaded(frozen, (), "")
  message = r"^1 frozen leaves .* b/kernel \(FILE has none of them\)"
  with pytest.raises(ValueError, match=message):
    freezing.check_loaded(frozen, {"a/kernel"}, "FILE")
  freezing.check_loaded({"a/kernel"}, {"a/kernel", "b"}, "FILE")
