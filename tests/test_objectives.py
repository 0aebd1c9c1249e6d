"""The objective: ablation rows, what each switch changes, and one step on a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import tiny
from tpr_jax import gradients as grad_fns
from tpr_jax import objectives, train
from tpr_jax.core import sharding, tree

ROWS = {
  "InfoNCE": dict(infonce=1.0),
  "L_gs": dict(sdm=1.0),
  "+ L_ls": dict(sdm=1.0, sdm_local=1.0),
  "+ L_m": dict(sdm=1.0, sdm_local=1.0, matching=1.0),
  "+ L_cid": dict(sdm=1.0, sdm_local=1.0, matching=1.0, identity=1.0),
  "IRRA": dict(sdm=1.0, identity=1.0, mlm=1.0),
}
CHOICES = {"IRRA": dict(tiny.OBJECTIVE, identity="shared")}
HEADS = {
  "InfoNCE": set(),
  "L_gs": set(),
  "+ L_ls": {"granularity"},
  "+ L_m": {"granularity", "matcher"},
  "+ L_cid": {"granularity", "matcher", "identity_fused"},
  "IRRA": {"identity_shared", "mlm"},
}


def evaluate(losses, objective=tiny.OBJECTIVE, batch=None, share=0.0):
  """(loss, terms), without gradients: those cost most of the compilation."""
  loss_fn, params = tiny.loss_and_params(
    losses, objective, dict(tiny.MASKING, share=share)
  )
  batch = tiny.batch(8) if batch is None else batch
  return jax.jit(loss_fn)(params, batch, jax.random.key(3))


def gradients(losses, batch, objective=tiny.OBJECTIVE):
  loss_fn, params = tiny.loss_and_params(losses, objective)
  grad_fn = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
  return *grad_fn(params, batch, jax.random.key(3)), params


def some(cases, chosen):
  """Cases to parametrize by, those that are not chosen as proofs."""
  return [
    case if case in chosen else pytest.param(*case, marks=pytest.mark.proof)
    for case in cases
  ]


@pytest.mark.parametrize(
  ("row",), some([(row,) for row in ROWS], [("InfoNCE",), ("+ L_cid",), ("IRRA",)])
)
def test_each_ablation_row_has_its_terms_and_no_unused_parameter(row):
  losses = {name: ROWS[row].get(name, 0.0) for name in objectives.LOSSES}
  choices = CHOICES.get(row, tiny.OBJECTIVE)
  (loss, terms), grads, params = gradients(losses, tiny.batch(8), choices)
  assert set(terms) == set(ROWS[row])
  assert float(loss) == pytest.approx(sum(float(v) for v in terms.values()), rel=1e-6)
  assert set(params) == {"visual", "text", *HEADS[row]}
  for name, grad in zip(tree.names(grads), jax.tree.leaves(grads), strict=True):
    assert np.isfinite(grad).all(), name
    assert np.abs(grad).max() > 0, f"{name} gets no gradient"


def test_weights_scale_the_total_and_not_the_terms():
  alone = dict(tiny.LOSSES, sdm_local=0, matching=0, identity=0)
  loss, terms = evaluate(alone)
  doubled, same = evaluate(dict(alone, sdm=2.0))
  assert float(doubled) == pytest.approx(2 * float(loss), rel=1e-6)
  assert float(same["sdm"]) == pytest.approx(float(terms["sdm"]), rel=1e-6)


def uneven_batch():
  batch = tiny.batch(8)
  batch["ids"][:] = [0, 0, 0, 0, 1, 1, 2, 3]
  batch["image_id"][:] = np.arange(8)
  return batch


@pytest.fixture(scope="module")
def base_loss():
  return float(evaluate(tiny.LOSSES, batch=uneven_batch())[0])


@pytest.mark.parametrize(
  "change",
  [
    dict(temperature=0.1),
    dict(soft_labels=True),
    dict(negatives="global"),
    dict(identity="shared"),
    dict(exclude="pair"),
  ],
)
def test_every_switch_changes_the_loss(base_loss, change):
  objective = dict(tiny.OBJECTIVE, **change)
  loss, _ = evaluate(tiny.LOSSES, objective, batch=uneven_batch())
  assert np.isfinite(loss)
  assert float(loss) != pytest.approx(base_loss, rel=1e-6)


def test_learnt_temperature_starts_at_the_fixed_one():
  losses = dict(tiny.LOSSES, sdm_local=0, matching=0, identity=0)
  objective = dict(tiny.OBJECTIVE, learn_temperature=True)
  loss_fn, params = tiny.loss_and_params(losses, objective)
  run = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
  (_, metrics), grads = run(params, tiny.batch(8), jax.random.key(0))
  assert float(metrics["scale"]) == pytest.approx(50.0, rel=1e-5)
  assert float(jnp.abs(grads["logit_scale"])) > 0


def test_one_identity_in_the_batch_stays_finite():
  batch = tiny.batch(8)
  batch["ids"][:] = 2
  (loss, _), grads, _ = gradients(tiny.LOSSES, batch)
  assert np.isfinite(loss)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_masking_depends_on_the_key_only():
  losses = dict(tiny.LOSSES, sdm_local=0, matching=0, identity=0)
  loss_fn, params = tiny.loss_and_params(losses)
  loss_fn, batch = jax.jit(loss_fn), tiny.batch(8)
  first = loss_fn(params, batch, jax.random.key(1))[0]
  assert float(first) == float(loss_fn(params, batch, jax.random.key(1))[0])
  assert float(first) != float(loss_fn(params, batch, jax.random.key(2))[0])


@pytest.mark.parametrize(
  ("losses", "objective", "message"),
  [
    (dict(smd=1.0), {}, "losses.smd"),
    (dict(sdm=0.0), {}, "every weight is 0"),
    (dict(sdm=-1.0), {}, "must not be negative"),
    (dict(sdm=1.0), dict(negatives="locl"), "objective.negatives='locl'"),
    (dict(identity=1.0), {}, "negatives=global"),
    (dict(mlm=1.0), dict(mlm_share=0.0), "objective.mlm_share=0.0"),
  ],
)
def test_impossible_choices_are_errors(losses, objective, message):
  objective = dict(tiny.OBJECTIVE, **objective)
  with pytest.raises(ValueError, match=message):
    objectives.make_objective(None, losses, objective, masking=tiny.MASKING)


LAYOUTS = [
  (dict(data=8), ((".*", "replicate"),)),
  (dict(data=4, fsdp=2), ((".*", "fsdp"),)),
  (dict(data=2, fsdp=2, tensor=2), (("qkv/kernel", (None, "tensor")), (".*", "fsdp"))),
]

MICRO = [(dict(data=4, fsdp=2), ((".*", "fsdp"),), 2)]


def run_step(sizes, rules, devices, micro_batches=1):
  mesh = sharding.make_mesh(sizes, devices)
  module = tiny.model()
  tx = optax.sgd(0.1)  # linear in the gradient: no division hides or blows up noise
  # At the recipe's temperature of 0.02 the rounding of another order of summation comes
  # back 50 times as large, and how large depends on the processor.
  objective = objectives.make_objective(
    module,
    tiny.LOSSES,
    dict(tiny.OBJECTIVE, temperature=0.1),
    masking=tiny.MASKING,
  )
  grad_fn = grad_fns.make_grad_fn(objective, micro_batches=micro_batches)
  plan = train.state_plan(tiny.init_fn(module), tx, mesh, rules)
  state, state_sh = plan.create(jax.random.key(0)), plan.shardings
  step = train.make_train_step(grad_fn, tx, lambda _: jnp.float32(0.1), mesh, state_sh)
  batch = sharding.to_global(tiny.batch(16), sharding.batch_sharding(mesh))
  state, metrics = step(state, batch, jax.random.key(5))
  return jax.device_get(state), jax.device_get(metrics)


@pytest.fixture(scope="module")
def one_device():
  return run_step(dict(data=1), ((".*", "replicate"),), jax.devices()[:1])


@pytest.mark.parametrize(
  ("sizes", "rules", "micro_batches"),
  some([(*layout, 1) for layout in LAYOUTS] + MICRO, [(*LAYOUTS[-1], 1)]),
)
def test_one_step_on_eight_devices_equals_one(one_device, sizes, rules, micro_batches):
  state, metrics = run_step(sizes, rules, jax.devices(), micro_batches)
  for name, value in one_device[1].items():
    np.testing.assert_allclose(metrics[name], value, rtol=2e-5, err_msg=name)
  for name, found, expected in zip(
    tree.names(state.params),
    jax.tree.leaves(state.params),
    jax.tree.leaves(one_device[0].params),
    strict=True,
  ):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5, err_msg=name)
