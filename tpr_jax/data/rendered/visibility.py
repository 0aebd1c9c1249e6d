"""Rendered people: which attributes of a person can be seen in a view.

The contract with the drawing: an attribute that is not listed has no influence on the
picture, and changing one that is listed (before or after the change) changes it.
Being seen does not need the thing to be there: bare eyes show that there are no
glasses, so "glasses" is listed for every view of the face.
"""

from tpr_jax.data.rendered import person as person_lib
from tpr_jax.data.rendered import views as view_lib

_FRONT = ("front", "front-left", "front-right")
_FACE = (*_FRONT, "left", "right")
# Hem of a garment: rank from the waist (0) to the ankle (5).
_UPPER_HEM = {"waist": 0, "hip": 0, "thigh": 1, "knee": 2, "calf": 3}
_LOWER_HEM = {"short": 1, "knee": 2, "cropped": 4, "full": 5}


def visible(person: person_lib.Person, view: view_lib.View) -> frozenset[str]:
  """Names of the attributes of `person` that can be seen in `view`."""
  front = view.direction in _FRONT
  face = view.direction in _FACE
  seen = {"age", "gender", "build", "height", "skin"}
  seen |= _head(person, front, face)
  seen |= _upper(person, view, front)
  seen |= _lower(person, view, front)
  seen |= _feet(person, view)
  seen |= _things(person)
  return frozenset(seen)


def _head(person, front, face):
  seen = {"headwear"}
  if person.headwear != "none":
    seen.add("headwear_colour")
  if person.headwear not in ("headscarf", "helmet"):
    seen.add("headphones_colour")
  if person.headwear != "headscarf":
    if person.headwear == "none" or person.hair_style != "bun":
      seen.add("hair_length")  # a bun under a hat is tucked away
    if person.hair_length != "bald":
      seen.add("hair_colour")
    # Under a hat only hair that hangs down still shows its style.
    hangs = person.hair_length in ("medium", "long") and person.hair_style != "bun"
    if hangs or (person.headwear == "none" and person.hair_length != "bald"):
      seen.add("hair_style")
  if face:
    seen |= {"glasses", "mask"}
    if person.mask == "none":
      seen.add("facial_hair")
  return seen


def _upper(person, view, front):
  seen = {"upper", "upper_colour", "upper_length", "sleeves", "scarf_colour"}
  seen.add("trim_colour")
  printed = person.upper_pattern in ("letters", "logo")
  if front or not (printed or person.upper_pattern == "plain"):
    seen.add("upper_pattern")
    if person.upper_pattern != "plain":
      seen.add("upper_pattern_colour")
    if printed:
      seen.add("print")
  if _collar(person, front):
    seen.add("collar")
  if front:
    seen.add("open")
    if not person.open:
      seen.add("fastening")
    else:
      seen |= {"inner_colour", "inner_pattern"}
    if not person.scarf_colour:
      seen.add("tie_colour")
  if _left_wrist_free(person, view):
    seen.add("watch")
  return seen


def _collar(person, front):
  """Whether the collar shows: not under a scarf, or from behind under loose hair."""
  wrapped = person.headwear == "headscarf"
  loose = person.hair_length in ("medium", "long") and person.hair_style != "bun"
  if person.collar == "hood":
    return front or wrapped or not loose or person.hair_length == "medium"
  if front and (person.scarf_colour or wrapped):  # only what reaches below it
    deep = ("lapels",) if person.scarf_colour else ("lapels", "v-neck")
    return person.collar in deep
  if front:
    return True
  covered = loose or wrapped or person.scarf_colour
  return person.collar in ("high neck", "shirt collar") and not covered


def _left_wrist_free(person, view):
  """Whether the bare left wrist shows: no sleeve, nothing held or hung there."""
  return (
    person.sleeves != "long"
    and view.direction in ("front", "front-left", "left")
    and view.occluder != "pole"
    and person.carried_hand != "left"
    and person.bag_side != "left"
  )


def _lower(person, view, front):
  seen = set()
  belted = person.upper == "dress" or person.upper_length == "waist"
  if belted or (person.upper == "coat" and not person.open):
    seen.add("belt_colour")
  if person.lower == "none":
    return seen
  if _LOWER_HEM[person.lower_length] <= _UPPER_HEM[person.upper_length]:
    return seen
  seen |= {"lower", "lower_colour"}
  if not (_feet_hidden(view) and person.lower_length in ("cropped", "full")):
    seen.add("lower_length")
  knees = front and person.upper_length in ("waist", "hip", "thigh")
  if knees or person.lower != "jeans":  # torn knees show from the front only
    seen.add("lower_pattern")
  if person.lower_pattern not in ("plain", "torn knees"):
    seen.add("lower_pattern_colour")
  return seen


def _feet(person, view):
  if _feet_hidden(view):
    return set()
  seen = {"shoes", "shoe_colour", "sole_colour"}
  if person.lower_length != "full" and person.shoes != "boots":
    seen.add("socks")
    if person.socks != "none":
      seen.add("socks_colour")
  return seen


def _things(person):
  seen = {"bag", "carried"}
  if person.bag != "none":
    seen |= {"bag_colour", "bag_trim_colour"}
    if person.bag != "backpack":
      seen.add("bag_side")
  if person.carried != "none":
    seen |= {"carried_colour", "carried_hand"}
  return seen


def _feet_hidden(view):
  return view.occluder == "low"
