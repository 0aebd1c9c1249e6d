"""Texts about rendered people: length, truth, English, near twins, wrong words."""

import dataclasses
import re

import numpy as np
import pytest

from tpr_jax.data.rendered import attributes, grammar, nouns, words

# Never seen: a person without hair has no style, a dress leaves no lower garment.
UNSEEN = {("hair_style", "none"), ("lower", "none")}
# Things told by their colour, so that None means they are not there.
BY_COLOUR = {
  "headphones_colour",
  "scarf_colour",
  "trim_colour",
  "tie_colour",
  "belt_colour",
  "bag_trim_colour",
}


def _case(number):
  rng = np.random.default_rng([77, number])
  person = attributes.sample_person(rng)
  view = attributes.sample_view(rng, list(attributes.DOMAINS)[number % 4])
  granularity = grammar.GRANULARITIES[number // 4 % 3]
  style = grammar.STYLES[number // 12 % 4]
  text = grammar.describe(person, view, granularity, style, rng)
  return person, view, granularity, style, text


@pytest.fixture(scope="module")
def cases():
  return [_case(number) for number in range(2400)]


def test_every_value_of_every_attribute_has_words():
  for name, values in attributes.VALUES.items():
    for value in values:
      if (name, value) in UNSEEN or (value is None and name not in BY_COLOUR):
        continue
      assert grammar.phrases(name, value), (name, value)


def test_no_words_stand_for_two_values_of_an_attribute():
  for name, values in attributes.VALUES.items():
    said = {}
    for value in values:
      for phrase in grammar.phrases(name, value):
        assert said.setdefault(phrase.lower(), value) == value, (name, phrase)


def test_lexicon_holds_known_values_only():
  for slot, entries in words.LEXICON.items():
    known = [n for n in attributes.VALUES if slot in grammar.slots_of(n)]
    assert known, slot
    for name in known:
      assert set(entries) <= set(attributes.VALUES[name]), (slot, name)


def test_number_of_words(cases):
  for _, _, granularity, style, text in cases:
    low, high = grammar.LENGTHS[granularity]
    assert low <= len(text.text.split()) <= high, (granularity, style, text.text)


def test_mentions_are_true_and_in_sight(cases):
  for person, view, _, _, text in cases:
    seen = attributes.visible(person, view)
    for name, (start, end) in text.mentions:
      assert name in seen, (name, text.text)
      said = text.text[start:end].lower()
      true = [p.lower() for p in grammar.phrases(name, getattr(person, name))]
      assert said in true, (name, said, text.text)


def test_no_attribute_word_outside_mentions(cases):
  colours = {p for said in words.LEXICON["colour"].values() for p in said}
  garments = {
    p
    for slot in ("upper", "bag", "shoes", "headwear")
    for v in words.LEXICON[slot]
    for p in words.LEXICON[slot][v]
  }
  secret = re.compile(rf"\b({'|'.join(map(re.escape, colours | garments))})\b")
  for _, _, _, _, text in cases:
    rest, at = [], 0
    for _, (start, end) in text.mentions:
      rest.append(text.text[at:start])
      at = end
    rest = "|".join([*rest, text.text[at:]])
    # A cup's or hat's colour is marked, so nothing of the kind may be left.
    assert not secret.search(rest), (secret.search(rest).group(), text.text)


def test_mentions_are_in_order_and_apart(cases):
  for _, _, _, _, text in cases:
    ends = [0, *(end for _, (_, end) in text.mentions)]
    starts = [start for _, (start, _) in text.mentions]
    assert all(a <= b for a, b in zip(ends, starts, strict=False))
    assert len(text.slots) == len(text.mentions)


def test_english_surface(cases):
  for _, _, _, _, text in cases:
    said = text.text
    assert re.fullmatch(r"[A-Z0-9][\x20-\x7e]*\.", said), said
    assert "  " not in said and " ," not in said and ",," not in said, said
    assert not re.search(r"\ba (?!uni|one)[aeiou]", said), said
    assert not re.search(r"\ban [^aeiou]", said), said
    assert not re.search(r"[.] [a-z]", said), said
    assert not re.search(r"\b(\w+) \1\b", said), said
    assert not re.search(r"[\x01-\x08{}]|None", said), said


def test_pronouns_fit(cases):
  for person, _, _, _, text in cases:
    other = {"man": r"\b(she|her)\b", "woman": r"\b(he|his|him)\b"}[person.gender]
    assert not re.search(other, text.text, re.IGNORECASE), text.text


def test_coarse_texts_leave_fine_attributes_out(cases):
  broad = {
    "gender",
    "age",
    "upper",
    "upper_colour",
    "lower",
    "lower_colour",
    "bag",
    "bag_colour",
    "hair_length",
    "hair_colour",
    "headwear",
    "headwear_colour",
    "shoes",
    "shoe_colour",
  }
  for _, _, granularity, _, text in cases:
    if granularity == "coarse":
      assert {name for name, _ in text.mentions} <= broad, text.text


def test_fine_texts_tell_what_near_twins_differ_in(cases):
  fine = [case for case in cases if case[2] == "fine"]
  for person, view, _, _, text in fine:
    told = {name for name, _ in text.mentions}
    for name in attributes.FINE:
      if name in attributes.visible(person, view):
        there = getattr(person, name) is not None
        assert name in told or not there, (name, text.text)


def test_fine_texts_tell_nearly_everything(cases):
  told = total = 0
  for person, view, granularity, _, text in cases:
    if granularity != "fine":
      continue
    names = {name for name, _ in text.mentions}
    there = {
      name
      for name in attributes.visible(person, view)
      if getattr(person, name) not in (None, "none", False)
    }
    told, total = told + len(names & there), total + len(there)
  assert told / total > 0.9


def test_near_twins_share_coarse_texts_and_differ_in_fine_ones():
  for number in range(40):
    rng = np.random.default_rng([5, number])
    person = attributes.sample_person(rng)
    twin = attributes.make_twins(person, rng, 2)[0]
    view = attributes.sample_view(rng, "street")
    view = dataclasses.replace(view, direction="front", occluder="none")
    for granularity, same in (("coarse", True), ("fine", False)):
      texts = [
        grammar.describe(
          p, view, granularity, "flowing", np.random.default_rng([6, number])
        ).text
        for p in (person, twin)
      ]
      assert (texts[0] == texts[1]) is same, texts


def test_texts_are_a_function_of_the_generator(cases):
  for number in (3, 100, 701):
    assert _case(number)[-1] == cases[number][-1]
  person, view, granularity, style, _ = cases[8]
  texts = {
    grammar.describe(person, view, granularity, style, np.random.default_rng(k)).text
    for k in range(20)
  }
  assert len(texts) > 15


def test_styles_read_differently(cases):
  by_style = {s: [c[-1].text for c in cases if c[3] == s] for s in grammar.STYLES}
  witness = re.compile(r"\b(I|I am|Officer)\b")
  assert all(witness.search(t) for t in by_style["witness"])
  assert not any(witness.search(t) for t in by_style["list"] + by_style["flowing"])
  articles = {
    style: np.mean([len(re.findall(r"\b[Aa]n? ", t)) for t in texts])
    for style, texts in by_style.items()
  }
  assert articles["list"] < articles["flowing"] / 3


def test_vocabulary_is_rich(cases):
  vocabulary = {w for c in cases for w in re.findall(r"[a-z]+", c[-1].text.lower())}
  assert len(vocabulary) > 450


def test_unknown_names_are_refused(cases):
  person, view = cases[0][:2]
  rng = np.random.default_rng(0)
  with pytest.raises(ValueError, match=r"no granularity 'rough'.*coarse, medium, fine"):
    grammar.describe(person, view, "rough", "list", rng)
  with pytest.raises(ValueError, match=r"no style 'poem'.*flowing"):
    grammar.describe(person, view, "fine", "poem", rng)
  with pytest.raises(ValueError, match=r"no region 'tail'.*head"):
    grammar.phrase(person, view, "tail", rng)
  with pytest.raises(ValueError, match="no attribute 'horns'"):
    grammar.phrases("horns", "none")
  with pytest.raises(ValueError, match=r"share of wrong words is 1\.5"):
    grammar.corrupt(cases[0][-1], person, rng, 1.5)


def test_region_phrases_name_what_is_there(cases):
  for person, view, _, _, _ in cases[:400]:
    seen = attributes.visible(person, view)
    said = {
      region: grammar.phrase(person, view, region, np.random.default_rng(1))
      for region in attributes.REGIONS
    }
    assert said["upper"] and any(
      p in said["upper"] for p in grammar.phrases("upper", person.upper)
    )
    for region, kind in (("bag", "bag"), ("carried", "carried"), ("lower", "lower")):
      there = kind in seen and getattr(person, kind) != "none"
      assert (said[region] is not None) is there
      if there:
        colour = grammar.phrases(f"{kind}_colour", getattr(person, f"{kind}_colour"))
        assert any(c in said[region] for c in colour), said
    assert (said["shoes"] is not None) is ("shoes" in seen)


def test_no_noise_changes_nothing(cases):
  for person, _, _, _, text in cases[:200]:
    assert grammar.corrupt(text, person, np.random.default_rng(0), 0.0) == text


def _frame(text):
  """The text without its attribute phrases, a and an made equal."""
  rest, at = [], 0
  for _, (start, end) in text.mentions:
    rest.append(text.text[at:start])
    at = end
  return re.sub(r"\b([Aa])n?\b", r"\1", "|".join([*rest, text.text[at:]]))


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_noise_replaces_a_share_and_says_where(cases, share):
  changed = total = 0
  for number, (person, _, _, _, text) in enumerate(cases[:800]):
    noisy = grammar.corrupt(text, person, np.random.default_rng(number), share)
    assert [n for n, _ in noisy.mentions] == [n for n, _ in text.mentions]
    assert _frame(noisy) == _frame(text)
    assert set(noisy.wrong) <= {span for _, span in noisy.mentions}
    for (name, span), (_, old), slot in zip(
      noisy.mentions, text.mentions, text.slots, strict=True
    ):
      said = noisy.text[slice(*span)]
      true = [p.lower() for p in grammar.phrases(name, getattr(person, name))]
      assert (said.lower() in true) is (span not in noisy.wrong), (name, said)
      if span not in noisy.wrong:
        assert said == text.text[slice(*old)]
      replaceable = len(words.LEXICON.get(slot, ())) > 1
      changed, total = changed + (span in noisy.wrong), total + replaceable
    assert not re.search(r"\ba (?!uni|one)[aeiou]|\ban [^aeiou]", noisy.text)
    assert not re.search(r"[.] [a-z]", noisy.text), noisy.text
  assert changed / total == pytest.approx(share, abs=0.03)


def test_marks_are_read_back():
  marked = "a \x01x\x02s\x03red\x04 cap, \x01y\x02\x03no bag\x04"
  assert nouns.read(marked) == (
    "a red cap, no bag",
    [("x", "s", 2, 5), ("y", "", 11, 17)],
  )
  assert [nouns.article(w) for w in ("orange", "uniform", "red", "umbrella")] == [
    "an",
    "a",
    "a",
    "an",
  ]
