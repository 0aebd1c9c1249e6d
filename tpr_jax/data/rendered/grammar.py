"""Rendered people: descriptions of a person in a view, and wrong words in them.

Only what `attributes.visible` lists is told. Granularity sets the number of words
(`LENGTHS`) and which attributes are told: coarse texts name broad ones only, fine
texts nearly all. Left and right are the person's own.
"""

import dataclasses

import numpy as np

from tpr_jax.data.rendered import attributes, nouns, plan, sentences, words

Span = tuple[int, int]
GRANULARITIES = ("coarse", "medium", "fine")
STYLES = ("flowing", "list", "witness", "paraphrase")
# Fewest and most words of a text, words being what `str.split` gives.
LENGTHS = {"coarse": (12, 25), "medium": (30, 45), "fine": (60, 100)}
_DRAWS = 320  # more than a text uses; reused from the start if it ever runs out


@dataclasses.dataclass(frozen=True)
class Description:
  """One text, with the places of its attribute words.

  Attributes:
    text: the sentences.
    mentions: (attribute, (start, end)) for every phrase of an attribute in `text`.
    slots: for each mention its slot in `words.LEXICON`, "" if nothing else fits.
    wrong: spans of the mentions that tell another value than the person's.
  """

  text: str
  mentions: tuple[tuple[str, Span], ...]
  slots: tuple[str, ...] = ()
  wrong: tuple[Span, ...] = ()


def _check(granularity, style):
  if granularity not in LENGTHS:
    known = ", ".join(GRANULARITIES)
    raise ValueError(f"no granularity {granularity!r}; granularities: {known}")
  if style not in STYLES:
    raise ValueError(f"no style {style!r}; styles: {', '.join(STYLES)}")


def describe(
  person: attributes.Person,
  view: attributes.View,
  granularity: str,
  style: str,
  rng: np.random.Generator,
) -> Description:
  """A text about what `view` shows of `person`.

  `granularity` is one of `GRANULARITIES`, `style` one of `STYLES`; otherwise
  ValueError. The text has a number of words within `LENGTHS[granularity]`.
  """
  _check(granularity, style)
  draws = rng.random(_DRAWS).tolist()
  seen = attributes.visible(person, view)
  units, least = plan.plan(person, seen, granularity, iter(draws[:32]).__next__)
  low, high = LENGTHS[granularity]
  count = _first_count(units, least, low, high, draws[32], _BREVITY[style, granularity])
  marked = _written(person, view, granularity, style, units[:count], seen, draws)
  # The estimate of the number of words is rough: add or drop units until it is right.
  going = 0
  while not low <= (size := marked.count(" ") + 1) <= high:
    step = 1 if size < low else -1
    if going and step != going:  # from one side to the other: the units do not fit
      draws = draws[7:]
    going = step
    count += step
    if not 0 < count <= len(units) or len(draws) < 40:
      raise RuntimeError(
        f"no {granularity} {style} text of {low} to {high} words for {person} in "
        f"{view}: got {size}"
      )
    marked = _written(person, view, granularity, style, units[:count], seen, draws)
  text, found = nouns.read(marked)
  return Description(
    text=text,
    mentions=tuple((name, (start, end)) for name, _, start, end in found),
    slots=tuple(slot for _, slot, _, _ in found),
  )


# Words of a text over the sum of `plan.UNITS`, measured.
_BREVITY = {
  (style, granularity): (0.75 if style == "list" else 1.0)
  * (0.78 if granularity == "coarse" else 1.0)
  for style in STYLES
  for granularity in GRANULARITIES
}


def _first_count(units, least, low, high, chance, brevity):
  """How many units to try first: all that must be told, then up to a length that
  varies between texts."""
  total, goal = 0.0, low + (0.15 + 0.6 * chance) * (high - low)
  most = high - 0.05 * (high - low)
  for count, (_, size) in enumerate(units):
    total += size * brevity
    if total > most or (count >= least and total > goal):
      return max(count, 1)
  return len(units)


def _written(person, view, granularity, style, units, seen, draws):
  told = {name for names, _ in units for name in names}
  told &= seen | set(plan.SCENE)
  teller = nouns.Teller(person, view, told, style, draws[33:])
  if granularity == "coarse":
    return sentences.sketch(teller)
  return sentences.tell(teller)


_REGION_PHRASES = {
  "head": lambda t: nouns.join(
    [
      x
      for x in (nouns.hair(t), *nouns.beard(t), *nouns.headwear(t), *nouns.face(t))
      if x
    ]
  ),
  "upper": lambda t: nouns.join([nouns.upper(t), *nouns.neck(t)]),
  "lower": nouns.lower,
  "shoes": lambda t: nouns.join([x for x in (nouns.shoes(t), *nouns.socks(t)) if x]),
  "bag": nouns.bag,
  "carried": nouns.carried,
}


def phrase(
  person: attributes.Person,
  view: attributes.View,
  region: str,
  rng: np.random.Generator,
) -> str | None:
  """A noun phrase of what `view` shows in a region of `person`, None if nothing.

  `region` is a key of `attributes.REGIONS`; otherwise ValueError.
  """
  if region not in _REGION_PHRASES:
    known = ", ".join(_REGION_PHRASES)
    raise ValueError(f"no region {region!r}; regions: {known}")
  told = attributes.visible(person, view) & set(attributes.REGIONS[region])
  implied = {"fastening", "open", "watch", "upper_length"}
  teller = nouns.Teller(
    person, view, told - implied, "flowing", rng.random(64).tolist()
  )
  return nouns.read(_REGION_PHRASES[region](teller))[0] or None


def phrases(attribute: str, value) -> tuple[str, ...]:
  """All words that can tell this value of this attribute, in any form."""
  if attribute not in attributes.VALUES:
    known = ", ".join(attributes.VALUES)
    raise ValueError(f"no attribute {attribute!r}; attributes: {known}")
  slots = slots_of(attribute)
  found = [p for slot in slots for p in words.LEXICON[slot].get(value, ())]
  found += words.ABSENT.get(attribute, {}).get(value, ())
  return tuple(dict.fromkeys(found))


def slots_of(attribute: str) -> tuple[str, ...]:
  """Slots of `words.LEXICON` that take this attribute."""
  if attribute in ("bag_side", "carried_hand"):
    return ("side",)
  if attribute == "upper_pattern":
    return ("pattern.before", "pattern.with", "pattern.one")
  own = tuple(s for s in words.LEXICON if s.split(".")[0] == attribute)
  if attribute == "hair_length":
    return ("hair", *own)
  if attribute.endswith("_colour") and not own:
    return (words.COLOUR_SLOT,)
  return own


def corrupt(
  description: Description,
  person: attributes.Person,
  rng: np.random.Generator,
  share: float,
) -> Description:
  """The text with a share of its attribute phrases replaced by wrong ones.

  Each phrase that has an alternative in its slot is replaced with probability
  `share`, by words of a value that `person` does not have; `wrong` has their spans,
  and `mentions` all spans in the new text. Raises ValueError unless 0 <= share <= 1.
  """
  if not 0 <= share <= 1:
    raise ValueError(f"share of wrong words is {share}, expected 0 to 1")
  pieces, mentions, wrong, at, length = [], [], [], 0, 0
  rows = zip(description.mentions, description.slots, strict=True)
  for (name, (start, end)), slot in rows:
    before, now = description.text[at:start], description.text[start:end]
    other = _wrong_phrase(slot, getattr(person, name), rng, share)
    if other:
      before = _refit(before, other)
      if not any(now in said for said in words.LEXICON[slot].values()):
        other = other[0].upper() + other[1:]  # it began a sentence
    length += len(before)
    mentions.append((name, (length, length + len(other or now))))
    if other:
      wrong.append(mentions[-1][1])
    length += len(other or now)
    pieces += (before, other or now)
    at = end
  pieces.append(description.text[at:])
  return dataclasses.replace(
    description,
    text="".join(pieces),
    mentions=tuple(mentions),
    wrong=tuple(wrong),
  )


def _wrong_phrase(slot, value, rng, share):
  """Words of another value of the slot, or None to leave the phrase alone."""
  replaced, choice, form = rng.random(3)
  others = [v for v in words.LEXICON.get(slot, ()) if v != value]
  if not others or replaced >= share:
    return None
  options = words.LEXICON[slot][others[int(choice * len(others))]]
  return options[int(form * len(options))]


def _refit(before, phrase_):
  """The text before a phrase, its last word a or an as the phrase needs."""
  head, _, last = before.removesuffix(" ").rpartition(" ")
  if not before.endswith(" ") or last.lower() not in ("a", "an"):
    return before
  fitting = nouns.article(phrase_)
  fitting = fitting.capitalize() if last[0].isupper() else fitting
  return f"{head} {fitting} " if head or before.startswith(" ") else f"{fitting} "
