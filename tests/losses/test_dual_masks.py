"""The two masks of GA-DMS: the page's numbers, rates, and what is never touched."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tpr_jax.losses import dual_masks, mlm

# CLIP's vocabulary: mask, start and end are the last ids, padding is 0.
MASK, START, END, VOCAB = 49_405, 49_406, 49_407, 49_408
RULES = dict(
  mask_id=MASK, vocab_size=VOCAB, special_ids=(START, END), mask=0.8, random=0.1
)
SCORES = np.array([0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.85, 1], np.float32)


def test_the_worked_example_of_probabilities():
  noise = dual_masks.noise_probability(SCORES)
  expected = [0.17616, 0.14621, 0.1, 0.05379, 0.02384, 0.003597, 6.7e-5, 6.1e-8, 3.0e-9]
  np.testing.assert_allclose(noise, expected, rtol=2e-2, atol=5e-10)
  np.testing.assert_allclose(noise[:5], expected[:5], atol=1e-5)
  info = dual_masks.informative_probability(SCORES)
  expected = [0.03576, 0.08068, 0.15, 0.21932, 0.26424, 0.29460, 0.29990, 0.3, 0.3]
  np.testing.assert_allclose(info, expected, atol=1e-5)
  # Both pivot at 0.1, and are each other's rest.
  np.testing.assert_allclose(noise / 0.2 + info / 0.3, np.ones(9), atol=1e-6)


def captions(rows, length=20, words=12):
  """start, words with a literal padding id ("!") among them, end, padding."""
  rng = np.random.default_rng(0)
  ids = np.zeros((rows, length), np.int32)
  ids[:, 0], ids[:, words + 1] = START, END
  ids[:, 1 : words + 1] = rng.integers(1, MASK, (rows, words))
  ids[:, 3] = 0
  return ids


@functools.partial(jax.jit, static_argnames=("options", "seed"))
def _draw(ids, score, options, seed):
  keys = jax.random.split(jax.random.key(seed), len(ids))
  return dual_masks.draw(keys, ids, score, rules=RULES, **dict(options))


def draw(ids, score, seed=0, **options):
  score = jnp.broadcast_to(jnp.asarray(score, jnp.float32), ids.shape)
  return jax.device_get(_draw(ids, score, tuple(options.items()), seed))


def test_rates_are_the_probabilities_within_three_sigma():
  ids = captions(40_000)
  score = np.zeros(ids.shape, np.float32)
  score[:, 1:10] = SCORES
  views = draw(ids, score, force_one="none")
  for found, expected in (
    (views.noise == MASK, dual_masks.noise_probability(SCORES)),
    (views.labels >= 0, dual_masks.informative_probability(SCORES)),
  ):
    rate, p = found[:, 1:10].mean(axis=0), np.float64(expected)
    p[2] = 0.0  # the padding's id is no word
    assert (np.abs(rate - p) <= 3 * np.sqrt(p * (1 - p) / len(ids)) + 1e-12).all(), rate


def test_bert_s_shares_in_the_informative_view_and_masks_alone_in_the_other():
  ids = captions(5_000)
  views = draw(ids, 1.0)
  chosen = views.labels >= 0
  masked, same = views.informative == MASK, views.informative == ids
  assert (masked & chosen).sum() / chosen.sum() == pytest.approx(0.8, abs=0.02)
  assert (same & chosen).sum() / chosen.sum() == pytest.approx(0.1, abs=0.02)
  views = draw(ids, 0.0)
  assert set(views.noise[views.noise != ids]) == {MASK}
  views = draw(ids, 0.0, corruption_noise="bert")
  assert len(set(views.noise[views.noise != ids])) > 100
  views = draw(ids, 1.0, corruption_mtp="mask")
  assert set(views.informative[views.labels >= 0]) == {MASK}


@pytest.mark.parametrize("corruption", dual_masks.CORRUPTIONS)
@pytest.mark.parametrize("force_one", dual_masks.FORCED)
def test_special_ids_are_neither_chosen_nor_put_in(corruption, force_one):
  ids = captions(3_000)
  views = draw(
    ids,
    np.random.default_rng(1).random(ids.shape),
    corruption_noise=corruption,
    corruption_mtp=corruption,
    force_one=force_one,
    alpha_noise=1.0,
    alpha_info=1.0,
  )
  special = np.isin(ids, [0, MASK, START, END])
  for view in (views.noise, views.informative):
    np.testing.assert_array_equal(view[special], ids[special])
    assert not np.isin(view[view != ids], [0, START, END]).any()
  assert (views.labels[special] == mlm.NOT_CHOSEN).all()
  np.testing.assert_array_equal(
    views.labels[~special & (views.labels >= 0)], ids[~special & (views.labels >= 0)]
  )


def test_the_two_draws_are_apart():
  ids = captions(20_000)
  views = draw(ids, 0.1, alpha_noise=1.0, alpha_info=1.0, force_one="none")
  a, b = views.noise[:, 1] != ids[:, 1], views.labels[:, 1] >= 0
  assert a.mean() == pytest.approx(0.5, abs=0.02)
  assert (a & b).mean() == pytest.approx(a.mean() * b.mean(), abs=0.01)


def test_the_first_epoch_of_the_code():
  """Every score 0.85, corruption by BERT and a forced word in both views: nothing is
  noise, so the first word of every noise caption is masked; 30 % are informative."""
  ids = captions(4_000)
  views = draw(ids, 0.85, corruption_noise="bert", force_one="both")
  hidden = views.noise != ids
  assert hidden[:, 1].all() and not hidden[:, 2:].any()
  assert (views.noise[:, 1] == MASK).all()
  words = ~np.isin(ids, [0, MASK, START, END])
  assert (views.labels >= 0)[words].mean() == pytest.approx(0.3, abs=0.005)


def test_one_word_is_forced_where_none_was_drawn():
  ids = captions(500, words=1)
  views = draw(ids, 0.0, alpha_info=0.0001)
  assert (views.labels[:, 1] == ids[:, 1]).all() and (
    views.informative[:, 1] == MASK
  ).all()
  views = draw(ids, 0.0, alpha_info=0.0001, force_one="none")
  assert (views.labels == mlm.NOT_CHOSEN).mean() > 0.99
  ids[:, 1] = 0  # a caption of "!" alone: nothing may be forced
  views = draw(ids, 0.0)
  np.testing.assert_array_equal(views.informative, ids)


def test_rows_depend_on_their_own_key_alone():
  ids = captions(16)
  keys = jax.random.split(jax.random.key(4), 16)
  whole = dual_masks.draw(keys, ids, jnp.full(ids.shape, 0.5), rules=RULES)
  half = dual_masks.draw(keys[8:], ids[8:], jnp.full((8, 20), 0.5), rules=RULES)
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[8:], b), whole, half)


def test_unknown_choices():
  with pytest.raises(ValueError, match=r"force_one='mlm'.*mtp"):
    draw(captions(1), 0.5, force_one="mlm")
