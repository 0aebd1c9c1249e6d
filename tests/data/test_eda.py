"""EDA: its cleaning, and the chance of every outcome of every operation."""

import collections
import math
import pickle
import re

import numpy as np
import pytest

from tpr_jax.data import caption_rules, eda, synonyms

DRAWS = 4_000


class Given(synonyms.Synonyms):
  """Synonyms that a test names."""

  name = "given"

  def __init__(self, **words):
    self._words = words

  def of(self, word):
    return tuple(self._words.get(word, ()))

  def describe(self):
    return "synonyms: given"


NONE = Given()


def outcomes(name, words, rate, given=NONE):
  """{words: share} of what an operation makes."""
  rng = np.random.default_rng(0)
  made = [
    " ".join(eda.OPERATIONS[name](words.split(), rng, rate, given))
    for _ in range(DRAWS)
  ]
  return {text: n / DRAWS for text, n in collections.Counter(made).items()}


def assert_chances(found, expected):
  assert sum(expected.values()) == pytest.approx(1)
  assert set(found) <= set(expected)
  for text, p in expected.items():
    assert found.get(text, 0) == pytest.approx(p, abs=4.5 * math.sqrt(p / DRAWS)), text


@pytest.mark.parametrize(
  "caption, expected",
  [
    ("The man's T-shirt, 2 bags", "the mans t shirt bags"),
    ("It’s\ta RED\ncoat…", "its a red coat"),
    ("naïve 3D", "na ve d"),
    ("1234 !?", ""),
    ("", ""),
  ],
)
def test_letters(caption, expected):
  assert eda.letters(caption) == expected


def test_swap():
  """Of three words, a second place is the first one thrice with chance 1/27."""
  expected = dict.fromkeys(["b a c", "c b a", "a c b"], 26 / 27 / 3)
  assert_chances(outcomes("swap", "a b c", 0.1), expected | {"a b c": 1 / 27})
  assert outcomes("swap", "a", 0.1) == {"a": 1.0}


def test_delete():
  """Each goes with the chance of the rate; of none left, one word stays."""
  p = 0.4
  expected = {"a b": 0.36, "a": 0.24 + p * p / 2, "b": 0.24 + p * p / 2}
  assert_chances(outcomes("delete", "a b", p), expected)
  assert outcomes("delete", "a", 1.0) == {"a": 1.0}


def test_insert():
  """The first synonym of the one word that has any, found in ten tries or not at all,
  before any word, never after the last."""
  given = Given(red=("crimson", "ruby"))
  found = 1 - (2 / 3) ** 10
  expected = dict.fromkeys(
    ["crimson a red hat", "a crimson red hat", "a red crimson hat"], found / 3
  )
  expected["a red hat"] = 1 - found
  assert_chances(outcomes("insert", "a red hat", 0.1, given), expected)
  assert outcomes("insert", "a red hat", 0.1) == {"a red hat": 1.0}


def test_replace():
  """One of the words that have synonyms, everywhere; stop words never."""
  given = Given(red=("crimson", "ruby"), hat=("cap",), the=("thy",))
  expected = {
    "the crimson hat and the crimson shoe": 1 / 4,
    "the ruby hat and the ruby shoe": 1 / 4,
    "the red cap and the red shoe": 1 / 2,
  }
  found = outcomes("replace", "the red hat and the red shoe", 0.1, given)
  assert_chances(found, expected)
  assert outcomes("replace", "the and of", 1.0, given) == {"the and of": 1.0}


@pytest.mark.parametrize(
  "words, rate, number", [(3, 0.1, 1), (19, 0.1, 1), (20, 0.1, 2), (20, 0.5, 10)]
)
def test_how_many_words_change(words, rate, number):
  """max(1, int(rate n))."""
  text = [f"w{i}" for i in range(words)]
  given = Given(**{word: (word.upper(),) for word in text})
  rng = np.random.default_rng(0)
  new = eda.replace(text, rng, rate, given)
  assert sum(a != b for a, b in zip(text, new, strict=True)) == number
  assert len(eda.insert(text, rng, rate, given)) == words + number
  swapped = eda.swap(text, rng, rate, given)
  assert sorted(swapped) == sorted(text)
  assert 1 <= sum(a != b for a, b in zip(text, swapped, strict=True)) <= 2 * number


def kind_of(new, old):
  """Which operation made it (delete at rate 1 leaves one word)."""
  new, old = new.split(), old.split()
  if len(new) != len(old):
    return "delete" if len(new) < len(old) else "insert"
  return "swap" if sorted(new) == sorted(old) else "replace"


OLD = "ant bee cat dog elk fox gnu hen"
ANIMALS = Given(**{word: (f"{word}s",) for word in OLD.split()})


@pytest.mark.parametrize("left_out", [None, "swap"])
def test_exactly_one_operation_each_as_likely(left_out):
  rates = dict(eda.RATES, delete=1.0)
  if left_out:
    rates[left_out] = 0
  rng = np.random.default_rng(0)
  made = [eda.one(OLD, rng, synonyms=ANIMALS, rates=rates) for _ in range(DRAWS)]
  kinds = collections.Counter(kind_of(new, OLD) for new in made)
  used = [name for name in eda.OPERATIONS if name != left_out]
  assert sorted(kinds) == sorted(used)
  for count in kinds.values():
    assert count / DRAWS == pytest.approx(1 / len(used), abs=0.035)


def test_twenty_prompts_of_a_caption():
  """Five of each operation, shuffled, 19 kept, and the caption as it is."""
  rates = dict(eda.PROMPT_RATES, delete=1.0)
  caption, missing = f"{OLD.title()}!", collections.Counter()
  for seed in range(60):
    rng = np.random.default_rng(seed)
    made = eda.prompts(caption, rng, synonyms=ANIMALS, rates=rates)
    assert len(made) == 20 and made[-1] == caption
    kinds = collections.Counter(kind_of(new, OLD) for new in made[:-1])
    assert sorted(kinds.values()) == [4, 5, 5, 5]
    missing[min(kinds, key=kinds.get)] += 1
  assert len(missing) == 4  # which one is left out is up to chance
  orders = [[kind_of(new, OLD) for new in made[:-1]]]
  assert orders[0] != sorted(orders[0])
  few = eda.prompts(caption, np.random.default_rng(0), synonyms=ANIMALS, number=1)
  assert len(few) == 2 and few[0] != few[1] == caption


@pytest.mark.parametrize("caption", ["", "  ", "1234 !?", "…", "红色衣服"])
def test_a_caption_without_letters_is_returned(caption):
  rng = np.random.default_rng(0)
  assert eda.one(caption, rng, synonyms=NONE) == caption
  assert eda.prompts(caption, rng, synonyms=NONE, number=3) == [caption] * 4


def test_any_text_gives_words_and_the_same_numbers_give_the_same():
  people = synonyms.build("people")
  letters = [*"abcdefghij ,.'-\n\t3é红’", " red ", " man ", " a "]
  rng = np.random.default_rng(0)
  texts = ["".join(rng.choice(letters, rng.integers(1, 40))) for _ in range(400)]
  made = [eda.one(t, np.random.default_rng(7), synonyms=people) for t in texts]
  for text, new in zip(texts, made, strict=True):
    assert (
      new == text if not eda.letters(text) else re.fullmatch("[a-z]+( [a-z]+)*", new)
    )
  people = pickle.loads(pickle.dumps(people))  # as a worker process has them
  assert made == [eda.one(t, np.random.default_rng(7), synonyms=people) for t in texts]


def test_our_synonyms_change_captions_of_people():
  people = synonyms.build("people")
  text = "a young woman in a grey jacket and blue jeans is carrying a backpack"
  rates = {"replace": 0.1}
  made = {
    eda.one(text, np.random.default_rng(seed), synonyms=people, rates=rates)
    for seed in range(60)
  }
  assert text not in made
  assert text.replace("grey", "gray") in made
  assert text.replace("backpack", "rucksack") in made


@pytest.mark.parametrize(
  "rates, message",
  [
    ({"reverse": 0.1}, "unknown operation 'reverse'; expected some of replace"),
    ({"swap": 0}, "one above 0 at least"),
    ({"swap": 1.1}, "each from 0 to 1"),
    ({}, "one above 0 at least"),
  ],
)
def test_rates_that_cannot_be(rates, message):
  with pytest.raises(ValueError, match=message):
    eda.one("a man", np.random.default_rng(0), synonyms=NONE, rates=rates)


def test_no_prompts():
  with pytest.raises(ValueError, match="0 captions asked for"):
    eda.prompts("a man", np.random.default_rng(0), synonyms=NONE, number=0)


def test_caption_rules():
  assert caption_rules.clean("A man's RED-white\nshirt, 2 bags!", "icfg_rstp") == (
    "a man s red white shirt 2 bags"
  )
  assert caption_rules.clean(" A man's ", "none") == " A man's "
  words = [f"w{i}" for i in range(60)]
  assert caption_rules.first_words(" \n".join(words)) == " ".join(words[:56])
  assert caption_rules.first_words("a  man ", 5) == "a man"


def test_captions_that_rules_leave_nothing_of():
  with pytest.raises(ValueError, match=r"'…!' has no letter a-z and no digit"):
    caption_rules.clean("…!", "icfg_rstp")
  with pytest.raises(ValueError, match="has no words"):
    caption_rules.first_words(" \n")
  with pytest.raises(ValueError, match=r"'cuhk'; expected one of"):
    caption_rules.clean("a man", "cuhk")
  with pytest.raises(ValueError, match="most=0"):
    caption_rules.first_words("a man", 0)
