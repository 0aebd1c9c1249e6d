"""What may be wrong with a rewritten caption. A person has the last word: review.py.

Heuristics on words alone. They do not see a colour that moved to another garment, or a
detail that is invented; the paper had every text of UFine3C read by people.
"""

import dataclasses
import re

from tpr_jax.curate import lexicon
from tpr_jax.curate.cleaning import one_line
from tpr_jax.data import check_text
from tpr_jax.data.tokenizer import Tokenizer

FLAGS = {
  "empty": "no words",
  "cut": "the model was cut off or stopped by a filter",
  "refusal": "declines, or speaks about itself",
  "language": "not in the language of the original",
  "colours": "a colour was lost or added",
  "long": "more tokens than the text length",
  "identical": "the words of the original",
  "markup": "lists, headings, tags or odd characters",
  "remark": "speaks about the text instead of the person",
}

_REFUSAL = re.compile("|".join(lexicon.REFUSALS), re.I)
_REMARK = re.compile(lexicon.ASIDES + r"|\A\W*" + lexicon.PREAMBLE, re.I)
_MARKDOWN = re.compile(r"^\s*(?:[-*+•]|\d+[.)]|#{1,6})\s|```|\*\*|\|.*\|", re.M)
_LETTERS = re.compile(r"[a-z]+")
_ENDED = ("", "stop", "eos", "end_turn")
_OTHER_LETTERS = 0.2  # share of letters outside ASCII that English captions never have
_LEAST_FUNCTION = 0.12  # share of function words that English sentences always have
_FEW = 6  # words: too few to tell a language by


def _spellings():
  found = {}
  for name, others in lexicon.COLOURS.items():
    for word in (name, *others):
      found |= {word: name, word + "s": name, word + "ish": name}
  return found


_COLOURS = _spellings()


def colours(text: str) -> frozenset[str]:
  """The colours that a text names, each under one spelling ("gray" is "grey")."""
  words = _LETTERS.findall(text.lower())
  found, at = set(), 0
  while at < len(words):
    pair = tuple(words[at : at + 2])
    name = lexicon.PAIRS.get(pair) or _COLOURS.get(words[at])
    if pair[1:] and pair[1] in lexicon.MAKES_COLOUR and words[at] not in lexicon.HOW:
      name = name or words[at]
    found |= {name} if name else set()
    at += 2 if pair in lexicon.PAIRS else 1
  return frozenset(found)


@dataclasses.dataclass(frozen=True)
class Checks:
  """Compares an answer with its original.

  Attributes:
    tokenizer: of the models that the set will be asked of.
    length: their text length in tokens, start and end included.
  """

  tokenizer: Tokenizer
  length: int

  def flags(self, original: str, answer: str, finish: str = "") -> dict[str, str]:
    """Flag -> what was found; empty if nothing is wrong.

    Args:
      original: the caption that was rewritten.
      answer: the cleaned answer (`cleaning.clean`).
      finish: why the model stopped.
    """
    words = check_text.words(answer)
    if not words:
      return {"empty": repr(answer[:40])}
    found = {}
    if finish not in _ENDED:
      found["cut"] = f"it ended by {finish!r}"
    if match := _REFUSAL.search(answer.replace("’", "'")):
      found["refusal"] = repr(match.group())
    if why := _language(original, answer, words):
      found["language"] = why
    if why := _colours(original, answer):
      found["colours"] = why
    if words == check_text.words(original):
      found["identical"] = "word for word"
    odd = check_text.oddities(one_line(answer))
    odd = {kind: at for kind, at in odd.items() if kind in ("markup", "control")}
    if (match := _MARKDOWN.search(answer)) or odd:
      found["markup"] = next(iter(odd.values()), match and repr(match.group()))
    if match := _REMARK.search(answer):
      found["remark"] = repr(match.group().strip())
    tokens = int(self.tokenizer.encode([one_line(answer)], self.length)[1][0])
    if tokens > self.length:
      found["long"] = f"{tokens} tokens, {self.length} fit"
    return found


def _colours(original, answer):
  before, after = colours(original), colours(answer)
  said = [
    f"{what} {', '.join(sorted(some))}"
    for what, some in (("lost", before - after), ("added", after - before))
    if some
  ]
  return "; ".join(said)


def _language(original, answer, words):
  """Only what the original is not: its captions may be in any language."""
  share = _foreign(answer)
  if share > _OTHER_LETTERS >= _foreign(original):
    return f"{share:.0%} of the letters are not ASCII"
  originals = check_text.words(original)
  if min(len(words), len(originals)) < _FEW:
    return ""
  share = _function(words)
  if share < _LEAST_FUNCTION <= _function(originals):
    return f"{share:.0%} of the words are English function words"
  return ""


def _foreign(text):
  letters = [char for char in text if char.isalpha()]
  return sum(not char.isascii() for char in letters) / max(len(letters), 1)


def _function(words):
  return sum(word in lexicon.FUNCTION_WORDS for word in words) / len(words)
