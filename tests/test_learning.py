"""Every term of the objective can be learnt: one small batch, fitted."""

import jax
import jax.numpy as jnp
import optax

from tests import tiny
from tpr_jax import gradients, objectives, train
from tpr_jax.core import sharding

RULES = ((".*", "replicate"),)


def test_the_full_objective_falls_on_one_small_batch():
  module = tiny.model()
  objective = objectives.make_objective(
    module, tiny.LOSSES, tiny.OBJECTIVE, masking=dict(tiny.MASKING, share=0.0)
  )
  full = gradients.make_grad_fn(objective)
  mesh = sharding.make_mesh({}, jax.devices()[:1])
  tx = optax.adam(3e-3)
  plan = train.state_plan(tiny.init_fn(module), tx, mesh, RULES)
  state, state_sh = plan.create(jax.random.key(0)), plan.shardings
  step = train.make_train_step(full, tx, lambda _: jnp.float32(3e-3), mesh, state_sh)
  batch = sharding.to_global(tiny.batch(8), sharding.batch_sharding(mesh))
  losses = []
  for _ in range(40):
    state, metrics = step(state, batch, jax.random.key(0))
    losses.append(jax.device_get(metrics))
  assert int(state.step) == 40
  for name in tiny.LOSSES:
    if tiny.LOSSES[name]:
      first, last = losses[0][name], min(m[name] for m in losses[-5:])
      assert last < 0.7 * first, (name, first, last)
