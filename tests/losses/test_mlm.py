import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tpr_jax.losses import mlm

START, END, MASK, VOCAB = 97, 99, 50, 100
RULES = dict(mask_id=MASK, vocab_size=VOCAB, special_ids=(START, END, 0))


def captions(rows, length=40):
  """Rows of growing length; the words 1..49 and, in between, the padding's id 0."""
  rng = np.random.default_rng(0)
  ids = np.zeros((rows, length), np.int32)
  for row in range(rows):
    words = 1 + row % (length - 2)
    ids[row, 0], ids[row, words + 1] = START, END
    ids[row, 1 : words + 1] = rng.integers(0, 50, words)
  return ids


def run(ids, seed=0, **options):
  keys = jax.random.split(jax.random.key(seed), len(ids))
  fn = jax.jit(functools.partial(mlm.mask_tokens, **{**RULES, **options}))
  return tuple(np.asarray(x) for x in fn(keys, ids))


def word_places(ids):
  place = np.arange(ids.shape[1])[None, :]
  return (place > 0) & (place < ids.argmax(axis=1)[:, None])


def test_only_words_change_and_labels_are_what_was_there():
  ids = captions(400)
  new, labels = run(ids, share=0.5)
  chosen = labels != mlm.NOT_CHOSEN
  assert not (chosen & ~word_places(ids)).any()
  np.testing.assert_array_equal(new[~chosen], ids[~chosen])
  np.testing.assert_array_equal(labels[chosen], ids[chosen])
  np.testing.assert_array_equal(new.argmax(axis=1), ids.argmax(axis=1))


def test_rates():
  ids = captions(2000)
  new, labels = run(ids)
  words, chosen = word_places(ids), labels != mlm.NOT_CHOSEN
  assert chosen.sum() / words.sum() == pytest.approx(0.15, abs=0.01)
  masked = (new == MASK) & chosen
  assert masked.sum() / chosen.sum() == pytest.approx(0.8, abs=0.02)
  other = chosen & ~masked & (new != ids)
  assert other.sum() / chosen.sum() == pytest.approx(0.1, abs=0.02)


def test_random_tokens_are_all_words_and_never_special():
  ids = captions(1500)
  new, labels = run(ids, share=1.0, mask=0.0, random=1.0)
  drawn = new[labels != mlm.NOT_CHOSEN]
  assert set(drawn) == set(range(VOCAB)) - {START, END, 0, MASK}
  counts = np.bincount(drawn, minlength=VOCAB)
  assert counts[counts > 0].min() > 0.5 * counts.max()


def test_a_row_depends_on_its_key_and_itself_only():
  ids = captions(30)
  keys = jax.random.split(jax.random.key(0), 30)
  fn = jax.jit(functools.partial(mlm.mask_tokens, **RULES, share=0.5))
  whole, _ = fn(keys, ids)
  half, _ = fn(keys[10:20], ids[10:20])
  np.testing.assert_array_equal(whole[10:20], half)
  other, _ = fn(jax.random.split(jax.random.key(1), 30), ids)
  assert np.any(other != whole)


def test_at_least_one_masks_the_first_word_of_untouched_rows_only():
  ids = captions(300)
  ids[0, :3] = [START, END, 0]  # a caption without a word stays as it is
  ids[0, 3:] = 0
  loose, loose_labels = run(ids, share=0.02)
  new, labels = run(ids, share=0.02, at_least_one=True)
  untouched = (loose_labels == mlm.NOT_CHOSEN).all(axis=1)
  assert 10 < untouched.sum() < 290
  np.testing.assert_array_equal(new[~untouched], loose[~untouched])
  np.testing.assert_array_equal(new[0], ids[0])
  untouched[0] = False
  assert (new[untouched, 1] == MASK).all()
  np.testing.assert_array_equal(labels[untouched, 1], ids[untouched, 1])
  assert ((labels[untouched] != mlm.NOT_CHOSEN).sum(axis=1) == 1).all()


def test_share_zero_changes_nothing():
  ids = captions(20)
  new, labels = run(ids, share=0.0)
  np.testing.assert_array_equal(new, ids)
  assert (labels == mlm.NOT_CHOSEN).all()


@pytest.mark.parametrize(
  "rates", [dict(share=1.5), dict(mask=0.8, random=0.3), dict(random=-0.1)]
)
def test_rates_that_are_no_probabilities(rates):
  with pytest.raises(ValueError, match="probabilities"):
    mlm.mask_tokens(
      jax.random.split(jax.random.key(0), 1), jnp.zeros((1, 4)), **RULES, **rates
    )
