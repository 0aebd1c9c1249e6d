"""Rendered people: the upper garment with its sleeves, collar, fastening and trim."""

from tpr_jax.data.rendered import surface
from tpr_jax.data.rendered.body import limb
from tpr_jax.data.rendered.canvas import edge, mix, shade
from tpr_jax.data.rendered.tables import COLOURS

_EASE = {
  "t-shirt": 1.04,
  "shirt": 1.06,
  "polo shirt": 1.04,
  "sweater": 1.1,
  "hoodie": 1.15,
  "jacket": 1.17,
  "coat": 1.16,
  "blazer": 1.1,
  "vest": 1.05,
  "dress": 1.02,
}
_SHIRT_FRONT = (226, 226, 224)  # what the V of a closed blazer or coat shows


def hem(body, person):
  """Height at which the upper garment ends."""
  y = {
    "waist": body.waist + 0.008,
    "hip": body.hip + 0.035,
    "thigh": body.hip + (body.knee - body.hip) * 0.55,
    "knee": body.knee + 0.005,
    "calf": body.knee + (body.ankle - body.knee) * 0.58,
  }
  return y[person.upper_length]


def column(body, person):
  """The garment as rings."""
  bottom, ease = hem(body, person), _EASE[person.upper]
  ys = [row[0] for row in body.torso if row[0] < bottom - 0.01]
  rows = []
  for y in [*ys, bottom]:
    a, b = body.girths(y)
    grow = ease if y > body.shoulder else 1.0
    rows.append((y, a * grow, b * grow * (1.0 if y < body.shoulder else 1.05)))
  if bottom > body.hip:
    y, a, b = rows[-1]
    down = (bottom - body.hip) / (body.knee - body.hip)
    flare = 1 + down * (0.42 if person.upper == "dress" else 0.16)
    rows[-1] = (y, a * flare, max(b * flare, 0.075 * down + 0.05))
  if person.upper == "dress" or (person.belt_colour and person.upper == "coat"):
    rows = [(y, a * (0.92 if abs(y - body.waist) < 1e-6 else 1), b) for y, a, b in rows]
  return surface.Column(body, rows)


def draw_torso(canvas, body, person, front):
  """The garment without sleeves and collar. Returns its `surface.Column`."""
  canvas.region = "upper"
  colour = COLOURS[person.upper_colour]
  garment = column(body, person)
  canvas.poly(garment.outline(), colour, edge(colour))
  if person.upper_pattern_colour:
    second = COLOURS[person.upper_pattern_colour]
    surface.pattern(
      canvas, garment, person.upper_pattern, second, colour, body.shoulder + 0.01
    )
  _shadow(canvas, garment, colour, person)
  if front and person.open:
    _opening(canvas, body, person, garment)
  _details(canvas, body, person, garment, colour, front)
  if person.print:
    second = COLOURS[person.upper_pattern_colour]
    surface.chest_print(canvas, garment, person.print, second, body.shoulder + 0.095)
  if front and not person.open:
    _fastening(canvas, body, person, garment, colour)
  if person.trim_colour and person.upper_length != "waist":
    trim = COLOURS[person.trim_colour]
    canvas.poly(garment.outline(garment.bottom - 0.02, garment.bottom), trim)
    if front and person.open:  # the hem is open too
      _flap_gap(canvas, body, person, garment, garment.bottom - 0.021)
  canvas.line([*garment.outline(), garment.side(garment.top, -1)], edge(colour), 0.0025)
  if person.belt_colour:
    belt = COLOURS[person.belt_colour]
    y = body.waist
    canvas.poly(garment.outline(y - 0.013, y + 0.013), belt, edge(belt))
    if front:
      (x, py), _ = garment.at(0, y)
      ux, uy = body.unit()
      canvas.rect(
        x - 0.012 * ux, py - 0.01 * uy, x + 0.012 * ux, py + 0.01 * uy, (214, 190, 96)
      )
  return garment


def _shadow(canvas, garment, colour, person):
  """A darker edge, so that a plain trunk looks round."""
  if person.upper_pattern not in ("plain", "letters", "logo"):
    return
  dark = shade(colour, 0.84)
  ys = [y for y, _, _ in garment.rows if y > garment.body.shoulder]
  outer = [garment.side(y, 1) for y in ys]
  inner = [garment.body.place(garment.half(y) * 0.74, y) for y in ys]
  if len(ys) > 1:
    canvas.poly(outer + inner[::-1], dark)


def _opening(canvas, body, person, garment):
  """What the open front shows: the inner top, below it the lower garment."""
  inner = COLOURS[person.inner_colour]
  top, low = body.shoulder - 0.02, min(body.hip + 0.02, garment.bottom)
  wide = 27
  canvas.poly(garment.strip(-wide, wide, top, low), inner, edge(inner))
  if person.inner_pattern == "stripes":
    stripe = COLOURS["white" if max(inner) < 150 else "black"]
    y = top + 0.05
    while y < low - 0.014:
      canvas.poly(garment.strip(-wide, wide, y, y + 0.014), stripe)
      y += 0.036
  _flap_gap(canvas, body, person, garment, low)
  colour = edge(COLOURS[person.upper_colour])
  for sign in (-wide, wide):
    points = [garment.at(sign, y)[0] for y in (top, (top + garment.bottom) / 2)]
    canvas.line([*points, garment.at(sign, garment.bottom)[0]], colour, 0.004)


def _flap_gap(canvas, body, person, garment, top):
  top = max(top, min(body.hip + 0.02, garment.bottom))
  if garment.bottom - top > 0.004 and person.lower_colour:
    gap = garment.strip(-27, 27, top, garment.bottom)
    canvas.region = "lower"
    canvas.poly(gap, shade(COLOURS[person.lower_colour], 0.9))
    canvas.region = "upper"


def _details(canvas, body, person, garment, colour, front):
  """Seams and pockets that tell the kinds of garment apart."""
  line, kind = edge(colour), person.upper
  thin = 0.0035 * body.size
  if kind in ("sweater", "hoodie", "jacket") and person.upper_length != "waist":
    band = shade(colour, 0.75) if max(colour) > 64 else shade(colour, 1.2)
    canvas.poly(garment.outline(garment.bottom - 0.022, garment.bottom), band)
  if kind in ("shirt", "jacket", "coat"):  # yoke
    for run in garment.path([(d, body.shoulder + 0.035) for d in range(90, 271, 20)]):
      canvas.line(run, line, thin)
  if kind in ("coat", "blazer"):  # vent
    for run in garment.path([(180, body.hip - 0.02), (180, garment.bottom)]):
      canvas.line(run, line, thin * 1.5)
  if not front:
    return
  if kind == "hoodie":
    y = body.waist - 0.005
    pocket = [(-26, y), (26, y), (38, y + 0.055), (-38, y + 0.055)]
    points = [garment.at(*p)[0] for p in pocket]
    canvas.line([*points, points[0]], line, thin * 1.5)
  elif kind in ("jacket", "coat", "blazer"):
    y = body.waist + 0.03
    for sign in (-1, 1):
      slant = 0.03 if kind == "jacket" else 0.0
      a, b = garment.at(34 * sign, y)[0], garment.at(60 * sign, y + slant)[0]
      canvas.line([a, b], line, thin * 2)
  if kind in ("shirt", "blazer", "polo shirt"):
    y = body.shoulder + 0.075
    deep = 0.03 if kind == "shirt" else 0.004
    points = [garment.at(*p)[0] for p in ((25, y), (45, y), (45, y + deep))]
    canvas.line([*points, garment.at(25, y + deep)[0], points[0]], line, thin)


def _fastening(canvas, body, person, garment, colour):
  top = body.shoulder + (0.12 if person.collar == "lapels" else 0.012)
  bottom = garment.bottom
  if person.fastening == "zip":
    metal = (60, 60, 66) if max(colour) > 150 else (206, 206, 210)
    points = [garment.at(0, top + (bottom - top) * i / 4)[0] for i in range(5)]
    canvas.line(points, metal, 0.008 * body.size)
    x, y = points[0]
    canvas.ellipse(x, y, 0.02 * body.size, 0.008 * body.size, metal)
  elif person.fastening == "buttons":
    if person.upper == "polo shirt":
      bottom = top + 0.062
      canvas.poly(garment.strip(-6, 6, top - 0.02, bottom), shade(colour, 0.8))
    count = 2 if person.upper == "polo shirt" else 5
    button = (40, 36, 34) if max(colour) > 150 else (240, 238, 232)
    canvas.line(
      [garment.at(-5, top)[0], garment.at(-5, bottom)[0]], edge(colour), 0.002
    )
    ux, uy = body.unit()
    for i in range(count):
      x, y = garment.at(0, top + (bottom - top) * (i + 0.4) / count)[0]
      canvas.ellipse(x, y, 0.0075 * ux, 0.0075 * uy, button)


def draw_collar(canvas, body, person, garment, front, skin):
  """Neckline and collar; drawn over the trunk, before the head."""
  canvas.region = "upper"
  colour = COLOURS[person.upper_colour]
  y, kind = body.shoulder - 0.014, person.collar
  if kind == "hood":
    _hood(canvas, body, colour, front)
  elif kind in ("round neck", "v-neck") and front:
    deep = 0.018 if kind == "round neck" else 0.075
    inner = [garment.at(d, y + dy)[0] for d, dy in ((-75, -0.012), (75, -0.012))]
    low = [garment.at(d, y + deep)[0] for d in ((25, -25) if deep < 0.05 else (0,))]
    line = COLOURS[person.trim_colour] if person.trim_colour else edge(colour)
    canvas.region = None
    canvas.poly([inner[0], inner[1], *low], skin)
    canvas.region = "upper"
    canvas.line([inner[1], *low, inner[0]], line, 0.006 * body.size)
  elif kind == "lapels" and front:
    _lapels(canvas, body, person, garment, colour)
  _neck_band(canvas, body, person, garment, colour, front)
  if front and person.tie_colour:
    tie = COLOURS[person.tie_colour]
    top, low = body.shoulder - 0.005, min(body.waist, garment.bottom) - 0.01
    shape = [(-5, top), (5, top), (9, low - 0.02), (0, low), (-9, low - 0.02)]
    canvas.poly([garment.at(d, h)[0] for d, h in shape], tie, edge(tie))


def _neck_band(canvas, body, person, garment, colour, front):
  kind, head = person.collar, body.head
  band = shade(colour, 1.18) if max(colour) < 200 else shade(colour, 0.86)
  top = {"high neck": body.chin - 0.008, "shirt collar": body.neck - 0.008}.get(kind)
  if kind == "stand collar" and front:
    top = body.neck - 0.012
  if top is None:
    return
  low, wide = body.shoulder - 0.002, head * 0.3
  if kind == "shirt collar" and front:
    for sign in (-1, 1):
      points = [(sign * 60, top), (sign * 75, low), (sign * 30, low + 0.035), (0, low)]
      at = [garment.at(d, h)[0] for d, h in points]
      canvas.poly(at, band, edge(colour))
    return
  left, right = (body.place(s * wide, top) for s in (-1, 1))
  low_l, low_r = (body.place(s * wide * 1.25, low) for s in (-1, 1))
  canvas.poly([left, right, low_r, low_l], band, edge(colour))


def _lapels(canvas, body, person, garment, colour):
  top, low = body.shoulder - 0.03, body.shoulder + 0.115
  shirt = COLOURS[person.inner_colour] if person.open else _SHIRT_FRONT
  if not person.open:
    v = [garment.at(d, y)[0] for d, y in ((-70, top), (70, top), (0, low))]
    canvas.poly(v, shirt)
  flap = shade(colour, 1.15) if max(colour) < 200 else shade(colour, 0.88)
  meet = 24 if person.open else 2
  for s in (-1, 1):
    points = [(s * 80, top), (s * 62, top + 0.045), (s * 52, top + 0.05)]
    points += [(s * 56, top + 0.062), (s * meet, low)]
    canvas.poly([garment.at(d, y)[0] for d, y in points], flap, edge(colour))


def _hood(canvas, body, colour, front):
  tone = shade(colour, 0.86) if max(colour) > 64 else shade(colour, 1.14)
  ux, uy = body.unit()
  if front:  # a roll around the neck
    x, y = body.point(0, body.shoulder - 0.012, 0.01)
    canvas.ellipse(x, y, body.head * 0.56 * ux, 0.026 * uy, tone, edge(colour))
    for sign in (-1, 1):
      a = body.point(sign * 0.018, body.shoulder + 0.0, 0.06)
      b = body.point(sign * 0.02, body.shoulder + 0.065, 0.065)
      canvas.line([a, b], (236, 236, 232), 0.005 * body.size)
    return
  x, y = body.point(0, body.shoulder + 0.008, -0.035)
  canvas.ellipse(x, y, body.head * 0.52 * ux, 0.058 * uy, tone, edge(colour))
  x, y = body.point(0, body.shoulder - 0.012, -0.03)
  canvas.ellipse(x, y, body.head * 0.36 * ux, 0.026 * uy, shade(tone, 0.7))


def draw_scarf(canvas, body, colour_name):
  """A scarf around the neck with one end down the chest or the back."""
  canvas.region = "upper"
  colour = COLOURS[colour_name]
  ux, uy = body.unit()
  x, y = body.point(0, body.neck + 0.014, 0.012)
  end = body.point(0.03, body.shoulder + 0.1, 0.07 if body.c > 0 else -0.07)
  start = body.point(0.028, body.shoulder, 0.05 if body.c > 0 else -0.05)
  rad = (0.018 * ux, 0.018 * uy)
  canvas.poly(limb([start, end], [rad, rad]), colour, edge(colour))
  canvas.ellipse(x, y, body.head * 0.46 * ux, 0.026 * uy, colour, edge(colour))
  left, right = (x - body.head * 0.4 * ux, y), (x + body.head * 0.4 * ux, y + 0.006)
  canvas.line([left, right], edge(colour), 0.003)


def draw_arm(canvas, body, person, side, skin):
  """One arm with its sleeve, trim and hand; the watch on the left wrist."""
  arm = body.arms[side]
  points = [body.point(*p) for p in (arm.shoulder, arm.elbow, arm.hand)]
  ux, uy = body.unit()
  w = body.wide
  thick = [(r * w * ux, r * w * uy) for r in (0.026, 0.023, 0.016)]
  canvas.region = None
  canvas.ellipse(*points[2], 0.019 * ux, 0.021 * uy, skin, edge(skin))
  canvas.poly(limb(points, thick), skin, edge(skin))
  if side > 0 and person.watch:
    wrist = _between(points[1], points[2], 0.82)
    canvas.line([_between(points[1], points[2], t) for t in (0.72, 0.9)],
                (30, 30, 34), 0.034 * w * body.size)  # fmt: skip
    canvas.ellipse(*wrist, 0.008 * ux, 0.008 * uy, (230, 220, 170))
  if person.sleeves != "none":
    _sleeve(canvas, body, person, points)


def _between(a, b, t):
  return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t


def _sleeve(canvas, body, person, points):
  canvas.region = "upper"
  colour = COLOURS[person.upper_colour]
  ux, uy = body.unit()
  loose = (_EASE[person.upper] - 1) * 1.6 + 1.1
  long = person.sleeves == "long"
  shoulder, elbow, hand = points
  end = _between(elbow, hand, 0.88) if long else _between(shoulder, elbow, 0.72)
  path = [shoulder, elbow, end] if long else [shoulder, end]
  radii = [0.03, 0.026, 0.022] if long else [0.031, 0.031]
  size = [(r * loose * body.wide * ux, r * loose * body.wide * uy) for r in radii]
  rx, ry = size[0]
  canvas.ellipse(*shoulder, rx * 0.95, ry * 0.66, colour, edge(colour))
  canvas.poly(limb(path, size), colour, edge(colour))
  if person.upper_pattern_colour:
    second = COLOURS[person.upper_pattern_colour]
    _sleeve_pattern(canvas, path, size, person.upper_pattern, second, colour)
  if person.trim_colour:
    _cuff(canvas, path, size, COLOURS[person.trim_colour])
  elif person.upper in ("sweater", "hoodie", "jacket", "shirt") and long:
    _cuff(canvas, path, size, mix(colour, edge(colour), 0.5))


def _cuff(canvas, path, size, colour):
  a, b = path[-2], path[-1]
  share = 0.7 if len(path) == 2 else 0.8
  canvas.poly(limb([_between(a, b, share), b], [size[-1], size[-1]]), colour)


def _sleeve_pattern(canvas, path, size, kind, second, base):
  pieces = list(zip(path, path[1:], size, size[1:], strict=False))
  if kind in ("horizontal stripes", "checks"):
    colour = second if kind != "checks" else mix(base, second, 0.6)
    for a, b, ra, _ in pieces:
      for t in (0.15, 0.48, 0.81):
        canvas.poly(
          limb([_between(a, b, t), _between(a, b, t + 0.15)], [ra, ra]), colour
        )
  if kind in ("vertical stripes", "checks"):
    slim = [(rx * 0.25, ry * 0.25) for rx, ry in size]
    canvas.poly(limb(path, slim), second)
  elif kind == "dots":
    for a, b, (rx, ry), _ in pieces:
      for t in (0.25, 0.5, 0.75):
        canvas.ellipse(*_between(a, b, t), rx * 0.35, ry * 0.35, second)
