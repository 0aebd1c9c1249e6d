"""From what a model wrote to the caption in it: announcements and dressing removed."""

import re

from tpr_jax.curate import lexicon

_THOUGHTS = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.S | re.I)
_FENCE = re.compile(r"\A```[a-z]*\n(.*?)\n?```\Z", re.S)
_PREAMBLE = re.compile(r"\A[\s*_#>]*" + lexicon.PREAMBLE + r"[*_]*\s*", re.I)
_POLITE = re.compile(r"\A(?:sure|certainly|of course|absolutely)[,.!]+\s*\n", re.I)
_BOLD = re.compile(r"(\*\*|__)(\S(?:.*?\S)?)\1", re.S)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "`": "`"}


def clean(text: str) -> str:
  """The caption inside an answer, on one line.

  Taken away: <think> blocks, a code fence around everything, an announcement ("Here is
  the description:"), quotation marks around everything, ** and __, line breaks. What
  else is wrong stays, for the checks to see.
  """
  text = _THOUGHTS.sub("", text).strip()
  before = None
  while before != text:
    before = text
    fenced = _FENCE.match(text)
    text = (fenced.group(1) if fenced else text).strip()
    text = _PREAMBLE.sub("", _POLITE.sub("", text)).strip()
    text = _BOLD.sub(r"\2", text)
    closing = _QUOTES.get(text[:1])
    inside = text[1:-1]
    if len(text) > 2 and closing == text[-1] and closing not in inside:
      text = inside.strip()
  return text


def one_line(text: str) -> str:
  """White space as single spaces."""
  return " ".join(text.split())
