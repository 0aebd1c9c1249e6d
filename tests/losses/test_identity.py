import jax
import numpy as np
from jax.test_util import check_grads

from tests.reference import losses as reference
from tpr_jax.losses import identity

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (6, 5)).astype(np.float32)
OTHER = RNG.normal(0, 2, (6, 5)).astype(np.float32)
LABELS = np.array([0, 4, 4, 2, 0, 4])


def test_cross_entropy_agrees_with_the_formula():
  loss = jax.jit(identity.cross_entropy)(LOGITS, LABELS)
  np.testing.assert_allclose(loss, reference.cross_entropy(LOGITS, LABELS), rtol=1e-5)
  order = np.array([2, 5, 0, 1, 4, 3])
  permuted = identity.cross_entropy(LOGITS[order], LABELS[order])
  np.testing.assert_allclose(permuted, np.asarray(loss)[order], rtol=1e-6)
  check_grads(
    lambda x: identity.cross_entropy(x, LABELS).sum(), (LOGITS,), 1, ["rev"], rtol=2e-2
  )


def test_shared_is_the_mean_of_both_modalities():
  loss = jax.jit(identity.shared)(LOGITS, OTHER, LABELS)
  image = reference.cross_entropy(LOGITS, LABELS)
  text = reference.cross_entropy(OTHER, LABELS)
  np.testing.assert_allclose(loss, (image + text) / 2, rtol=1e-5)


def test_fused_gives_two_people_the_extra_class():
  image_ids = np.array([0, 1, 2, 3, 0, 1])
  text_ids = np.array([0, 1, 3, 2, 0, 0])
  np.testing.assert_array_equal(
    identity.pair_labels(image_ids, text_ids, 4), [0, 1, 4, 4, 0, 4]
  )
  valid = np.array([1, 1, 1, 0, 1, 1], bool)
  loss = jax.jit(identity.fused)(LOGITS, image_ids, text_ids, valid)
  expected = reference.cross_entropy(LOGITS, [0, 1, 4, 4, 0, 4])
  np.testing.assert_allclose(loss, np.where(valid, expected, 0), rtol=1e-5)


def test_a_label_that_is_no_class_is_loud_unless_masked():
  labels = np.array([0, 5, -1, 2, 0, 4])
  loss = np.asarray(jax.jit(identity.cross_entropy)(LOGITS, labels))
  np.testing.assert_array_equal(np.isnan(loss), [0, 1, 1, 0, 0, 0])
  loss_fn = lambda x: identity.cross_entropy(x, labels, labels % 5 == labels).sum()
  value, grads = jax.value_and_grad(loss_fn)(LOGITS)
  assert np.isfinite(value) and np.isfinite(grads).all()
