"""Captions shaded by the scores of their words as a PNG, for a README or a message."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

from tpr_jax.report import sheet
from tpr_jax.report.words import Shown, Word

HUE = (0, 158, 115)  # Okabe and Ito's green, as on the page
STRONGEST = 0.72  # its opacity below the highest score
_PAPER, _PANEL, _INK = "#ffffff", "#f1f2f4", "#1d2129"
_SOFT, _LINE = "#6b7280", "#e5e7eb"
_WIDTH, _THUMB, _LABEL, _PAD, _GAP = 1000, (72, 180), 88, 18, 10
_SIZE, _STEP, _SPACE, _INSET = 13, 24, 4, 3


def draw(shown: Sequence[Shown], footer: str) -> Image.Image:
  """RGB picture: one block a caption, its picture at the left, a row for each kind."""
  font, small = sheet.typeface(_SIZE), sheet.typeface(11)
  left = _PAD + _THUMB[0] + 2 * _GAP
  width = _WIDTH - left - _LABEL - _PAD
  blocks = [
    [(row.kind, _lines(row.words, font, width)) for row in one.rows] for one in shown
  ]
  heights = [
    max(sum(max(len(lines), 1) * _STEP + _GAP for _, lines in block), _THUMB[1]) + 24
    for block in blocks
  ]
  end = sheet.wrap(footer, small, _WIDTH - 2 * _PAD)
  page = Image.new("RGB", (_WIDTH, sum(heights) + 34 + 16 * len(end) + 16), _PAPER)
  pen, top = ImageDraw.Draw(page), 0
  for one, block, height in zip(shown, blocks, heights, strict=True):
    _thumb(page, pen, (_PAD, top + 12), one, small)
    y = top + 12
    for kind, lines in block:
      label = sheet.wrap(kind, small, _LABEL - _GAP)
      pen.text((left, y + 3), label[0] if label else "", font=small, fill=_SOFT)
      for line in lines:
        for x, word in line:
          _word(pen, (left + _LABEL + x, y), word, font)
        y += _STEP
      y += _GAP if lines else _STEP + _GAP
    top += height
    pen.line((_PAD, top, _WIDTH - _PAD, top), fill=_LINE)
  _legend(pen, (_PAD, top + 10), small)
  for number, line in enumerate(end):
    pen.text((_PAD, top + 36 + 16 * number), line, font=small, fill=_SOFT)
  return page


def colour(share: float) -> tuple[int, int, int]:
  """On white paper; `share` from 0 to 1."""
  opacity = STRONGEST * share
  return tuple(round(255 * (1 - opacity) + part * opacity) for part in HUE)


def _lines(
  words: Sequence[Word], font: ImageFont.FreeTypeFont, width: int
) -> list[list[tuple[int, Word]]]:
  """Words with their place in a line no wider than `width`; a longer word is cut."""
  lines, at = [], width + 1
  for word in words:
    size = math.ceil(min(font.getlength(word.text) + 2 * _INSET, width))
    if at + size > width:
      lines.append([])
      at = 0
    lines[-1].append((at, word))
    at += size + _SPACE
  return lines


def _word(pen, corner, word: Word, font) -> None:
  x, y = corner
  room = _WIDTH - _PAD - x - 2 * _INSET
  text = word.text
  while len(text) > 1 and font.getlength(text) > room:
    text = text[:-1]
  wide = math.ceil(font.getlength(text)) + 2 * _INSET
  box = (x, y, x + wide - 1, y + _STEP - 5)
  pen.rounded_rectangle(box, radius=3, fill=colour(word.share))
  pen.text((x + _INSET, y + 1), text, font=font, fill=_INK)
  if word.wrong:
    pen.rectangle((x + _INSET, y + 17, x + wide - 1 - _INSET, y + 18), fill=_INK)


def _thumb(page, pen, corner, one: Shown, font) -> None:
  x, y = corner
  if one.picture is None or one.picture.image is None:
    pen.rectangle((x, y, x + _THUMB[0] - 1, y + _THUMB[1] - 1), fill=_LINE)
    text = "no picture" if one.picture is None else "broken"
    pen.text((x + 5, y + _THUMB[1] // 2 - 8), text, font=font, fill=_SOFT)
    return
  page.paste(ImageOps.pad(one.picture.image, _THUMB, color=_PANEL), (x, y))


def _legend(pen, corner, font) -> None:
  x, y = corner
  pen.text((x, y), "lowest score", font=font, fill=_SOFT)
  x += math.ceil(font.getlength("lowest score")) + 6
  for part in range(5):
    box = (x + 20 * part, y + 1, x + 20 * part + 19, y + 13)
    pen.rectangle(box, fill=colour(part / 4), outline=_LINE)
  x += 106
  pen.text((x, y), "highest score of the row", font=font, fill=_SOFT)
  x += math.ceil(font.getlength("highest score of the row")) + 26
  pen.text((x, y), "wrong", font=font, fill=_INK)
  wide = math.ceil(font.getlength("wrong"))
  pen.rectangle((x, y + 14, x + wide - 1, y + 15), fill=_INK)
  pen.text((x + wide + 6, y), "told wrongly on purpose", font=font, fill=_SOFT)
