"""Rendered people: neck, head, face, and what is worn on it."""

import math

from tpr_jax.data.rendered import hair, skull
from tpr_jax.data.rendered.canvas import edge, mix, shade
from tpr_jax.data.rendered.tables import COLOURS

_DARK = (34, 28, 28)


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
  head = skull.Head(body)
  canvas.region = "head"
  canvas.ellipse(head.x, head.y, head.r * head.ux, head.h * head.uy, skin, edge(skin))
  for side in (90, -90):
    if head.seen(side * 0.9) and person.hair_length in ("bald", "short"):
      x, y = head.at(side * 0.93, 0.08)
      canvas.ellipse(x, y, 0.012 * head.ux, 0.018 * head.uy, skin, edge(skin))
  if person.headwear == "headscarf":
    _headscarf(canvas, head, person)
  else:
    hair.skull_hair(canvas, head, person)
  if body.c <= 0.2:
    hair.hanging(canvas, head, person)
  _face_skin(canvas, head, person, skin)
  if face:
    _face(canvas, head, body, person, skin)
  if body.c > 0.2:
    hair.locks(canvas, head, person)
  _headwear(canvas, head, person)
  if body.c <= -0.2:
    hair.tied(canvas, head, person)
  if person.headphones_colour:
    _headphones(canvas, head, COLOURS[person.headphones_colour])


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
  tone = hair.colour_of(person) or (70, 58, 50)
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
