"""Rendered people: the picture of one person in one view, with the boxes of regions.

Flat, anti-aliased shapes (Pillow, drawn larger and averaged), from far to near. A
person is masked first: what `visible` does not list is set to a neutral value, so it
cannot leave a trace in the pixels.
"""

import dataclasses

import numpy as np

from tpr_jax.data.rendered import (
  background,
  effects,
  garments,
  hair,
  heads,
  legs,
  things,
)
from tpr_jax.data.rendered.body import Body
from tpr_jax.data.rendered.canvas import Canvas
from tpr_jax.data.rendered.person import REGIONS, Person
from tpr_jax.data.rendered.tables import SKIN_TONES
from tpr_jax.data.rendered.views import View
from tpr_jax.data.rendered.visibility import visible

# What takes the place of an attribute that cannot be seen.
_NEUTRAL = {
  "hair_length": "short",
  "hair_style": "none",
  "glasses": "none",
  "mask": "none",
  "facial_hair": "none",
  "upper_pattern": "plain",
  "collar": "none",
  "fastening": "none",
  "open": False,
  "lower": "none",
  "lower_length": "full",
  "lower_pattern": "plain",
  "socks": "none",
  "shoes": "sneakers",
  "shoe_colour": "grey",
  "sole_colour": "grey",
  "bag": "none",
  "carried": "none",
  "watch": False,
}
_NAMES = tuple(field.name for field in dataclasses.fields(Person))


def draw(
  person: Person,
  view: View,
  height: int,
  width: int,
  rng: np.random.Generator,
  *,
  regions: bool = True,
) -> tuple[np.ndarray, dict[str, tuple[float, float, float, float]]]:
  """Draws `person` as `view` shows them.

  Args:
    person, view: who and how. Only attributes in `visible(person, view)` matter.
    height, width: size in pixels; the drawing is made for 3:1 and squashed to fit.
    rng: sensor noise only; its draws do not depend on the person.
    regions: False saves the time that boxes take and returns none.

  Returns:
    image uint8 [height, width, 3] RGB, and region name -> (cx, cy, w, h) of its
    visible pixels as shares of the picture; regions out of sight have no entry.

  Raises:
    ValueError: if height or width is below 8.
  """
  if height < 8 or width < 8:
    raise ValueError(f"draw: size is {height} x {width}, expected 8 x 8 or more")
  seen = visible(person, view)
  hidden = {n: _NEUTRAL.get(n) for n in _NAMES if n not in seen}
  person = dataclasses.replace(person, **hidden)
  canvas = Canvas(height, width, over=2 if height >= 256 else 3)
  body = Body(person, view)
  background.draw(canvas, view)
  _figure(canvas, body, person, view, feet="shoes" in seen)
  background.draw_occluder(canvas, body, view)
  image = effects.camera(canvas.image.reduce(canvas.over), view, rng)
  return image, canvas.boxes(tuple(REGIONS)) if regions else {}


def _figure(canvas, body, person, view, feet):
  skin = SKIN_TONES[person.skin]
  front = view.direction.startswith("front")
  face = front or view.direction in ("left", "right")
  near = {side: _arm_is_near(body, side) for side in (1, -1)}
  layer = things.bag_layer(body, person)
  _ground_shadow(canvas, body)
  hair.draw_behind(canvas, body, person)
  if layer == "behind":
    things.draw_bag(canvas, body, person)
  _arms(canvas, body, person, skin, [s for s in (1, -1) if not near[s]])
  legs.draw_legs(canvas, body, person, front, skin, feet)
  garment = garments.draw_torso(canvas, body, person, front)
  heads.draw_neck(canvas, body, skin)
  garments.draw_collar(canvas, body, person, garment, front, skin)
  things.draw_straps(canvas, body, person, garment)
  if person.scarf_colour and body.c > 0:
    garments.draw_scarf(canvas, body, person.scarf_colour)
  if layer == "front" and person.bag == "backpack":
    things.draw_bag(canvas, body, person)
  heads.draw_head(canvas, body, person, face, skin)
  hair.draw_braid(canvas, body, person)
  if person.scarf_colour and body.c <= 0:
    garments.draw_scarf(canvas, body, person.scarf_colour)
  _arms(canvas, body, person, skin, [s for s in (1, -1) if near[s]])
  if layer == "front" and person.bag != "backpack":
    things.draw_bag(canvas, body, person)


def _arm_is_near(body, side):
  arm = body.arms[side]
  shoulder = body.depth(arm.shoulder[0], arm.shoulder[2])
  return shoulder * 2 + body.depth(arm.hand[0], arm.hand[2]) > 0


def _arms(canvas, body, person, skin, sides):
  for side in sides:
    garments.draw_arm(canvas, body, person, side, skin)
    things.draw_carried(canvas, body, person, side, skin)


def _ground_shadow(canvas, body):
  canvas.region = None
  x, y = body.place(0.0, 0.992)
  ux, uy = body.unit()
  canvas.ellipse(x, y, 0.13 * ux, 0.012 * uy, (84, 82, 82))
