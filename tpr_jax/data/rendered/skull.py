"""Rendered people: the head as an ellipsoid, and patches on it."""

import math


class Head:
  """The head as an ellipsoid: half width `r`, half height `h`, centre (x, y)."""

  def __init__(self, body):
    self.body = body
    self.h = body.head * 0.5
    self.r = body.head * 0.36
    self.x, self.y = body.point(0, self.h, 0.012)
    self.ux, self.uy = body.unit()
    self.ux *= 1 + 0.09 * body.tilt

  def at(self, degrees, v, out=1.0):
    """Surface point at an azimuth and v in [-1, 1] down the face."""
    ring = math.sqrt(max(0.0, 1 - v * v * 0.86)) * self.r * out
    p = math.radians(degrees)
    x = ring * (math.sin(p) * self.body.c - math.cos(p) * self.body.s)
    return self.x + x * self.ux, self.y + v * self.h * self.uy

  def seen(self, degrees):
    """Whether the surface at this azimuth faces the camera."""
    p = math.radians(degrees)
    return math.sin(p) * self.body.s + math.cos(p) * self.body.c > 0.08

  def patch(self, low, high, top, bottom, out=1.0):
    """Polygon between two azimuths and two heights, only what is in sight."""
    angles = [low + (high - low) * i / 12 for i in range(13)]
    angles = [a for a in angles if self.seen(a)]
    if len(angles) < 2:
      return None
    rows = [top + (bottom - top) * i / 4 for i in range(5)]
    upper = [self.at(a, top, out) for a in angles]
    right = [self.at(angles[-1], v, out) for v in rows[1:]]
    lower = [self.at(a, bottom, out) for a in angles[::-1]]
    left = [self.at(angles[0], v, out) for v in rows[::-1][1:]]
    return upper + right + lower + left

  def dome(self, out, low, lift=0.0):
    """Polygon of the skull above v = low, `out` times larger."""
    points = []
    for i in range(15):
      t = math.pi * i / 14
      x, y = -math.cos(t), -math.sin(t)
      points.append((x, low + (y * (1 + low + lift + (out - 1)))))
    wide = self.r * out * self.ux
    return [(self.x + x * wide, self.y + y * self.h * self.uy) for x, y in points]
