"""ITC of MRA: the formula, its two limits, and where gradients are scaled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tests.reference import losses as reference
from tpr_jax.core import numerics
from tpr_jax.losses import contrastive, itc

IDS = np.array([7, 2, 7, 7, 5, 2, 9])  # 3, 2, 1, 1 pairs
TEMPERATURE = 0.07
_loss_fn = jax.jit(itc.itc, static_argnames="smoothing")


def features(seed=0):
  sides = np.random.default_rng(seed).normal(size=(2, 7, 5))
  return sides / np.linalg.norm(sides, axis=2, keepdims=True)


@pytest.fixture(scope="module")
def similarity():
  image, text = features()
  return np.float32(text @ image.T)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_formula(similarity, smoothing):
  image, text = features()
  loss = _loss_fn(similarity, IDS, TEMPERATURE, smoothing=smoothing)
  assert loss.dtype == jnp.float32
  expected = reference.itc(image, text, IDS, TEMPERATURE, smoothing)
  np.testing.assert_allclose(loss, expected, rtol=2e-5)


def test_different_ids_and_no_smoothing_are_clip_s_loss(similarity):
  loss = _loss_fn(similarity, np.arange(7), TEMPERATURE)
  expected = contrastive.infonce(similarity, 1 / TEMPERATURE)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
def test_targets_sum_to_one(smoothing):
  """Among equal logits the loss is log B for every target that does, and no other."""
  loss = _loss_fn(np.full((7, 7), 0.3), IDS, TEMPERATURE, smoothing=smoothing)
  np.testing.assert_allclose(loss, np.log(7), rtol=1e-6)


def test_a_worked_number():
  """Two pairs, cosines 0.14 and 0 over 0.07: log p = -0.126928 and -2.126928."""
  similarity = 0.14 * np.eye(2)
  plain = _loss_fn(similarity, np.array([0, 1]), TEMPERATURE)
  np.testing.assert_allclose(plain, 0.126928, atol=1e-6)
  smooth = _loss_fn(similarity, np.array([0, 1]), TEMPERATURE, smoothing=0.2)
  np.testing.assert_allclose(smooth, 0.9 * 0.126928 + 0.1 * 2.126928, atol=1e-6)
  same = _loss_fn(similarity, np.array([3, 3]), TEMPERATURE)
  np.testing.assert_allclose(same, 0.5 * 0.126928 + 0.5 * 2.126928, atol=1e-6)


def test_permuting_pairs_permutes_losses(similarity):
  order = np.array([5, 0, 2, 1, 6, 3, 4])
  moved = _loss_fn(similarity[order][:, order], IDS[order], TEMPERATURE, smoothing=0.2)
  loss = np.asarray(_loss_fn(similarity, IDS, TEMPERATURE, smoothing=0.2))
  np.testing.assert_allclose(moved, loss[order], rtol=1e-5)


def test_only_the_features_gradient_is_scaled():
  image, text = map(jnp.float32, features())

  @jax.jit
  def both(scale):
    def total(image, text, temperature):
      cosine = numerics.similarity(text, image)
      kept = dict(smoothing=0.2, feature_grad_scale=scale)
      return itc.itc(cosine, IDS, temperature, **kept).mean()

    return jax.value_and_grad(total, argnums=(0, 1, 2))(image, text, TEMPERATURE)

  value, (of_image, of_text, of_temperature) = both(1.0)
  scaled, (less_image, less_text, same_temperature) = both(0.25)
  assert value == scaled
  np.testing.assert_allclose(less_image, of_image / 4, rtol=1e-5, atol=1e-8)
  np.testing.assert_allclose(less_text, of_text / 4, rtol=1e-5, atol=1e-8)
  np.testing.assert_allclose(same_temperature, of_temperature, rtol=1e-5)
  assert np.any(of_image) and of_temperature != 0


def test_gradients(similarity):
  loss_fn = lambda s, t: jnp.sum(itc.itc(s, IDS, t, smoothing=0.2) * jnp.arange(7))
  check_grads(jax.jit(loss_fn), (similarity, 0.5), 1, ["rev"], rtol=2e-2)


def test_invalid_pairs_are_as_if_they_were_not_there(similarity):
  valid = np.array([1, 1, 0, 1, 1, 0, 1], bool)
  loss = np.asarray(_loss_fn(similarity, IDS, TEMPERATURE, smoothing=0.2, valid=valid))
  rest = similarity[valid][:, valid]
  expected = _loss_fn(rest, IDS[valid], TEMPERATURE, smoothing=0.2)
  np.testing.assert_allclose(loss[valid], expected, rtol=1e-5)
  assert not loss[~valid].any()
  none = _loss_fn(similarity, IDS, TEMPERATURE, valid=np.zeros(7, bool))
  np.testing.assert_array_equal(none, 0.0)


def test_a_smoothing_that_is_no_share(similarity):
  with pytest.raises(ValueError, match=r"smoothing=1.5; expected 0 to 1"):
    itc.itc(similarity, IDS, TEMPERATURE, smoothing=1.5)
