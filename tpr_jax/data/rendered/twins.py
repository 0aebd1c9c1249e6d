"""Rendered people: other values that an attribute could have, and near twins."""

import dataclasses

import numpy as np

from tpr_jax.data.rendered import person as person_lib
from tpr_jax.data.rendered import tables

Person = person_lib.Person
REGIONS = person_lib.REGIONS

# Colours that stand beside another colour and would vanish if they were the same.
_CONTRAST = {
  "upper_colour": ("upper_pattern_colour", "trim_colour", "inner_colour", "tie_colour"),
  "upper_pattern_colour": ("upper_colour",),
  "trim_colour": ("upper_colour",),
  "inner_colour": ("upper_colour", "tie_colour"),
  "tie_colour": ("upper_colour", "inner_colour"),
  "belt_colour": ("upper_colour", "lower_colour"),
  "lower_colour": ("lower_pattern_colour", "belt_colour"),
  "lower_pattern_colour": ("lower_colour",),
  "socks_colour": ("shoe_colour",),
  "shoe_colour": ("sole_colour", "socks_colour"),
  "sole_colour": ("shoe_colour",),
  "bag_colour": ("bag_trim_colour",),
  "bag_trim_colour": ("bag_colour",),
}
# Optional things told by a colour alone: None is a value in its own right.
OPTIONAL = ("headphones_colour", "scarf_colour", "trim_colour", "bag_trim_colour")


def alternatives(person: Person, name: str) -> tuple:
  """Values that attribute `name` could have instead, the rest of the person kept.

  Only values that keep the person sensible: none for a colour of a thing that is not
  there, none that would need another attribute to change too. May be empty.
  Raises KeyError for a name that is no attribute.
  """
  if name not in tables.VALUES:
    raise KeyError(f"no attribute {name!r}; attributes: {', '.join(tables.VALUES)}")
  now = getattr(person, name)
  return tuple(value for value in _allowed(person, name) if value != now)


def _allowed(person, name):
  if name.endswith("_colour"):
    return _allowed_colours(person, name)
  garment = tables.GARMENTS[person.upper]
  lower = tables.LOWER_GARMENTS[person.lower]
  by_name = {
    "hair_length": [
      n
      for n, styles in tables.HAIR_STYLES_BY_LENGTH.items()
      if person.hair_style in styles
    ],
    "hair_style": tables.HAIR_STYLES_BY_LENGTH[person.hair_length],
    "headwear": _swap(person.headwear, tables.HEADWEAR),
    "facial_hair": tables.FACIAL_HAIR if _bearded(person) else ("none",),
    "gender": tables.GENDERS if person.facial_hair == "none" else (person.gender,),
    "age": ("adult", "elderly") if person.facial_hair != "none" else tables.AGES,
    "upper": _other_uppers(person),
    "upper_length": _upper_lengths(person, garment),
    "upper_pattern": _same_print(person.upper_pattern, _patterns(person, garment)),
    "print": {"letters": tables.LETTERS, "logo": tables.LOGOS}.get(
      person.upper_pattern, (None,)
    ),
    "sleeves": garment["sleeves"],
    "collar": garment["collar"],
    "fastening": [f for f in garment["fastening"] if not (person.open and f == "none")],
    "open": (person.open,),  # the inner top would have to come with it
    "inner_pattern": tables.INNER_PATTERNS if person.open else (None,),
    "lower": _other_lowers(person),
    "lower_length": lower["length"],
    "lower_pattern": _lower_patterns(person, lower),
    "socks": _swap(person.socks, tables.SOCKS),
    "bag": _other_bags(person),
    "bag_side": _bag_sides(person),
    "carried": _swap(person.carried, tables.CARRIED),
    "carried_hand": _carrying_hands(person),
  }
  return by_name.get(name, tables.VALUES[name])


def _allowed_colours(person, name):
  now = getattr(person, name)
  taken = {getattr(person, other) for other in _CONTRAST.get(name, ())}
  if name == "hair_colour":
    return tuple(tables.HAIR_COLOURS) if now else (None,)
  if now is None and name not in OPTIONAL:
    return (None,)
  if name == "bag_trim_colour" and person.bag == "none":
    return (None,)
  names = tables.JEANS_COLOURS if _is_jeans(person, name) else tuple(tables.COLOURS)
  colours = tuple(n for n in names if n not in taken)
  return ((None,) if name in OPTIONAL else ()) + colours


def _is_jeans(person, name):
  return name == "lower_colour" and person.lower == "jeans"


def _swap(now, values):
  """Kinds that can stand for `now` without a colour or side coming or going."""
  return (now,) if now == "none" else tuple(v for v in values if v != "none")


def _bearded(person):
  return person.gender == "man" and person.age in ("adult", "elderly")


def _same_print(now, patterns):
  printed = {"plain": 0, "letters": 1, "logo": 2}
  return [p for p in patterns if printed.get(p, 3) == printed.get(now, 3)]


def _patterns(person, garment):
  return [
    p for p in garment["pattern"] if not (person.open and p in ("letters", "logo"))
  ]


def _upper_lengths(person, garment):
  if person.belt_colour and person.upper_length == "waist":
    return ("waist",)
  if person.open and person.upper == "shirt":
    return ("hip",)
  if person.lower_pattern == "torn knees":
    return [n for n in garment["length"] if n != "knee"]
  return garment["length"]


def _other_uppers(person):
  def fits(garment):
    return (
      person.upper_length in garment["length"]
      and person.upper_pattern in garment["pattern"]
      and person.sleeves in garment["sleeves"]
      and person.collar in garment["collar"]
      and person.fastening in garment["fastening"]
    )

  names = [n for n in tables.UPPERS if n != "dress" and fits(tables.GARMENTS[n])]
  if person.open:
    names = [n for n in names if n in tables.OPENABLE]
  return [person.upper] if person.upper == "dress" else names


def _other_lowers(person):
  long_top = person.upper_length in ("thigh", "knee")
  return [
    name
    for name, garment in tables.LOWER_GARMENTS.items()
    if person.lower_length in garment["length"]
    and person.lower_pattern in garment["pattern"]
    and (name != "jeans" or person.lower_colour in tables.JEANS_COLOURS)
    and not (long_top and name in ("shorts", "skirt"))
  ]


def _lower_patterns(person, lower):
  now = person.lower_pattern
  if person.upper_length == "knee" and now == "plain":
    return ("plain",)
  plain = ("plain", "torn knees", None)
  return [p for p in lower["pattern"] if (p in plain) == (now in plain)]


def _other_bags(person):
  if person.bag in ("none", "backpack"):  # no side to keep
    return (person.bag,)
  hand_free = person.carried_hand != person.bag_side
  names = [n for n in tables.BAGS if n not in ("none", "backpack")]
  return [n for n in names if hand_free or n not in tables.HAND_BAGS]


def _bag_sides(person):
  held = person.bag in tables.HAND_BAGS and person.carried != "none"
  return (person.bag_side,) if person.bag_side is None or held else tables.SIDES


def _carrying_hands(person):
  fixed = person.carried == "none" or person.bag in tables.HAND_BAGS
  return (person.carried_hand,) if fixed else tables.SIDES


# Details that tell near twins apart and that a coarse text leaves out -> whether every
# direction shows them.
FINE = {
  "sole_colour": True,
  "trim_colour": True,
  "socks_colour": True,
  "belt_colour": True,
  "bag_trim_colour": True,
  "bag_side": True,
  "carried_colour": True,
  "carried_hand": True,
  "headphones_colour": True,
  "print": False,
  "inner_colour": False,
  "tie_colour": False,
}


def _fine_choices(person):
  """Fine attribute -> its other values, for those that this person shows."""
  choices = {name: alternatives(person, name) for name in FINE}
  hems = ("short", "knee", "cropped")
  bare = person.lower_length in hems or person.upper == "dress"
  if not bare or person.shoes == "boots":
    choices["socks_colour"] = ()
  if person.headwear in ("headscarf", "helmet"):
    choices["headphones_colour"] = ()
  if person.scarf_colour:
    choices["tie_colour"] = ()
  return {name: values for name, values in choices.items() if values}


def make_twins(person: Person, rng: np.random.Generator, count: int) -> list[Person]:
  """`count` people like `person` but for the same two or three fine attributes.

  Any two of the group (the original included) differ in at least two of them, and at
  least two of them show from every side. Raises ValueError for count > 5, the most
  that the choices of every person allow.
  """
  if not 0 <= count <= 5:
    raise ValueError(f"make_twins: count is {count}, expected 0 to 5")
  choices = _fine_choices(person)
  # Attributes with few values (sides, prints) cannot differ between all of a group.
  rich = [n for n, v in choices.items() if FINE[n] and len(v) >= count]
  names = [str(n) for n in rng.permutation(rich)]
  first = names[0]
  # Not both on the feet, which a hedge may hide.
  second = next(n for n in names[1:] if not {first, n} <= {*REGIONS["shoes"]})
  names = [first, second]
  rest = [n for n in choices if n not in names]
  if rest and rng.random() < 0.6:
    names.append(str(rng.permutation(rest)[0]))
  changes = [
    {name: choices[name][i] for name, i in zip(names, rows, strict=True)}
    for rows in _spread(rng, [len(choices[name]) for name in names], count)
  ]
  return [dataclasses.replace(person, **change) for change in changes]


def _spread(rng, sizes, count):
  """`count` rows of one index below each size; columns without repeats if possible."""
  columns = [np.resize(rng.permutation(size), count) for size in sizes]
  return np.stack(columns, axis=1) if count else []
