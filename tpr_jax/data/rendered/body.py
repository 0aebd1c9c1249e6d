"""Rendered people: proportions, joints, and their projection onto the picture.

Body coordinates: X to the person's left, Z forwards, y down from the top of the head
(0) to the soles (1), all in units of the person's height. A camera at azimuth c sees
the surface point at angle p (0 front, +90 degrees left) of an elliptic column with
half axes a (across) and b (along) at x = a sin p cos c - b cos p sin c.
"""

import dataclasses
import itertools
import math

# Azimuth of the camera, degrees, for the side of the person that it sees.
AZIMUTH = {
  "front": 0,
  "front-left": 45,
  "left": 90,
  "back-left": 135,
  "back": 180,
  "back-right": 225,
  "right": 270,
  "front-right": 315,
}
_HEAD = {"child": 0.2, "teenager": 0.166, "adult": 0.146, "elderly": 0.15}
_SIZE = {"child": 0.93, "teenager": 0.97, "adult": 1.0, "elderly": 0.97}
_HEIGHT = {"short": (1.1, 0.95), "average": (1.0, 0.98), "tall": (0.9, 1.0)}
_BUILD = {"slim": (0.86, 0.82), "average": (1.0, 1.0), "heavy": (1.12, 1.36)}


@dataclasses.dataclass
class Arm:
  """Joints of one arm, body coordinates (X, y, Z)."""

  shoulder: tuple
  elbow: tuple
  hand: tuple


class Body:
  """Where the parts of one person are in one view.

  Attributes:
    side: +1 for things on the person's left, -1 right. c, s: camera cosine and sine.
    head: height of the head; wide, girth: factors on widths, on the waist.
  """

  def __init__(self, person, view):
    # A few degrees off, so that a walk is never seen exactly along its axis.
    angle = math.radians(AZIMUTH[view.direction] + (view.arms - 0.5) * 16)
    self.c, self.s = math.cos(angle), math.sin(angle)
    slimmer, size = _HEIGHT[person.height]
    self.head = _HEAD[person.age] * (0.5 + 0.5 * slimmer)
    self.wide, self.girth = _BUILD[person.build]
    self.wide *= 0.5 + 0.5 * slimmer
    if person.age == "child":
      self.wide *= 1.06
    self.size = view.scale * _SIZE[person.age] * size
    self.base = 0.975 + view.shift_y
    self.centre = 0.5 + view.shift_x
    self.tilt = view.tilt
    self.stoop = 0.035 if person.age == "elderly" else 0.0
    self.woman = person.gender == "woman"
    self._landmarks(person)
    self._torso()
    self.swing = math.sin(2 * math.pi * view.phase)
    self.walking = view.pose == "walking"
    self.arm_swing = 0.25 + 0.75 * view.arms
    self.legs = {side: self._leg(side) for side in (1, -1)}
    self.arms = {side: self._arm(side, person) for side in (1, -1)}

  def _landmarks(self, person):
    head = self.head
    rest = 1 - head
    self.chin = head
    self.neck = head + 0.018
    self.shoulder = head + 0.042
    legs = {"short": 0.565, "average": 0.585, "tall": 0.605}[person.height]
    self.hip = 1 - rest * legs  # the hip joint
    self.waist = self.hip - 0.075
    self.knee = self.hip + (1 - self.hip) * 0.5
    self.ankle = 0.945

  def _torso(self):
    w, g = self.wide, self.wide * self.girth
    if self.woman:
      shoulder, chest, waist, hip = 0.092, 0.086, 0.066, 0.094
    else:
      shoulder, chest, waist, hip = 0.11, 0.102, 0.082, 0.086
    y = self.shoulder
    deep = 0.064 if self.woman else 0.058
    # (y, half width across, half width along)
    self.torso = [
      (y - 0.024, 0.032 * w, 0.03 * w),
      (y - 0.004, shoulder * 0.86 * w, 0.042 * w),
      (y + 0.016, shoulder * w, 0.05 * w),
      (y + (self.waist - y) * 0.4, chest * w, deep * w),
      (self.waist, waist * g, 0.05 * g),
      (self.hip, hip * w * (0.5 + 0.5 * self.girth), 0.058 * w),
    ]

  def girths(self, y):
    """Half widths (across, along) of the trunk at height y."""
    rows = self.torso
    if y <= rows[0][0]:
      return rows[0][1:]
    for (y0, a0, b0), (y1, a1, b1) in itertools.pairwise(rows):
      if y <= y1:
        t = (y - y0) / (y1 - y0)
        return a0 + (a1 - a0) * t, b0 + (b1 - b0) * t
    return rows[-1][1:]

  def _leg(self, side):
    """(hip, knee, ankle) of one leg."""
    length = self.ankle - self.hip
    # A minimum keeps the two feet apart, so that both can be told in profile.
    if self.walking:
      lift = self.swing if abs(self.swing) > 0.35 else math.copysign(0.35, self.swing)
      swing = 0.34 * lift * side
    else:
      swing = 0.07 * side
    x = side * 0.045 * self.wide * (0.6 + 0.4 * self.girth)
    thigh, shin = swing + 0.08 * self.walking, swing - 0.1 * self.walking
    if swing < 0 and self.walking:
      shin = swing * 1.25 - 0.06
    half = length / 2
    knee = (x * 1.05, self.hip + half * math.cos(thigh), half * math.sin(thigh))
    ankle = (
      x * 1.08,
      min(knee[1] + half * math.cos(shin), self.ankle),
      knee[2] + half * math.sin(shin),
    )
    return ((x, self.hip, 0.0), knee, ankle)

  def _arm(self, side, person):
    half = 0.155 * (1 - self.head) / 0.854
    x = side * (self.torso[2][1] + 0.004)
    shoulder = (x, self.shoulder + 0.024, 0.0)
    name = "left" if side > 0 else "right"
    if person.carried != "none" and name == (person.carried_hand or "right"):
      return self._carrying(side, shoulder, half, person.carried)
    if person.bag in ("handbag", "shopping bag", "suitcase") and name == (
      person.bag_side or "right"
    ):
      lean = -0.05 if person.bag == "suitcase" else 0.05
      away = self.aside(side, 0.08, -0.13 if person.bag == "suitcase" else 0.13)
      lean = lean if away is None else away
      elbow = (x + side * 0.018, shoulder[1] + half * 0.98, lean * 0.5)
      return Arm(shoulder, elbow, (x + side * 0.024, elbow[1] + half * 0.97, lean))
    swing = -0.5 * self.arm_swing * self.swing * side if self.walking else 0.04
    elbow = (
      x + side * 0.024,
      shoulder[1] + half * math.cos(swing),
      half * math.sin(swing),
    )
    bend = swing + 0.25
    hand = (
      x + side * 0.036,
      elbow[1] + half * math.cos(bend),
      elbow[2] + half * math.sin(bend),
    )
    return Arm(shoulder, elbow, hand)

  def _carrying(self, side, shoulder, half, kind):
    x = shoulder[0]
    away = self.aside(side, 0.04, 0.12)
    z = 0.105 if away is None else away
    out = 0.032 if away is None else 0.045
    if kind in ("phone", "cup"):  # forearm raised
      elbow = (x + side * 0.022, shoulder[1] + half * 0.96, 0.02)
      rise = 0.45 if kind == "phone" else 0.15
      return Arm(shoulder, elbow, (x + side * out, elbow[1] - half * rise, z))
    elbow = (x + side * 0.02, shoulder[1] + half * 0.98, 0.025)
    return Arm(shoulder, elbow, (x + side * out, elbow[1] + half * 0.85, z))

  def aside(self, side, amount, profile, near=False):
    """Z offset that moves a thing on the far side out from behind the trunk.

    None when there is no need. `profile` is the offset in a pure side view, where
    either direction would do. `near`: also on the near side, off the legs.
    """
    if (abs(self.s) if near else -side * self.s) < 0.4:
      return None
    if abs(self.c) < 0.4:
      return profile
    return amount if side * self.c * self.s < 0 else -amount

  def depth(self, x, z):
    """Larger is nearer to the camera."""
    return x * self.s + z * self.c

  def place(self, x, y):
    """Body-plane point (x to the right of the picture, y) -> picture shares."""
    if self.stoop and y < self.waist:
      x -= self.s * self.stoop * (self.waist - y) / self.waist * 1.6
      y += self.stoop * (self.waist - y) / self.waist * 0.6
    t = self.tilt
    wide = 1 + 0.16 * t * (0.55 - y)
    y = y + 0.16 * t * y * (1 - y)
    return (
      self.centre + 3 * x * wide * self.size,
      self.base - (1 - y) * self.size,
    )

  def point(self, x, y, z=0.0):
    """Body coordinates -> picture shares."""
    lower = (x * self.s + z * self.c) * (0.1 + 0.16 * self.tilt)
    return self.place(x * self.c - z * self.s, y + lower * (y - 0.3))

  def on(self, a, b, degrees, y):
    """Point of an elliptic column with half axes a, b -> (picture point, in sight)."""
    p = math.radians(degrees)
    sin, cos = math.sin(p), math.cos(p)
    x = a * sin * self.c - b * cos * self.s
    return self.place(x, y), a * sin * self.s + b * cos * self.c > 0

  def half(self, a, b):
    """Half width of the outline of an elliptic column."""
    return math.hypot(a * self.c, b * self.s)

  def inside(self, x, half):
    """x of a thing `half` wide, moved into the picture if it would leave it."""
    return min(max(x, half * 0.9), 1 - half * 0.9)

  def unit(self):
    """One body unit as a share of the picture's (width, height)."""
    return 3 * self.size, self.size


def limb(points, radii):
  """Outline of a chain of picture points; radii (rx, ry shares) at each point."""
  left, right = [], []
  last = len(points) - 1
  for i, ((x, y), (rx, ry)) in enumerate(zip(points, radii, strict=True)):
    x0, y0 = points[max(i - 1, 0)]
    x1, y1 = points[min(i + 1, last)]
    dx, dy = (x1 - x0) / rx, (y1 - y0) / ry
    norm = math.hypot(dx, dy) or 1.0
    nx, ny = -dy / norm * rx, dx / norm * ry
    left.append((x + nx, y + ny))
    right.append((x - nx, y - ny))
  return left + right[::-1]
