"""Identities, near twins and views: sensible, seeded, rich."""

import collections
import dataclasses

import numpy as np
import pytest

from tpr_jax.data.rendered import attributes

NAMES = tuple(attributes.VALUES)


def people(count, seed=0):
  rng = np.random.default_rng(seed)
  return [attributes.sample_person(rng) for _ in range(count)]


def difference(one, other):
  return {n for n in NAMES if getattr(one, n) != getattr(other, n)}


def test_every_field_has_values_and_every_value_occurs():
  assert tuple(f.name for f in dataclasses.fields(attributes.Person)) == NAMES
  seen = collections.defaultdict(set)
  for person in people(4000):
    for name in NAMES:
      seen[name].add(getattr(person, name))
  for name, values in attributes.VALUES.items():
    assert seen[name] == set(values), name


def test_regions_name_attributes_once():
  listed = [name for names in attributes.REGIONS.values() for name in names]
  assert len(listed) == len(set(listed))
  body = set(NAMES) - set(listed)
  assert body == {"age", "gender", "build", "height", "skin"}


def test_attributes_suit_each_other():
  for p in people(1500, seed=1):
    assert (p.hair_colour is None) == (p.hair_length == "bald")
    assert p.hair_length != "bald" or p.hair_style == "none"
    assert (p.lower == "none") == (p.upper == "dress")
    assert (p.lower == "none") == (p.lower_colour is None)
    assert (p.inner_colour is not None) == p.open
    assert (p.upper_pattern_colour is None) == (p.upper_pattern == "plain")
    assert p.upper_pattern_colour != p.upper_colour
    assert (p.print is not None) == (p.upper_pattern in ("letters", "logo"))
    assert (p.bag_side is None) == (p.bag in ("none", "backpack"))
    assert (p.bag_colour is None) == (p.bag == "none")
    assert (p.carried_hand is None) == (p.carried == "none")
    assert p.facial_hair == "none" or (p.gender == "man" and p.age != "child")
    assert p.sole_colour != p.shoe_colour
    if p.bag in ("handbag", "shopping bag", "suitcase"):
      assert p.carried_hand != p.bag_side  # one hand, one thing
    garment = attributes.GARMENTS[p.upper]
    assert p.collar in garment["collar"] and p.sleeves in garment["sleeves"]


def test_sampling_is_a_function_of_the_seed():
  assert people(20, seed=3) == people(20, seed=3)
  assert people(20, seed=3) != people(20, seed=4)


def test_garment_colours_are_spread():
  group = people(3000, seed=5)
  for name in ("upper_colour", "shoe_colour", "bag_colour"):
    counts = collections.Counter(getattr(p, name) for p in group if getattr(p, name))
    share = np.array(list(counts.values())) / sum(counts.values())
    assert len(share) == 14
    assert -(share * np.log2(share)).sum() > 3.7, name  # 14 even colours: 3.81 bits


def test_fine_attributes_identify_and_coarse_ones_do_not():
  """Among 200 people: all attributes are unique, gender and main kinds are not."""
  group = people(200, seed=6)
  assert len(set(group)) == 200
  coarse = collections.Counter((p.gender, p.upper, p.lower) for p in group)
  alone = sum(1 for count in coarse.values() if count == 1)
  assert alone < 40
  fine = {
    (p.upper, p.upper_colour, p.upper_pattern, p.lower, p.lower_colour, p.shoe_colour)
    for p in group
  }
  assert len(fine) == 200


def test_alternatives_keep_a_person_sensible():
  rng = np.random.default_rng(7)
  for p in people(100, seed=7):
    for name in NAMES:
      options = attributes.alternatives(p, name)
      assert getattr(p, name) not in options
      assert set(options) <= set(attributes.VALUES[name])
    options = attributes.alternatives(p, "upper")
    if options:
      other = dataclasses.replace(p, upper=options[int(rng.integers(len(options)))])
      assert other.collar in attributes.GARMENTS[other.upper]["collar"]
    if p.bag == "none":
      assert attributes.alternatives(p, "bag_colour") == ()
  with pytest.raises(KeyError, match="hat_size"):
    attributes.alternatives(people(1)[0], "hat_size")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_twins_differ_in_two_or_three_fine_attributes(count):
  for i, person in enumerate(people(60, seed=8)):
    group = [person, *attributes.make_twins(person, np.random.default_rng(i), count)]
    assert len(group) == count + 1
    changed = set()
    for a, one in enumerate(group):
      for other in group[:a]:
        names = difference(one, other)
        assert 2 <= len(names) <= 3
        changed |= names
    assert changed <= set(attributes.FINE) and len(changed) <= 3


def test_twins_are_seeded_and_bounded():
  person = people(1)[0]
  again = [
    attributes.make_twins(person, np.random.default_rng(s), 2) for s in (1, 1, 2)
  ]
  assert again[0] == again[1] != again[2]
  assert attributes.make_twins(person, np.random.default_rng(0), 0) == []
  with pytest.raises(ValueError, match="count is 9"):
    attributes.make_twins(person, np.random.default_rng(0), 9)


def test_twins_can_be_told_apart_from_every_side():
  rng = np.random.default_rng(9)
  for person in people(100, seed=9):
    (twin,) = attributes.make_twins(person, rng, 1)
    for direction in attributes.DIRECTIONS:
      view = attributes.sample_view(rng, "street")
      view = dataclasses.replace(view, direction=direction)
      seen = attributes.visible(person, view) | attributes.visible(twin, view)
      assert seen & difference(person, twin), (direction, difference(person, twin))


def test_views_follow_their_domain():
  rng = np.random.default_rng(10)
  assert len(attributes.DOMAINS) >= 3
  light = {}
  for name, domain in attributes.DOMAINS.items():
    views = [attributes.sample_view(rng, name) for _ in range(200)]
    assert {v.direction for v in views} == set(attributes.DIRECTIONS)
    for view in views:
      assert view.domain == name and view.background in domain.backgrounds
      assert domain.light[0] <= view.light <= domain.light[1]
      assert domain.jpeg[0] <= view.jpeg <= domain.jpeg[1]
    light[name] = np.mean([v.light for v in views])
  assert light["night"] < light["station"] < light["street"] < light["mall"]
  with pytest.raises(ValueError, match=r"beach.*street"):
    attributes.sample_view(rng, "beach")


def test_visibility_rules():
  rng = np.random.default_rng(11)
  view = attributes.sample_view(rng, "street")
  front, back = (dataclasses.replace(view, direction=d) for d in ("front", "back"))
  low = dataclasses.replace(front, occluder="low")
  for p in people(200, seed=11):
    from_front, from_back = (attributes.visible(p, v) for v in (front, back))
    assert from_front <= set(NAMES)
    assert {"glasses", "mask", "open"} <= from_front
    assert not {"glasses", "print", "tie_colour", "inner_colour"} & from_back
    assert "shoes" not in attributes.visible(p, low)
    if p.headwear == "headscarf":
      assert "hair_colour" not in from_front
    for name in from_front:  # colours are listed of what is there, or could be missed
      if name.endswith("_colour") and getattr(p, name) is None:
        assert name in (*attributes.OPTIONAL, "tie_colour", "belt_colour"), name
