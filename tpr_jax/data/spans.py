"""Where tokens lie in a caption as it was written, before its cleaning.

Cleaning (tokenizer.clean) changes characters and their number. A map from a changed
text back to the text before is int32 [n, 2]: [start, end) of each of its n characters;
start = end for one that came from nowhere. White space, case, control characters and
html entities are mapped exactly. What ftfy mends is aligned word by word, and within
a word by the longest pieces in common. A piece that was read in a wrong encoding is
divided by bytes; where the bytes don't fit either, each character of the repair has the
whole piece's span.
"""

import difflib
import html
import re
from collections.abc import Callable, Sequence

import numpy as np
from ftfy import fixes

# What html.unescape replaces, one by one.
_ENTITY = re.compile(r"&(?:#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)")
_UNKNOWN = "\ufffd"  # decodes a byte that is no character by itself


def origins(text: str, mended: str, cleaned: str) -> np.ndarray:
  """int32 [len(cleaned), 2]: where each character of `cleaned` is in `text`.

  Args:
    text: a caption. mended: without wrong encodings and entities. cleaned: and without
      double white space and capitals.
  """
  now, found = text, _same(len(text))
  if mended != text:
    for change in (_printed, _unescaped, _unescaped):
      now, step = change(now)
      found = _through(step, found)
    found = _through(_aligned(now, mended), found)
  now, step = _squeezed(mended)
  return _through(_aligned(now, cleaned), _through(step, found))


def of_tokens(
  text: str,
  cleaned: str,
  origin: np.ndarray,
  offsets: Sequence[tuple[int, int]],
) -> np.ndarray:
  """int32 [n, 2]: [start, end) in `text` of tokens of `cleaned`, without white space.

  origin: of `origins`. offsets: of n tokens in `cleaned`.
  """
  found = np.zeros((len(offsets), 2), np.int32)
  for row, (start, end) in zip(found, offsets, strict=True):
    start, end = _stripped(cleaned, start, end)
    if start < end:
      row[:] = _stripped(text, int(origin[start, 0]), int(origin[end - 1, 1]))
    elif len(origin):
      row[:] = origin[min(start, len(origin) - 1), 0]
  return found


def spelt(
  text: str, ids: Sequence[int], decode: Callable[[list[int]], str]
) -> list[tuple[int, int]] | None:
  """[start, end) in a cleaned text of tokens that can only be decoded.

  Together the tokens spell the text but for its spaces. A character that several tokens
  share bytes of is in the span of each. None: they spell something else.
  """
  places = [i for i, letter in enumerate(text) if not letter.isspace()]
  letters = lambda tokens: "".join(decode(list(tokens)).split())
  if letters(ids) != "".join(text.split()):
    return None
  unclear = [_UNKNOWN in letters([token]) for token in ids]
  found, here, at = [], 0, 0
  while at < len(ids):
    end = at + 1
    # Parts of characters: between tokens of whole ones they spell whole ones together.
    while unclear[at] and end < len(ids) and unclear[end]:
      end += 1
    run = letters(ids[at:end])
    if not run or here + len(run) > len(places):
      return None
    for first, last in _shared(run, letters, ids[at:end]):
      found.append((places[here + first], places[here + last - 1] + 1))
    here, at = here + len(run), end
  return found


def _shared(
  run: str, letters: Callable[[Sequence[int]], str], ids: Sequence[int]
) -> list[tuple[int, int]]:
  """[first, last) letters of `run` that each of its tokens has bytes of."""
  found, before = [], 0
  for count in range(1, len(ids) + 1):
    now = letters(ids[:count]) if count < len(ids) else run
    done = next(
      (i for i, (a, b) in enumerate(zip(now, run, strict=False)) if a != b),
      min(len(now), len(run)),
    )
    first = min(before, len(run) - 1)
    begun = done + (len(now) > done)  # what follows is a letter's first bytes
    found.append((first, min(max(begun, first + 1), len(run))))
    before = done
  return found


def _same(length: int) -> np.ndarray:
  return np.arange(length, dtype=np.int32)[:, None] + np.array([0, 1], np.int32)


def _through(step: np.ndarray, before: np.ndarray) -> np.ndarray:
  """The map of `step`, into a text that `before` maps further back."""
  if not len(step) or not len(before):
    return np.zeros((len(step), 2), np.int32)
  last = len(before) - 1
  start = before[np.minimum(step[:, 0], last), 0]
  start[step[:, 0] > last] = before[last, 1]
  end = before[np.maximum(step[:, 1] - 1, 0), 1]
  end[step[:, 0] == step[:, 1]] = 0
  return np.stack([start, np.maximum(start, end)], axis=1)


def _printed(text: str) -> tuple[str, np.ndarray]:
  """(what ftfy leaves when it removes control characters, its map)."""
  kept = [i for i, letter in enumerate(text) if fixes.remove_control_chars(letter)]
  return "".join(text[i] for i in kept), _same(len(text))[kept]


def _unescaped(text: str) -> tuple[str, np.ndarray]:
  """(html.unescape(text), its map)."""
  pieces, found, at = [], [], 0
  for match in _ENTITY.finditer(text):
    start, end = match.span()
    new = html.unescape(match.group())
    # "&lt2x" is "<" and "2x": what it ends with may be ordinary text.
    kept = 0
    while kept < min(len(new) - 1, end - start - 1) and (
      new[len(new) - 1 - kept] == text[end - 1 - kept]
    ):
      kept += 1
    pieces += [text[at:start], new]
    found += [(i, i + 1) for i in range(at, start)]
    found += [(start, end - kept)] * (len(new) - kept)
    found += [(i, i + 1) for i in range(end - kept, end)]
    at = end
  pieces.append(text[at:])
  found += [(i, i + 1) for i in range(at, len(text))]
  return "".join(pieces), np.array(found, np.int32).reshape(-1, 2)


def _squeezed(text: str) -> tuple[str, np.ndarray]:
  """(words in lower case, a space between any two; its map)."""
  pieces, found, end = [], [], 0
  for match in re.finditer(r"\S+", text):
    if pieces:
      pieces.append(" ")
      found.append((end, match.start()))
    for at, letter in enumerate(match.group(), match.start()):
      lower = letter.lower()  # of one letter there may be two
      pieces.append(lower)
      found += [(at, at + 1)] * len(lower)
    end = match.end()
  return "".join(pieces), np.array(found, np.int32).reshape(-1, 2)


def _aligned(old: str, new: str) -> np.ndarray:
  """The map of `new`, made from `old` in a way that is not known."""
  if old == new:
    return _same(len(new))
  # By words first: a long text has many letters that are like others elsewhere.
  before, after = (list(re.finditer(r"\S+", text)) for text in (old, new))
  words = [[match.group() for match in side] for side in (before, after)]
  matcher = difflib.SequenceMatcher(None, *words, autojunk=False)
  found, at = np.zeros((len(new), 2), np.int32), 0
  for _, i, i_end, j, j_end in matcher.get_opcodes():
    was, now = before[i:i_end], after[j:j_end]
    if was and now and len(was) != len(now):
      was, now = [_hull(was)], [_hull(now)]
    elif was and now:
      was, now = [match.span() for match in was], [match.span() for match in now]
    elif now:  # of nowhere
      was, now = [(at, at)], [_hull(now)]
    for (start, end), (to, to_end) in zip(was, now, strict=False):
      found[to:to_end] = start + _pieces(old[start:end], new[to:to_end])
      at = end
  return found  # white space stays without a place: no token has any


def _hull(matches: list[re.Match]) -> tuple[int, int]:
  return matches[0].start(), matches[-1].end()


def _pieces(old: str, new: str) -> np.ndarray:
  """As `_aligned`, by the longest pieces that both have."""
  found = np.zeros((len(new), 2), np.int32)
  matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
  for kind, i, i_end, j, j_end in matcher.get_opcodes():
    if kind == "delete":
      lost = re.match(r"\S*", old[i:i_end]).end()
      if j:  # what a letter lost belongs to it
        found[j - 1, 1] = i + lost
      continue
    sizes = [len(letter.encode(errors="replace")) for letter in new[j:j_end]]
    if i_end - i == j_end - j:
      found[j:j_end] = i + _same(j_end - j)
    elif i_end - i == sum(sizes):  # the letters' bytes, each read as a letter
      ends = i + np.cumsum([0, *sizes])
      found[j:j_end] = np.stack([ends[:-1], ends[1:]], axis=1)
    else:
      found[j:j_end] = i, i_end  # i = i_end where something was put in
  if len(new):  # what was lost before the first letter
    found[0, 0] = re.search(r"\S*$", old[: found[0, 0]]).start()
  return found


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
  while start < end and text[start].isspace():
    start += 1
  while start < end and text[end - 1].isspace():
    end -= 1
  return start, end
