"""Rendered people: identities from a seeded generator."""

import numpy as np

from tpr_jax.data.rendered import person as person_lib
from tpr_jax.data.rendered import tables

Person = person_lib.Person
_NAMES = tuple(tables.COLOURS)


def _pick(rng, values, weights=None):
  """One of `values`, evenly or by weight; a single uniform draw."""
  if weights is None:
    return values[int(rng.random() * len(values))]
  rest = rng.random() * sum(weights)
  for value, weight in zip(values, weights, strict=True):
    rest -= weight
    if rest < 0:
      return value
  # Rounding may leave a sliver: the last value that can be drawn at all.
  return [v for v, w in zip(values, weights, strict=True) if w][-1]


def _colour(rng, but=()):
  """A colour name that is not in `but`; even, black a little likelier."""
  names = [name for name in _NAMES if name not in but]
  return _pick(rng, names, [1.5 if name == "black" else 1.0 for name in names])


def _maybe(rng, share, but=()):
  """A colour with probability `share`, else None; always the same draws."""
  colour, chance = _colour(rng, but), rng.random()
  return colour if chance < share else None


def _sample_body(rng):
  age = _pick(rng, tables.AGES, (0.1, 0.15, 0.55, 0.2))
  gender = _pick(rng, tables.GENDERS)
  man, elderly = gender == "man", age == "elderly"
  bald = 0.15 if man and age in ("adult", "elderly") else 0.0
  length = _pick(
    rng,
    tables.HAIR_LENGTHS,
    (bald, 0.7, 0.15, 0.05) if man else (0.0, 0.2, 0.35, 0.45),
  )
  style = _pick(rng, tables.HAIR_STYLES_BY_LENGTH[length])
  hair_weights = (0.1, 0.1, 0.03, 0.07, 0.4, 0.3) if elderly else (4, 3, 1.5, 2.5, 0, 0)
  colour = _pick(rng, tuple(tables.HAIR_COLOURS), hair_weights)
  beard_weights = (
    (0.6, 0.25, 0.15) if man and age in ("adult", "elderly") else (1, 0, 0)
  )
  headwear = _pick(rng, tables.HEADWEAR, (0.55, 0.15, 0.12, 0.08, 0.06, 0.04))
  if headwear == "headscarf" and man:
    headwear = "cap"
  return dict(
    age=age,
    gender=gender,
    build=_pick(rng, tables.BUILDS, (0.3, 0.45, 0.25)),
    height=_pick(rng, tables.HEIGHTS, (0.25, 0.5, 0.25)),
    skin=_pick(rng, tables.SKINS),
    hair_length=length,
    hair_style=style,
    hair_colour=None if length == "bald" else colour,
    headwear=headwear,
    headwear_colour=None if headwear == "none" else _colour(rng),
    glasses=_pick(rng, tables.GLASSES, (0.6, 0.25, 0.15)),
    mask=_pick(rng, tables.MASKS, (0.82, 0.06, 0.06, 0.06)),
    facial_hair=_pick(rng, tables.FACIAL_HAIR, beard_weights),
    headphones_colour=_maybe(rng, 0.12),
    scarf_colour=_maybe(rng, 0.15),
  )


def _sample_upper(rng, gender):
  weights = [3, 2.5, 2, 2.5, 2.5, 3, 2, 1.5, 1.2, 3.0 if gender == "woman" else 0.0]
  upper = _pick(rng, tables.UPPERS, weights)
  garment = tables.GARMENTS[upper]
  colour = _colour(rng)
  fastening = _pick(rng, garment["fastening"])
  openable = upper in tables.OPENABLE and fastening != "none"
  is_open = bool(openable and rng.random() < (0.25 if upper == "shirt" else 0.55))
  patterns = [
    p for p in garment["pattern"] if not (is_open and p in ("letters", "logo"))
  ]
  pattern = _pick(rng, patterns, [1.2 if p == "plain" else 1 for p in patterns])
  prints = {"letters": tables.LETTERS, "logo": tables.LOGOS}.get(pattern, (None,))
  inner = _colour(rng, (colour,)) if is_open else None
  length = "hip" if is_open and upper == "shirt" else _pick(rng, garment["length"])
  formal = upper == "blazer" or (upper == "shirt" and not is_open)
  return dict(
    upper=upper,
    upper_colour=colour,
    upper_length=length,
    upper_pattern=pattern,
    upper_pattern_colour=None if pattern == "plain" else _colour(rng, (colour,)),
    print=_pick(rng, prints),
    sleeves=_pick(rng, garment["sleeves"]),
    collar=_pick(rng, garment["collar"]),
    fastening=fastening,
    open=is_open,
    inner_colour=inner,
    inner_pattern=_pick(rng, tables.INNER_PATTERNS, (0.7, 0.3)) if is_open else None,
    trim_colour=_maybe(rng, 0.3, (colour,)),
    tie_colour=_maybe(rng, 0.5 if formal else 0.0, (colour, inner)),
  )


def _sample_lower(rng, gender, upper):
  woman = gender == "woman"
  weights = [3, 3.5, 2, 2.0 if woman else 0.0, 1.5 if woman else 0.0]
  lower = _pick(rng, tables.LOWERS[1:], weights)
  if upper["upper"] == "dress":
    lower = "none"
  elif upper["upper_length"] in ("thigh", "knee") and lower in ("shorts", "skirt"):
    lower = _pick(rng, ("trousers", "jeans"))
  garment = tables.LOWER_GARMENTS[lower]
  jeans = lower == "jeans"
  colour = _pick(rng, tables.JEANS_COLOURS) if jeans else _colour(rng)
  pattern = _pick(
    rng, garment["pattern"], [2 if p == "plain" else 1 for p in garment["pattern"]]
  )
  if upper["upper_length"] == "knee" and pattern == "torn knees":
    pattern = "plain"
  wears = lower != "none"
  belted = upper["upper"] == "dress" or (
    (upper["upper"] == "coat" and not upper["open"]) or upper["upper_length"] == "waist"
  )
  near = (colour, upper["upper_colour"])
  second = _colour(rng, (colour,))
  return dict(
    belt_colour=_maybe(rng, 0.5 if belted else 0.0, near),
    lower=lower,
    lower_colour=colour if wears else None,
    lower_length=_pick(rng, garment["length"]),
    lower_pattern=pattern,
    lower_pattern_colour=None if pattern in (None, "plain", "torn knees") else second,
  )


def _sample_feet(rng, gender, age):
  woman = gender == "woman" and age in ("adult", "elderly")
  shoes = _pick(rng, tables.SHOES, (4, 2, 1, 1.5, 1.5 if woman else 0))
  shoe_colour = _colour(rng)
  socks = _pick(rng, tables.SOCKS, (0.3, 0.4, 0.3))
  return dict(
    socks=socks,
    socks_colour=None if socks == "none" else _colour(rng, (shoe_colour,)),
    shoes=shoes,
    shoe_colour=shoe_colour,
    sole_colour=_colour(rng, (shoe_colour,)),
  )


def _sample_things(rng, gender):
  handbag = 1.0 if gender == "woman" else 0.0
  bag = _pick(rng, tables.BAGS, (2.5, 2.2, 1.4, 1.4, handbag, 1.0, 0.8))
  bag_colour = _colour(rng)
  side = _pick(rng, tables.SIDES)
  trim = _maybe(rng, 0.5, (bag_colour,))
  carried = _pick(rng, tables.CARRIED, (3, 1, 1, 1, 1, 1))
  hand = _pick(rng, tables.SIDES)
  if bag in tables.HAND_BAGS:  # that hand is taken
    hand = "left" if side == "right" else "right"
  carried_colour = _colour(rng)
  has_bag, carries = bag != "none", carried != "none"
  return dict(
    bag=bag,
    bag_colour=bag_colour if has_bag else None,
    bag_side=side if has_bag and bag != "backpack" else None,
    bag_trim_colour=trim if has_bag else None,
    carried=carried,
    carried_colour=carried_colour if carries else None,
    carried_hand=hand if carries else None,
    watch=bool(rng.random() < 0.3),
  )


def sample_person(rng: np.random.Generator) -> Person:
  """One identity; its attributes suit each other (a dress leaves no trousers)."""
  body = _sample_body(rng)
  upper = _sample_upper(rng, body["gender"])
  lower = _sample_lower(rng, body["gender"], upper)
  feet = _sample_feet(rng, body["gender"], body["age"])
  return Person(**body, **upper, **lower, **feet, **_sample_things(rng, body["gender"]))
