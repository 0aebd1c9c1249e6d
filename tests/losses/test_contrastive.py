import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from tests.reference import losses as reference
from tpr_jax.losses import contrastive

SIMILARITY = np.random.default_rng(0).uniform(-0.5, 0.5, (6, 6)).astype(np.float32)
loss_fn = jax.jit(contrastive.infonce)


def test_agrees_with_the_formula():
  loss = loss_fn(SIMILARITY, 50.0)
  assert loss.shape == (6,) and loss.dtype == jnp.float32
  expected = reference.infonce(SIMILARITY.astype(np.float64), 50.0)
  np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-5)


def test_permuting_pairs_permutes_losses():
  order = np.array([3, 5, 0, 2, 1, 4])
  loss = np.asarray(loss_fn(SIMILARITY, 20.0))
  permuted = loss_fn(SIMILARITY[order][:, order], 20.0)
  np.testing.assert_allclose(permuted, loss[order], rtol=1e-5)


def test_chance_is_the_logarithm_of_the_batch():
  np.testing.assert_allclose(loss_fn(np.zeros((6, 6)), 50.0), np.log(6), rtol=1e-6)


def test_invalid_pairs_are_as_if_absent():
  valid = np.array([1, 0, 1, 1, 0, 1], bool)
  loss = np.asarray(loss_fn(SIMILARITY, 20.0, valid=valid))
  kept = loss_fn(SIMILARITY[valid][:, valid], 20.0)
  np.testing.assert_allclose(loss[valid], kept, rtol=1e-5)
  np.testing.assert_array_equal(loss[~valid], 0.0)
  nobody = loss_fn(SIMILARITY, 20.0, valid=np.zeros(6, bool))
  np.testing.assert_array_equal(nobody, 0.0)


def test_gradients_in_similarity_and_scale():
  check_grads(
    lambda s, scale: contrastive.infonce(s, scale).sum(),
    (SIMILARITY, 5.0),
    1,
    ["rev"],
    rtol=2e-2,
  )
