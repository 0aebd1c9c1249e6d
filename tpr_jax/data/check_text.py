"""Captions under the magnifying glass: statistics of Table 1, and what is wrong."""

import collections
import re
import unicodedata

from ftfy import badness

from tpr_jax.data.findings import Finding
from tpr_jax.data.record import Dataset

# A word: letters and digits, with apostrophes and hyphens inside ("knee-length" is
# one). The paper does not say how it counted; this is what readers call a word.
_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
_MARKUP = re.compile(
  r"</?[a-zA-Z][^>]*>|&(#\d+|#x[\da-fA-F]+|[a-zA-Z]{2,8});|\\[nrtux]|https?://"
)


def words(caption: str) -> list[str]:
  """The words of a caption, lower case."""
  return _WORD.findall(caption.lower())


def statistics(captions: list[str]) -> dict[str, float] | None:
  """Table 1 of the UFineBench paper: longest, shortest, mean and unique words.

  None for no captions. Words are told apart after lower-casing.
  """
  if not captions:
    return None
  lengths, unique = [], set()
  for caption in captions:
    split = words(caption)
    lengths.append(len(split))
    unique.update(split)
  return {
    "longest": max(lengths),
    "shortest": min(lengths),
    "mean": sum(lengths) / len(lengths),
    "unique": len(unique),
  }


def oddities(caption: str) -> dict[str, str]:
  """Kinds of odd characters in a caption -> an excerpt that shows the first one."""
  found = {}
  if match := _MARKUP.search(caption):
    found["markup"] = _around(caption, match.start())
  if caption.isascii() and caption.isprintable():
    return found
  for position, char in enumerate(caption):
    kind = _odd(char)
    if kind and kind not in found:
      found[kind] = _around(caption, position)
  if "mojibake" not in found and (match := badness.BADNESS_RE.search(caption)):
    found["mojibake"] = _around(caption, match.start())
  return found


def _odd(char):
  if char == "\ufffd":
    return "mojibake"
  if unicodedata.category(char).startswith("C") and char not in "\t\r\n":
    return "control"
  if char.isascii():
    return None
  if unicodedata.east_asian_width(char) in "WF":
    return "cjk"
  if char.isalpha() and not unicodedata.name(char, "").startswith("LATIN"):
    return "other-alphabet"
  return None


def _around(caption, position):
  """The character and its neighbours, with everything unprintable escaped."""
  return ascii(caption[max(0, position - 20) : position + 20])


_SAY = {
  "mojibake": "text decoded with the wrong encoding (mojibake, or U+FFFD)",
  "control": "control, private or invisible characters",
  "cjk": "Chinese, Japanese, Korean or full-width characters",
  "other-alphabet": "letters that are not Latin (may look like Latin ones)",
  "markup": "pieces of HTML, escapes or addresses",
}


def check(dataset: Dataset, examples: int) -> list[Finding]:
  """Missing and empty captions, odd characters, one caption on several identities."""
  without = []
  empty, odd = [], collections.defaultdict(list)
  owners, inside = collections.defaultdict(dict), []
  for record in dataset.records:
    if record.unusable or not record.captions:
      why = "; ".join(record.unusable) or "no caption"
      without.append(f"{record.image}: {why}")
    keys = []
    for caption in record.captions:
      key = " ".join(words(caption))
      keys.append(key)
      if key:
        owners[key].setdefault(record.identity, []).append(record.image)
      else:
        empty.append(f"{record.image}: {caption!r}")
      for kind, excerpt in oddities(caption).items():
        odd[kind].append(f"{record.image}: {excerpt}")
    if len(set(keys)) < len(keys):
      inside.append(record.image)

  def finding(severity, kind, found, message):
    shown = tuple(found[:examples])
    return Finding(
      severity, kind, dataset.name, dataset.split, len(found), message, shown
    )

  out = []
  if without:
    message = (
      f"{len(without):,} images lack captions, or have some that are no text: they "
      "are no examples and cannot be asked for"
    )
    out.append(finding("error", "missing-captions", without, message))
  if empty:
    message = f"{len(empty):,} captions have no words: as queries they ask for nobody"
    out.append(finding("error", "empty-captions", empty, message))
  shared = {key: who for key, who in owners.items() if len(who) > 1}
  if shared:
    most = sorted(shared.items(), key=lambda item: (-len(item[1]), item[0]))
    lines = [f"{len(who)} identities: {key}" for key, who in most]
    captions = sum(len(images) for who in shared.values() for images in who.values())
    message = (
      f"{len(shared):,} texts describe more than one identity ({captions:,} captions); "
      "each counts as a wrong answer for the others"
    )
    out.append(finding("warning", "shared-captions", lines, message))
  for kind, found in sorted(odd.items()):
    message = f"{len(found):,} captions hold {_SAY[kind]}"
    out.append(finding("warning", f"characters-{kind}", found, message))
  if inside:
    message = f"{len(inside):,} images carry the same caption more than once"
    out.append(finding("info", "repeated-captions", inside, message))
  return out
