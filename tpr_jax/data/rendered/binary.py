"""Rendered people: attributes with two values, each with two sentences.

What APTM's attribute stream (arXiv:2306.02898) reads of MALS, for the embedded run:
`label` of a person in a view, and `SENTENCES` for prompts. As in MALS, 0 says that the
first sentence of a pair is true, 1 that the second is, and -1 that neither is known:
here, that the view does not show it.
"""

from collections.abc import Callable
from typing import NamedTuple

from tpr_jax.data.rendered import person as person_lib
from tpr_jax.data.rendered import views as view_lib
from tpr_jax.data.rendered import visibility

UNKNOWN = -1


class Attribute(NamedTuple):
  """Attribute of a `Person` that has to be seen; both sentences; is the first true?

  `first` gives None where the question makes no sense.
  """

  field: str
  sentences: tuple[str, str]
  first: Callable[[person_lib.Person], bool | None]


def _is(field: str, *values, sentences: tuple[str, str]) -> Attribute:
  return Attribute(field, sentences, lambda p: getattr(p, field) in values)


def _has(field: str, thing: str) -> Attribute:
  """Of a field that says "none" (or None) when there is nothing."""
  sentences = (f"the person has {thing}", f"the person does not have {thing}")
  return Attribute(field, sentences, lambda p: getattr(p, field) not in ("none", None))


def _colour(field: str, garment: str, colour: str) -> Attribute:
  sentences = (f"the {garment} is {colour}", f"the {garment} is not {colour}")
  return _is(field, colour, sentences=sentences)


def _skirt(person: person_lib.Person) -> bool:
  return person.upper == "dress" or person.lower == "skirt"


def _long(person: person_lib.Person) -> bool | None:
  if person.lower_length is None:  # a dress is an upper garment here
    return None
  return person.lower_length in ("cropped", "full")


ATTRIBUTES = (
  _is("gender", "woman", sentences=("the person is a woman", "the person is a man")),
  _is(
    "age",
    *("child", "teenager"),
    sentences=("the person is young, no adult", "the person is an adult"),
  ),
  _is(
    "hair_length",
    *("bald", "short"),
    sentences=("the person has short hair or none", "the person has longer hair"),
  ),
  _has("headwear", "something on the head"),
  _has("glasses", "glasses"),
  _is(
    "bag",
    "backpack",
    sentences=("the person has a backpack", "the person does not have a backpack"),
  ),
  _has("bag", "a bag"),
  _has("carried", "something in the hand"),
  _has("scarf_colour", "a scarf"),
  _is(
    "sleeves",
    "long",
    sentences=("the sleeves are long", "the sleeves are short or none"),
  ),
  Attribute(
    "lower_length",
    ("the trousers or the skirt are long", "the trousers or the skirt are short"),
    _long,
  ),
  Attribute(
    "lower",
    ("the person wears a dress or a skirt", "the person wears trousers or shorts"),
    _skirt,
  ),
  _is("upper_pattern", "plain", sentences=("the top is plain", "the top is patterned")),
  _is(
    "shoes",
    "boots",
    sentences=("the person wears boots", "the person does not wear boots"),
  ),
  *(
    _colour("upper_colour", "top", colour)
    for colour in ("black", "white", "red", "purple", "yellow", "blue", "green", "grey")
  ),
  *(
    _colour("lower_colour", "lower garment", colour)
    for colour in ("black", "white", "blue", "grey", "brown")
  ),
)
SENTENCES = tuple(s for attribute in ATTRIBUTES for s in attribute.sentences)


def label(person: person_lib.Person, view: view_lib.View) -> list[int]:
  """One of 0, 1 and -1 for each of `ATTRIBUTES`."""
  seen = visibility.visible(person, view)
  return [_value(attribute, person, seen) for attribute in ATTRIBUTES]


def _value(attribute, person, seen) -> int:
  # A dress shows as such although there is no lower garment to be seen.
  dress = attribute.field == "lower" and person.upper == "dress"
  if attribute.field not in seen and not dress:
    return UNKNOWN
  first = attribute.first(person)
  return UNKNOWN if first is None else int(not first)
