"""ITM of MRA: how often each negative is drawn, and what a batch without any does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import losses as reference
from tpr_jax.core import numerics, sharding
from tpr_jax.losses import itm, matching

IDS = np.array([4, 1, 4, 4, 0, 1, 3, 3])
TEMPERATURE = 0.5
DRAWS = 6_000


@functools.partial(jax.jit, static_argnames="group")
def draws(similarity, ids, temperature, group=None, valid=None):
  """Every key's negatives: fields [DRAWS, B]."""
  keys = jax.random.split(jax.random.key(0), DRAWS)
  sample = lambda key: itm.sample_negatives(
    key, similarity, ids, temperature, group=group, valid=valid
  )
  return jax.vmap(sample)(keys)


@pytest.fixture(scope="module")
def similarity():
  return np.random.default_rng(0).normal(0, 0.5, (8, 8)).astype(np.float32)


def shares(drawn):
  """[DRAWS, B] -> [B, B]: how often row i drew column j."""
  return np.stack([np.bincount(row, minlength=8) for row in np.asarray(drawn).T]) / len(
    drawn
  )


@pytest.mark.parametrize("group", [None, 4, 2])
def test_negatives_are_drawn_as_often_as_the_formula_says(similarity, group):
  # Of groups of 2, the pairs 6 and 7 have one identity: they draw from the others.
  found = draws(similarity, IDS, TEMPERATURE, group)
  tables = reference.itm_probabilities(similarity, IDS, TEMPERATURE, group or 8)
  for drawn, p in zip((found.image_of_text, found.text_of_image), tables, strict=True):
    error = 4.5 * np.sqrt(p * (1 - p) / DRAWS)
    assert (np.abs(shares(drawn) - p) <= error + 1e-9).all()
  assert np.all(found.text_valid) and np.all(found.image_valid)


def test_equal_ids_are_never_drawn_however_alike(similarity):
  alike = similarity + 50.0 * (IDS[:, None] == IDS)
  found = draws(alike, IDS, 0.07, 4)
  for drawn in (found.image_of_text, found.text_of_image):
    assert (IDS[np.asarray(drawn)] != IDS).all()
    assert (np.asarray(drawn) // 4 == np.arange(8) // 4).all()


def test_an_unlike_pair_may_still_be_drawn():
  """Cosines of 1 and -1 over 0.07: exp(-28) would be never, 1e-5 is the floor."""
  best = np.arange(8) ^ 1
  similarity = np.where(np.arange(8) == best[:, None], 1.0, -1.0).astype(np.float32)
  p, _ = reference.itm_probabilities(similarity, np.arange(8), 0.07, 8)
  np.testing.assert_allclose(p[0, 2:], 1e-5 / (1 + 7e-5), rtol=1e-4)
  found = draws(similarity, np.arange(8), 0.07)
  rare = np.sum(found.image_of_text != best) + np.sum(found.text_of_image != best)
  assert 1 <= rare <= 15  # 6e-5 of 96,000 draws: 5.8 are expected


def test_the_softmax_is_over_the_true_pairs_too():
  """Own cosines of 1 over 0.07 have nearly all of it: what is left of the best other,
  at 0.2, is exp(-11.4), about the floor; over the others alone it would be certain."""
  best = np.arange(8) ^ 1
  similarity = np.where(np.arange(8) == best[:, None], 0.2, -1.0).astype(np.float32)
  similarity[np.arange(8), np.arange(8)] = 1.0
  p, _ = reference.itm_probabilities(similarity, np.arange(8), 0.07, 8)
  np.testing.assert_allclose(p[0, 1], 0.2582, atol=1e-4)
  found = shares(draws(similarity, np.arange(8), 0.07).image_of_text)
  np.testing.assert_allclose(found, p, atol=4.5 * np.sqrt(0.25 * 0.75 / DRAWS))


def test_smoothed_targets():
  rng = np.random.default_rng(3)
  logits, labels = rng.normal(size=(6, 2)), np.array([1, 0, 0, 1, 0, 1])
  log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
  rows = np.arange(6)
  expected = -0.95 * log_p[rows, labels] - 0.05 * log_p[rows, 1 - labels]
  found = itm.cross_entropy(jnp.asarray(logits), jnp.asarray(labels), smoothing=0.1)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  valid = np.array([1, 1, 0, 1, 0, 1], bool)
  found = itm.cross_entropy(
    jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(valid), smoothing=0.1
  )
  np.testing.assert_allclose(found, np.where(valid, expected, 0.0), rtol=1e-5)


def test_a_batch_of_one_identity_has_no_negatives_and_a_finite_loss(similarity):
  found = draws(similarity, np.zeros(8, int), TEMPERATURE, 4)
  assert not np.any(found.text_valid) and not np.any(found.image_valid)
  one = jax.tree.map(lambda x: x[0], found)
  pairs = matching.pairs(one)

  def loss_fn(logits):
    loss = itm.cross_entropy(logits, pairs.label, pairs.valid)
    return numerics.masked_mean(loss, pairs.valid)

  value, grads = jax.jit(jax.value_and_grad(loss_fn))(jnp.zeros((24, 2)))
  np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
  assert np.isfinite(grads).all()
  assert not np.any(grads.reshape(8, 3, 2)[:, 1:]) and np.all(grads[::3])


def test_invalid_pairs_are_neither_drawn_nor_served(similarity):
  valid = np.array([1, 1, 0, 1, 0, 0, 0, 0], bool)  # of the second group none
  similarity = np.where(valid[:, None] & valid, similarity, np.nan)
  found = draws(similarity, np.arange(8), TEMPERATURE, 4, valid)
  for drawn, there in (found[:2], found[2:]):
    assert np.isin(np.asarray(drawn)[:, valid], np.flatnonzero(valid)).all()
    np.testing.assert_array_equal(there[0], valid)
  kept = shares(found.image_of_text)[:4, [0, 1, 3]]
  p, _ = reference.itm_probabilities(
    similarity[valid][:, valid], np.arange(3), TEMPERATURE, 3
  )
  np.testing.assert_allclose(kept[[0, 1, 3]], p, atol=0.03)


def test_rows_are_texts_and_columns_images(similarity):
  # A temperature this small leaves the hardest alone, where no true pair is as like.
  similarity = np.where(IDS[:, None] == IDS, np.float32(-9), similarity)
  found = jax.tree.map(lambda x: x[0], draws(similarity, IDS, 1e-4))
  hardest = jax.jit(matching.hard_negatives)(similarity, IDS)
  assert np.any(hardest.image_of_text != hardest.text_of_image)
  jax.tree.map(np.testing.assert_array_equal, found, hardest)


def test_draws_differ_by_key_and_side(similarity):
  drawn = np.asarray(draws(similarity, IDS, TEMPERATURE).image_of_text)
  assert len(np.unique(drawn, axis=0)) > 100
  same = draws(np.zeros((8, 8)), np.arange(8), 1.0)
  assert np.any(same.image_of_text != same.text_of_image)


def test_a_batch_over_eight_devices_draws_the_same(similarity):
  mesh = sharding.make_mesh({"data": -1})
  sample = jax.jit(functools.partial(itm.sample_negatives, group=4))
  alone = sample(jax.random.key(3), similarity, IDS, TEMPERATURE)
  split = jax.device_put((similarity, IDS), sharding.batch_sharding(mesh))
  spread = sample(jax.random.key(3), *split, TEMPERATURE)
  jax.tree.map(np.testing.assert_array_equal, alone, spread)


def test_cross_entropy_is_the_formula():
  rng = np.random.default_rng(1)
  logits = rng.normal(0, 3, (9, 2)).astype(np.float32)
  labels = (rng.random(9) < 0.4).astype(np.float32)  # as `matching.pairs` gives them
  loss = jax.jit(itm.cross_entropy)(logits, labels)
  expected = reference.cross_entropy(logits, labels.astype(int))
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("group", [1, 3, 16])
def test_groups_that_do_not_fit(similarity, group):
  with pytest.raises(ValueError, match=rf"groups of {group} in a batch of 8 pairs"):
    itm.sample_negatives(jax.random.key(0), similarity, IDS, 1.0, group=group)


def test_logits_of_another_head():
  with pytest.raises(ValueError, match=r"\(3, 1\); expected \[P, 2\]"):
    itm.cross_entropy(jnp.zeros((3, 1)), jnp.zeros(3))
