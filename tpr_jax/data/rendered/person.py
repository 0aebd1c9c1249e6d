"""Rendered people: one identity, and which of its attributes show where.

A `Person` is everything that the drawing and the texts may tell about an identity.
Conventions: kind fields ("headwear", "bag") say "none" when there is nothing; fields
that only mean something beside a kind (colours, sides) are None then. Left and right
are always the person's own.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Person:
  """One identity: 48 attributes, values as in `VALUES`.

  Attributes:
    age, gender, build, height, skin: the body.
    hair_length, hair_style, hair_colour: colour is None for a bald person.
    headwear, headwear_colour: what is on the head.
    glasses, mask, facial_hair: the face; `mask` names the colour of a face mask.
    headphones_colour, scarf_colour: None without headphones / scarf.
    upper, upper_colour, upper_length: the outermost upper garment, main colour, and
      how far down it reaches ("waist": tucked in).
    upper_pattern, upper_pattern_colour, print: second colour is None when plain;
      `print` is the word or shape on the chest for "letters" and "logo", else None.
    sleeves, collar, fastening: details of the upper garment.
    open, inner_colour, inner_pattern: worn open, and the top seen under it.
    trim_colour: contrasting cuffs and hem of the upper garment, or None.
    tie_colour, belt_colour: None without a tie / belt.
    lower, lower_colour, lower_length, lower_pattern, lower_pattern_colour: the lower
      garment; "none" and None with a dress.
    socks, socks_colour, shoes, shoe_colour, sole_colour: the feet.
    bag, bag_colour, bag_side, bag_trim_colour: side is the shoulder or hand that
      carries it, the hip it hangs at for a crossbody bag, None for a backpack;
      trim is a contrasting pocket, or None.
    carried, carried_colour, carried_hand: a thing in one hand.
    watch: a watch on the left wrist.
  """

  age: str
  gender: str
  build: str
  height: str
  skin: str
  hair_length: str
  hair_style: str
  hair_colour: str | None
  headwear: str
  headwear_colour: str | None
  glasses: str
  mask: str
  facial_hair: str
  headphones_colour: str | None
  scarf_colour: str | None
  upper: str
  upper_colour: str
  upper_length: str
  upper_pattern: str
  upper_pattern_colour: str | None
  print: str | None
  sleeves: str
  collar: str
  fastening: str
  open: bool
  inner_colour: str | None
  inner_pattern: str | None
  trim_colour: str | None
  tie_colour: str | None
  belt_colour: str | None
  lower: str
  lower_colour: str | None
  lower_length: str | None
  lower_pattern: str | None
  lower_pattern_colour: str | None
  socks: str
  socks_colour: str | None
  shoes: str
  shoe_colour: str
  sole_colour: str
  bag: str
  bag_colour: str | None
  bag_side: str | None
  bag_trim_colour: str | None
  carried: str
  carried_colour: str | None
  carried_hand: str | None
  watch: bool


# Region of the body -> the attributes that show there (the boxes of `draw`).
REGIONS = {
  "head": (
    "hair_length",
    "hair_style",
    "hair_colour",
    "headwear",
    "headwear_colour",
    "glasses",
    "mask",
    "facial_hair",
    "headphones_colour",
  ),
  "upper": (
    "scarf_colour",
    "upper",
    "upper_colour",
    "upper_length",
    "upper_pattern",
    "upper_pattern_colour",
    "print",
    "sleeves",
    "collar",
    "fastening",
    "open",
    "inner_colour",
    "inner_pattern",
    "trim_colour",
    "tie_colour",
    "watch",
  ),
  "lower": (
    "belt_colour",
    "lower",
    "lower_colour",
    "lower_length",
    "lower_pattern",
    "lower_pattern_colour",
  ),
  "shoes": ("socks", "socks_colour", "shoes", "shoe_colour", "sole_colour"),
  "bag": ("bag", "bag_colour", "bag_side", "bag_trim_colour"),
  "carried": ("carried", "carried_colour", "carried_hand"),
}
