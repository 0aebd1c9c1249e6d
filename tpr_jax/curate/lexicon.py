"""Words that tell something about an answer. The lists are our own, made by hand.

Names of colours as captions of clothes use them, with their other spellings. Words
that name things as often as colours (rose, plum, lime, wine, chocolate) are left out:
a coffee in the hand is no colour.
"""

# Name -> other spellings. "s" and "ish" are added to each; see `checks.colours`.
COLOURS = {
  "black": ("blackish",),
  "white": ("whitish", "offwhite"),
  "grey": ("gray",),
  "red": ("reddish",),
  "blue": ("bluish", "bluey"),
  "green": (),
  "yellow": ("yellowy",),
  "orange": ("orangey", "orangish"),
  "brown": (),
  "pink": ("pinky",),
  "purple": ("purplish",),
  "violet": (),
  "beige": (),
  "navy": (),
  "turquoise": (),
  "teal": (),
  "cyan": (),
  "aqua": (),
  "indigo": (),
  "maroon": (),
  "burgundy": (),
  "crimson": (),
  "scarlet": (),
  "magenta": (),
  "fuchsia": ("fuschia",),
  "lavender": (),
  "lilac": (),
  "mauve": (),
  "khaki": (),
  "tan": (),
  "olive": (),
  "cream": ("creamy",),
  "ivory": (),
  "coral": (),
  "salmon": (),
  "peach": (),
  "mustard": (),
  "charcoal": (),
  "ochre": ("ocher",),
  "gold": ("golden",),
  "silver": ("silvery",),
  "bronze": (),
  "copper": (),
  "blond": ("blonde",),
  "brunette": (),
  "chestnut": (),
  "auburn": (),
  "ginger": (),
  "emerald": (),
  "tangerine": (),
}
# Two words that name one colour. ("blue jeans" is blue, "navy blue" is navy.)
PAIRS = {("navy", "blue"): "navy", ("off", "white"): "white"}

# Before one of these any word names a colour ("sand-coloured"), but for those that say
# how and not which.
MAKES_COLOUR = ("coloured", "colored", "toned", "hued")
HOW = frozenset(
  """bright dark deep dull earth light multi neutral pale plain solid two warm cool same
  different differently brightly many well similarly""".split()  # noqa: SIM905
)

# The models' own ways to decline or to speak of themselves; no caption says "I".
REFUSALS = (
  r"\bI(?:'m| am) (?:sorry|unable|not able|not comfortable)",
  r"\bI (?:can't|cannot|can not|won't|will not|must decline|apologi[sz]e)",
  r"\bas an? (?:AI|artificial|language model|assistant)",
  r"\b(?:AI|language) (?:model|assistant)\b",
  r"\bcan(?:'t|not) (?:assist|help|comply)",
  r"\b(?:please|could you) provide",
  r"\bno description (?:was|is) (?:given|provided)",
)

# A first line or clause, up to its colon, that announces what follows.
PREAMBLE = (
  r"(?:(?:sure|certainly|of course|okay|ok|absolutely)[,.!]*\s*)?"
  r"(?:here(?:'s| is| are)\b[^:\n]{0,80}|"
  r"(?:the\s+)?(?:rewritten|reorgani[sz]ed|new|revised|rephrased|shorter|longer)"
  r"(?:\s+(?:description|version|caption|text))+|"
  r"(?:description|caption|rewrite|answer|output))\s*:\s*"
)
ASIDES = r"(?:\n\s*|\s\()(?:note\s*:|let me know|i (?:have|hope|kept)\b|this version\b)"

# The commonest words of English sentences about people; other languages lack them.
FUNCTION_WORDS = frozenset(
  """a an and are as at been both by each for from has have he her hers him his in into
  is it its of on or over she that the their them there they this to up was wears
  wearing which while who whose with""".split()  # noqa: SIM905
)
