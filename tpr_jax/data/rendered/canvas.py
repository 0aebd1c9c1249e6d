"""Rendered people: filled shapes on a supersampled picture, and their boxes.

Shapes are given in picture shares: x in [0, 1] from the left, y in [0, 1] from the
top. So the same drawing appears at any size, squashed as a resize would.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

_CIRCLE = tuple(
  (math.cos(2 * math.pi * i / 14), math.sin(2 * math.pi * i / 14)) for i in range(14)
)


def shade(colour, factor):
  """Darker (factor < 1) or, towards white, lighter (factor > 1)."""
  if factor <= 1:
    return tuple(int(c * factor) for c in colour)
  return tuple(int(c + (255 - c) * (factor - 1)) for c in colour)


def mix(one, other, share):
  """`share` of `other` in `one`."""
  return tuple(int(a + (b - a) * share) for a, b in zip(one, other, strict=True))


def edge(colour):
  """Outline colour: darker, but lighter for what is nearly black."""
  if max(colour) < 64:
    return tuple(c + 44 for c in colour)
  return shade(colour, 0.62)


class Canvas:
  """A picture of height x width pixels, drawn `over` times larger."""

  def __init__(self, height, width, over):
    self.size = (height, width)
    self.over = over
    self.image = Image.new("RGB", (width * over, height * over))
    self._draw = ImageDraw.Draw(self.image)
    self.w, self.h = float(width * over), float(height * over)
    self.thin = max(1, round(self.h / 400))
    self.shapes = []  # (region, pixel points, width of a line or 0), as drawn
    self.region = None  # what is being drawn now, a key of REGIONS or None

  def poly(self, points, fill, outline=None):
    """A filled polygon; `outline` is a colour or None."""
    w, h = self.w, self.h
    flat = [v for x, y in points for v in (x * w, y * h)]
    self._draw.polygon(flat, fill=fill)
    self.shapes.append((self.region, flat, 0))
    if outline is not None:
      self._draw.line(flat + flat[:2], fill=outline, width=self.thin)

  def ellipse(self, x, y, rx, ry, fill, outline=None):
    """A filled ellipse around (x, y)."""
    w, h = self.w, self.h
    box = ((x - rx) * w, (y - ry) * h, (x + rx) * w, (y + ry) * h)
    self._draw.ellipse(box, fill=fill, outline=outline, width=self.thin)
    flat = [v for a, b in _CIRCLE for v in ((x + rx * a) * w, (y + ry * b) * h)]
    self.shapes.append((self.region, flat, 0))

  def line(self, points, fill, width=0.0):
    """A polyline; width as a share of the picture's height, at least one sample."""
    w, h = self.w, self.h
    flat = [v for x, y in points for v in (x * w, y * h)]
    self._draw.line(flat, fill=fill, width=max(1, round(width * h)))
    if width >= 0.0075:  # a strap rather than a seam
      self.shapes.append((self.region, flat, width))

  def rect(self, left, top, right, bottom, fill, outline=None):
    self.poly(
      ((left, top), (right, top), (right, bottom), (left, bottom)), fill, outline
    )

  def boxes(self, names):
    """Region -> (cx, cy, w, h) of its visible pixels, as shares of the picture.

    Draws every shape again as a number, so what lies behind something else does not
    count. Regions without a visible pixel are left out.
    """
    height, width = max(self.size[0] // 2, 96), max(self.size[1] // 2, 48)
    sx, sy = width / self.w, height / self.h
    ids = Image.new("L", (width, height))
    pen = ImageDraw.Draw(ids)
    for region, flat, thick in self.shapes:
      number = names.index(region) + 1 if region in names else 0
      scaled = [v * (sy if i % 2 else sx) for i, v in enumerate(flat)]
      if thick:
        pen.line(scaled, fill=number, width=max(1, round(thick * height)))
      else:
        pen.polygon(scaled, fill=number)
    found = {}
    pixels = np.asarray(ids)
    for number, name in enumerate(names, 1):
      hit = pixels == number
      rows, columns = np.flatnonzero(hit.any(1)), np.flatnonzero(hit.any(0))
      if rows.size:
        left, right = int(columns[0]), int(columns[-1]) + 1
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        found[name] = (
          (left + right) / 2 / width,
          (top + bottom) / 2 / height,
          (right - left) / width,
          (bottom - top) / height,
        )
    return found
