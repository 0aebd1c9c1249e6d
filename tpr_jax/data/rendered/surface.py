"""Rendered people: shapes and patterns on the trunk, a column with elliptic rings."""

import itertools
import math

from tpr_jax.data.rendered.canvas import mix

# Strokes of the printable characters in a box of [-1, 1]^2, y down.
_GLYPHS = {
  "N": (((-1, 1), (-1, -1), (1, 1), (1, -1)),),
  "Y": (((-1, -1), (0, 0), (1, -1)), ((0, 0), (0, 1))),
  "G": (((1, -0.8), (0, -1), (-1, 0), (0, 1), (1, 0.7), (1, 0.1), (0.2, 0.1)),),
  "O": (((0, -1), (-1, -0.4), (-1, 0.4), (0, 1), (1, 0.4), (1, -0.4), (0, -1)),),
  "0": (((0, -1), (-0.9, -0.6), (-0.9, 0.6), (0, 1), (0.9, 0.6), (0.9, -0.6), (0, -1)),
        ((-0.5, 0.5), (0.5, -0.5))),
  "7": (((-1, -1), (1, -1), (-0.2, 1)),),
  "X": (((-1, -1), (1, 1)), ((1, -1), (-1, 1))),
  "L": (((-1, -1), (-1, 1), (1, 1)),),
  "A": (((-1, 1), (0, -1), (1, 1)), ((-0.55, 0.3), (0.55, 0.3))),
}  # fmt: skip


def _ring(n, start=-math.pi / 2, inner=1.0):
  radius = [inner if i % 2 else 1.0 for i in range(n)]
  turn = [start + 2 * math.pi * i / n for i in range(n)]
  return tuple(
    (r * math.cos(t), r * math.sin(t)) for r, t in zip(radius, turn, strict=True)
  )


LOGO_SHAPES = {
  "star": _ring(10, inner=0.42),
  "circle": _ring(16),
  "triangle": ((0, -1), (1, 0.85), (-1, 0.85)),
  "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
  "heart": ((0, 1), (-1, -0.15), (-0.85, -0.75), (-0.45, -0.95), (0, -0.5),
            (0.45, -0.95), (0.85, -0.75), (1, -0.15)),
}  # fmt: skip


class Column:
  """Rings (y, half width across, half width along) from top to bottom of a garment."""

  def __init__(self, body, rows):
    self.body, self.rows = body, rows
    self.top, self.bottom = rows[0][0], rows[-1][0]

  def girths(self, y):
    """(across, along) at height y, clamped to the ends."""
    rows = self.rows
    if y <= rows[0][0]:
      return rows[0][1:]
    for (y0, a0, b0), (y1, a1, b1) in itertools.pairwise(rows):
      if y <= y1:
        t = (y - y0) / max(y1 - y0, 1e-9)
        return a0 + (a1 - a0) * t, b0 + (b1 - b0) * t
    return rows[-1][1:]

  def half(self, y):
    return self.body.half(*self.girths(y))

  def side(self, y, sign):
    """Point of the outline at height y: sign -1 left, +1 right in the picture."""
    return self.body.place(sign * self.half(y), y)

  def at(self, degrees, y):
    """Surface point: (picture point, in sight)."""
    return self.body.on(*self.girths(y), degrees, y)

  def outline(self, top=None, bottom=None):
    """Polygon of the part between two heights."""
    top = self.top if top is None else top
    bottom = self.bottom if bottom is None else bottom
    ys = [top, *(y for y, _, _ in self.rows if top < y < bottom), bottom]
    right = [self.side(y, 1) for y in ys]
    return [self.side(y, -1) for y in ys] + right[::-1]

  def strip(self, low, high, top, bottom):
    """Polygon between two angles and two heights, or None when out of sight."""
    ys = [top, (top + bottom) / 2, bottom]
    one, other = [self.at(low, y) for y in ys], [self.at(high, y) for y in ys]
    if not (one[1][1] or other[1][1]):
      return None
    # An end behind the horizon is drawn at the outline.
    one = [self._rim(p, seen, y) for (p, seen), y in zip(one, ys, strict=True)]
    other = [self._rim(p, seen, y) for (p, seen), y in zip(other, ys, strict=True)]
    return one + other[::-1]

  def _rim(self, point, seen, y):
    if seen:
      return point
    middle = self.body.place(0.0, y)[0]
    return self.side(y, 1 if point[0] > middle else -1)

  def path(self, points):
    """Surface points (degrees, y) -> list of runs of picture points in sight."""
    runs, run = [], []
    for degrees, y in points:
      point, seen = self.at(degrees, y)
      if seen:
        run.append(point)
      elif run:
        runs.append(run)
        run = []
    return [r for r in [*runs, run] if len(r) > 1]


def pattern(canvas, column, kind, second, base, top):
  """Paints `kind` in colour `second` from height `top` to the hem of `column`."""
  bottom = column.bottom
  if kind == "horizontal stripes":
    y = top + 0.012
    while y < bottom:
      canvas.poly(column.outline(y, min(y + 0.02, bottom)), second)
      y += 0.042
  elif kind == "vertical stripes":
    _strips(canvas, column, second, top, 24, 9)
  elif kind == "checks":
    _strips(canvas, column, second, top, 36, 12)
    soft = mix(base, second, 0.5)
    y = top + 0.015
    while y < bottom:
      canvas.poly(column.outline(y, min(y + 0.016, bottom)), soft)
      y += 0.05
    _crossings(canvas, column, mix(second, (0, 0, 0), 0.25), top)
  elif kind == "dots":
    _dots(canvas, column, second, top)
  elif kind == "colour block":
    middle = top + (bottom - top) * 0.52
    canvas.poly(column.outline(middle, bottom), second)


def _strips(canvas, column, colour, top, period, width):
  for degrees in range(-180, 180, period):
    polygon = column.strip(degrees, degrees + width, top, column.bottom)
    if polygon:
      canvas.poly(polygon, colour)


def _crossings(canvas, column, colour, top):
  y = top + 0.015
  while y < column.bottom:
    for degrees in range(-180, 180, 36):
      low = min(y + 0.016, column.bottom)
      polygon = column.strip(degrees, degrees + 12, y, low)
      if polygon:
        canvas.poly(polygon, colour)
    y += 0.05


def _dots(canvas, column, colour, top):
  ux, uy = column.body.unit()
  y, row = top + 0.02, 0
  while y < column.bottom - 0.008:
    for degrees in range(-180 + 18 * (row % 2), 180, 36):
      (x, py), seen = column.at(degrees, y)
      if seen:
        turn = math.radians(degrees)
        facing = abs(math.cos(turn) * column.body.c + math.sin(turn) * column.body.s)
        canvas.ellipse(x, py, 0.0115 * ux * max(facing, 0.35), 0.0115 * uy, colour)
    y, row = y + 0.032, row + 1


def chest_print(canvas, column, what, colour, y):
  """The word or shape `what` on the chest, centred at height y; only from the front."""

  def at(u, v):
    return column.at(u * 33, y + v * 0.04)[0]

  if what in LOGO_SHAPES:
    canvas.poly([at(u, v) for u, v in LOGO_SHAPES[what]], colour)
    return
  count = len(what)
  for i, glyph in enumerate(what):
    middle, wide = (2 * i + 1) / count - 1, 0.74 / count
    for stroke in _GLYPHS[glyph]:
      canvas.line(
        [at(middle + wide * u, 0.85 * v) for u, v in stroke],
        colour,
        0.014 * column.body.size,
      )
