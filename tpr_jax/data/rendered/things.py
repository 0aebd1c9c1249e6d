"""Rendered people: bags and things carried in a hand."""

from tpr_jax.data.rendered.body import limb
from tpr_jax.data.rendered.canvas import edge, mix, shade
from tpr_jax.data.rendered.tables import COLOURS, HAND_BAGS

_METAL = (168, 170, 176)
_WHITE = (244, 244, 240)
_DARK = (40, 40, 46)


def bag_layer(body, person):
  """ "behind" or "front": whether the bag is drawn before or after the body."""
  if person.bag == "none":
    return None
  if person.bag == "backpack":
    return "behind" if body.c > 0.2 else "front"
  side = 1 if (person.bag_side or "right") == "left" else -1
  if abs(body.s) > 0.5:
    return "front" if side * body.s > 0 else "behind"
  return "front" if person.bag != "suitcase" or body.c < 0 else "behind"


def draw_bag(canvas, body, person):
  """The bag itself; straps over the trunk are `draw_straps`."""
  canvas.region = "bag"
  colour = COLOURS[person.bag_colour]
  trim = COLOURS[person.bag_trim_colour] if person.bag_trim_colour else None
  if person.bag == "backpack":
    _backpack(canvas, body, colour, trim)
    return
  side = 1 if (person.bag_side or "right") == "left" else -1
  if person.bag in HAND_BAGS:
    _held(canvas, body, person.bag, side, colour, trim)
  else:
    _hung(canvas, body, person.bag, side, colour, trim)


def _box(canvas, x, y, half, high, colour, round_top=0.25):
  """A bag's face: centre of its upper edge (x, y), half width, height."""
  k = half * round_top
  points = [
    (x - half + k, y), (x + half - k, y), (x + half, y + high * 0.12),
    (x + half, y + high * 0.94), (x + half - k * 0.5, y + high),
    (x - half + k * 0.5, y + high), (x - half, y + high * 0.94),
    (x - half, y + high * 0.12),
  ]  # fmt: skip
  canvas.poly(points, colour, edge(colour))


def _pocket(canvas, x, y, half, high, trim):
  canvas.rect(x - half, y, x + half, y + high, trim, edge(trim))


def _backpack(canvas, body, colour, trim):
  ux, uy = body.unit()
  w = body.wide
  flat = abs(body.c)
  half = (0.076 * flat + 0.05 * abs(body.s)) * w * ux
  x, y = body.point(0, body.shoulder - 0.004, -(0.06 + 0.045 * abs(body.s)) * w)
  if body.c > 0.2:  # from the front it peeps out above and beside the shoulders
    half *= 1.16
    y -= 0.016 * uy
  high = (body.waist - body.shoulder - 0.008) * uy
  _box(canvas, x, y, half, high, colour, 0.5)
  if body.c > 0.2:
    if trim:  # piping
      rim = [(x - half, y + high * 0.9), (x - half, y + high * 0.12)]
      rim += [(x - half * 0.5, y), (x + half * 0.5, y)]
      rim += [(x + half, y + high * 0.12), (x + half, y + high * 0.9)]
      canvas.line(rim, trim, 0.009 * uy)
    return
  if abs(body.s) > 0.9:
    back = body.point(0, 0, -(0.155) * w)[0]
    low = half * 0.36
    tone = trim or shade(colour, 0.8)
    _pocket(canvas, back, y + high * 0.48, low, high * 0.42, tone)
  else:
    tone = trim or shade(colour, 0.86)
    _pocket(canvas, x, y + high * 0.46, half * 0.7, high * 0.42, tone)
    canvas.line(
      [(x - half * 0.8, y + high * 0.3), (x + half * 0.8, y + high * 0.3)],
      edge(colour), 0.004,
    )  # fmt: skip
    loop = [(x - half * 0.25, y), (x, y - 0.012 * uy), (x + half * 0.25, y)]
    canvas.line(loop, edge(colour), 0.008 * uy)


def draw_straps(canvas, body, person, garment):
  """Straps of a backpack, shoulder or crossbody bag over the trunk."""
  if person.bag not in ("backpack", "shoulder bag", "crossbody bag"):
    return
  canvas.region = "bag"
  colour = COLOURS[person.bag_colour]
  line = shade(colour, 0.85) if max(colour) > 64 else shade(colour, 1.12)
  trim = COLOURS[person.bag_trim_colour] if person.bag_trim_colour else None
  wide = 0.017 * body.size
  top, waist = body.shoulder - 0.004, body.waist
  side = 1 if (person.bag_side or "right") == "left" else -1
  if person.bag == "backpack":
    _backpack_straps(canvas, body, garment, line, trim, wide)
  elif person.bag == "crossbody bag":
    for sign in (1, -1):  # over the chest and over the back
      path = []
      for i in range(9):
        t = i / 8
        degrees = side * (-42 + 130 * t)
        degrees = degrees if sign > 0 else 180 - degrees
        path.append((degrees, top + (waist + 0.03 - top) * t))
      for run in garment.path(path):
        canvas.line(run, edge(line), wide * 1.35)
        canvas.line(run, line, wide)
  else:
    for turn in (0, 180):  # a loop over the shoulder, inside the arm
      path = [(34, top - 0.008), (37, top + 0.06), (42, waist - 0.06), (52, waist)]
      path = [(side * d if not turn else 180 - side * d, y) for d, y in path]
      for run in garment.path(path):
        canvas.line(run, edge(line), wide * 1.35)
        canvas.line(run, line, wide)


def _backpack_straps(canvas, body, garment, line, trim, wide):
  if body.c < -0.2:
    return
  for sign in (1, -1):
    path = [(sign * 42, body.shoulder - 0.004), (sign * 40, body.shoulder + 0.05)]
    path += [(sign * 50, body.shoulder + 0.12), (sign * 85, body.shoulder + 0.17)]
    for run in garment.path(path):
      canvas.line(run, edge(line), wide * 1.35)
      canvas.line(run, line, wide)
    middle, seen = garment.at(sign * 41, body.shoulder + 0.075)
    if seen and trim:
      ux, uy = body.unit()
      x, y = middle
      canvas.rect(x - 0.013 * ux, y - 0.016 * uy, x + 0.013 * ux, y + 0.016 * uy, trim)


def _hung(canvas, body, kind, side, colour, trim):
  """A shoulder bag under the arm, or a crossbody bag at the hip."""
  ux, uy = body.unit()
  a, _ = body.girths(body.hip)
  if kind == "shoulder bag":
    away = body.aside(side, 0.06, -0.085)
    forward = -0.05 * abs(body.s) if away is None else away
    x, y = body.point(side * (a + 0.025), body.waist - 0.055, forward)
    half, high = (0.034 + 0.022 * abs(body.s)) * ux, 0.125 * uy
  else:
    away = body.aside(side, 0.06, 0.085)
    forward = 0.02 - 0.055 * abs(body.s) if away is None else away
    x, y = body.point(side * (a + 0.008), body.waist + 0.015, forward)
    half, high = (0.042 + 0.01 * abs(body.s)) * ux, 0.075 * uy
  x = body.inside(x, half)
  _box(canvas, x, y, half, high, colour)
  if kind == "crossbody bag":  # a flap
    canvas.line([(x - half, y + high * 0.4), (x + half, y + high * 0.4)],
                edge(colour), 0.004)  # fmt: skip
  if trim:
    _pocket(canvas, x, y + high * 0.48, half * 0.9, high * 0.36, trim)


def _held(canvas, body, kind, side, colour, trim):
  ux, uy = body.unit()
  x, y = body.point(*body.arms[side].hand)
  if kind == "suitcase":
    _suitcase(canvas, body, side, (x, y), colour, trim)
    return
  half, high, drop = (
    (0.046, 0.075, 0.04) if kind == "handbag" else (0.044, 0.125, 0.045)
  )
  half, high, drop = half * ux, high * uy, drop * uy
  x = body.inside(x, half)
  line = edge(colour)
  if kind == "handbag":
    loop = [(x - half * 0.6, y + drop), (x - half * 0.45, y + drop * 0.2), (x, y)]
    loop += [(x + half * 0.45, y + drop * 0.2), (x + half * 0.6, y + drop)]
    canvas.line(loop, shade(colour, 0.7) if max(colour) > 64 else line, 0.009 * uy)
    top = half * 0.72
    canvas.poly(
      [(x - top, y + drop), (x + top, y + drop), (x + half, y + drop + high),
       (x - half, y + drop + high)], colour, line,
    )  # fmt: skip
  else:
    for shift in (-0.5, 0.5):
      ends = [(x + shift * half, y + drop), (x, y + 0.004 * uy)]
      canvas.line(ends, mix(colour, (120, 120, 120), 0.4), 0.006 * uy)
    canvas.rect(x - half, y + drop, x + half, y + drop + high, colour, line)
    fold = shade(colour, 0.88)
    canvas.rect(x + half * 0.66, y + drop, x + half, y + drop + high, fold)
  if trim:
    _pocket(canvas, x, y + drop + high * 0.38, half * 0.55, high * 0.34, trim)


def _suitcase(canvas, body, side, hand, colour, trim):
  ux, uy = body.unit()
  away = body.aside(side, 0.07, -0.11, near=True)
  x, _ = body.point(side * 0.15 * body.wide, 0.8, -0.1 if away is None else away)
  foot = body.place(0, 0.985)[1]
  high, half = 0.2 * uy, 0.05 * ux
  x = body.inside(x, half)
  top = foot - high
  for shift in (-0.35, 0.35):
    canvas.line([(x + shift * half, top), (hand[0] + shift * half * 0.4, hand[1])],
                _METAL, 0.006 * uy)  # fmt: skip
  for shift in (-0.7, 0.7):
    canvas.ellipse(x + shift * half, foot, 0.009 * ux, 0.009 * uy, (30, 30, 34))
  canvas.rect(x - half, top, x + half, foot - 0.004 * uy, colour, edge(colour))
  for share in (0.2, 0.8):
    y = top + high * share
    canvas.line([(x - half, y), (x + half, y)], edge(colour), 0.005 * uy)
  if trim:
    _pocket(canvas, x, top + high * 0.34, half * 0.68, high * 0.32, trim)


def draw_carried(canvas, body, person, side, skin):
  """The thing in the hand of this side, with the fingers over it."""
  name = "left" if side > 0 else "right"
  if person.carried == "none" or name != (person.carried_hand or "right"):
    return
  canvas.region = "carried"
  colour = COLOURS[person.carried_colour]
  ux, uy = body.unit()
  x, y = body.point(*body.arms[side].hand)
  x = body.inside(x, 0.036 * ux)

  def box(left, top, right, bottom, fill, outline=None):
    canvas.rect(
      x + left * ux, y + top * uy, x + right * ux, y + bottom * uy, fill, outline
    )

  kinds = {"phone": _phone, "cup": _cup, "book": _book, "bottle": _bottle}
  if person.carried == "umbrella":
    _umbrella(canvas, x, y, ux, uy, colour)
  else:
    kinds[person.carried](box, colour)
  canvas.region = None
  canvas.ellipse(x, y, 0.018 * ux, 0.011 * uy, skin, edge(skin))


def _phone(box, colour):
  box(-0.018, -0.045, 0.018, 0.02, colour, edge(colour))
  box(-0.009, -0.038, 0.009, -0.012, (140, 190, 230) if max(colour) < 120 else _DARK)


def _cup(box, colour):
  box(-0.023, -0.045, 0.023, -0.01, colour, edge(colour))
  box(-0.019, -0.01, 0.019, 0.022, colour, edge(colour))
  lid = _WHITE if min(colour) < 200 else _DARK
  box(-0.026, -0.054, 0.026, -0.042, lid, edge(colour))


def _book(box, colour):
  line = edge(colour)
  box(-0.036, -0.05, 0.036, 0.05, colour, line)
  box(0.026, -0.046, 0.036, 0.046, _WHITE, line)
  box(-0.02, -0.032, 0.012, -0.022, line)


def _bottle(box, colour):
  box(-0.017, -0.035, 0.017, 0.06, colour, edge(colour))
  box(-0.008, -0.056, 0.008, -0.035, mix(colour, _WHITE, 0.5))
  box(-0.01, -0.066, 0.01, -0.053, _DARK)


def _umbrella(canvas, x, y, ux, uy, colour):
  """Closed, point down."""
  size = [(k * ux, k * uy) for k in (0.008, 0.026, 0.018, 0.003)]
  path = [(x, y + d * uy) for d in (0.0, 0.03, 0.15, 0.29)]
  canvas.line([(x, y - 0.03 * uy), (x, y + 0.31 * uy)], _DARK, 0.008 * uy)
  canvas.poly(limb(path, size), colour, edge(colour))
  canvas.line(path[1:], edge(colour), 0.004 * uy)
  hook = [(0.0, -0.03), (0.014, -0.04), (0.026, -0.02)]
  canvas.line([(x + a * ux, y + b * uy) for a, b in hook], _DARK, 0.009 * uy)
