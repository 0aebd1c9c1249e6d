"""What is taken off an answer, and what is found wrong with it."""

import hashlib
import json

import pytest

from tests.curate import mutations
from tpr_jax.curate import checks, cleaning, prompts
from tpr_jax.curate.checks import colours
from tpr_jax.data import tokenizer

TEXT = (
  "A young man in a blue cap and a white T-shirt is walking with a brown bag over"
  " his left shoulder."
)
GOOD = (
  "With a brown bag over his left shoulder, the young man walks in a white T-shirt"
  " and a blue cap."
)


@pytest.fixture(scope="module")
def check():
  return checks.Checks(tokenizer.build("people"), 60)


@pytest.mark.parametrize(
  "dressed",
  [
    GOOD,
    f"  {GOOD}\n",
    f'"{GOOD}"',
    f"“{GOOD}”",
    f"Here is the rewritten description: {GOOD}",
    f"Here's a shorter version:\n\n{GOOD}",
    f"Sure! Here is the description:\n{GOOD}",
    f"Certainly!\n{GOOD}",
    f"**Rewritten description:** {GOOD}",
    f"Description: {GOOD}",
    f'Here is the new caption:\n"{GOOD}"',
    f"```\n{GOOD}\n```",
    f"```text\n{GOOD}\n```",
    f"**{GOOD}**",
    f"<think>A bag. What else?\nNothing.</think>\n{GOOD}",
    GOOD.replace("white T-shirt", "**white T-shirt**"),
  ],
)
def test_dressing_is_taken_off(check, dressed):
  found = cleaning.clean(dressed)
  assert found == GOOD
  assert check.flags(TEXT, found) == {}


@pytest.mark.parametrize(
  "text",
  [
    "A man, here in a red coat: it is long.",
    'A man in a shirt that says "GO" and a cap that says "NY".',
    "Here stands a man in a red coat and black boots.",
    "A sure-footed woman in a new description-free dress.",
  ],
)
def test_what_is_no_dressing_stays(text):
  assert cleaning.clean(text) == text


@pytest.mark.parametrize(
  ("answer", "flag"),
  [
    ("", "empty"),
    ("...", "empty"),
    ("I'm sorry, but I cannot help with descriptions of people.", "refusal"),
    ("I’m sorry, I can’t tell of a man in blue, white or brown.", "refusal"),
    ("As an AI language model, I see blue, white and brown.", "refusal"),
    ("Please provide the description of blue, white and brown.", "refusal"),
    ("一个年轻男子戴着蓝色帽子，穿着白色T恤。", "language"),
    ("Молодой человек в синей кепке и белой футболке идёт с сумкой.", "language"),
    ("Un joven con gorra azul y camiseta blanca lleva bolso marrón.", "language"),
    (GOOD.replace("blue ", ""), "colours"),
    (GOOD.replace("blue", "red"), "colours"),
    (GOOD.replace("bag", "black bag"), "colours"),
    (TEXT, "identical"),
    (TEXT.upper().replace(".", "!"), "identical"),
    (f"- a man\n- {GOOD}", "markup"),
    (f"1. a man\n2. {GOOD}", "markup"),
    (f"# A man\n{GOOD}", "markup"),
    (f"<p>{GOOD}</p>", "markup"),
    (f"{GOOD}\n\nNote: the facts are the same.", "remark"),
    (f"{GOOD}\nLet me know if it should be shorter.", "remark"),
    (f"{GOOD} And again: {GOOD} And once more: {GOOD}", "long"),
  ],
)  # fmt: skip
def test_what_is_wrong_is_flagged(check, answer, flag):
  found = check.flags(TEXT, cleaning.clean(answer))
  assert found.get(flag)
  assert set(found) <= set(checks.FLAGS)


@pytest.mark.parametrize(
  "finish", ["length", "content_filter", "refusal", "tool_calls"]
)
def test_an_answer_that_was_cut_is_flagged(check, finish):
  assert set(check.flags(TEXT, GOOD, finish)) == {"cut"}
  assert check.flags(TEXT, GOOD, "stop") == check.flags(TEXT, GOOD, "") == {}


def test_flags_say_what_was_found(check):
  found = check.flags(TEXT, GOOD.replace("blue", "red").replace("brown", "tan"))
  assert found == {"colours": "lost blue, brown; added red, tan"}


@pytest.mark.parametrize(
  ("text", "named"),
  [
    ("a gray coat", {"grey"}),
    ("greyish, grayish and greys", {"grey"}),
    ("A BLACK-and-white shirt", {"black", "white"}),
    ("reddish hair, blonde", {"red", "blond"}),
    ("navy blue trousers", {"navy"}),
    ("navy trousers", {"navy"}),
    ("a navy-blue coat and blue jeans", {"navy", "blue"}),
    ("an off-white scarf", {"white"}),
    ("golden buttons, silvery zip", {"gold", "silver"}),
    ("a bored, tanned man with a coffee and a rose", set()),
    ("whiteboard, greenery, blackout", set()),
    ("sand-coloured and rose colored, coral-toned", {"sand", "rose", "coral"}),
    ("a light-coloured and a multi-colored scarf, grey-coloured", {"grey"}),
    ("coloured", set()),
    ("", set()),
  ],
)
def test_colours_by_one_spelling(text, named):
  assert colours(text) == named


def test_other_spellings_are_no_other_colours(check):
  before = "A man in a grey coat and off-white boots is walking with a blond dog."
  after = "A man is walking with a blonde dog in a gray coat and white boots."
  assert check.flags(before, after) == {}


def test_a_source_in_another_language_is_not_measured_by_english(check):
  before = "一个年轻男子戴着帽子，穿着T恤，背着包。"
  after = "这名年轻男子背着包，身穿T恤，头戴帽子。"
  assert "language" not in check.flags(before, after)


def test_every_style_of_prompt_holds_the_caption_and_the_rules():
  for style in prompts.STYLES:
    system, user = prompts.messages(TEXT, style)
    assert system["role"] == "system" and user["role"] == "user"
    assert user["content"].endswith(f"\n{TEXT}")
  words = {s: prompts.messages(TEXT, s)[1]["content"] for s in prompts.STYLES}
  assert len(set(words.values())) == len(prompts.STYLES)
  assert "About 13 words." in words["shorter"] and "About 32" in words["longer"]
  limited = prompts.messages(TEXT, "longer", 25)[1]["content"]
  assert "About 25 words. Never more than 25 words." in limited


def test_other_words_need_another_version():
  """Answers are kept by VERSION: raise it, then put the new digest here."""
  asked = [prompts.messages(TEXT, s, n) for s in prompts.STYLES for n in (0, 25)]
  digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
  assert {prompts.VERSION: digest[:16]} == {1: "9767cdd4951f90e6"}


def test_wrong_colours_are_seen_as_often_as_the_readme_says():
  shares = {row[:2]: row[3] for row in mutations.measure(40)}
  for granularity in ("coarse", "fine"):
    assert shares["replaced", granularity] > 0.9
    assert shares["exchanged", granularity] < 0.1
  assert shares["dropped", "coarse"] > shares["dropped", "fine"] > 0.4
