"""What MRA (arXiv:2507.10195) does to a caption before its tokenizer.

  clean("A man's RED-white shirt!", "icfg_rstp") = "a man s red white shirt"
  first_words(caption) = its first 56 words
In this order, with EDA (data/eda.py) between them where a view is augmented. The names
of regions ("phrases") are never cleaned. MRA cleans the captions of ICFG-PEDES and
RSTPReid everywhere; APTM, which it grew out of, all but the plain training captions.
"""

import re

RULES = ("none", "icfg_rstp")
WORDS = 56


def clean(caption: str, rule: str) -> str:
  """The caption as `rule` wants it: "none": as it is; "icfg_rstp": lower-case runs of
  letters a-z and digits, a space between any two.

  Raises:
    ValueError: an unknown rule, or nothing is left of the caption.
  """
  if rule not in RULES:
    raise ValueError(f"caption rule {rule!r}; expected one of {RULES}")
  if rule == "none":
    return caption
  kept = " ".join(re.findall(r"[0-9a-z]+", caption.lower()))
  if not kept:
    raise ValueError(
      f"the caption {caption[:60]!r} has no letter a-z and no digit, and the rule"
      " 'icfg_rstp' keeps nothing else; leave it out, or use the rule 'none'"
    )
  return kept


def first_words(caption: str, most: int = WORDS) -> str:
  """The first `most` words (whatever white space separates), single spaces between.

  Raises:
    ValueError: a caption without words, or `most` below 1.
  """
  if most < 1:
    raise ValueError(f"first_words: most={most}; expected 1 or more")
  words = caption.split()
  if not words:
    raise ValueError(f"the caption {caption!r} has no words; leave it out")
  return " ".join(words[:most])
