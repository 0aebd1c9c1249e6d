"""Masking of spans of whole words for masked language modelling: MRA, arXiv:2507.10195.

Places are visited in random order until enough are chosen. Each, with probability
`span_share`, begins a span of 2..`longest` tokens, else of one; both ends of a span are
moved outwards to whole words. If that is too many, random ones of them are kept, which
may leave part of a word. Of the chosen, `mask` become the mask token, `random` any
token of the vocabulary, and the rest stay as they are.
Two rules of how many, and where:
  "words"     the paper's: round(share n) of the n tokens between start and end, at most
              `most`; padding and the end token are never chosen
  "released"  the code's: of the padded row, whose length is n; everything but position
              0 may be chosen, so that of a short caption most of it is padding
Unlike losses/mlm.py, which masks tokens each by itself on the device, this runs beside
the tokenizer: it needs to know which tokens continue a word. L positions.
"""

import numpy as np

NOT_CHOSEN = -1  # as in losses/mlm.py, which reads the labels
RULES = ("words", "released")


def mask(
  ids: np.ndarray,
  rng: np.random.Generator,
  tokenizer,
  *,
  rule: str = "words",
  share: float = 0.25,
  most: int = 10,
  span_share: float = 0.2,
  longest: int = 3,
  mask: float = 0.8,
  random: float = 0.1,
) -> tuple[np.ndarray, np.ndarray]:
  """One caption with words hidden, and what was there.

  Args:
    ids: int [L], start, words, end, padding; is not changed.
    tokenizer: its `mask_id`, `end_id`, `vocab_size`, and `continues`, bool
      [vocab_size]: which tokens continue the word before them.
    share: of the tokens that `rule` counts, at least one and at most `most` of them.

  Returns:
    int32 [L] masked ids; int32 [L] labels: the old id where chosen, else -1. A caption
    without words stays as it is, except under the rule "released".

  Raises:
    ValueError: an unknown rule, rates that are no probabilities, a span or a number
      below 1, or a tokenizer that does not tell which tokens continue a word.
  """
  _check(rule, share, most, span_share, longest, mask, random)
  continues = getattr(tokenizer, "continues", None)
  if continues is None:
    raise ValueError(
      f"span masking: tokenizer {tokenizer.name!r} does not tell which tokens continue"
      " a word; use a WordPiece vocabulary ('people_wordpiece' or"
      " 'bert:FOLDER_OR_HUB_ID')"
    )
  ids = np.asarray(ids, np.int32)
  chosen = _choose(
    ids, rng, tokenizer, continues, (rule, share, most, span_share, longest)
  )
  masked, labels = ids.copy(), np.full(ids.shape, NOT_CHOSEN, np.int32)
  labels[chosen] = ids[chosen]
  kind = rng.random(len(chosen))
  other = rng.integers(tokenizer.vocab_size, size=len(chosen))
  new = np.where(kind < mask, tokenizer.mask_id, other)
  masked[chosen] = np.where(kind < mask + random, new, ids[chosen])
  return masked, labels


def _choose(ids, rng, tokenizer, continues, choices) -> np.ndarray:
  """Places in ascending order."""
  rule, share, most, span_share, longest = choices
  ends = np.flatnonzero(ids == tokenizer.end_id)
  if rule == "words" and not len(ends):
    raise ValueError(
      f"span masking: the caption {ids.tolist()} has no end token"
      f" {tokenizer.end_id}; expected ids of this tokenizer's `encode`"
    )
  stop = len(ids) if rule == "released" else int(ends[0])  # of the places to choose
  if stop <= 1:
    return np.zeros(0, int)
  counted = len(ids) if rule == "released" else stop - 1
  wanted = min(most, max(1, round(counted * share)))
  chosen: set[int] = set()
  for place in 1 + rng.permutation(stop - 1):
    if len(chosen) >= wanted:
      break
    if place in chosen:
      continue
    size = (
      rng.integers(2, longest + 1) if longest > 1 and rng.random() < span_share else 1
    )
    first, last = int(place), min(int(place + size), stop)
    while first > 1 and continues[ids[first]]:
      first -= 1
    while last < stop and continues[ids[last]]:
      last += 1
    chosen.update(range(first, last))
  places = np.array(sorted(chosen), int)
  if len(places) > wanted:
    places = np.sort(rng.choice(places, wanted, replace=False))
  return places


def _check(rule, share, most, span_share, longest, mask, random) -> None:
  if rule not in RULES:
    raise ValueError(f"span masking: rule={rule!r}; expected one of {RULES}")
  rates = (share, span_share, mask, random)
  if min(rates) < 0 or max(rates) > 1 or mask + random > 1:
    raise ValueError(
      f"span masking: share={share}, span_share={span_share}, mask={mask},"
      f" random={random}; expected probabilities with mask + random at most 1"
    )
  if most < 1 or longest < 1:
    raise ValueError(
      f"span masking: most={most}, longest={longest}; expected 1 or more of both"
    )
