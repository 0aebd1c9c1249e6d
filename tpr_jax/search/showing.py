"""An answer for people and programs: a table, JSON, a page, a picture."""

import base64
import dataclasses
import datetime
import io
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from tpr_jax.core import text
from tpr_jax.data import images
from tpr_jax.detect.boxes import Box
from tpr_jax.report import pages, sheet
from tpr_jax.search import frames
from tpr_jax.search.answer import Answer, Hit
from tpr_jax.search.settings import Searching

PAGE = "search.html"
_WIDEST = 40  # characters of a cell; the JSON has all
_PAPER, _PANEL, _INK, _SOFT = "#ffffff", "#f1f2f4", "#1d2129", "#6b7280"
FRAMES, _FRAME = 100, 640  # of the first hits of a page; pixels of the longer side
_COLUMNS, _THUMB, _GAP, _PAD, _LINE = 5, (144, 288), 16, 20, 15


def table(answer: Answer) -> str:
  """Rank, score, path and what is known beside them, for a terminal."""
  if not answer.hits:
    return "No person." if answer.people else "No picture."
  first = answer.hits[0]
  names = [name for name in first.values if name not in ("size", "width", "height")]
  both = list(first.cosines) if len(first.cosines) > 1 else []
  likely = ["match"] if first.probability is not None else []
  twice = ["again"] if any(hit.second is not None for hit in answer.hits) else []
  boxes = ["box"] if answer.people else []
  lines = [["", "path", "score", *likely, *twice, *both, *boxes, *names]]
  for hit in answer.hits:
    cosines = [f"{hit.cosines[side]:.3f}" for side in both]
    values = [_cut(shown(hit.values[name])) for name in names]
    likely = [] if hit.probability is None else [percent(hit.probability)]
    second = ["" if hit.second is None else f"{hit.second:.3f}"] if twice else []
    boxes = [] if hit.box is None else [box_text(hit.box)]
    start = [str(hit.rank), hit.path, f"{hit.score:.3f}"]
    lines.append([*start, *likely, *second, *cosines, *boxes, *values])
  return "\n".join(text.aligned(lines, left=2))


def plain(asked: Searching, about: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
  """The answer as JSON values; times are ISO 8601."""
  return dict(
    index=str(asked.index),
    images=about["images"],
    query=asked.query or None,
    image=None if asked.image is None else str(asked.image),
    image_weight=asked.image_weight if asked.query and asked.image else None,
    where=asked.where or None,
    searched=answer.searched,
    total=answer.total,
    matches=answer.matches,
    recall=answer.recall,
    false_alarms=None if answer.matches is None else asked.false_alarms,
    rerank=asked.rerank,
    hits=[plain_hit(hit) for hit in answer.hits],
  )


def plain_hit(hit: Hit) -> dict[str, Any]:
  """box: [x, y, width, height] in pixels of the upright frame, or None."""
  return dict(
    rank=hit.rank,
    score=hit.score,
    probability=hit.probability,
    second=hit.second,
    path=hit.path,
    box=None if hit.box is None else list(dataclasses.astuple(hit.box)),
    cosines=dict(hit.cosines),
    # Apart: a side-car may have a column called score, too.
    values={name: _plain(value) for name, value in hit.values.items()},
  )


def verdict(answer: Answer, false_alarms: float) -> str:
  """Whether anybody matches, as a sentence; "" where it is not known."""
  if answer.matches is None or not answer.searched:
    return ""
  if answer.matches:
    return "Somebody here may match."
  return (
    "Nobody here seems to match: these are only the nearest. (Of searches for people"
    f" who are not there, {false_alarms:.0%} are told otherwise.)"
  )


def percent(probability: float) -> str:
  """ "83 %"; never quite 0 or 100."""
  share = 100 * probability
  return "<1 %" if share < 1 else ">99 %" if share > 99 else f"{share:.0f} %"


def counted(answer: Answer) -> str:
  """How many pictures were looked at, as a line."""
  what = "people" if answer.people else "pictures"
  more = ""
  if answer.recall is not None:
    more = (
      f", approximately: {answer.recall:.1%} of the nearest were found when measured"
    )
  if answer.searched == answer.total:
    return f"{answer.total:,} {what}{more}"
  return f"{answer.searched:,} of {answer.total:,} {what} meet the condition{more}"


def write(asked: Searching, about: Mapping[str, Any], answer: Answer) -> None:
  """Writes `asked.sheet`: a page that needs nothing beside it, or a picture."""
  path = asked.sheet
  own = None if asked.image is None else _thumbnail(asked.image)
  if path.suffix.lower() == ".png":
    data = sheet.encode(draw(asked, answer, own))
    partial = path.with_suffix(".tmp")
    partial.write_bytes(data)
    partial.replace(path)
    return
  shown = None if own is None else _jpeg(own)
  pages.put(path, page(asked, about, answer, shown, pathlib.Path(about["images"])))


def page(
  asked: Searching,
  about: Mapping[str, Any],
  answer: Answer,
  own: bytes | None,
  folder: pathlib.Path | None = None,
) -> str:
  """HTML that needs nothing beside it.

  Args:
    own: JPEG of the picture that was given.
    folder: of the frames, of which those of the first FRAMES people are shown, with
      their boxes; None: none are.
  """
  shown = answer.hits[:FRAMES] if folder is not None and answer.people else ()
  in_frame = {hit.rank: frames.of_hit(folder, hit, _FRAME) for hit in shown}
  return pages.render(
    PAGE,
    asked=asked,
    own=None if own is None else _uri(own),
    searched=counted(answer),
    verdict=verdict(answer, asked.false_alarms),
    images=about["images"],
    model=about["model"]["place"],
    hits=[
      dict(
        rank=hit.rank,
        score=f"{hit.score:.3f}",
        match="" if hit.probability is None else percent(hit.probability),
        path=hit.path,
        uri=_uri(hit.thumbnail),
        facts=facts(hit),
        has_frame=hit.rank in in_frame,
        frame=_uri(in_frame[hit.rank]) if in_frame.get(hit.rank) else None,
      )
      for hit in answer.hits
    ],
  )


def facts(hit: Hit) -> list[tuple[str, str]]:
  """What is known about a hit, but for its size: (name, value)."""
  skipped = ("size", "width", "height")
  box = [] if hit.box is None else [("box", box_text(hit.box))]
  return box + [
    (name, shown(value))
    for name, value in hit.values.items()
    if value is not None and name not in skipped
  ]


def draw(asked: Searching, answer: Answer, own: Image.Image | None) -> Image.Image:
  """RGB picture: what was asked, and rows of five hits with score, path and facts."""
  font, small = sheet.typeface(14), sheet.typeface(11)
  cell = _THUMB[0] + _GAP
  width = 2 * _PAD + _COLUMNS * cell - _GAP
  left = _PAD + (60 + _GAP if own is not None else 0)
  head = sheet.wrap(asked.query or "Pictures like this one", font, width - left - _PAD)
  said = f"{asked.where}: {counted(answer)}" if asked.where else counted(answer)
  said = " ".join(filter(None, [f"{said}.", verdict(answer, asked.false_alarms)]))
  head_small = sheet.wrap(said, small, width - left - _PAD)
  top = _PAD + 20 * len(head) + _LINE * len(head_small) + _GAP
  top = max(top, _PAD + 120 + _GAP) if own is not None else top
  texts = [_caption(hit, small) for hit in answer.hits]
  rows = [texts[i : i + _COLUMNS] for i in range(0, len(texts), _COLUMNS)]
  heights = [_THUMB[1] + _GAP + _LINE * max(map(len, row)) for row in rows]
  page = Image.new("RGB", (width, top + sum(heights) + _PAD), _PAPER)
  pen = ImageDraw.Draw(page)
  if own is not None:
    page.paste(ImageOps.pad(own, (60, 120), color=_PANEL), (_PAD, _PAD))
  y = _PAD
  for line in head:
    pen.text((left, y), line, font=font, fill=_INK)
    y += 20
  for line in head_small:
    pen.text((left, y), line, font=small, fill=_SOFT)
    y += _LINE
  for number, (hit, lines) in enumerate(zip(answer.hits, texts, strict=True)):
    row, column = divmod(number, _COLUMNS)
    x, y = _PAD + column * cell, top + sum(heights[:row])
    with Image.open(io.BytesIO(hit.thumbnail)) as picture:
      page.paste(ImageOps.pad(picture.convert("RGB"), _THUMB, color=_PANEL), (x, y))
    for place, line in enumerate(lines):
      colour = _SOFT if place else _INK
      at = (x, y + _THUMB[1] + 3 + _LINE * place)
      pen.text(at, line, font=small, fill=colour)
  return page


def _caption(hit: Hit, font: Any) -> list[str]:
  match = "" if hit.probability is None else f"   {percent(hit.probability)}"
  said = [f"{hit.rank}   {hit.score:.3f}{match}", hit.path]
  said += [f"{name} {value}" for name, value in facts(hit)]
  return [line for part in said for line in sheet.wrap(part, font, _THUMB[0])]


def box_text(box: Box) -> str:
  """ "40x120 at 7,9": width, height and left upper corner."""
  return f"{box.width}x{box.height} at {box.x},{box.y}"


def shown(value: Any) -> str:
  if isinstance(value, datetime.datetime):
    return value.isoformat(" ", "seconds")
  if isinstance(value, bool):
    return "yes" if value else "no"
  return "" if value is None else str(value)


def _plain(value: Any) -> Any:
  """As JSON: which has no times and no infinite numbers."""
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value.isoformat() if isinstance(value, datetime.datetime) else value


def _cut(said: str) -> str:
  said = " ".join(said.split())
  return said if len(said) <= _WIDEST else f"{said[: _WIDEST - 3]}..."


def _thumbnail(path: pathlib.Path) -> Image.Image:
  picture = Image.fromarray(images.decode(path))
  picture.thumbnail((120, 240), Image.Resampling.LANCZOS)
  return picture


def _jpeg(picture: Image.Image) -> bytes:
  out = io.BytesIO()
  picture.save(out, "JPEG", quality=86)
  return out.getvalue()


def _uri(jpeg: bytes) -> str:
  return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
