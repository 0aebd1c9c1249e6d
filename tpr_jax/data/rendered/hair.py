"""Rendered people: hair, loose or tied."""

from tpr_jax.data.rendered import skull
from tpr_jax.data.rendered.body import limb
from tpr_jax.data.rendered.canvas import edge, mix
from tpr_jax.data.rendered.tables import HAIR_COLOURS


def draw_behind(canvas, body, person):
  """Hair that hangs behind a person seen from the front."""
  head = skull.Head(body)
  if body.c > 0.2:
    hanging(canvas, head, person)
  if body.c > -0.2:
    tied(canvas, head, person)


def colour_of(person):
  """RGB of the hair, None for a bald person."""
  return HAIR_COLOURS[person.hair_colour] if person.hair_colour else None


def _loose(person):
  return person.hair_length in ("medium", "long") and person.hair_style in (
    "straight",
    "curly",
  )


def hanging(canvas, head, person):
  """Loose hair down to the shoulders or the middle of the back."""
  if not _loose(person) or person.headwear == "headscarf":
    return
  canvas.region = "head"
  body, hair = head.body, colour_of(person)
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


def locks(canvas, head, person):
  """Long loose hair falls over the shoulders in front."""
  if not (_loose(person) and person.headwear != "headscarf"):
    return
  canvas.region = "head"
  body, hair = head.body, colour_of(person)
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


def skull_hair(canvas, head, person):
  hair = colour_of(person)
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


def tied(canvas, head, person):
  """Ponytail, bun or braid: at the back, or over the left shoulder from the front."""
  style = person.hair_style
  if style not in ("ponytail", "bun", "braid") or person.headwear == "headscarf":
    return
  canvas.region = "head"
  body, hair = head.body, colour_of(person)
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
  head = skull.Head(body)
  side = 1 if body.s > -0.3 else 0.2
  start = head.at(75 * side, 0.6, 1.05)
  end = body.point(0.052 * side, body.shoulder + 0.14, 0.06)
  if body.s < -0.8:  # the right side: down the back
    start, end = head.at(180, 0.5), body.point(0, body.shoulder + 0.15, -0.07)
  _plait(canvas, head, start, end, colour_of(person))


def _plait(canvas, head, start, end, hair):
  for i in range(6):
    t = i / 5
    x, y = start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t
    size = 0.019 - 0.006 * t
    canvas.ellipse(
      x + (0.004 if i % 2 else -0.004) * head.ux, y, size * head.ux,
      size * head.uy, hair, mix(hair, (255, 255, 255), 0.25),
    )  # fmt: skip
