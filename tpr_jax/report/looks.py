"""Where phrases look: a table for terminal and page, and pictures with box and map.

Of the phrases of `localise/NAME.npz` some are drawn at random, and those with the most
and the least of their map inside of the box.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tpr_jax import rankings
from tpr_jax.core import text
from tpr_jax.data import regions
from tpr_jax.data.record import Dataset
from tpr_jax.localise_files import Looks
from tpr_jax.metrics import localisation
from tpr_jax.report import heat, sheet
from tpr_jax.report.queries import Pictures

SHOWN = 10  # phrases of each of the three kinds
# Score -> its column; "chance" is that of pointing.
COLUMNS = {
  "pointing": "pointing",
  "chance": "chance",
  "centre": "by centre",
  "energy": "energy",
  "ratio": "times area",
  "iou_best": "IoU, best",
  "iou_area": "IoU, area",
}
BOX = (0, 190, 255)
_PAPER, _INK, _SOFT, _PAD, _CELL = "#ffffff", "#1d2129", "#6b7280", 18, 96


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the table: cells as they are printed; spans: score -> "51.2–60.9"."""

  name: str
  kind: str
  phrases: str
  cells: Mapping[str, str]
  spans: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Shown:
  """One phrase over its picture. energy: percent of the map in the box; ratio: times
  the box's share of the picture."""

  phrase: str
  kind: str
  energy: float
  ratio: float
  image: Image.Image
  uri: str


def rows(found: Mapping[str, Any]) -> list[Row]:
  """Of what results.json has under "localise"."""
  made = []
  for row in found["rows"]:
    cells = {k: f"{row[k]:.2f}" for k in COLUMNS}
    digits = lambda score: 2 if score == "ratio" else 1
    spans = {
      k: f"{low:.{digits(k)}f}–{high:.{digits(k)}f}"
      for k, (low, high) in row.get("ci", {}).items()
    }
    made.append(Row(row["name"], row["kind"], f"{row['phrases']:,}", cells, spans))
  return made


def about(found: Mapping[str, Any]) -> str:
  """What the rows are of, as sentences."""
  grid, layers = found["grid"], found["layers"]
  cut = found["broken"] and f" {found['broken']:,} pictures could not be read."
  said = (
    f"{found['phrases']:,} phrases, each asked of its own picture"
    f" ({found['pictures']:,}); cross-attention of {found['by']} over {grid[0]} x"
    f" {grid[1]} cells, mean of layers {layers[0]} to {layers[-1]}."
  )
  if ci := found.get("ci"):
    said += f" Intervals ({100 * ci['level']:g} %): people drawn with replacement."
  return said + (cut or "")


def lines(results: Mapping[str, Any]) -> list[str]:
  """The tables of all evaluations, for a terminal; [] where none has any."""
  said = []
  for name, scores in results["evals"].items():
    if found := scores.get("localise"):
      said += ["", f"Where phrases look, {name}: {about(found)}"]
      said += _table(rows(found))
  return said


def _table(made: Sequence[Row]) -> list[str]:
  name = lambda row: ("" if row.kind == "all" else "  ") + row.name
  values = [[name(row), *row.cells.values(), row.phrases] for row in made]
  found = text.aligned([["", *COLUMNS.values(), "phrases"], *values])
  if any(row.spans for row in made):
    scores = localisation.SCORES
    spans = [[name(r), *(r.spans.get(k, "–") for k in scores)] for r in made]
    found += ["", *text.aligned([["interval", *map(COLUMNS.get, scores)], *spans])]
  return found


def gather(
  looks: Looks, dataset: Dataset, seed: int, count: int = SHOWN
) -> tuple[dict[str, list[Shown]], list[str]]:
  """({"random", "best", "worst": what is shown}, sentences on what is not).

  Of a picture one phrase at most is among the best, and one among the worst.
  """
  if not _fits(looks, dataset):
    return {}, [
      "Phrases were looked for in another evaluation than the one shown, and are left"
      " out; run --mode=eval again."
    ]
  maps, pictures = looks.mean, Pictures(dataset, looks.size)
  values = localisation.measure(maps, looks.box, looks.grid)
  order = np.argsort(-values["energy"], kind="stable")
  some = min(count, len(order) // 2)
  chosen = dict(
    random=rankings.draw(len(maps), count, seed),
    best=_one_a_picture(order, looks.record, some),
    worst=_one_a_picture(order[::-1], looks.record, some),
  )

  def shown(row: int) -> Shown | None:
    picture = pictures[int(looks.record[row])].image
    if picture is None:
      return None
    image = overlay(picture, maps[row].reshape(looks.grid), looks.box[row])
    return Shown(
      phrase=str(looks.phrase[row]),
      kind=str(looks.kind[row]),
      energy=100.0 * float(values["energy"][row]),
      ratio=float(values["ratio"][row]),
      image=image,
      uri=heat.uri(image),
    )

  found = {
    name: [one for row in rows if (one := shown(int(row)))]
    for name, rows in chosen.items()
  }
  return found, [f"cannot be shown: {why}" for why in pictures.broken.values()]


def _fits(looks: Looks, dataset: Dataset) -> bool:
  """Are these the phrases of the dataset?"""
  for at, i, phrase in zip(looks.record, looks.region, looks.phrase, strict=True):
    known = regions.of(dataset.records[at]) if at < len(dataset.records) else ()
    if i >= len(known) or known[i].phrase != phrase:
      return False
  return True


def _one_a_picture(order: np.ndarray, record: np.ndarray, count: int) -> np.ndarray:
  first = np.sort(np.unique(record[order], return_index=True)[1])
  return order[first][:count]


def overlay(picture: Image.Image, weights: np.ndarray, box: np.ndarray) -> Image.Image:
  """The picture under its map (heat.overlay), the true box drawn as a frame.

  Args:
    weights: [rows, columns]. box: (cx, cy, w, h) as shares of the picture.
  """
  image = heat.overlay(picture, weights)
  pen, size = ImageDraw.Draw(image), np.array(image.size)
  low, high = (np.array(box[:2]) + sign * np.array(box[2:]) / 2 for sign in (-1, 1))
  corners = np.round(np.clip([low, high], 0, 1) * (size - 1)).astype(int)
  frame = tuple(corners.ravel().tolist())
  pen.rectangle(frame, outline=(0, 0, 0), width=4)
  pen.rectangle(frame, outline=BOX, width=2)
  return image


def draw(found: Mapping[str, Sequence[Shown]], footer: str) -> Image.Image:
  """RGB picture: a row each for random, best and worst phrases."""
  font, small = sheet.typeface(13), sheet.typeface(11)
  labels = dict(random="drawn at random", best="most inside", worst="least inside")
  every = [one for row in found.values() for one in row]
  cell = max([one.image.width for one in every] + [_CELL]) + 16
  width = 2 * _PAD + cell * max([len(row) for row in found.values()] + [6])
  end, bands = sheet.wrap(footer, small, width - 2 * _PAD), []
  for name, row in found.items():
    texts = [sheet.wrap(one.phrase, small, cell - 12) for one in row]
    tall = max([one.image.height for one in row], default=0)
    lowest = max([len(lines) for lines in texts], default=0)
    bands.append((labels[name], row, texts, tall, 30 + tall + 14 * (lowest + 1) + 14))
  height = sum(band[-1] for band in bands) + 16 * len(end) + 24
  page = Image.new("RGB", (width, height), _PAPER)
  pen, top = ImageDraw.Draw(page), 0
  for label, row, texts, tall, high in bands:
    pen.text((_PAD, top + 10), label, font=font, fill=_INK)
    for place, (one, lines) in enumerate(zip(row, texts, strict=True)):
      x, y = _PAD + place * cell, top + 30
      page.paste(one.image, (x, y))
      said = f"{one.energy:.0f} %, {one.ratio:.1f} x"
      pen.text((x, y + tall + 3), said, font=small, fill=_SOFT)
      for number, line in enumerate(lines):
        pen.text((x, y + tall + 17 + 14 * number), line, font=small, fill=_INK)
    top += high
  for number, line in enumerate(end):
    pen.text((_PAD, top + 8 + 16 * number), line, font=small, fill=_SOFT)
  return page
