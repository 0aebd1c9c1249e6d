"""A training step on a GPU beside the same step on the CPU."""

import jax
import numpy as np
import pytest

from tests.benchmarks import sizes, steps
from tests.gpu import needs_gpu
from tpr_jax import program, run_weights
from tpr_jax.core import sharding

pytestmark = needs_gpu


def after(platform, dtype, count):
  """(metrics of the last of so many steps, parameters after them), NumPy's."""
  config = sizes.config("tiny", dtype=dtype)
  config.data.batch = 8
  words = steps.words_of(config)
  device = jax.devices(platform)[0]
  with jax.default_device(device), jax.default_matmul_precision("highest"):
    mesh = sharding.make_mesh({}, [device])
    built = program.build(
      config,
      run_weights.model_fields(config, {}),
      tokenizer=words,
      num_classes=20,
      mesh=mesh,
      steps=100,
      steps_per_epoch=10,
      captions=20,
    )
    rows = steps.random_rows(8, config.text.length, config.model.image_size, words)
    batch = sharding.to_global(rows, sharding.batch_sharding(mesh))
    state = built.plan.create(jax.random.key(0))
    for _ in range(count):
      state, metrics = built.step(state, batch, jax.random.key(1))
  return jax.device_get((metrics, state.params))


@pytest.mark.parametrize(("dtype", "close"), [("float32", 2e-4), ("bfloat16", 3e-2)])
def test_a_step_is_that_of_the_cpu(dtype, close):
  (ours, params), (theirs, expected) = (
    after(platform, dtype, 2) for platform in ("cuda", "cpu")
  )
  for name in ("loss", "grad_norm", "sdm", "identity"):
    np.testing.assert_allclose(ours[name], theirs[name], rtol=close, err_msg=name)
  for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
    assert np.isfinite(a).all()
    # Adam's first steps are of the learning rate's size, whatever the gradient's is.
    np.testing.assert_allclose(a, b, atol=2e-4)
