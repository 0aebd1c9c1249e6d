import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tests.reference import losses as reference
from tpr_jax.losses import sdm

# Identities of uneven size: 3, 2, 1, 1 pairs.
IDS = np.array([7, 2, 7, 7, 5, 2, 9])
IMAGES = np.array([0, 1, 2, 0, 3, 4, 5])  # two captions of one image of identity 7
loss_fn = jax.jit(sdm.sdm)


@pytest.fixture
def similarity():
  rng = np.random.default_rng(0)
  image, text = rng.normal(size=(2, 7, 5))
  image /= np.linalg.norm(image, axis=1, keepdims=True)
  text /= np.linalg.norm(text, axis=1, keepdims=True)
  return (text @ image.T).astype(np.float32)


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_agrees_with_the_formula(similarity, scale):
  expected = reference.sdm(similarity.astype(np.float64), IDS, scale)
  loss = loss_fn(similarity, IDS, scale)
  assert loss.shape == (7,) and loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-5)


def test_soft_labels(similarity):
  expected = reference.sdm(similarity.astype(np.float64), IDS, 10.0, IMAGES)
  loss = loss_fn(similarity, IDS, 10.0, image_ids=IMAGES)
  np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-5)
  hard = loss_fn(similarity, IDS, 10.0)
  # Only identity 7 has one image twice and another; identity 2 has two different ones.
  assert (np.abs(loss - hard) > 1e-3).tolist() == np.isin(IDS, [7, 2]).tolist()
  every_image_its_own = loss_fn(similarity, IDS, 10.0, image_ids=np.zeros(7, np.int32))
  np.testing.assert_allclose(every_image_its_own, hard, rtol=1e-6)


def test_permuting_pairs_permutes_losses(similarity):
  order = np.array([3, 6, 0, 2, 5, 1, 4])
  loss = np.asarray(loss_fn(similarity, IDS, 50.0))
  permuted = loss_fn(similarity[order][:, order], IDS[order], 50.0)
  np.testing.assert_allclose(permuted, loss[order], rtol=1e-4, atol=1e-5)


def test_transposing_changes_nothing(similarity):
  loss = loss_fn(similarity, IDS, 50.0)
  np.testing.assert_allclose(loss_fn(similarity.T, IDS, 50.0), loss, rtol=1e-5)


def test_zero_for_the_target_itself():
  same = (IDS[:, None] == IDS[None, :]).astype(np.float32)
  np.testing.assert_allclose(loss_fn(same, IDS, 100.0), 0.0, atol=1e-5)


def test_invalid_pairs_are_as_if_absent(similarity):
  valid = np.array([1, 1, 0, 1, 1, 0, 1], bool)
  spoilt = similarity.copy()
  spoilt[~valid], spoilt[:, ~valid] = 0.99, -0.99
  loss = np.asarray(loss_fn(spoilt, IDS, 50.0, valid=valid))
  kept = loss_fn(similarity[valid][:, valid], IDS[valid], 50.0)
  np.testing.assert_allclose(loss[valid], kept, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(loss[~valid], 0.0)
  grads = jax.grad(lambda s: sdm.sdm(s, IDS, 50.0, valid=valid).sum())(spoilt)
  assert np.isfinite(grads).all() and not np.any(np.asarray(grads)[~valid])


def test_gradients(similarity):
  check_grads(
    lambda s: sdm.sdm(s, IDS, 5.0).sum(), (similarity,), 1, ["rev"], rtol=2e-2
  )


def test_all_of_one_identity_is_finite(similarity):
  one = np.zeros(7, np.int32)
  value, grads = jax.value_and_grad(lambda s: sdm.sdm(s, one, 50.0).sum())(similarity)
  assert np.isfinite(value) and np.isfinite(grads).all()


def rows(values, ids=None, **options):
  """Losses of images against texts, as the page of GA-DMS gives its cosines."""
  similarity = np.array(values, np.float32).T  # ours has the texts as rows
  ids = np.arange(len(similarity)) if ids is None else np.array(ids)
  return sdm.sdm(similarity, ids, 50.0, **options)


def test_the_worked_examples_of_ga_dms():
  """Its page's example D: both directions, means over the pairs."""
  loss = rows([[0.50, 0.46], [0.44, 0.52]])
  assert float(loss.mean()) == pytest.approx(1.71860, abs=2e-5)
  assert float(rows(np.zeros((2, 2))).mean()) == pytest.approx(17.03439, abs=2e-4)
  same = rows(np.zeros((2, 2)), ids=[3, 3])
  assert float(same.mean()) == pytest.approx(0.0, abs=1e-6)


def test_soft_labels_divide_by_their_own_row():
  """Its example E: identities (0, 0, 0, 1), images (0, 0, 1, 2), factor 0.3."""
  target = np.array(
    [
      [0.43478, 0.43478, 0.13043, 0],
      [0.43478, 0.43478, 0.13043, 0],
      [0.1875, 0.1875, 0.625, 0],
      [0, 0, 0, 1],
    ]
  )
  similarity = np.random.default_rng(0).normal(0, 0.05, (4, 4)).astype(np.float32)
  found = sdm.sdm(
    similarity, np.array([0, 0, 0, 1]), 50.0, image_ids=np.array([0, 0, 1, 2])
  )
  expected = np.zeros(4)
  for s in (np.float64(similarity), np.float64(similarity.T)):
    p = np.exp(50 * s) / np.exp(50 * s).sum(axis=1, keepdims=True)
    expected += (p * (np.log(p) - np.log(target + 1e-8))).sum(axis=1)
  np.testing.assert_allclose(found, expected, rtol=1e-4)
