"""Rendered people: the lexicon, slot -> value -> phrases of the same meaning.

A slot is a place in a sentence that takes one attribute, in one grammatical form:
putting any other entry of the same slot there keeps the English right, which is what
word noise does. Within a slot no phrase stands for two values. The first phrase of
a tuple is the common one.
"""

_COLOUR_WORDS = {
  "black": ("black", "jet-black", "coal-black"),
  "white": ("white", "bright white", "snow-white"),
  "grey": ("grey", "gray", "ash-grey", "smoky grey"),
  "beige": ("beige", "sand-coloured", "cream-coloured", "light tan"),
  "brown": ("brown", "chocolate-brown", "coffee-coloured", "chestnut-brown"),
  "red": ("red", "bright red", "scarlet", "crimson"),
  "pink": ("pink", "light pink", "rose-coloured", "rosy"),
  "orange": ("orange", "bright orange", "tangerine"),
  "yellow": ("yellow", "bright yellow", "lemon-coloured", "canary yellow"),
  "green": ("green", "grass-green", "emerald", "leaf-green"),
  "turquoise": ("turquoise", "aqua", "cyan", "blue-green"),
  "blue": ("blue", "royal blue", "cobalt blue", "bright blue"),
  "navy": ("navy blue", "navy", "dark blue", "midnight blue"),
  "purple": ("purple", "violet", "plum-coloured", "deep purple"),
}
_HAIR = {
  "black": ("black", "jet-black", "raven"),
  "brown": ("brown", "chestnut", "brunette"),
  "red": ("red", "ginger", "auburn", "copper-coloured"),
  "blond": ("blond", "fair", "golden", "straw-coloured"),
  "grey": ("grey", "gray", "greyish"),
  "white": ("white", "snowy", "snow-white"),
}
_SIDES = {"left": ("left",), "right": ("right",)}

# Attributes whose value is a colour word in any garment's adjective place.
COLOUR_SLOT = "colour"

LEXICON = {
  COLOUR_SLOT: _COLOUR_WORDS,
  "side": _SIDES,
  # who
  "age": {
    "child": ("young", "preteen"),
    "teenager": ("teenage", "adolescent"),
    "adult": ("adult", "grown-up"),
    "elderly": ("elderly", "old", "aged"),
  },
  "gender.child": {"man": ("boy",), "woman": ("girl",)},
  "gender.teenager": {"man": ("boy", "lad"), "woman": ("girl", "lass")},
  "gender.adult": {"man": ("man", "guy", "fellow"), "woman": ("woman", "lady")},
  "gender.elderly": {"man": ("man", "gentleman"), "woman": ("woman", "lady")},
  "build.before": {
    "slim": ("slim", "slender", "thin", "lean"),
    "heavy": ("heavyset", "stout", "stocky", "burly"),
  },
  "build.of": {
    "slim": ("slim build", "slight build"),
    "average": ("average build", "medium build", "ordinary build"),
    "heavy": ("heavy build", "broad build"),
  },
  "height.before": {"short": ("short", "small"), "tall": ("tall", "very tall")},
  "height.of": {
    "short": ("short stature", "small stature"),
    "average": ("average height", "medium height", "middling height"),
    "tall": ("tall stature", "great height"),
  },
  "skin": {
    "pale": ("pale-skinned", "fair-skinned", "light-skinned"),
    "tan": ("tanned", "olive-skinned"),
    "brown": ("brown-skinned", "bronze-skinned"),
    "dark": ("dark-skinned", "dark-complexioned"),
  },
  # head
  "hair": {  # a whole noun phrase
    "bald": ("a bald head", "a clean-shaven head", "a hairless head"),
    "short": ("short hair", "cropped hair"),
    "medium": ("shoulder-length hair", "medium-length hair"),
    "long": ("long hair", "very long hair"),
  },
  "hair_length": {
    "short": ("short", "close-cropped", "short-cut"),
    "medium": ("shoulder-length", "medium-length", "mid-length"),
    "long": ("long", "very long", "flowing"),
  },
  "hair_colour": _HAIR,
  "hair_style.before": {
    "straight": ("straight", "sleek", "smooth"),
    "curly": ("curly", "frizzy", "curled"),
    "spiky": ("spiky", "spiked", "bristly"),
  },
  "hair_style.after": {
    "straight": ("worn straight", "hanging straight"),
    "curly": ("in loose curls", "falling in ringlets"),
    "spiky": ("standing up in spikes",),
    "ponytail": ("in a ponytail", "tied back in a ponytail", "pulled into a ponytail"),
    "bun": ("in a bun", "pinned up in a bun", "twisted into a knot"),
    "braid": ("in a braid", "woven into a plait", "plaited in a braid"),
  },
  "headwear": {
    "cap": ("cap", "baseball cap", "peaked cap"),
    "beanie": ("beanie", "knitted hat", "woolly hat"),
    "brimmed hat": ("brimmed hat", "wide-brimmed hat", "sun hat"),
    "headscarf": ("headscarf", "hijab", "head wrap"),
    "helmet": ("helmet", "bicycle helmet", "crash helmet"),
  },
  "glasses": {
    "glasses": ("glasses", "spectacles", "eyeglasses"),
    "sunglasses": ("sunglasses", "dark glasses", "shades"),
  },
  "mask": {name: _COLOUR_WORDS[name] for name in ("white", "turquoise", "black")},
  "facial_hair": {
    "beard": ("a beard", "a full beard", "a bearded chin"),
    "moustache": ("a moustache", "a mustache"),
  },
  # upper body
  "upper": {
    "t-shirt": ("T-shirt", "tee", "tee-shirt"),
    "shirt": ("shirt", "button-up shirt", "button-down"),
    "polo shirt": ("polo shirt", "polo", "polo top"),
    "sweater": ("sweater", "jumper", "pullover"),
    "hoodie": ("hoodie", "hooded sweatshirt", "hooded pullover"),
    "jacket": ("jacket", "casual jacket", "windbreaker"),
    "coat": ("coat", "overcoat", "topcoat"),
    "blazer": ("blazer", "suit jacket", "tailored jacket"),
    "vest": ("vest", "waistcoat", "gilet"),
    "dress": ("dress", "frock", "gown"),
  },
  "upper_length.before": {
    "waist": ("tucked-in", "waist-length"),
    "hip": ("hip-length",),
    "thigh": ("thigh-length", "mid-thigh"),
    "knee": ("knee-length",),
    "calf": ("calf-length", "mid-calf"),
  },
  "upper_length.after": {
    "waist": ("tucked in", "tucked in at the waist", "ending at the waist"),
    "hip": ("reaching the hips", "hanging to the hips"),
    "thigh": ("reaching the thighs", "ending at mid-thigh"),
    "knee": ("reaching the knees", "ending at the knee"),
    "calf": ("reaching the calves", "ending at mid-calf"),
  },
  "pattern.before": {
    "plain": ("plain", "solid", "unpatterned"),
    "horizontal stripes": ("horizontally striped", "cross-striped"),
    "vertical stripes": ("vertically striped", "pinstriped"),
    "checks": ("checked", "chequered", "plaid"),
    "dots": ("dotted", "spotted", "polka-dot"),
    "letters": ("lettered",),
    "logo": ("logo-print", "emblem-print"),
    "colour block": ("two-tone", "colour-block", "two-coloured"),
  },
  "pattern.with": {  # after "with", a colour before it
    "horizontal stripes": ("horizontal stripes", "crosswise stripes"),
    "vertical stripes": ("vertical stripes", "pinstripes", "lengthwise stripes"),
    "checks": ("checks", "checked lines", "plaid lines"),
    "dots": ("dots", "polka dots", "spots"),
    "letters": ("lettering", "chest letters"),
  },
  "pattern.one": {  # after "with a", a colour before it
    "colour block": ("lower half", "bottom half", "lower part"),
    "logo": ("chest emblem", "chest logo"),
  },
  "print.letters": {
    "NY": ("the letters NY", "the initials NY", "the print NY"),
    "GO": ("the word GO", "the letters GO", "the print GO"),
    "07": ("the number 07", "the digits 07", "the print 07"),
    "X": ("the letter X", "a big X", "the print X"),
    "LA": ("the letters LA", "the initials LA", "the print LA"),
  },
  "print.logo": {
    "star": ("star", "star logo", "five-pointed star"),
    "circle": ("circle", "round logo", "disc"),
    "triangle": ("triangle", "triangular logo"),
    "square": ("square", "square logo"),
    "heart": ("heart", "heart logo", "heart shape"),
  },
  "sleeves": {
    "none": ("sleeveless",),
    "short": ("short-sleeved", "short-sleeve"),
    "long": ("long-sleeved", "long-sleeve"),
  },
  "collar": {
    "round neck": ("a round neck", "a crew neck", "a round neckline"),
    "v-neck": ("a V-neck", "a V-shaped neckline"),
    "shirt collar": ("a shirt collar", "a pointed collar", "a turned-down collar"),
    "high neck": ("a high neck", "a turtleneck", "a roll neck"),
    "stand collar": ("a stand-up collar", "an upright collar"),
    "lapels": ("lapels", "notched lapels"),
    "hood": ("a hood", "an attached hood"),
  },
  "fastening": {
    "none": ("no fastening", "no zip or buttons", "a closed front"),
    "zip": ("a zip", "a front zip", "a zipper"),
    "buttons": ("buttons", "a row of buttons", "front buttons"),
  },
  "open": {
    True: ("worn open", "left open", "hanging open"),
    False: ("worn closed", "done up"),
  },
  "inner_pattern": {"plain": ("plain", "solid"), "stripes": ("striped", "stripy")},
  # lower body
  "lower": {  # plural; a skirt is never told by this slot
    "trousers": ("trousers", "pants", "slacks"),
    "jeans": ("jeans", "denims", "denim trousers"),
    "shorts": ("shorts", "short pants"),
    "leggings": ("leggings", "tights"),
  },
  "lower.one": {  # singular
    "trousers": ("pair of trousers",),
    "jeans": ("pair of jeans",),
    "shorts": ("pair of shorts",),
    "skirt": ("skirt",),
    "leggings": ("pair of leggings",),
  },
  "lower_length": {
    "short": ("thigh-length", "mid-thigh", "very short"),
    "knee": ("knee-length",),
    "cropped": ("cropped", "calf-length", "three-quarter"),
    "full": ("full-length", "ankle-length", "long"),
  },
  "lower_pattern.before": {
    "plain": ("plain", "solid", "unpatterned"),
    "side stripe": ("side-striped",),
    "checks": ("checked", "chequered", "plaid"),
    "vertical stripes": ("vertically striped", "pinstriped"),
    "dots": ("dotted", "spotted", "polka-dot"),
    "torn knees": ("ripped", "torn", "ripped-knee"),
  },
  "lower_pattern.with": {
    "side stripe": ("side stripes", "stripes down the sides", "piping down the sides"),
    "checks": ("checks", "checked lines", "plaid lines"),
    "vertical stripes": ("vertical stripes", "pinstripes", "lengthwise stripes"),
    "dots": ("dots", "polka dots", "spots"),
  },
  "lower_pattern.torn": {
    "torn knees": ("torn knees", "ripped knees", "holes at the knees"),
    "plain": ("intact knees",),
  },
  # feet
  "socks": {
    "short": ("ankle socks", "short socks", "low socks"),
    "knee-high": ("knee-high socks", "knee socks", "long socks"),
  },
  "shoes": {
    "sneakers": ("sneakers", "trainers", "running shoes", "sports shoes"),
    "boots": ("boots", "ankle boots", "high boots"),
    "sandals": ("sandals", "open sandals", "strappy sandals"),
    "leather shoes": ("leather shoes", "dress shoes", "oxfords"),
    "heels": ("high heels", "heels", "high-heeled shoes", "pumps"),
  },
  # things
  "bag": {
    "backpack": ("backpack", "rucksack", "knapsack"),
    "shoulder bag": ("shoulder bag", "tote bag", "tote"),
    "crossbody bag": ("crossbody bag", "messenger bag", "satchel"),
    "handbag": ("handbag", "purse", "hand-held bag"),
    "shopping bag": ("shopping bag", "carrier bag", "grocery bag"),
    "suitcase": ("suitcase", "wheeled suitcase", "trolley case"),
  },
  "carried": {
    "phone": ("phone", "mobile phone", "smartphone", "cellphone"),
    "umbrella": ("umbrella", "folded umbrella"),
    "cup": ("cup", "coffee cup", "takeaway cup"),
    "book": ("book", "closed book", "hardback"),
    "bottle": ("bottle", "water bottle", "drinking bottle"),
  },
  "watch": {
    True: ("a watch", "a wristwatch"),
    False: ("no watch", "no wristwatch"),
  },
}

# Things that are not there: attribute -> value -> phrases after "has" or "with".
ABSENT = {
  "headwear": {"none": ("no hat", "no headgear", "nothing on the head")},
  "glasses": {"none": ("no glasses", "no eyewear")},
  "mask": {"none": ("no face mask", "no mask")},
  "facial_hair": {"none": ("no beard", "no facial hair", "a shaved chin")},
  "headphones_colour": {None: ("no headphones",)},
  "scarf_colour": {None: ("no scarf", "no shawl")},
  "trim_colour": {None: ("no contrasting trim", "no coloured trim")},
  "tie_colour": {None: ("no tie", "no necktie")},
  "belt_colour": {None: ("no belt",)},
  "socks": {"none": ("no socks", "bare ankles")},
  "bag": {"none": ("no bag", "no luggage")},
  "bag_trim_colour": {None: ("no contrasting pocket", "no coloured pocket")},
  "carried": {"none": ("nothing in the hands", "empty hands")},
  "watch": {False: ("no watch", "no wristwatch")},
}

# The camera and the scene, which are no attributes of the person.
DIRECTION = {
  "front": ("facing the camera", "seen from the front", "viewed head-on"),
  "front-left": ("seen from the front left", "seen from the left front"),
  "left": ("seen from the left side", "showing the left side", "in left profile"),
  "back-left": ("seen from behind on the left", "seen from the back left"),
  "back": ("seen from behind", "with the back to the camera", "facing away"),
  "back-right": ("seen from behind on the right", "seen from the back right"),
  "right": ("seen from the right side", "showing the right side", "in right profile"),
  "front-right": ("seen from the front right", "seen from the right front"),
}
POSE = {
  "walking": ("walking", "strolling", "striding", "stepping along"),
  "standing": ("standing", "standing still", "waiting", "pausing"),
}
PLACE = {
  "street": ("on a street", "beside a road", "on the pavement"),
  "wall": ("in front of a wall", "beside a wall"),
  "grass": ("near some grass", "beside a lawn", "in a park"),
  "station": ("in a station", "inside a station hall"),
  "shop front": ("by a shop", "in front of a shop window", "near a store"),
  "night street": ("on a dark street", "on a street at night", "under street lamps"),
}
LIGHT = {
  "street": ("in daylight", "by day"),
  "station": ("in dull indoor light", "under weak lamps indoors"),
  "night": ("in dim light", "after dark"),
  "mall": ("in bright indoor light", "under bright lamps indoors"),
}
COMPANY = {
  "none": ("with nobody else close by", "with no one else beside"),
  "left": ("with somebody else at the edge of the picture",),
  "right": ("with somebody else at the edge of the picture",),
}
# Closing sentences of a text that has told everything and is still too short.
CLOSING = {
  "rest": (
    "Nothing else about the clothes or the belongings stands out.",
    "There is nothing further to report about clothes or belongings.",
  ),
  "frame": (
    "The figure stands upright and fills a tall, narrow picture.",
    "A tall, narrow picture holds this single upright figure.",
  ),
}
