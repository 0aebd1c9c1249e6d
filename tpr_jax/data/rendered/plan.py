"""Rendered people: which attributes a text tells, in order of importance.

A unit is a group of attributes that are told together. `plan` orders the units that a
view shows; `grammar.describe` tells as many of them, from the front, as the length
allows. Coarse texts name broad attributes only, so that near twins share them.
"""

from tpr_jax.data.rendered import attributes, words

SCENE = ("pose", "direction", "place", "light", "company", "rest", "frame")
# Unit -> (attributes, words it takes, roughly). Absent things: see `words.ABSENT`.
UNITS = {
  "gender": (("gender",), 4.0),
  "age": (("age",), 1.0),
  "skin": (("skin",), 1.0),
  "build": (("build",), 1.6),
  "height": (("height",), 1.6),
  "hair": (("hair_length", "hair_colour"), 4.5),
  "hair_style": (("hair_style",), 2.0),
  "headwear": (("headwear", "headwear_colour"), 4.5),
  "glasses": (("glasses",), 2.0),
  "mask": (("mask",), 3.5),
  "facial_hair": (("facial_hair",), 2.5),
  "headphones": (("headphones_colour",), 3.0),
  "scarf": (("scarf_colour",), 4.0),
  "upper": (("upper", "upper_colour"), 6.0),
  "upper_length": (("upper_length",), 2.0),
  "upper_pattern": (("upper_pattern", "upper_pattern_colour"), 3.2),
  "print": (("print",), 4.5),
  "sleeves": (("sleeves",), 1.0),
  "collar": (("collar",), 2.5),
  "fastening": (("fastening",), 2.5),
  "open": (("open",), 2.0),
  "inner": (("inner_colour", "open"), 5.0),
  "inner_pattern": (("inner_pattern",), 1.0),
  "trim": (("trim_colour",), 3.5),
  "tie": (("tie_colour",), 4.0),
  "belt": (("belt_colour",), 4.0),
  "lower": (("lower", "lower_colour"), 5.5),
  "lower_length": (("lower_length",), 1.0),
  "lower_pattern": (("lower_pattern", "lower_pattern_colour"), 3.5),
  "socks": (("socks", "socks_colour"), 3.5),
  "shoes": (("shoes", "shoe_colour"), 6.0),
  "sole": (("sole_colour",), 3.2),
  "bag": (("bag", "bag_colour"), 6.0),
  "bag_side": (("bag_side",), 4.0),
  "bag_trim": (("bag_trim_colour",), 4.5),
  "carried": (("carried", "carried_colour"), 5.0),
  "carried_hand": (("carried_hand",), 4.0),
  "watch": (("watch",), 6.0),
  "pose": (("pose",), 1.5),
  "direction": (("direction",), 3.5),
  "place": (("place",), 3.5),
  "light": (("light",), 3.0),
  "company": (("company",), 6.0),
  "rest": (("rest",), 10.0),
  "frame": (("frame",), 10.0),
}
# A detail goes with the thing that it is a detail of.
NEEDS = {
  "hair_style": "hair",
  "print": "upper_pattern",
  "inner_pattern": "inner",
  "lower_length": "lower",
  "lower_pattern": "lower",
  "sole": "shoes",
  "bag_side": "bag",
  "bag_trim": "bag",
  "carried_hand": "carried",
}
_BROAD = ("gender", "upper", "lower")
_MEDIUM = ("upper_pattern", "hair", "shoes", "bag", "headwear")
_MEDIUM_MORE = (
  "sleeves",
  "upper_length",
  "lower_length",
  "lower_pattern",
  "hair_style",
  "glasses",
  "mask",
  "facial_hair",
  "scarf",
  "carried",
  "bag_side",
  "inner",
  "build",
  "pose",
  "direction",
)
# Fine texts: the things, then what tells near twins apart, then all other details.
_THINGS = ("gender", "upper", "lower", "shoes", "bag", "carried")
_TELLING = (
  "sole",
  "trim",
  "socks",
  "belt",
  "bag_trim",
  "bag_side",
  "carried_hand",
  "headphones",
  "upper_pattern",
  "print",
  "inner",
  "tie",
)
_SEEN_WELL = ("hair", "headwear", "lower_pattern", "scarf", "mask", "hair_style")
_DETAILS = (
  "glasses",
  "facial_hair",
  "sleeves",
  "lower_length",
  "upper_length",
  "inner_pattern",
  "collar",
  "watch",
  "fastening",
  "open",
  "direction",
)
_BODY = ("skin", "build", "height", "pose")
# Told only to reach a length: what is not there, and the place.
_ABSENT_FIRST = ("trim_colour", "bag_trim_colour", "headwear", "bag", "carried")
_ABSENT = (
  "glasses",
  "facial_hair",
  "mask",
  "scarf_colour",
  "headphones_colour",
  "socks",
  "belt_colour",
  "tie_colour",
  "watch",
)


def _tellable(unit, person, seen):
  """Whether the view shows the unit's thing, and there is one."""
  name = UNITS[unit][0][0]
  if name in SCENE:
    return True
  if name not in seen:
    return False
  value = getattr(person, name)
  if name == "open":
    return "fastening" in seen and person.fastening != "none" and not value
  if name == "watch":
    return value
  if unit == "inner_pattern":
    return person.open
  if unit == "collar" and person.upper == "hoodie":
    return False  # a hooded sweatshirt with a hood
  return value not in (None, "none") or name in ("sleeves", "fastening")


def _absent(person, seen, names):
  for name in names:
    if name in seen and getattr(person, name) in words.ABSENT[name]:
      if not _worth_missing(name, person):
        continue
      yield (name,), 3.0


def _worth_missing(name, person):
  """Whether anybody would remark that the thing is not there."""
  if name == "bag_trim_colour":
    return person.bag != "none"
  if name == "facial_hair":
    return person.gender == "man" and person.age in ("adult", "elderly")
  if name == "tie_colour":
    return person.upper in ("shirt", "blazer")
  return True


def _shuffled(names, chance):
  keys = {name: chance() for name in names}
  return sorted(names, key=keys.__getitem__)


def _implied(unit, person):
  """Whether the garment alone says it: a polo shirt has a collar."""
  field = {"upper_length": "length"}.get(unit, unit)
  options = attributes.GARMENTS[person.upper].get(field, ())
  return len(options) == 1 or (unit == "age" and person.age == "adult")


def plan(person, seen, granularity, chance):
  """Units to tell, most important first, and how many of them must be told.

  Returns ([(attributes, rough number of words)], least). `chance()` gives numbers in
  [0, 1).
  """
  if granularity == "coarse":
    first, more, absent = _coarse(person, chance)
  elif granularity == "medium":
    first = (*_BROAD, "age", *_MEDIUM)
    more = (*_shuffled(_MEDIUM_MORE, chance), "place", "skin", "height")
    absent = _ABSENT_FIRST[2:] + _ABSENT[:2]
  else:
    first = (*_THINGS, *_TELLING, *_SEEN_WELL, "age", *_DETAILS)
    more = _shuffled(_BODY, chance)
    absent = _ABSENT_FIRST + tuple(_shuffled(_ABSENT, chance))
  first = [unit for unit in first if _tellable(unit, person, seen)]
  must = [unit for unit in first if not _implied(unit, person)]
  may = [unit for unit in more if _tellable(unit, person, seen)]
  may += [unit for unit in first if unit not in must]
  units = [UNITS[unit] for unit in _with_needs(must + may)]
  missing = list(_absent(person, seen, absent))
  if granularity == "fine":  # near twins may differ in having a trim at all
    units[len(must) : len(must)] = missing[:2]
    missing = missing[2:]
  units += missing
  if granularity != "coarse":
    units += [UNITS["place"]] if granularity == "fine" else []
    units += [UNITS["light"], UNITS["company"]]
  if granularity == "fine":  # everything is told by then
    units += [UNITS["rest"], UNITS["frame"]]
  return units, len(must)


def _with_needs(units):
  """Units without details of things that are not told at all."""
  return [unit for unit in units if unit not in NEEDS or NEEDS[unit] in units]


def _coarse(person, chance):
  first = list(_BROAD)
  if person.age != "adult":
    first.append("age")
  if chance() < 0.6:
    first.append("bag")
  rest = ["pose", "hair", "shoes", "headwear", "direction", "place", "bag", "age"]
  return first, [u for u in _shuffled(rest, chance) if u not in first], ()
