"""Queries with their best images as one PNG, for a README or a message."""

import io
import pathlib
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

from tpr_jax.report.queries import Hit, Query

RIGHT, WRONG = "#1a9850", "#d73027"
_PAPER, _PANEL, _INK = "#ffffff", "#f1f2f4", "#1d2129"
_SOFT, _LINE = "#6b7280", "#e5e7eb"
_TEXT, _THUMB, _FRAME, _GAP, _PAD = 372, (54, 134), 4, 8, 18
_SIZE = 13


def typeface(size: int) -> ImageFont.FreeTypeFont:
  # DejaVu comes with matplotlib, so that captions look alike on every machine.
  import matplotlib

  folder = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
  return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), size)


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
  """Lines of `text` no wider than `width` pixels; a longer word is broken."""
  lines, line = [], ""
  for word in text.split():
    while font.getlength(word) > width:  # no spaces to break at
      fits = max(
        (i for i in range(1, len(word)) if font.getlength(word[:i]) <= width), default=1
      )
      lines += [line, word[:fits]] if line else [word[:fits]]
      line, word = "", word[fits:]
    joined = f"{line} {word}".strip()
    if font.getlength(joined) > width:
      lines.append(line)
      line = word
    else:
      line = joined
  return lines + [line] if line else lines


def _verdict(query: Query) -> str:
  if not query.first_rank:
    return "no right image in the gallery"
  return f"first right image at rank {query.first_rank:,}"


def draw(queries: Sequence[Query], footer: str) -> Image.Image:
  """RGB picture: one row a query, its whole text at the left, its images at the right.

  A right image has a green frame and a tick, a wrong one a red frame and a cross.
  """
  return draw_rows([(query,) for query in queries], ("",), footer)


def draw_rows(
  rows: Sequence[Sequence[Query]], labels: Sequence[str], footer: str
) -> Image.Image:
  """The same with several rankings of every query, one below the other.

  Args:
    rows: for every query its rankings, each with the same text.
    labels: of the rankings, a letter or two; "": none.
  """
  font, small = typeface(_SIZE), typeface(11)
  places = max((len(query.hits) for row in rows for query in row), default=0)
  cell = _THUMB[0] + 2 * _FRAME + _GAP
  left = _PAD + _TEXT + 22 + (14 if any(labels) else 0)
  width = left + places * cell + _PAD
  texts = [wrap(row[0].text, font, _TEXT) for row in rows]
  step, images = _SIZE + 5, _THUMB[1] + 2 * _FRAME + 20
  heights = [
    max(len(lines) * step + 4 + 18 * len(labels), images * len(labels)) + 2 * 12
    for lines in texts
  ]
  end = wrap(footer, small, width - 2 * _PAD)
  sheet = Image.new("RGB", (width, sum(heights) + 16 * len(end) + 24), _PAPER)
  pen = ImageDraw.Draw(sheet)
  top = 0
  for row, lines, height in zip(rows, texts, heights, strict=True):
    y = top + 12
    for line in lines:
      pen.text((_PAD, y), line, font=font, fill=_INK)
      y += step
    for number, (query, label) in enumerate(zip(row, labels, strict=True)):
      colour = RIGHT if query.first_rank == 1 else _SOFT
      verdict = f"{label}: {_verdict(query)}" if label else _verdict(query)
      pen.text((_PAD, y + 4 + 18 * number), verdict, font=small, fill=colour)
      at = top + 12 + images * number
      pen.text((left - 18, at + _THUMB[1] // 2 - 4), label, font=font, fill=_INK)
      for place, hit in enumerate(query.hits):
        _hit(sheet, pen, (left + place * cell, at), hit, small)
    top += height
    pen.line((_PAD, top, width - _PAD, top), fill=_LINE)
  for number, line in enumerate(end):
    pen.text((_PAD, top + 12 + 16 * number), line, font=small, fill=_SOFT)
  return sheet


def encode(sheet: Image.Image) -> bytes:
  """PNG bytes; all colours: a palette puts patterns on clothes that have none."""
  out = io.BytesIO()
  sheet.save(out, format="PNG")
  return out.getvalue()


def _hit(sheet, pen, corner, hit: Hit, font) -> None:
  x, y = corner
  w, h = _THUMB
  colour = RIGHT if hit.right else WRONG
  pen.rectangle((x, y, x + w + 2 * _FRAME - 1, y + h + 2 * _FRAME - 1), fill=colour)
  if hit.picture.image is None:
    pen.rectangle(
      (x + _FRAME, y + _FRAME, x + _FRAME + w - 1, y + _FRAME + h - 1), _LINE
    )
    pen.text((x + _FRAME + 4, y + h // 2 - 8), "broken", font=font, fill=_SOFT)
  else:
    # Whole and unsquashed: people judge shapes by what they see here.
    fitted = ImageOps.pad(hit.picture.image, (w, h), color=_PANEL)
    sheet.paste(fitted, (x + _FRAME, y + _FRAME))
  label = f"{hit.rank} " + ("✓" if hit.right else "✗")
  pen.text((x + _FRAME, y + h + 2 * _FRAME + 3), label, font=font, fill=colour)
