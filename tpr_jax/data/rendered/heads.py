"""Rendered people: head, face, hair and what is worn on it."""

import math

from tpr_jax.data.rendered.body import limb
from tpr_jax.data.rendered.canvas import edge, mix, shade
from tpr_jax.data.rendered.tables import COLOURS, HAIR_COLOURS

_DARK = (34, 28, 28)


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


def draw_behind(canvas, body, person):
  """Hair that hangs behind a person seen from the front."""
  head = Head(body)
  if body.c > 0.2:
    _hanging(canvas, head, person)
  if body.c > -0.2:
    _tied(canvas, head, person)


def draw_neck(canvas, body, skin):
  canvas.region = None
  ux, _ = body.unit()
  x, top = body.point(0, body.chin - 0.03, 0.004)
  _, bottom = body.point(0, body.shoulder)
  wide = body.head * 0.19 * ux
  tone = shade(skin, 0.9)
  canvas.poly(
    [(x - wide, top), (x + wide, top), (x + wide * 1.15, bottom),
     (x - wide * 1.15, bottom)], tone,
  )  # fmt: skip


def draw_head(canvas, body, person, face, skin):
  """The head with everything on it."""
  head = Head(body)
  canvas.region = "head"
  canvas.ellipse(head.x, head.y, head.r * head.ux, head.h * head.uy, skin, edge(skin))
  for side in (90, -90):
    if head.seen(side * 0.9) and person.hair_length in ("bald", "short"):
      x, y = head.at(side * 0.93, 0.08)
      canvas.ellipse(x, y, 0.012 * head.ux, 0.018 * head.uy, skin, edge(skin))
  if person.headwear == "headscarf":
    _headscarf(canvas, head, person)
  else:
    _skull_hair(canvas, head, person)
  if body.c <= 0.2:
    _hanging(canvas, head, person)
  _face_skin(canvas, head, person, skin)
  if face:
    _face(canvas, head, body, person, skin)
  if body.c > 0.2:
    _locks(canvas, head, person)
  _headwear(canvas, head, person)
  if body.c <= -0.2:
    _tied(canvas, head, person)
  if person.headphones_colour:
    _headphones(canvas, head, COLOURS[person.headphones_colour])


def _hair(person):
  return HAIR_COLOURS[person.hair_colour] if person.hair_colour else None


def _loose(person):
  return person.hair_length in ("medium", "long") and person.hair_style in (
    "straight",
    "curly",
  )


def _hanging(canvas, head, person):
  """Loose hair down to the shoulders or the middle of the back."""
  if not _loose(person) or person.headwear == "headscarf":
    return
  canvas.region = "head"
  body, hair = head.body, _hair(person)
  down = 0.028 if person.hair_length == "medium" else 0.13
  bottom = body.place(0, body.shoulder + down)[1]
  wide = head.r * (1.22 if person.hair_style == "straight" else 1.5) * head.ux
  back = head.r * 0.55 * head.ux * body.s  # away from the face in profile
  top = head.y - head.h * 0.2 * head.uy
  near, low = 0.66 if abs(body.s) > 0.85 else 1.0, 0.9
  left, right = head.x + back - wide * near, head.x + back + wide * near
  middle = (left + right) / 2
  crown = 0.8  # under the rounder hair of the skull
  points = [
    (middle + (left - middle) * crown, top),
    (middle + (right - middle) * crown, top),
  ]
  right_side = _strand(right, middle, top, bottom, low, person.hair_style)
  left_side = _strand(left, middle, top, bottom, low, person.hair_style)
  canvas.poly([*points, *right_side, *left_side[::-1]], hair)
  canvas.line([*right_side, *left_side[::-1]], edge(hair), 0.003)


def _strand(x, middle, top, bottom, narrow, style):
  points = []
  for i in range(1, 7):
    t = i / 6
    wave = (0.12 if i % 2 else -0.06) if style == "curly" else 0.0
    px = middle + (x - middle) * (1 + (narrow - 1) * t + wave)
    points.append((px, top + (bottom - top) * t))
  return points


def _locks(canvas, head, person):
  """Long loose hair falls over the shoulders in front."""
  if not (_loose(person) and person.headwear != "headscarf"):
    return
  canvas.region = "head"
  body, hair = head.body, _hair(person)
  down = 0.135 if person.hair_length == "long" else 0.012
  wavy = person.hair_style == "curly"
  for side in (1, -1):
    x, y = head.at(side * 82, -0.1, 1.05)
    end = body.point(side * head.r * 1.2, body.shoulder + down, 0.045)
    out = (0.014 if wavy else 0.0) * head.ux * (1 if x > head.x else -1)
    middle = ((x + end[0]) / 2 + out, (y + end[1]) / 2)
    thick = 0.018 if wavy else 0.015
    sizes = [(thick * k * head.ux, thick * k * head.uy) for k in (1, 1.3, 0.9)]
    canvas.poly(limb([(x, y), middle, end], sizes), hair, edge(hair))


def _skull_hair(canvas, head, person):
  hair = _hair(person)
  if hair is None:
    return
  style = person.hair_style
  capped = person.headwear != "none"
  low = 0.32 if person.hair_length == "short" else 0.55
  if head.body.c < -0.2:  # the back of the head is covered down to the nape
    low = 0.62
  full = 1.08 if capped else {"curly": 1.24, "spiky": 1.1}.get(style, 1.1)
  polygon = head.dome(full, low)
  if style == "spiky" and not capped:
    polygon = [
      (x + (x - head.x) * 0.16, y + (y - head.y) * 0.16) if i % 2 else (x, y)
      for i, (x, y) in enumerate(polygon)
    ]
  canvas.poly(polygon, hair, edge(hair))
  if style == "curly" and not capped:
    for i, (x, y) in enumerate(polygon):
      if i % 2 == 0:
        tone = hair if i % 4 else mix(hair, (255, 255, 255), 0.12)
        canvas.ellipse(x, y, 0.016 * head.ux, 0.016 * head.uy, tone)
  elif style == "straight" and not capped:
    shine = mix(hair, (255, 255, 255), 0.22)
    line = [head.at(a, -0.78, 1.0) for a in (-40, -15, 10)]
    canvas.line(line, shine, 0.006 * head.body.size)


def _face_skin(canvas, head, person, skin):
  top = -0.44 if person.hair_length != "bald" else -0.9
  if person.headwear == "headscarf":
    polygon = head.patch(-52, 52, -0.4, 0.72)
  else:
    polygon = head.patch(-64, 64, top, 0.95)
  if polygon:
    canvas.poly(polygon, skin)


def _face(canvas, head, body, person, skin):
  dark = mix(skin, (0, 0, 0), 0.55)
  size = body.size
  for side in (-24, 24):
    if head.seen(side):
      x, y = head.at(side, 0.02)
      canvas.ellipse(x, y, 0.0065 * head.ux, 0.0062 * head.uy, _DARK)
      brow = [head.at(side - 8, -0.17), head.at(side + 8, -0.17)]
      canvas.line(brow, dark, 0.004 * size)
  x, y = head.at(0, 0.26, 1.12)
  canvas.ellipse(x, y, 0.006 * head.ux, 0.01 * head.uy, shade(skin, 0.82))
  lips = (196, 60, 70) if person.gender == "woman" else mix(skin, (120, 30, 30), 0.5)
  canvas.line([head.at(-15, 0.55), head.at(15, 0.55)], lips, 0.007 * size)
  if person.age == "elderly":
    for side in (-1, 1):
      canvas.line([head.at(20 * side, 0.3), head.at(28 * side, 0.55)], dark, 0.003)
  _beard(canvas, head, person)
  _mask(canvas, head, person)
  _glasses(canvas, head, person)


def _beard(canvas, head, person):
  if person.facial_hair == "none":
    return
  tone = _hair(person) or (70, 58, 50)
  if person.facial_hair == "beard":
    polygon = head.patch(-66, 66, 0.42, 1.06)
    if polygon:
      canvas.poly(polygon, tone)
    canvas.line([head.at(-15, 0.6), head.at(15, 0.6)], (170, 80, 80), 0.008)
  bar = [head.at(a, 0.44, 1.04) for a in (-26, 0, 26)]
  canvas.line(bar, tone, 0.016 * head.body.size)


def _mask(canvas, head, person):
  if person.mask == "none":
    return
  tone = COLOURS[person.mask]
  polygon = head.patch(-62, 62, 0.2, 0.93, 1.05)
  if polygon:
    canvas.poly(polygon, tone, edge(tone))
  for side in (-1, 1):
    if head.seen(side * 80):
      a, b = head.at(side * 60, 0.3, 1.03), head.at(side * 92, 0.05)
      canvas.line([a, b], tone, 0.005 * head.body.size)


def _glasses(canvas, head, person):
  if person.glasses == "none":
    return
  dark = person.glasses == "sunglasses"
  for side in (-24, 24):
    polygon = head.patch(side - 20, side + 20, -0.12, 0.2, 1.06)
    if polygon and dark:
      canvas.poly(polygon, (18, 18, 22))
    elif polygon:
      canvas.line([*polygon, polygon[0]], _DARK, 0.006 * head.body.size)
  bridge = [head.at(a, 0.0, 1.06) for a in (-6, 6)]
  canvas.line(bridge, _DARK, 0.005 * head.body.size)
  for side in (-1, 1):
    if head.seen(side * 80):
      arms = [head.at(side * 44, -0.02, 1.05), head.at(side * 92, 0.0, 1.03)]
      canvas.line(arms, _DARK, 0.005 * head.body.size)


def _tied(canvas, head, person):
  """Ponytail, bun or braid: at the back, or over the left shoulder from the front."""
  style = person.hair_style
  if style not in ("ponytail", "bun", "braid") or person.headwear == "headscarf":
    return
  canvas.region = "head"
  body, hair = head.body, _hair(person)
  long = person.hair_length == "long"
  ux, uy = head.ux, head.uy
  back = head.r * body.s * ux  # picture offset of the back of the head
  if style == "bun":
    size = 0.036 if long else 0.027
    x, y = head.x + back * 0.85, head.y - head.h * 0.98 * uy
    canvas.ellipse(x, y, size * ux, size * uy * 0.9, hair, edge(hair))
    canvas.line([(x - size * ux, y), (x + size * ux, y)], edge(hair), 0.003)
    return
  if style == "ponytail":
    _ponytail(canvas, head, back, long, hair)
    return
  start = head.at(180, 0.4)
  end = body.point(0, body.shoulder + 0.15, -0.07)
  if body.c > -0.2:
    return
  _plait(canvas, head, start, end, hair)


def _ponytail(canvas, head, back, long, hair):
  """High on the back of the head; seen from the front it swings out to one side."""
  ux, uy = head.ux, head.uy
  front = head.body.c > 0.2
  out = -1 if back < -0.3 * head.r * ux else 1
  x, y = head.x + back * 0.85, head.y - head.h * 0.7 * uy
  reach = head.r * (1.3 - 0.8 * abs(head.body.s) if front else 0.4) * ux * out
  fall = (0.2 if long else 0.1) + (0.0 if front else 0.045)
  curve = ((0, 0), (0.6, -0.06), (1.0, 0.2), (1.05, 0.6), (0.85, 1.0))
  swing = reach + 0.5 * back
  points = [(x + swing * a, y + fall * b * uy) for a, b in curve]
  sizes = [(k * ux, k * uy) for k in (0.011, 0.017, 0.021, 0.02, 0.006)]
  canvas.poly(limb(points, sizes), hair, mix(edge(hair), hair, 0.3))


def draw_braid(canvas, body, person):
  """The braid over the left shoulder of a person not seen from behind."""
  if person.hair_style != "braid" or person.headwear == "headscarf" or body.c <= -0.2:
    return
  canvas.region = "head"
  head = Head(body)
  side = 1 if body.s > -0.3 else 0.2
  start = head.at(75 * side, 0.6, 1.05)
  end = body.point(0.052 * side, body.shoulder + 0.14, 0.06)
  if body.s < -0.8:  # the right side: down the back
    start, end = head.at(180, 0.5), body.point(0, body.shoulder + 0.15, -0.07)
  _plait(canvas, head, start, end, _hair(person))


def _plait(canvas, head, start, end, hair):
  for i in range(6):
    t = i / 5
    x, y = start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t
    size = 0.019 - 0.006 * t
    canvas.ellipse(
      x + (0.004 if i % 2 else -0.004) * head.ux, y, size * head.ux,
      size * head.uy, hair, mix(hair, (255, 255, 255), 0.25),
    )  # fmt: skip


def _headscarf(canvas, head, person):
  tone = COLOURS[person.headwear_colour]
  body = head.body
  canvas.poly(head.dome(1.14, 0.5), tone, edge(tone))
  wide = head.r * 1.08 * head.ux
  low = body.place(0, body.shoulder + 0.012)[1]
  top = head.y + head.h * 0.3 * head.uy
  canvas.poly(
    [(head.x - wide, top), (head.x + wide, top), (head.x + wide * 1.25, low),
     (head.x - wide * 1.25, low)], tone, edge(tone),
  )  # fmt: skip


def _headwear(canvas, head, person):
  kind = person.headwear
  if kind in ("none", "headscarf"):
    return
  canvas.region = "head"
  tone = COLOURS[person.headwear_colour]
  line, body = edge(tone), head.body
  ux, uy = head.ux, head.uy
  if kind == "cap":
    canvas.poly(head.dome(1.14, -0.36), tone, line)
    tip = head.r * 0.95 * -body.s * ux
    if body.c > -0.4:
      x, y = head.x + tip, head.y - head.h * 0.34 * uy
      wide = head.r * (0.72 + 0.35 * max(body.c, 0)) * ux
      canvas.ellipse(x, y, wide, 0.014 * uy, shade(tone, 0.8), line)
    else:
      x, y = head.x, head.y - head.h * 0.42 * uy
      canvas.ellipse(x, y, head.r * 0.35 * ux, 0.009 * uy, line)
  elif kind == "beanie":
    canvas.poly(head.dome(1.16, -0.2, 0.12), tone, line)
    top, low = head.y - head.h * 0.52 * uy, head.y - head.h * 0.18 * uy
    wide = head.r * 1.17 * ux
    fold = shade(tone, 0.78) if max(tone) > 64 else shade(tone, 1.2)
    canvas.rect(head.x - wide, top, head.x + wide, low, fold, line)
    canvas.ellipse(head.x, head.y - head.h * 1.32 * uy, 0.016 * ux, 0.016 * uy, tone)
  elif kind == "brimmed hat":
    canvas.poly(head.dome(1.05, -0.42, 0.18), tone, line)
    y = head.y - head.h * 0.42 * uy
    canvas.ellipse(head.x, y, head.r * 1.85 * ux, 0.017 * uy, tone, line)
    band = [
      (head.x - head.r * ux, y - 0.018 * uy),
      (head.x + head.r * ux, y - 0.018 * uy),
    ]
    canvas.line(band, line, 0.01 * body.size)
  else:
    _helmet(canvas, head, tone, line)


def _helmet(canvas, head, tone, line):
  ux, uy = head.ux, head.uy
  canvas.poly(head.dome(1.3, -0.12), tone, line)
  for share in (-0.45, 0.0, 0.45):
    x = head.x + share * head.r * 1.3 * ux
    points = [(x, head.y - head.h * 1.15 * uy), (x * 0.94 + head.x * 0.06,
              head.y - head.h * 0.5 * uy)]  # fmt: skip
    canvas.line(points, line, 0.009 * head.body.size)
  for side in (-1, 1):
    if head.seen(side * 70):
      strap = [head.at(side * 78, -0.1, 1.06), head.at(side * 20, 1.0)]
      canvas.line(strap, _DARK, 0.006 * head.body.size)


def _headphones(canvas, head, tone):
  canvas.region = "head"
  ux, uy = head.ux, head.uy
  arc = []
  for i in range(9):
    t = math.pi * i / 8
    x = -math.cos(t) * head.r * 1.2 * (0.25 + 0.75 * abs(head.body.c))
    arc.append((head.x + x * ux, head.y - math.sin(t) * head.h * 1.2 * uy))
  canvas.line(arc, tone, 0.013 * head.body.size)
  for side in (90, -90):
    if head.seen(side) or abs(head.body.s) < 0.5:
      x, y = head.at(side, 0.06, 1.14)
      wide = 0.012 + 0.012 * abs(head.body.s)
      canvas.ellipse(x, y, wide * ux, 0.026 * uy, tone, edge(tone))
