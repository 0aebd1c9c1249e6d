"""Easy data augmentation of captions (EDA): Wei & Zou, arXiv:1901.11196, as in MRA.

A caption becomes its words of a-z: lower case, apostrophes taken out, anything else a
space. Then, of n words and a rate a, one of
  replace  max(1, int(a n)) different words, each everywhere, by a random synonym each
  insert   max(1, int(a n)) times the first synonym of a random word, anywhere
  swap     max(1, int(a n)) times two words
  delete   each word with probability a, never all of them
MRA (arXiv:2507.10195) trains on a second view of each caption, made by exactly one of
the four at rate 0.1 (`one`), and writes 20 prompts for a diffusion model from each
caption at rate 0.5 (`prompts`). Words of `STOP` are never replaced.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np

from tpr_jax.data.synonyms import Synonyms

# Words that carry a sentence rather than say something of a person.
_STOP = """
a an the this that these those some any each every all both no not nor only own same
i me my myself we us our ours you your yours he him his himself she her hers herself
it its itself they them their theirs themselves who whom whose which what
and or but if because as until while of at by for with about against between into
through during before after above below to from up down in out on off over under
again further then once here there when where why how than too very so such just
am is are was were be been being has have had having do does did doing done
will would shall should can could may might must s t don
"""
STOP = frozenset(_STOP.split())
_TRIES_TO_INSERT = 10  # draws of a word, to find one that has a synonym
_TRIES_TO_SWAP = 3  # draws of a second place that is not the first

Operation = Callable[[list[str], np.random.Generator, float, Synonyms], list[str]]


def letters(caption: str) -> str:
  """Lower-case words of a-z with single spaces: what EDA works on, "" if there is none.

  "The man's T-shirt, 2 bags" becomes "the mans t shirt bags".
  """
  plain = re.sub(r"['’]", "", caption.lower())
  return " ".join(re.sub(r"[^a-z]+", " ", plain).split())


def _number(words: list[str], rate: float) -> int:
  return max(1, int(rate * len(words)))


def replace(words, rng, rate, synonyms):
  """Different words, stop words apart, in random order until enough had a synonym."""
  candidates = [word for word in dict.fromkeys(words) if word not in STOP]
  new: dict[str, str] = {}
  for at in rng.permutation(len(candidates)):
    if found := synonyms.of(candidates[at]):
      new[candidates[at]] = found[rng.integers(len(found))]
      if len(new) == _number(words, rate):
        break
  return [new.get(word, word) for word in words]


def insert(words, rng, rate, synonyms):
  """Any word may give the synonym, those put in before too; its place is random."""
  words = list(words)
  for _ in range(_number(words, rate)):
    for _ in range(_TRIES_TO_INSERT):
      if found := synonyms.of(words[rng.integers(len(words))]):
        words.insert(rng.integers(len(words)), found[0])
        break
  return words


def swap(words, rng, rate, synonyms):
  """Two places at a time; the same place drawn again and again: nothing is swapped."""
  words = list(words)
  for _ in range(_number(words, rate)):
    first = rng.integers(len(words))
    for _ in range(_TRIES_TO_SWAP):
      second = rng.integers(len(words))
      if second != first:
        words[first], words[second] = words[second], words[first]
        break
  return words


def delete(words, rng, rate, synonyms):
  """A word alone stays; where all would go, one of them at random stays."""
  if len(words) == 1:
    return words
  kept = [word for word in words if rng.random() > rate]
  return kept or [words[rng.integers(len(words))]]


OPERATIONS: Mapping[str, Operation] = dict(
  replace=replace, insert=insert, swap=swap, delete=delete
)
RATES = dict.fromkeys(OPERATIONS, 0.1)
PROMPT_RATES = dict.fromkeys(OPERATIONS, 0.5)


def one(
  caption: str,
  rng: np.random.Generator,
  *,
  synonyms: Synonyms,
  rates: Mapping[str, float] = RATES,
) -> str:
  """The caption changed by exactly one operation, each as likely as the others.

  Args:
    synonyms: of `synonyms.build`.
    rates: name of the operation -> its rate; one that is left out, or whose rate is 0,
      is not used.

  Returns:
    lower-case words of a-z; a caption that has none is returned as it is.

  Raises:
    ValueError: `rates` with an unknown operation, a rate outside of 0..1, or none.
  """
  used, words = _used(rates), letters(caption).split()
  if not words:
    return caption
  name = used[rng.integers(len(used))]
  return " ".join(OPERATIONS[name](words, rng, rates[name], synonyms))


def prompts(
  caption: str,
  rng: np.random.Generator,
  *,
  synonyms: Synonyms,
  number: int = 19,
  rates: Mapping[str, float] = PROMPT_RATES,
) -> list[str]:
  """`number` changed captions in random order, then the caption as it is.

  Each of the operations makes `number // operations + 1` (5 of 19), the whole is
  shuffled, and the first `number` are kept. A caption without a-z: copies of it.

  Args:
    synonyms, rates: as of `one`.

  Raises:
    ValueError: as `one`, or less than one caption asked for.
  """
  if number < 1:
    raise ValueError(f"eda: {number} captions asked for; expected 1 or more")
  used, words = _used(rates), letters(caption).split()
  if not words:
    return [caption] * (number + 1)
  each = number // len(used) + 1
  made = [
    " ".join(OPERATIONS[name](words, rng, rates[name], synonyms))
    for name in used
    for _ in range(each)
  ]
  return [made[at] for at in rng.permutation(len(made))[:number]] + [caption]


def _used(rates: Mapping[str, float]) -> list[str]:
  unknown = sorted(set(rates) - set(OPERATIONS))
  if unknown:
    raise ValueError(
      f"eda: unknown operation {unknown[0]!r}; expected some of {', '.join(OPERATIONS)}"
    )
  used = [name for name in OPERATIONS if rates.get(name, 0)]
  if not used or any(not 0 <= rate <= 1 for rate in rates.values()):
    raise ValueError(
      f"eda: rates {dict(rates)}; expected each from 0 to 1, and one above 0 at least"
    )
  return used
