"""Rendered people: surroundings, a neighbour at the edge, and occluders.

All of it depends on the view alone.
"""

import numpy as np

from tpr_jax.data.rendered.canvas import edge, mix, shade
from tpr_jax.data.rendered.tables import COLOURS, SKIN_TONES

_MUTED = (
  (150, 146, 138),
  (120, 128, 136),
  (168, 156, 140),
  (104, 110, 104),
  (136, 120, 110),
  (180, 182, 184),
)


def draw(canvas, view):
  """Background, clutter and neighbour."""
  canvas.region = None
  rng = np.random.default_rng([view.seed, 1])
  u = rng.random(64).tolist()
  tone = mix(_MUTED[int(u[0] * 6)], (128, 128, 128), 0.3)
  kinds = {
    "street": _street,
    "wall": _wall,
    "grass": _grass,
    "station": _station,
    "shop front": _shop,
    "night street": _night,
  }
  kinds[view.background](canvas, view, tone, u[1:])
  if view.neighbour != "none":
    _neighbour(canvas, view.neighbour == "right", u[40:])


def _ground(canvas, top, colour, u):
  canvas.rect(0, top, 1, 1, colour)
  for i in range(3):
    y = top + (1 - top) * (0.15 + 0.3 * i + 0.1 * u[i])
    canvas.line([(0, y), (1, y + 0.03 * (u[i + 3] - 0.5))], shade(colour, 0.9), 0.003)


def _street(canvas, view, tone, u):
  horizon = 0.5 + 0.2 * u[0]
  canvas.rect(0, 0, 1, horizon, (190, 204, 220))
  x = -0.2 * u[1]
  for i in range(4):
    wide = 0.25 + 0.35 * u[2 + i]
    colour = mix(_MUTED[int(u[6 + i] * 6)], (160, 160, 160), 0.3)
    canvas.rect(x, 0.25 * u[10 + i], x + wide, horizon, colour)
    for k in range(3):
      y = 0.28 + 0.1 * k
      canvas.rect(x + wide * 0.3, y, x + wide * 0.6, y + 0.05, shade(colour, 0.75))
    x += wide
  _ground(canvas, horizon, mix((138, 138, 140), tone, 0.3), u[14:])
  for i in range(view.clutter):
    x, kind = u[20 + i], u[26 + i]
    if kind < 0.4:  # a parked car at the kerb
      colour = mix(_MUTED[int(u[32 + i] * 6)], (90, 90, 96), 0.3)
      canvas.rect(x - 0.35, horizon - 0.04, x + 0.35, horizon + 0.05, colour)
      canvas.rect(x - 0.2, horizon - 0.085, x + 0.2, horizon - 0.04, shade(colour, 0.7))
      for shift in (-0.2, 0.2):
        canvas.ellipse(x + shift, horizon + 0.05, 0.07, 0.023, (44, 44, 48))
    elif kind < 0.75:
      canvas.rect(x - 0.02, 0.05, x + 0.02, horizon + 0.03, (92, 96, 100))
    else:
      canvas.rect(x - 0.09, horizon - 0.06, x + 0.09, horizon + 0.04, (88, 104, 92))


def _wall(canvas, view, tone, u):
  floor = 0.72 + 0.15 * u[0]
  wall = mix(tone, (190, 186, 178), 0.4)
  canvas.rect(0, 0, 1, floor, wall)
  line = shade(wall, 0.88)
  if u[1] < 0.6:
    for i in range(1, 14):
      canvas.line([(0, floor * i / 14), (1, floor * i / 14)], line, 0.002)
      for k in range(3):
        x = (k + 0.5 * (i % 2)) / 2.5
        canvas.line([(x, floor * (i - 1) / 14), (x, floor * i / 14)], line, 0.002)
  for i in range(view.clutter):
    x, y = u[10 + i], 0.1 + 0.4 * u[16 + i]
    colour = mix(_MUTED[int(u[22 + i] * 6)], wall, 0.4)
    canvas.rect(x - 0.12, y, x + 0.12, y + 0.12, colour, line)
  _ground(canvas, floor, shade(mix(tone, (120, 116, 112), 0.5), 0.92), u[30:])


def _grass(canvas, view, tone, u):
  horizon = 0.42 + 0.2 * u[0]
  canvas.rect(0, 0, 1, horizon, (196, 214, 226))
  for i in range(6):
    x, high = u[1 + i], 0.14 + 0.2 * u[8 + i]
    leaf = mix((104, 132, 96), (140, 156, 120), u[15 + i])
    canvas.ellipse(x, horizon - high * 0.5, 0.26, high * 0.6, leaf)
  grass = mix((130, 150, 100), (150, 160, 124), u[22])
  _ground(canvas, horizon, grass, u[23:])
  if u[30] < 0.6:
    low, high = 0.1 + 0.3 * u[31], 0.6 + 0.3 * u[32]
    path = [
      (low + 0.2, horizon),
      (low + 0.35, horizon),
      (high + 0.4, 1),
      (high - 0.6, 1),
    ]
    canvas.poly(path, (190, 180, 160))
  for i in range(view.clutter):
    x = u[34 + i]
    canvas.rect(x - 0.025, horizon - 0.3, x + 0.025, horizon + 0.02, (110, 92, 74))


def _station(canvas, view, tone, u):
  floor = 0.5 + 0.15 * u[0]
  wall = mix((172, 176, 174), tone, 0.25)
  canvas.rect(0, 0, 1, floor, wall)
  for i in range(4):
    y = 0.04 + 0.05 * i
    canvas.rect(0.05 + 0.3 * u[1], y, 0.6 + 0.3 * u[2], y + 0.012, (226, 230, 226))
  ground = mix((150, 150, 146), tone, 0.3)
  canvas.rect(0, floor, 1, 1, ground)
  slope = u[3] - 0.5
  for i in range(7):
    y = floor + (1 - floor) * (i / 7) ** 1.4
    canvas.line([(0, y), (1, y + 0.05 * slope)], shade(ground, 0.92), 0.003)
    x = i / 6
    canvas.line([(0.5 + (x - 0.5) * 0.8, floor), (0.5 + (x - 0.5) * 2, 1)],
                shade(ground, 0.92), 0.002)  # fmt: skip
  y = floor + 0.1 + 0.2 * u[4]
  canvas.poly(
    [(0, y), (1, y + 0.05 * slope), (1, y + 0.02 + 0.05 * slope), (0, y + 0.02)],
    (206, 188, 96),
  )
  for i in range(view.clutter):
    x, kind = u[10 + i], u[16 + i]
    if kind < 0.5:
      canvas.rect(
        x - 0.05, 0, x + 0.05, floor + 0.08, shade(wall, 0.85), shade(wall, 0.7)
      )
    else:
      colour = mix(_MUTED[int(u[22 + i] * 6)], (110, 116, 120), 0.4)
      canvas.rect(
        x - 0.16, floor - 0.1, x + 0.16, floor + 0.03, colour, shade(colour, 0.8)
      )


def _shop(canvas, view, tone, u):
  floor = 0.66 + 0.16 * u[0]
  frame = mix(tone, (90, 86, 84), 0.4)
  canvas.rect(0, 0, 1, floor, frame)
  canvas.rect(0, 0.05, 1, 0.13, mix(COLOURS["navy"], tone, 0.4 + 0.5 * u[1]))
  split = 0.3 + 0.4 * u[2]
  glass = mix((206, 216, 220), (236, 226, 200), u[3])
  for left, right in ((0.02, split - 0.02), (split + 0.02, 0.98)):
    canvas.rect(left, 0.16, right, floor - 0.05, glass)
    canvas.poly(
      [(left, 0.5), (left, 0.42), (right, 0.2), (right, 0.28)], shade(glass, 1.3)
    )
  names = list(COLOURS.values())
  for i in range(view.clutter * 2):
    x, y = u[6 + i], 0.25 + 0.35 * u[20 + i]
    colour = mix(names[int(u[34 + i % 8] * 14)], glass, 0.6)
    canvas.rect(x - 0.06, y, x + 0.06, y + 0.07, colour)
  _ground(canvas, floor, mix((176, 172, 166), tone, 0.3), u[44:])


def _night(canvas, view, tone, u):
  horizon = 0.48 + 0.2 * u[0]
  canvas.rect(0, 0, 1, horizon, (58, 60, 78))
  for i in range(5):
    x, wide = u[1 + i], 0.15 + 0.2 * u[7 + i]
    colour = mix((74, 74, 86), tone, 0.25)
    canvas.rect(
      x - wide, 0.3 * u[13 + i], x + wide, horizon, shade(colour, 0.8 + 0.3 * u[i])
    )
  for i in range(4 + view.clutter):
    x, y = u[19 + i], 0.08 + 0.32 * u[28 + i]
    canvas.rect(x - 0.03, y, x + 0.03, y + 0.025, (236, 212, 142))
  _ground(canvas, horizon, mix((104, 102, 108), tone, 0.2), u[38:])
  canvas.ellipse(0.2 + 0.6 * u[44], 0.9, 0.5, 0.06, (136, 130, 122))
  if u[45] < 0.5:
    canvas.rect(u[46] - 0.02, 0, u[46] + 0.02, horizon + 0.05, (70, 70, 76))


def _neighbour(canvas, right, u):
  """The edge of somebody else, half out of the picture."""
  x = 1.05 + 0.06 * u[0] if right else -0.05 - 0.06 * u[0]
  names = list(COLOURS.values())
  grey = (120, 120, 124)
  top = mix(names[int(u[1] * 14)], grey, 0.25)
  low = mix(names[int(u[2] * 14)], grey, 0.35)
  skin = list(SKIN_TONES.values())[int(u[3] * 4)]
  y = 0.06 + 0.05 * u[4]
  canvas.rect(x - 0.12, y + 0.42, x + 0.12, 0.96, low, edge(low))
  canvas.rect(x - 0.2, y + 0.15, x + 0.2, y + 0.46, top, edge(top))
  canvas.ellipse(x, y + 0.07, 0.14, 0.066, skin, edge(skin))
  canvas.rect(x - 0.16, 0.95, x + 0.16, 0.98, (50, 46, 44))


def draw_occluder(canvas, body, view):
  """A hedge or barrier over the feet, or a thin pole beside the body's axis."""
  if view.occluder == "none":
    return
  canvas.region = None
  u = np.random.default_rng([view.seed, 2]).random(24).tolist()
  if view.occluder == "pole":
    side = 1 if u[0] < 0.5 else -1
    x = 0.5 + view.shift_x + side * (0.16 + 0.22 * view.occluder_at)
    tone = mix((92, 96, 100), (140, 140, 140), u[1])
    canvas.rect(x - 0.02, 0, x + 0.02, 1, tone, edge(tone))
    return
  top = body.place(0, 0.885)[1]
  if u[0] < 0.5:
    leaf = mix((70, 104, 60), (110, 128, 84), u[1])
    canvas.rect(0, top + 0.012, 1, 1, leaf)
    for i in range(9):
      canvas.ellipse(
        i / 8, top + 0.014, 0.085, 0.014, shade(leaf, 0.85 + 0.3 * u[2 + i])
      )
  else:
    tone = mix((150, 150, 150), (190, 176, 150), u[1])
    canvas.rect(0, top, 1, 1, tone, edge(tone))
    canvas.rect(0, top + 0.02, 1, top + 0.035, shade(tone, 0.8))
