"""Rendered people: legs, the lower garment, socks and shoes."""

import itertools

from tpr_jax.data.rendered import surface
from tpr_jax.data.rendered.body import limb
from tpr_jax.data.rendered.canvas import edge, mix, shade
from tpr_jax.data.rendered.tables import COLOURS

# Half widths at hip, knee and ankle.
_WIDTHS = {
  "trousers": (0.05, 0.041, 0.037),
  "jeans": (0.048, 0.036, 0.03),
  "shorts": (0.053, 0.05, 0.05),
  "leggings": (0.043, 0.03, 0.022),
}
_BARE = (0.042, 0.029, 0.02)
_THREAD = (222, 162, 84)


def hem(body, length):
  """Height at which a lower garment of this length ends."""
  thigh, shin = body.knee - body.hip, body.ankle - body.knee
  return {
    "short": body.hip + thigh * 0.6,
    "knee": body.knee - 0.005,
    "cropped": body.knee + shin * 0.58,
    "full": body.ankle + 0.018,
  }[length]


def draw_legs(canvas, body, person, front, skin, feet):
  """Both legs from far to near, then what covers the hips."""
  order = sorted((1, -1), key=lambda side: body.depth(*_xz(body.legs[side])))
  for far, side in zip((True, False), order, strict=True):
    _leg(canvas, body, person, side, far, front, skin, feet)
  if person.lower == "skirt":
    _skirt(canvas, body, person)
  elif person.lower != "none":
    _hips(canvas, body, person, front)


def _xz(leg):
  return leg[0][0] + leg[2][0] * 0.01, leg[0][2] + leg[2][2] * 0.05


def _cut(points, radii, y):
  """The upper part of a chain, down to picture height y."""
  out, sizes = [points[0]], [radii[0]]
  steps = zip(itertools.pairwise(points), itertools.pairwise(radii), strict=True)
  for (a, b), (ra, rb) in steps:
    if b[1] <= y:
      out.append(b)
      sizes.append(rb)
      continue
    t = (y - a[1]) / (b[1] - a[1])
    out.append((a[0] + (b[0] - a[0]) * t, y))
    sizes.append(tuple(p + (q - p) * t for p, q in zip(ra, rb, strict=True)))
    break
  return out, sizes


def _leg(canvas, body, person, side, far, front, skin, feet):
  joints = body.legs[side]
  points = [body.point(*p) for p in joints]
  if person.shoes == "heels" and feet:  # the heel lifts the ankle
    points[2] = (points[2][0], points[2][1] - 0.012 * body.size)
  ux, uy = body.unit()
  grow = body.wide * (0.5 + 0.5 * body.girth)

  def sizes(widths):
    return [(r * grow * ux, r * grow * uy) for r in widths]

  dark = 0.86 if far and abs(body.s) > 0.5 else 1.0
  canvas.region = None
  skin = shade(skin, dark)
  canvas.poly(limb(points, sizes(_BARE)), skin, edge(skin))
  if feet:
    _sock(canvas, body, person, points, sizes(_BARE), dark)
    _shoe(canvas, body, person, joints[2], points[2], skin, dark)
  if person.lower not in ("none", "skirt"):
    _trouser(canvas, body, person, side, points, sizes, dark, front)
  if feet and person.shoes == "boots":
    _shaft(canvas, body, person, points, dark)


def _trouser(canvas, body, person, side, points, sizes, dark, front):
  canvas.region = "lower"
  colour = shade(COLOURS[person.lower_colour], dark)
  radii = sizes(_WIDTHS[person.lower])
  end = body.place(0, hem(body, person.lower_length))[1]
  # The foot of a lifted leg is higher; the hem moves with it.
  end += min(0.0, points[2][1] - body.place(0, body.ankle)[1])
  if person.lower_length == "full":
    low = (points[2][0], points[2][1] + 0.016 * body.size)
    path, size = [*points[:2], low], radii
  else:
    path, size = _cut(points, radii, end)
  canvas.poly(limb(path, size), colour, edge(colour))
  light = mix(colour, (255, 255, 255), 0.1 if max(colour) > 64 else 0.07)
  inner = [(x * 0.5, y * 0.5) for x, y in size]
  canvas.poly(limb([(x - inner[0][0] * 0.5, y) for x, y in path], inner), light)
  _leg_pattern(canvas, body, person, side, path, size, colour, dark)
  if person.lower == "jeans":
    _seam(canvas, body, side, path, size, mix(_THREAD, colour, 0.25))
    a, b = path[-2], path[-1]
    near = (a[0] + (b[0] - a[0]) * 0.93, a[1] + (b[1] - a[1]) * 0.93)
    cuff = limb([near, b], [size[-1], size[-1]])
    canvas.poly(cuff, mix(colour, (255, 255, 255), 0.35))
  elif person.lower == "trousers":
    canvas.line(path, edge(colour), 0.003 * body.size)
  if person.lower_pattern == "torn knees" and front:
    x, y = body_knee = points[1]
    rx, ry = radii[1]
    canvas.ellipse(*body_knee, rx * 0.72, ry * 0.85, (238, 236, 230))
    canvas.ellipse(x, y, rx * 0.5, ry * 0.5, shade((214, 164, 128), dark))


def _seam(canvas, body, side, path, size, colour):
  out = side * body.c * 0.72
  points = [(x + out * rx, y) for (x, y), (rx, _) in zip(path, size, strict=True)]
  canvas.line(points, colour, 0.004 * body.size)


def _leg_pattern(canvas, body, person, side, path, size, colour, dark):
  kind = person.lower_pattern
  if not person.lower_pattern_colour:
    return
  second = shade(COLOURS[person.lower_pattern_colour], dark)
  if kind == "side stripe":
    out = side * body.c * 0.68
    line = [(x + out * rx, y) for (x, y), (rx, _) in zip(path, size, strict=True)]
    canvas.poly(limb(line, [(rx * 0.3, ry * 0.3) for rx, ry in size]), second)
    return
  if kind in ("vertical stripes", "checks"):
    for shift in (-0.5, 0.15, 0.8):
      line = [(x + shift * rx, y) for (x, y), (rx, _) in zip(path, size, strict=True)]
      canvas.line(line, second, 0.008 * body.size)
  if kind in ("checks", "dots"):
    for a, b, ra in zip(path, path[1:], size, strict=False):
      count = max(1, round((b[1] - a[1]) / (0.045 * body.size)))
      for i in range(count):
        t = (i + 0.5) / count
        x, y = a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t
        rx, ry = ra
        if kind == "dots":
          for shift in (-0.45, 0.45):
            up = 0.01 * body.size * (1 if shift > 0 else -1)
            canvas.ellipse(x + shift * rx, y + up, rx * 0.2, ry * 0.2, second)
        else:
          band = 0.006 * body.size
          canvas.rect(
            x - rx * 0.9, y - band, x + rx * 0.9, y + band, mix(colour, second, 0.6)
          )


def _hip_rows(body, top, bottom, ease):
  ys = [top, body.hip, bottom]
  return [(y, *(g * ease for g in body.girths(y))) for y in ys]


def _hips(canvas, body, person, front):
  canvas.region = "lower"
  colour = COLOURS[person.lower_colour]
  top = body.waist - 0.002
  bottom = body.hip + 0.045
  hips = surface.Column(body, _hip_rows(body, top, bottom, 1.04))
  left, right = hips.side(bottom, -1), hips.side(bottom, 1)
  outline = hips.outline(top, body.hip + 0.012)
  half = len(outline) // 2
  middle = body.place(0, bottom)
  inward = [(p[0] * 0.75 + middle[0] * 0.25, p[1]) for p in (left, right)]
  polygon = [*outline[:half], inward[0], middle, inward[1], *outline[half:]]
  canvas.poly(polygon, colour)
  second = person.lower_pattern_colour
  if second and person.lower_pattern != "side stripe":
    short = surface.Column(body, _hip_rows(body, top, body.hip + 0.012, 1.03))
    surface.pattern(
      canvas, short, person.lower_pattern, COLOURS[second], colour, top + 0.01
    )
  canvas.line([middle, body.place(0, body.hip + 0.005)], edge(colour), 0.003)
  if person.lower == "jeans" and not front:
    for sign in (-1, 1):
      patch = hips.strip(180 + sign * 18, 180 + sign * 55, body.hip - 0.03, body.hip)
      if patch:
        canvas.line([*patch, patch[0]], mix(_THREAD, colour, 0.25), 0.003)


def _skirt(canvas, body, person):
  canvas.region = "lower"
  colour = COLOURS[person.lower_colour]
  bottom = hem(body, person.lower_length)
  rows = _hip_rows(body, body.waist - 0.002, body.hip, 1.04)[:2]
  _, a, b = rows[-1]
  down = (bottom - body.hip) / (body.knee - body.hip)
  rows.append((bottom, a * (1.12 + 0.3 * down), max(b * 1.2, 0.05 + 0.05 * down)))
  skirt = surface.Column(body, rows)
  canvas.poly(skirt.outline(), colour)
  if person.lower_pattern_colour:
    second = COLOURS[person.lower_pattern_colour]
    surface.pattern(canvas, skirt, person.lower_pattern, second, colour, rows[0][0])
  for degrees in range(-160, 200, 40):  # folds
    points = [(degrees, body.hip + 0.03), (degrees, bottom)]
    for run in skirt.path(points):
      canvas.line(run, edge(colour), 0.003 * body.size)
  outline = skirt.outline()
  canvas.line([*outline, outline[0]], edge(colour), 0.003)


def _sock(canvas, body, person, points, size, dark):
  if person.socks == "none" or person.shoes == "boots":
    return
  canvas.region = "shoes"
  colour = shade(COLOURS[person.socks_colour], dark)
  knee, ankle = points[1], points[2]
  share = 0.74 if person.socks == "short" else 0.12
  top = (
    knee[0] + (ankle[0] - knee[0]) * share,
    knee[1] + (ankle[1] - knee[1]) * share,
  )
  grow = [(rx * 1.12, ry * 1.12) for rx, ry in size]
  mid = tuple(a + (b - a) * share for a, b in zip(grow[1], grow[2], strict=True))
  canvas.poly(limb([top, ankle], [mid, grow[2]]), colour, edge(colour))


def _foot_span(body, ankle):
  """Left and right end of the foot around the ankle's x, and where the toe points."""
  ux, _ = body.unit()
  toe = -body.s * 0.068 * ux
  heel = body.s * 0.024 * ux
  wide = (0.024 * abs(body.c) + 0.008) * ux
  return min(toe, heel) - wide, max(toe, heel) + wide, toe


def _shoe(canvas, body, person, joint, ankle, skin, dark):
  canvas.region = "shoes"
  colour = shade(COLOURS[person.shoe_colour], dark)
  sole = shade(COLOURS[person.sole_colour], dark)
  x, y = ankle
  _, uy = body.unit()
  left, right, toe = _foot_span(body, ankle)
  left, right = x + left, x + right
  thick = {"sneakers": 0.021, "boots": 0.021, "sandals": 0.017}.get(person.shoes, 0.014)
  lift = 0.012 * uy if person.shoes == "heels" else 0.0
  ground = y + 0.058 * uy + lift
  top, low = y - 0.006 * uy, ground - thick * uy
  # Away from the camera the toe is hidden and the foot looks shorter.
  instep = y + (0.022 if abs(body.s) > 0.4 else 0.01) * uy
  mid = 0.02 * body.unit()[0]
  shape = [(x - mid, top), (x + mid, top), (right, instep), (right, low)]
  shape += [(left, low), (left, instep)]
  if toe > mid:
    shape[4:] = [(left, low), (left, top + 0.01 * uy)]
  elif toe < -mid:
    shape[2:4] = [(right, top + 0.01 * uy), (right, low)]
  if person.shoes == "sandals":
    canvas.poly(shape, skin, edge(skin))
    for y0, y1 in ((top + 0.004 * uy, top + 0.015 * uy), (low - 0.019 * uy, low)):
      canvas.rect(left * 0.9 + x * 0.1, y0, right * 0.9 + x * 0.1, y1, colour)
  elif person.shoes == "heels":
    deep = [(x - mid, instep), (x + mid, instep), *shape[2:]]
    canvas.poly(shape, skin)
    canvas.poly(deep, colour, edge(colour))
  else:
    canvas.poly(shape, colour, edge(colour))
  _sole(canvas, body, person, (left, right, low, ground, x, toe), sole)
  _shoe_details(canvas, body, person, (left, right, top, low, x, toe), colour)


def _sole(canvas, body, person, span, sole):
  left, right, low, ground, x, toe = span
  ux, _ = body.unit()
  if person.shoes != "heels":
    canvas.rect(left, low, right, ground, sole, edge(sole))
    return
  heel = x if abs(toe) < 0.02 * ux else (left if toe > 0 else right)
  half = 0.008 * ux
  canvas.rect(heel - half, low, heel + half, ground + 0.008 * body.size, sole)
  canvas.poly([(left, low), (right, low), (right, ground), (left, ground)], sole)


def _shoe_details(canvas, body, person, span, colour):
  left, right, top, low, x, toe = span
  _, uy = body.unit()
  front = body.c > 0.3
  if person.shoes == "sneakers":
    lace = (246, 246, 246) if max(colour) < 200 else (70, 70, 74)
    for share in (0.3, 0.6) if front or abs(toe) > 0.02 else (0.3,):
      px, py = x + toe * share * 0.7, top + (low - top) * share
      half = 0.011 * body.unit()[0]
      canvas.line([(px - half, py), (px + half, py)], lace, 0.006 * uy)
  elif person.shoes == "leather shoes":
    px = x + toe * 0.75
    canvas.ellipse(
      px, low - 0.008 * uy, (right - left) * 0.14, 0.005 * uy,
      mix(colour, (255, 255, 255), 0.5),
    )  # fmt: skip
    canvas.line(
      [(left, low - 0.016 * uy), (right, low - 0.016 * uy)], edge(colour), 0.003
    )


def _shaft(canvas, body, person, points, dark):
  """The leg of a boot, over the hem of full-length trousers."""
  canvas.region = "shoes"
  colour = shade(COLOURS[person.shoe_colour], dark)
  ux, uy = body.unit()
  knee, ankle = points[1], points[2]
  top = tuple(a + (b - a) * 0.74 for a, b in zip(knee, ankle, strict=True))
  bottom = (ankle[0], ankle[1] + 0.006 * uy)
  size = [(0.032 * body.wide * ux, 0.03 * uy), (0.028 * body.wide * ux, 0.026 * uy)]
  canvas.poly(limb([top, bottom], size), colour, edge(colour))
  half = size[0][0]
  canvas.line([(top[0] - half, top[1]), (top[0] + half, top[1])], edge(colour), 0.004)
