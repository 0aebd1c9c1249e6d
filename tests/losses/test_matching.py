import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tests.reference import losses as reference
from tpr_jax.core import numerics
from tpr_jax.losses import matching

IDS = np.array([4, 1, 4, 4, 0, 1, 3, 2])
mine = jax.jit(matching.hard_negatives, static_argnames="exclude")


@pytest.fixture
def similarity():
  return np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)


@pytest.mark.parametrize("exclude", matching.EXCLUDE)
def test_the_hardest_are_found(similarity, exclude):
  # Make pairs and identities attractive, so that excluding them matters.
  similarity = similarity + 3.0 * (IDS[:, None] == IDS) + 3.0 * np.eye(8)
  texts, images = reference.hard_negatives(similarity, IDS, exclude)
  found = mine(similarity, IDS, exclude=exclude)
  np.testing.assert_array_equal(found.text_of_image, texts)
  np.testing.assert_array_equal(found.image_of_text, images)
  assert np.all(found.text_valid) and np.all(found.image_valid)
  same = IDS[np.asarray(found.text_of_image)] == IDS
  assert not same.any() if exclude == "identity" else same.any()


def test_rows_are_texts_and_columns_images():
  similarity = np.array([[0, 9, 1], [2, 0, 8], [7, 3, 0]], np.float32)
  found = mine(similarity, np.arange(3))
  np.testing.assert_array_equal(found.text_of_image, [2, 0, 1])  # down the columns
  np.testing.assert_array_equal(found.image_of_text, [1, 2, 0])  # along the rows


def test_permuting_the_batch_permutes_the_choice(similarity):
  order = np.array([5, 0, 7, 2, 1, 6, 3, 4])
  found = mine(similarity, IDS)
  moved = mine(similarity[order][:, order], IDS[order])
  np.testing.assert_array_equal(
    order[np.asarray(moved.text_of_image)], np.asarray(found.text_of_image)[order]
  )


@pytest.mark.parametrize("exclude, count", [("identity", 4), ("pair", 1)])
def test_a_batch_without_a_negative_is_masked_and_finite(exclude, count):
  ids = np.zeros(count, np.int32)

  def loss_fn(logits):
    pairs = matching.pairs(mine(jnp.ones((count, count)), ids, exclude=exclude))
    np.testing.assert_array_equal(pairs.valid, [True, False, False] * count)
    loss = matching.bce(logits, pairs.label, pairs.valid)
    return numerics.masked_mean(loss, pairs.valid)

  value, grads = jax.value_and_grad(loss_fn)(jnp.zeros(3 * count))
  np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
  assert np.isfinite(grads).all() and not np.any(grads.reshape(count, 3)[:, 1:])


def test_invalid_rows_are_neither_chosen_nor_served(similarity):
  valid = np.array([1, 1, 0, 1, 1, 1, 0, 1], bool)
  similarity[~valid] = similarity[:, ~valid] = 99.0
  found = mine(similarity, IDS, valid=valid)
  assert not np.isin(np.asarray(found.text_of_image)[valid], [2, 6]).any()
  np.testing.assert_array_equal(found.text_valid, valid)
  np.testing.assert_array_equal(matching.pairs(found, valid=valid).valid[::3], valid)


def test_each_row_makes_its_pair_and_one_with_each_hard_negative(similarity):
  found = mine(similarity, IDS)
  pairs = matching.pairs(found)
  image, text, label = (np.reshape(x, (8, 3)) for x in pairs[:3])
  own = np.arange(8)
  np.testing.assert_array_equal(label, [[1.0, 0.0, 0.0]] * 8)
  np.testing.assert_array_equal(image, np.c_[own, own, found.image_of_text])
  np.testing.assert_array_equal(text, np.c_[own, found.text_of_image, own])
  np.testing.assert_array_equal(IDS[image] == IDS[text], label == 1)


def test_the_sides_are_the_rows_that_the_pairs_name(similarity):
  found = mine(similarity, IDS)
  pairs = matching.pairs(found)
  image, text = np.random.default_rng(2).normal(size=(2, 8, 3, 5))
  sides = matching.sides(image, text, found, everywhere=(image, text))
  np.testing.assert_array_equal(sides[0], np.float32(image)[pairs.image])
  np.testing.assert_array_equal(sides[1], np.float32(text)[pairs.text])


def test_no_gradient_through_the_choice(similarity):
  def loss_fn(s):
    found = matching.hard_negatives(s, IDS)
    return jnp.sum(jnp.ones(8)[found.text_of_image])

  assert not np.any(jax.grad(loss_fn)(similarity))


def test_unknown_exclusion():
  with pytest.raises(ValueError, match=r"identity.*pair"):
    matching.hard_negatives(jnp.zeros((2, 2)), jnp.zeros(2), exclude="none")


def test_bce_agrees_with_the_formula():
  rng = np.random.default_rng(1)
  logits = rng.normal(0, 4, 9).astype(np.float32)
  labels = (rng.random(9) < 0.4).astype(np.float32)
  valid = rng.random(9) < 0.7
  loss = jax.jit(matching.bce)(logits, labels)
  np.testing.assert_allclose(loss, reference.bce(logits, labels), rtol=1e-4)
  masked = jax.jit(matching.bce)(logits, labels, valid)
  np.testing.assert_array_equal(masked, np.where(valid, loss, 0.0))
  check_grads(lambda x: matching.bce(x, labels, valid).sum(), (logits,), 1, ["rev"])


def test_bce_stays_finite_far_out():
  value, grads = jax.value_and_grad(lambda x: matching.bce(x, jnp.ones(2)).sum())(
    jnp.array([-500.0, 500.0])
  )
  np.testing.assert_allclose(value, 500.0)
  np.testing.assert_allclose(grads, [-1.0, 0.0], atol=1e-6)
