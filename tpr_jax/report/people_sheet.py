"""A contact sheet: pictures of people with their texts beside them."""

import os
import pathlib
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from tpr_jax.data.record import Dataset, Record

_MARGIN = 8
_FONT = 12


def sheet(
  dataset: Dataset,
  records: Sequence[Record] | None = None,
  *,
  columns: int = 2,
  height: int = 216,
  text_width: int = 330,
) -> Image.Image:
  """Cells of one picture and its captions, row by row.

  Args:
    dataset: gives the pictures.
    records: what to show, in this order; None: all of the dataset.
    columns: cells in a row. height: of a picture, in pixels; its width is a third.
    text_width: pixels for the text beside it.

  Raises ValueError if there is nothing to show.
  """
  records = list(dataset.records if records is None else records)
  if not records:
    raise ValueError("no records to put on a sheet")
  width = height // 3
  font = ImageFont.load_default(_FONT)
  texts = [_wrapped(_lines(record), font, text_width) for record in records]
  line = _FONT + 3
  tall = max(height, *(line * len(lines) for lines in texts)) + _MARGIN
  wide = width + text_width + 3 * _MARGIN
  rows = -(-len(records) // columns)
  page = Image.new("RGB", (columns * wide + _MARGIN, rows * tall + _MARGIN), "white")
  pen = ImageDraw.Draw(page)
  for number, (record, lines) in enumerate(zip(records, texts, strict=True)):
    row, column = divmod(number, columns)
    left, top = _MARGIN + column * wide, _MARGIN + row * tall
    picture = Image.fromarray(dataset.load_image(record, (height, width)))
    page.paste(picture.resize((width, height)), (left, top))
    for at, text in enumerate(lines):
      place = (left + width + _MARGIN, top + at * line)
      pen.text(place, text, fill="black", font=font)
  return page


def twins(dataset: Dataset, groups: int) -> list[Record]:
  """One record of each member of the first `groups` groups of near twins."""
  chosen: dict[int, dict[int, Record]] = {}
  for record in dataset.records:
    group = record.truth.get("twin_group")
    if group is not None:
      chosen.setdefault(group, {}).setdefault(record.identity, record)
  whole = [members for members in chosen.values() if len(members) > 1][:groups]
  return [record for members in whole for record in members.values()]


def save(page: Image.Image, path: str | os.PathLike, *, colours: int = 256) -> None:
  """Writes a sheet as a small PNG with a palette."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  few = page.quantize(colours, kmeans=2, dither=Image.Dither.NONE)
  few.save(path, "PNG", optimize=True)


def _lines(record):
  group = record.truth.get("twin_group")
  title = f"{record.image}" + ("" if group is None else f"   near twins {group}")
  return [title, *record.captions]


def _wrapped(texts, font, width):
  lines = []
  for text in texts:
    line = ""
    for word in text.split():
      longer = f"{line} {word}".strip()
      if line and font.getlength(longer) > width:
        lines.append(line)
        longer = word
      line = longer
    lines += [line, ""]
  return lines
