"""Rendered people: the names of all attribute values, colours, and what goes together.

Field by field, the values of a `Person` are in `VALUES`.
"""

# Names of the colours of clothes and things -> RGB. Chosen far apart: 14 colours that
# a picture of 96 x 40 keeps apart in daylight.
COLOURS = {
  "black": (26, 26, 30),
  "white": (244, 244, 240),
  "grey": (136, 138, 142),
  "beige": (218, 194, 150),
  "brown": (112, 68, 34),
  "red": (208, 28, 32),
  "pink": (246, 142, 184),
  "orange": (244, 124, 20),
  "yellow": (250, 216, 40),
  "green": (34, 138, 52),
  "turquoise": (52, 198, 192),
  "blue": (40, 98, 222),
  "navy": (22, 32, 92),
  "purple": (122, 48, 160),
}
HAIR_COLOURS = {
  "black": (24, 20, 20),
  "brown": (98, 60, 32),
  "red": (172, 70, 26),
  "blond": (226, 188, 100),
  "grey": (150, 148, 146),
  "white": (234, 232, 226),
}
SKIN_TONES = {
  "pale": (250, 222, 202),
  "tan": (222, 172, 130),
  "brown": (162, 108, 70),
  "dark": (92, 58, 40),
}

AGES = ("child", "teenager", "adult", "elderly")
GENDERS = ("man", "woman")
BUILDS = ("slim", "average", "heavy")
HEIGHTS = ("short", "average", "tall")
SKINS = tuple(SKIN_TONES)
HAIR_LENGTHS = ("bald", "short", "medium", "long")  # medium: to the shoulders
# Styles by length; a bald person has style "none".
HAIR_STYLES_BY_LENGTH = {
  "bald": ("none",),
  "short": ("straight", "curly", "spiky"),
  "medium": ("straight", "curly", "ponytail", "bun"),
  "long": ("straight", "curly", "ponytail", "bun", "braid"),
}
HAIR_STYLES = ("none", "straight", "curly", "spiky", "ponytail", "bun", "braid")
HEADWEAR = ("none", "cap", "beanie", "brimmed hat", "headscarf", "helmet")
GLASSES = ("none", "glasses", "sunglasses")
MASKS = ("none", "white", "turquoise", "black")  # face mask, by colour
FACIAL_HAIR = ("none", "beard", "moustache")
UPPERS = (
  "t-shirt",
  "shirt",
  "polo shirt",
  "sweater",
  "hoodie",
  "jacket",
  "coat",
  "blazer",
  "vest",
  "dress",
)
# Where the upper garment ends; "waist" means tucked in.
UPPER_LENGTHS = ("waist", "hip", "thigh", "knee", "calf")
UPPER_PATTERNS = (
  "plain",
  "horizontal stripes",
  "vertical stripes",
  "checks",
  "dots",
  "letters",
  "logo",
  "colour block",  # the lower half of the garment in the second colour
)
LETTERS = ("NY", "GO", "07", "X", "LA")  # `print` when the pattern is "letters"
LOGOS = ("star", "circle", "triangle", "square", "heart")  # when it is "logo"
SLEEVES = ("none", "short", "long")
COLLARS = (
  "round neck",
  "v-neck",
  "shirt collar",
  "high neck",
  "stand collar",
  "lapels",
  "hood",
)
FASTENINGS = ("none", "zip", "buttons")
INNER_PATTERNS = ("plain", "stripes")
LOWERS = ("none", "trousers", "jeans", "shorts", "skirt", "leggings")  # none: a dress
LOWER_LENGTHS = ("short", "knee", "cropped", "full")  # short: mid-thigh
LOWER_PATTERNS = (
  "plain",
  "side stripe",
  "checks",
  "vertical stripes",
  "dots",
  "torn knees",
)
SOCKS = ("none", "short", "knee-high")
SHOES = ("sneakers", "boots", "sandals", "leather shoes", "heels")
BAGS = (
  "none",
  "backpack",
  "shoulder bag",
  "crossbody bag",
  "handbag",
  "shopping bag",
  "suitcase",
)
CARRIED = ("none", "phone", "umbrella", "cup", "book", "bottle")
SIDES = ("left", "right")
_COLOUR = (None, *COLOURS)

# Field -> every value it can take. A grammar must have words for each of them.
VALUES = {
  "age": AGES,
  "gender": GENDERS,
  "build": BUILDS,
  "height": HEIGHTS,
  "skin": SKINS,
  "hair_length": HAIR_LENGTHS,
  "hair_style": HAIR_STYLES,
  "hair_colour": (None, *HAIR_COLOURS),
  "headwear": HEADWEAR,
  "headwear_colour": _COLOUR,
  "glasses": GLASSES,
  "mask": MASKS,
  "facial_hair": FACIAL_HAIR,
  "headphones_colour": _COLOUR,
  "scarf_colour": _COLOUR,
  "upper": UPPERS,
  "upper_colour": tuple(COLOURS),
  "upper_length": UPPER_LENGTHS,
  "upper_pattern": UPPER_PATTERNS,
  "upper_pattern_colour": _COLOUR,
  "print": (None, *LETTERS, *LOGOS),
  "sleeves": SLEEVES,
  "collar": COLLARS,
  "fastening": FASTENINGS,
  "open": (False, True),
  "inner_colour": _COLOUR,
  "inner_pattern": (None, *INNER_PATTERNS),
  "trim_colour": _COLOUR,
  "tie_colour": _COLOUR,
  "belt_colour": _COLOUR,
  "lower": LOWERS,
  "lower_colour": _COLOUR,
  "lower_length": (None, *LOWER_LENGTHS),
  "lower_pattern": (None, *LOWER_PATTERNS),
  "lower_pattern_colour": _COLOUR,
  "socks": SOCKS,
  "socks_colour": _COLOUR,
  "shoes": SHOES,
  "shoe_colour": tuple(COLOURS),
  "sole_colour": tuple(COLOURS),
  "bag": BAGS,
  "bag_colour": _COLOUR,
  "bag_side": (None, *SIDES),
  "bag_trim_colour": _COLOUR,
  "carried": CARRIED,
  "carried_colour": _COLOUR,
  "carried_hand": (None, *SIDES),
  "watch": (False, True),
}

# Upper garment -> what it may be made of. Lengths and patterns in order of UPPER_*.
GARMENTS = {
  "t-shirt": dict(
    length=("waist", "hip"),
    pattern=("plain", "horizontal stripes", "dots", "letters", "logo", "colour block"),
    sleeves=("short", "long"),
    collar=("round neck", "v-neck"),
    fastening=("none",),
  ),
  "shirt": dict(
    length=("waist", "hip"),
    pattern=("plain", "vertical stripes", "checks", "dots"),
    sleeves=("short", "long"),
    collar=("shirt collar",),
    fastening=("buttons",),
  ),
  "polo shirt": dict(
    length=("waist", "hip"),
    pattern=("plain", "horizontal stripes", "logo", "colour block"),
    sleeves=("short",),
    collar=("shirt collar",),
    fastening=("buttons",),
  ),
  "sweater": dict(
    length=("waist", "hip"),
    pattern=(
      "plain",
      "horizontal stripes",
      "checks",
      "dots",
      "letters",
      "logo",
      "colour block",
    ),
    sleeves=("long",),
    collar=("round neck", "v-neck", "high neck"),
    fastening=("none",),
  ),
  "hoodie": dict(
    length=("hip",),
    pattern=("plain", "letters", "logo", "colour block"),
    sleeves=("long",),
    collar=("hood",),
    fastening=("none", "zip"),
  ),
  "jacket": dict(
    length=("hip",),
    pattern=("plain", "checks", "colour block"),
    sleeves=("long",),
    collar=("stand collar", "shirt collar", "hood"),
    fastening=("zip", "buttons"),
  ),
  "coat": dict(
    length=("thigh", "knee"),
    pattern=("plain", "checks"),
    sleeves=("long",),
    collar=("lapels", "stand collar", "hood"),
    fastening=("buttons", "zip"),
  ),
  "blazer": dict(
    length=("hip",),
    pattern=("plain", "checks", "vertical stripes"),
    sleeves=("long",),
    collar=("lapels",),
    fastening=("buttons",),
  ),
  "vest": dict(
    length=("hip",),
    pattern=("plain", "horizontal stripes", "letters", "logo", "colour block"),
    sleeves=("none",),
    collar=("round neck", "v-neck"),
    fastening=("none", "zip"),
  ),
  "dress": dict(
    length=("thigh", "knee", "calf"),
    pattern=(
      "plain",
      "horizontal stripes",
      "vertical stripes",
      "checks",
      "dots",
      "colour block",
    ),
    sleeves=("none", "short", "long"),
    collar=("round neck", "v-neck"),
    fastening=("none", "buttons"),
  ),
}
# Garments that can be worn open, showing an inner top.
OPENABLE = ("shirt", "hoodie", "jacket", "coat", "blazer", "vest")
LOWER_GARMENTS = {
  "none": dict(length=(None,), pattern=(None,)),
  "trousers": dict(
    length=("cropped", "full"),
    pattern=("plain", "side stripe", "checks", "vertical stripes"),
  ),
  "jeans": dict(length=("cropped", "full"), pattern=("plain", "torn knees")),
  "shorts": dict(
    length=("short", "knee"), pattern=("plain", "side stripe", "checks", "dots")
  ),
  "skirt": dict(
    length=("short", "knee", "cropped"),
    pattern=("plain", "checks", "vertical stripes", "dots"),
  ),
  "leggings": dict(length=("cropped", "full"), pattern=("plain", "side stripe")),
}
HAND_BAGS = ("handbag", "shopping bag", "suitcase")  # held in one hand
JEANS_COLOURS = ("blue", "navy", "black", "grey", "white", "turquoise")
