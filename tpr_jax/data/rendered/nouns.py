"""Rendered people: noun phrases about one part of a person, with marked words.

A `Teller` is one text in the making: whom it tells about, which attributes it tells
(`told`), and its random choices. Every phrase of an attribute is wrapped in control
characters that `read` takes out again, leaving plain text and the places of phrases:
MARK attribute SEP slot END phrase CLOSE.
"""

import re

from tpr_jax.data.rendered import words

MARK, SEP, END, CLOSE = "\x01", "\x02", "\x03", "\x04"
_MARKED = re.compile(f"{MARK}([^{SEP}]*){SEP}([^{END}]*){END}([^{CLOSE}]*){CLOSE}")
_VOWEL = re.compile(r"(?!uni|use|eu|one)[aeiou]", re.IGNORECASE)
PRONOUNS = {"man": ("he", "his"), "woman": ("she", "her")}


def article(plain: str) -> str:
  """ "a" or "an", whichever goes before `plain`."""
  return "an" if _VOWEL.match(plain) else "a"


def read(marked: str) -> tuple[str, list[tuple[str, str, int, int]]]:
  """Marked text -> plain text and (attribute, slot, start, end) of its phrases."""
  pieces = _MARKED.split(marked)  # plain, attribute, slot, phrase, plain, ...
  found, length = [], 0
  for at in range(0, len(pieces) - 1, 4):
    start = length + len(pieces[at])
    length = start + len(pieces[at + 3])
    found.append((pieces[at + 1], pieces[at + 2], start, length))
  texts = [text for at, text in enumerate(pieces) if at % 4 in (0, 3)]
  return "".join(texts), found


def join(parts: list[str], last: str = "and") -> str:
  """ "x", "x and y", "x, y and z"."""
  if len(parts) < 2:
    return "".join(parts)
  return f"{', '.join(parts[:-1])} {last} {parts[-1]}"


class Teller:
  """One text in the making.

  Attributes:
    person, view, told: whom, how seen, and the attributes to tell.
    style: one of `grammar.STYLES`; uniforms: the random numbers in [0, 1) it uses.
  """

  __slots__ = ("_at", "_rare", "_said", "_uniforms", "person", "style", "told", "view")

  def __init__(self, person, view, told, style, uniforms):
    self.person, self.view, self.told = person, view, told
    self.style = style
    self._uniforms, self._at, self._said = uniforms, 0, set()
    self._rare = 0.8 if style == "paraphrase" else 1.5

  def chance(self) -> float:
    self._at += 1
    return self._uniforms[self._at % len(self._uniforms)]

  def pick(self, options):
    return options[int(self.chance() * len(options))]

  def fresh(self, options):
    """One of the options, if possible one that this text has not used yet."""
    start = int(self.chance() * len(options))
    turned = options[start:] + options[:start]
    chosen = next((o for o in turned if o not in self._said), turned[0])
    self._said.add(chosen)
    return chosen

  def mark(self, name, slot):
    """The person's value of attribute `name`, in words that fit `slot`."""
    options = words.LEXICON[slot][getattr(self.person, name)]
    phrase = options[int(self.chance() ** self._rare * len(options))]
    return f"{MARK}{name}{SEP}{slot}{END}{phrase}{CLOSE}"

  def absent(self, name):
    phrase = self.pick(words.ABSENT[name][getattr(self.person, name)])
    return f"{MARK}{name}{SEP}{END}{phrase}{CLOSE}"

  def tells(self, name) -> bool:
    """Whether the attribute is told and there is something to tell of it."""
    if name not in self.told:
      return False
    return getattr(self.person, name) not in (None, "none")

  def adjective(self, name, slot=words.COLOUR_SLOT):
    """[words] of the attribute, [] where it is not told."""
    return [self.mark(name, slot)] if self.tells(name) else []

  def a(self, *parts) -> str:
    """Parts joined, with an article unless the style leaves articles out."""
    text = " ".join(part for part in parts if part)
    return text if self.style == "list" else self.always_a(text)

  def always_a(self, text) -> str:
    start = text.index(END) + 1 if text.startswith(MARK) else 0
    return f"{article(text[start : start + 3])} {text}"

  @property
  def he(self) -> str:
    return PRONOUNS[self.person.gender][0]

  @property
  def his(self) -> str:
    return PRONOUNS[self.person.gender][1]


def _told_between(t, name, before, after):
  """The attribute as a word before the noun, or as "of ..." after it."""
  value = getattr(t.person, name)
  if name not in t.told:
    return [], []
  if value in words.LEXICON[before] and t.chance() < 0.8:
    return [t.mark(name, before)], []
  return [], [t.mark(name, after)]


def who(t: Teller) -> str:
  """The person: "tall elderly woman of slim build"; always with an article."""
  height, of_height = _told_between(t, "height", "height.before", "height.of")
  build, of_build = _told_between(t, "build", "build.before", "build.of")
  skin = t.adjective("skin", "skin")
  age = t.adjective("age", "age")
  noun = t.mark("gender", f"gender.{t.person.age}")
  rest = of_height + of_build
  tail = f" of {join(rest)}" if rest else ""
  return t.a(" ".join([*height, *build, *skin, *age, noun])) + tail


def hair(t: Teller) -> str:
  """ "long brown hair in a braid"; "" where nothing is told."""
  if "hair_length" not in t.told:
    return ""
  if t.person.hair_length == "bald":
    return t.mark("hair_length", "hair")
  before, after = [], []
  if t.tells("hair_style"):
    style = t.person.hair_style
    if style in words.LEXICON["hair_style.before"] and t.chance() < 0.75:
      before = [t.mark("hair_style", "hair_style.before")]
    else:
      after = [t.mark("hair_style", "hair_style.after")]
  colour = t.adjective("hair_colour", "hair_colour")
  if not before and not colour:
    return " ".join([t.mark("hair_length", "hair"), *after])
  length = t.mark("hair_length", "hair_length")
  return " ".join([length, *before, *colour, "hair", *after])


def headwear(t: Teller) -> list[str]:
  if not t.tells("headwear"):
    return []
  return [t.a(*t.adjective("headwear_colour"), t.mark("headwear", "headwear"))]


def face(t: Teller) -> list[str]:
  """What is worn on the head below the hat, and the beard."""
  items = []
  if t.tells("glasses"):
    items.append(t.mark("glasses", "glasses"))
  if t.tells("mask"):
    kind = t.pick(("face mask", "mask", "surgical mask"))
    items.append(t.a(t.mark("mask", "mask"), kind))
  if t.tells("headphones_colour"):
    kind = t.pick(("headphones", "earphones", "over-ear headphones"))
    items.append(f"{t.mark('headphones_colour', words.COLOUR_SLOT)} {kind}")
  return items


def beard(t: Teller) -> list[str]:
  return t.adjective("facial_hair", "facial_hair")


def _pattern(t, attribute, one, many):
  """ "white checks", "a red lower half": for after "with"."""
  colour = t.adjective(f"{attribute}_colour")
  value = getattr(t.person, attribute)
  if value in words.LEXICON[one]:
    return t.a(*colour, t.mark(attribute, one))
  return " ".join([*colour, t.mark(attribute, many)])


def _upper_pattern(t):
  """(adjectives, noun phrases for after "with")."""
  if not t.tells("upper_pattern"):
    return [], []
  value = t.person.upper_pattern
  if "upper_pattern_colour" not in t.told or value == "plain":
    return [t.mark("upper_pattern", "pattern.before")], []
  if t.tells("print"):
    place = t.pick(("on the chest", "on the front", "across the chest"))
    if value == "logo":
      shape = t.mark("print", "print.logo")
      return [], [f"{t.a(*t.adjective('upper_pattern_colour'), shape)} {place}"]
    colour = t.mark("upper_pattern_colour", words.COLOUR_SLOT)
    return [], [f"{t.mark('print', 'print.letters')} in {colour} {place}"]
  return [], [_pattern(t, "upper_pattern", "pattern.one", "pattern.with")]


def inner(t: Teller) -> str:
  """The top under an open garment, "" where it is not told."""
  if not t.tells("inner_colour"):
    return ""
  kind = t.pick(("top", "undershirt", "inner top", "top underneath"))
  before = t.adjective("inner_pattern", "inner_pattern")
  return t.a(*before, *t.adjective("inner_colour"), kind)


def _trim(t):
  if not t.tells("trim_colour"):
    return []
  colour = t.mark("trim_colour", words.COLOUR_SLOT)
  if t.person.sleeves == "none":
    kind = t.pick(("trim", "edging", "hem and edges"))
  else:
    kind = t.pick(("trim", "cuffs and hem", "edging", "cuffs"))
  return [f"{colour} {kind}"]


def upper(t: Teller) -> str:
  """The upper garment and all that is told of it."""
  before, after = [], []
  if "upper_length" in t.told:
    early = t.person.upper_length not in ("waist", "hip") and t.chance() < 0.6
    slot = "upper_length.before" if early else "upper_length.after"
    (before if early else after).append(t.mark("upper_length", slot))
  if "sleeves" in t.told:
    before.append(t.mark("sleeves", "sleeves"))
  adjectives, withs = _upper_pattern(t)
  garment = t.a(
    *before, *adjectives, *t.adjective("upper_colour"), t.mark("upper", "upper")
  )
  withs += t.adjective("collar", "collar")
  if "fastening" in t.told:
    withs.append(t.mark("fastening", "fastening"))
  withs += _trim(t)
  under = inner(t)
  if under:
    is_open = [t.mark("open", "open")] if "open" in t.told else []
    after.append(" ".join([*is_open, "over", under]))
  elif "open" in t.told:
    after.append(t.mark("open", "open"))
  if t.style == "list" and withs and t.chance() < 0.5:
    return ", ".join([garment, *withs, *after])
  if withs:
    garment += f" with {join(withs)}"
  return ", ".join([garment, *after])


def lower(t: Teller) -> str:
  """The lower garment, "" where it is not told."""
  if not t.tells("lower"):
    return ""
  before, withs = t.adjective("lower_length", "lower_length"), []
  if t.tells("lower_pattern"):
    value = t.person.lower_pattern
    if value == "torn knees" and t.chance() < 0.6:
      withs.append(t.mark("lower_pattern", "lower_pattern.torn"))
    elif "lower_pattern_colour" in t.told and value not in ("plain", "torn knees"):
      colour = t.adjective("lower_pattern_colour")
      withs.append(" ".join([*colour, t.mark("lower_pattern", "lower_pattern.with")]))
    else:
      before.append(t.mark("lower_pattern", "lower_pattern.before"))
  before += t.adjective("lower_colour")
  if t.person.lower == "skirt":
    garment = t.a(*before, t.mark("lower", "lower.one"))
  else:
    garment = " ".join([*before, t.mark("lower", "lower")])
    if t.style != "list" and t.chance() < 0.15:
      garment = f"a pair of {garment}"
  if t.tells("belt_colour"):
    withs.append(belt(t))
  return f"{garment} with {join(withs)}" if withs else garment


def belt(t: Teller) -> str:
  return t.a(t.mark("belt_colour", words.COLOUR_SLOT), "belt")


def neck(t: Teller) -> list[str]:
  """Scarf and tie."""
  items = []
  if t.tells("scarf_colour"):
    kind = t.pick(("scarf", "neck scarf", "scarf around the neck"))
    items.append(t.a(t.mark("scarf_colour", words.COLOUR_SLOT), kind))
  if t.tells("tie_colour"):
    kind = t.pick(("tie", "necktie"))
    items.append(t.a(t.mark("tie_colour", words.COLOUR_SLOT), kind))
  return items


def watch(t: Teller) -> list[str]:
  if not ("watch" in t.told and t.person.watch):
    return []
  return [f"{t.mark('watch', 'watch')} on the left wrist"]


def shoes(t: Teller) -> str:
  """Shoes and their soles, "" where they are not told."""
  if not t.tells("shoes"):
    return ""
  pair = " ".join([*t.adjective("shoe_colour"), t.mark("shoes", "shoes")])
  if t.tells("sole_colour"):
    pair += f" with {t.mark('sole_colour', words.COLOUR_SLOT)} soles"
  return pair


def socks(t: Teller) -> list[str]:
  if not t.tells("socks"):
    return []
  return [" ".join([*t.adjective("socks_colour"), t.mark("socks", "socks")])]


_IN_HAND = ("handbag", "shopping bag", "suitcase")


def _where_bag(t):
  if t.person.bag == "backpack":
    return t.pick(("on the back", "", "", "")) if t.style != "list" else ""
  if "bag_side" not in t.told:
    return ""
  side = t.mark("bag_side", "side")
  if t.person.bag in _IN_HAND:
    return t.pick((f"in {t.his} {side} hand", f"in the {side} hand"))
  if t.person.bag == "crossbody bag":
    return t.pick((f"at {t.his} {side} hip", f"against the {side} hip"))
  return t.pick((f"over {t.his} {side} shoulder", f"on the {side} shoulder"))


def bag(t: Teller) -> str:
  """The bag and where it is, "" where it is not told."""
  if not t.tells("bag"):
    return ""
  thing = t.a(*t.adjective("bag_colour"), t.mark("bag", "bag"))
  if t.tells("bag_trim_colour"):
    colour = t.mark("bag_trim_colour", words.COLOUR_SLOT)
    thing += f" with {t.a(colour, t.pick(('pocket', 'front pocket')))}"
  where = _where_bag(t)
  return f"{thing} {where}" if where else thing


def carried(t: Teller) -> str:
  """The thing in a hand, "" where it is not told."""
  if not t.tells("carried"):
    return ""
  thing = t.a(*t.adjective("carried_colour"), t.mark("carried", "carried"))
  if "carried_hand" not in t.told:
    return thing
  hand = t.mark("carried_hand", "side")
  return f"{thing} in {t.pick((t.his, 'the'))} {hand} hand"
