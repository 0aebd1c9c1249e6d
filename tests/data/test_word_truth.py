"""Tokens and words of captions that are wrong on purpose."""

import numpy as np
import pytest

from tpr_jax.data import tokenizer, word_truth
from tpr_jax.data.record import DatasetError, Record
from tpr_jax.data.rendered import sets

LENGTH = 152


@pytest.fixture(scope="module")
def people():
  return tokenizer.build("people")


@pytest.fixture(scope="module")
def noisy():
  return sets.load("val", identities=6, word_noise=0.4)


def record(*captions, spans=None):
  truth = {}
  if spans is not None:
    truth["caption_truth"] = [dict(wrong_spans=each) for each in spans]
  return Record("val/000001/0", 1, captions, "val", "rendered", truth)


TEXT = "  A man in a dark-blue  coat,\nno hat."
#       0123456789...
WRONG = [[TEXT.index("dark"), TEXT.index(",")]]


def test_by_hand(people):
  one = record("nothing", TEXT, spans=[[], WRONG])
  wrong, word = word_truth.wrong_tokens(people, one, 1, 20)
  (ids,), (count,) = people.encode([TEXT], 20)
  assert wrong.shape == word.shape == (20,) and wrong.dtype == word.dtype == bool
  assert word.sum() == count - 2 and not word[0] and not word[count - 1 :].any()
  told = people._bpe.decode([int(i) - 1 for i in ids[wrong]], False)
  assert told.replace("Ġ", "").replace(" ", "") == "dark-bluecoat"
  words = word_truth.words(people, one, 1, 20)
  assert [each.text for each in words] == TEXT.split()
  assert [each.text for each in words if each.wrong] == ["dark-blue", "coat,"]
  # All tokens in order, each in one word.
  places = [place for each in words for place in each.positions]
  assert places == np.flatnonzero(word).tolist()
  assert not word_truth.wrong_tokens(people, one, 0, 20)[0].any()


def test_a_span_that_ends_where_a_token_starts_does_not_touch_it(people):
  at = TEXT.index("man")
  for span, expected in (([at, at + 3], ["man"]), ([at - 1, at], []),
                         ([at + 2, at + 4], ["man"]), ([at, at], [])):  # fmt: skip
    words = word_truth.words(people, record(TEXT, spans=[[span]]), 0, 20)
    assert [each.text for each in words if each.wrong] == expected


@pytest.mark.parametrize("length", [3, 7, 9])
def test_what_is_cut_off_is_neither_wrong_nor_a_word(people, length):
  one = record(TEXT, spans=[WRONG])
  wrong, word = word_truth.wrong_tokens(people, one, 0, length)
  whole_wrong, _ = word_truth.wrong_tokens(people, one, 0, 20)
  assert word.tolist() == [False, *[True] * (length - 2), False]
  np.testing.assert_array_equal(wrong[:-1], whole_wrong[: length - 1])
  assert not wrong[-1]  # the end token stands where a wrong one was
  words = word_truth.words(people, one, 0, length)
  assert max(place for each in words for place in each.positions) == length - 2
  assert [each.text for each in words] == TEXT.split()[: len(words)]


def test_words_of_a_noisy_set_are_those_of_its_truth(people, noisy):
  seen = 0
  for one in noisy.records:
    for number, text in enumerate(one.captions):
      spans = one.truth["caption_truth"][number]["wrong_spans"]
      wrong, word = word_truth.wrong_tokens(people, one, number, LENGTH)
      assert not (wrong & ~word).any()
      expected = {
        place for start, end in spans for place in range(start, end)
        if not text[place].isspace()
      }  # fmt: skip
      found = people.spans(text)[wrong[1 : word.sum() + 1]]
      assert expected <= {p for start, end in found for p in range(start, end)}
      words = word_truth.words(people, one, number, LENGTH)
      assert " ".join(each.text for each in words) == " ".join(text.split())
      told = " ".join(each.text for each in words if each.wrong).lower()
      for start, end in spans:
        assert all(part in told for part in text[start:end].lower().split())
      seen += len(spans)
  assert seen > 20


def test_the_score_of_a_word_is_the_mean_of_its_tokens(people):
  one = record(TEXT, spans=[WRONG])
  words = word_truth.words(people, one, 0, 20)
  scores = np.arange(20, dtype=np.float32)
  found = word_truth.word_scores(words, scores)
  assert found.dtype == np.float32
  assert found.tolist() == [np.mean(each.positions) for each in words]
  assert word_truth.word_scores((), scores).shape == (0,)


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_caption_has_no_words(people, text):
  one = record(text, spans=[[]])
  wrong, word = word_truth.wrong_tokens(people, one, 0, 5)
  assert not wrong.any() and not word.any()
  assert word_truth.words(people, one, 0, 5) == ()


def test_a_word_without_tokens_is_left_out(people):
  words = word_truth.words(people, record("a \x07 man", spans=[[]]), 0, 9)
  assert [each.text for each in words] == ["a", "man"]


def test_data_that_does_not_know_says_so(people):
  with pytest.raises(DatasetError, match=r"val/000001/0.*word_noise"):
    word_truth.wrong_tokens(people, record(TEXT), 0, 9)
  one = record(TEXT)
  one.truth["caption_truth"] = [dict(style="list")]
  with pytest.raises(DatasetError, match="does not know which words are wrong"):
    word_truth.words(people, one, 0, 9)
