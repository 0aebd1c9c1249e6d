"""Span masking: how many, where, whole words, and what becomes of them."""

import random
import types

import numpy as np
import pytest

from tests.reference import span_masking as reference
from tpr_jax.data import span_masking, tokenizer
from tpr_jax.losses import mlm

PAD, START, END, MASK, VOCAB = 0, 2, 3, 4, 120
# Ids from 100 on continue a word.
WORDPIECE = types.SimpleNamespace(
  name="fake",
  mask_id=MASK,
  end_id=END,
  vocab_size=VOCAB,
  continues=np.arange(VOCAB) >= 100,
)


def caption(words, length=56):
  ids = np.full(length, PAD, np.int32)
  ids[: len(words) + 2] = [START, *words, END]
  return ids


# Four words of 1, 3, 2 and 4 tokens, then six of one.
MIXED = caption([10, 11, 100, 101, 12, 102, 13, 103, 104, 105, 20, 21, 22, 23, 24, 25])


def runs(ids, count=400, seed=0, **options):
  """[count, L] masked ids and labels."""
  rng = np.random.default_rng(seed)
  made = [span_masking.mask(ids, rng, WORDPIECE, **options) for _ in range(count)]
  return tuple(np.stack(side) for side in zip(*made, strict=True))


@pytest.mark.parametrize("words", [7, 30, 54])
def test_released_chooses_ten_of_the_padded_row_and_never_the_first(words):
  ids = caption(np.arange(10, 10 + words))
  masked, labels = runs(ids, rule="released")
  chosen = labels != span_masking.NOT_CHOSEN
  assert (chosen.sum(axis=1) == 10).all() and not chosen[:, 0].any()
  assert chosen[:, 1:].any(axis=0).all()  # end and padding too
  np.testing.assert_array_equal(
    labels[chosen], np.broadcast_to(ids, chosen.shape)[chosen]
  )
  np.testing.assert_array_equal(masked[:, 0], START)
  # Of a short caption about 10 l / 55 real tokens (with the end) are hidden.
  real = chosen[:, : words + 2].sum(axis=1).mean()
  assert real == pytest.approx(10 * (words + 1) / 55, rel=0.1)


@pytest.mark.parametrize(
  "words, expected",
  [(1, 1), (2, 1), (5, 1), (7, 2), (16, 4), (39, 10), (44, 10), (54, 10)],
)
def test_words_chooses_a_quarter_of_the_caption_and_no_padding(words, expected):
  """round(0.25 n), at least 1 and at most 10."""
  _, labels = runs(caption(np.arange(10, 10 + words)), 200)
  chosen = labels != span_masking.NOT_CHOSEN
  assert (chosen.sum(axis=1) == expected).all()
  np.testing.assert_array_equal(
    chosen.any(axis=0), (np.arange(56) >= 1) & (np.arange(56) <= words)
  )


@pytest.mark.parametrize("rule", span_masking.RULES)
@pytest.mark.parametrize("span_share, longest", [(0.2, 3), (1.0, 5), (0.0, 1)])
def test_places_are_chosen_as_often_as_by_the_transcription(rule, span_share, longest):
  count = 3_000
  how = dict(rule=rule, share=0.25, most=10, span_share=span_share, longest=longest)
  ids = MIXED[:24]
  _, labels = runs(ids, count, **how)
  rand, expected = random.Random(0), np.zeros(len(ids))
  for _ in range(count):
    places = reference.choose(
      ids.tolist(), WORDPIECE.continues, rand, end_id=END, **how
    )
    expected[list(places)] += 1
  found = (labels != span_masking.NOT_CHOSEN).mean(axis=0)
  p = expected / count
  np.testing.assert_allclose(found, p, atol=4.5 * np.sqrt(0.5 * 0.5 * 2 / count) * 0.9)
  assert found.sum() == pytest.approx(p.sum())  # as many of each caption


def test_words_are_whole_where_they_fit():
  ids = caption([10, 100, 11, 101])
  _, labels = runs(ids, 100, share=0.5, span_share=0.0)
  kinds = {tuple(np.flatnonzero(row >= 0)) for row in labels}
  assert kinds == {(1, 2), (3, 4)}
  # A span of two, from anywhere in the first word, takes the second word whole too.
  _, labels = runs(ids, 100, share=1.0, most=4, span_share=1.0, longest=2)
  assert (labels[:, 1:5] >= 0).all()


def test_what_is_too_many_is_cut_at_random_and_may_split_a_word():
  _, labels = runs(caption([10, 100, 101, 102]), 400)
  chosen = labels[:, 1:5] >= 0
  assert (chosen.sum(axis=1) == 1).all()
  assert chosen.mean(axis=0) == pytest.approx(0.25, abs=0.08)


def test_eighty_masked_ten_random_ten_kept():
  masked, labels = runs(MIXED, 4_000)
  chosen = labels >= 0
  old, new = np.broadcast_to(MIXED, chosen.shape)[chosen], masked[chosen]
  assert np.mean(new == MASK) == pytest.approx(0.8 + 0.1 / VOCAB, abs=0.015)
  assert np.mean(new == old) == pytest.approx(0.1 + 0.1 / VOCAB, abs=0.01)
  other = new[(new != MASK) & (new != old)]
  assert set(range(VOCAB)) - set(other) <= {MASK}
  np.testing.assert_array_equal(
    masked[~chosen], np.broadcast_to(MIXED, chosen.shape)[~chosen]
  )
  masked, labels = runs(MIXED, 50, mask=0.0, random=0.0)
  assert (masked == MIXED).all() and (labels >= 0).any()


def test_a_caption_without_words_stays_as_it_is():
  masked, labels = span_masking.mask(caption([]), np.random.default_rng(0), WORDPIECE)
  np.testing.assert_array_equal(masked, caption([]))
  assert (labels == span_masking.NOT_CHOSEN).all()


def test_the_same_numbers_give_the_same_and_the_caption_is_not_changed():
  before = MIXED.copy()
  first, again, other = (runs(MIXED, 5, seed) for seed in (1, 1, 2))
  np.testing.assert_array_equal(first, again)
  assert np.any(first[0] != other[0])
  np.testing.assert_array_equal(MIXED, before)
  assert first[0].dtype == first[1].dtype == np.int32


def test_labels_are_those_that_the_loss_reads():
  assert span_masking.NOT_CHOSEN == mlm.NOT_CHOSEN
  _, labels = runs(MIXED, 3)
  logits = np.zeros((3, 56, VOCAB), np.float32)
  total, count = mlm.cross_entropy(logits, labels)
  np.testing.assert_array_equal(count, 4)
  np.testing.assert_allclose(total, 4 * np.log(VOCAB), rtol=1e-6)


@pytest.mark.parametrize(
  "options, message",
  [
    (dict(rule="bert"), r"rule='bert'; expected one of"),
    (dict(share=1.5), "share=1.5.*expected probabilities"),
    (dict(mask=0.9, random=0.2), "mask=0.9, random=0.2.*at most 1"),
    (dict(most=0), "most=0"),
  ],
)
def test_choices_that_cannot_be(options, message):
  with pytest.raises(ValueError, match=message):
    span_masking.mask(MIXED, np.random.default_rng(0), WORDPIECE, **options)


def test_ids_and_tokenizers_that_do_not_fit():
  with pytest.raises(ValueError, match="no end token 3"):
    span_masking.mask(np.array([START, 10, 11]), np.random.default_rng(0), WORDPIECE)
  with pytest.raises(ValueError, match=r"'people' does not tell.*people_wordpiece"):
    span_masking.mask(MIXED, np.random.default_rng(0), tokenizer.build("people"))
