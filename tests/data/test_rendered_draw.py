"""Pictures of rendered people: what they show, what they must not show, boxes."""

import dataclasses

import numpy as np
import pytest

from tpr_jax.data.rendered import attributes, draw

NAMES = tuple(attributes.VALUES)


def picture(person, view, height=96, width=40, seed=0, **options):
  return draw.draw(person, view, height, width, np.random.default_rng(seed), **options)


def clear(view, **changes):
  """The same view through a perfect camera."""
  return dataclasses.replace(
    view,
    **dict(
      light=1.0, contrast=1.0, cast="neutral", shade=0.0, blur=0.0, noise=0.0,
      resolution=1.0, jpeg=0, occluder="none", neighbour="none",
    ) | changes,
  )  # fmt: skip


def sample(seed, domain="street"):
  rng = np.random.default_rng(seed)
  return attributes.sample_person(rng), attributes.sample_view(rng, domain)


def find(**wanted):
  rng = np.random.default_rng(0)
  while True:
    person = attributes.sample_person(rng)
    if all(getattr(person, name) == value for name, value in wanted.items()):
      return person


@pytest.mark.parametrize("size", [(384, 128), (96, 40), (96, 32), (31, 17)])
def test_shape_and_determinism(size):
  for domain in attributes.DOMAINS:
    person, view = sample(1, domain)
    image, boxes = picture(person, view, *size)
    assert image.shape == (*size, 3) and image.dtype == np.uint8
    again, boxes_again = picture(person, view, *size)
    assert image.tobytes() == again.tobytes() and boxes == boxes_again
    image[0, 0] = 0  # the caller's own, writable
  with pytest.raises(ValueError, match="4 x 40"):
    picture(*sample(1), 4, 40)


def test_noise_comes_from_the_generator_and_layout_from_the_view():
  person, view = sample(2, "night")
  assert (picture(person, view, seed=0)[0] != picture(person, view, seed=1)[0]).any()
  other = clear(view)
  assert np.array_equal(picture(person, other)[0], picture(person, other, seed=1)[0])
  moved = dataclasses.replace(other, seed=other.seed + 1)
  assert (picture(person, other)[0] != picture(person, moved)[0]).any()


def test_attributes_out_of_sight_leave_no_trace_and_others_do():
  """For one change of one attribute: pixels differ exactly when it is visible."""
  rng = np.random.default_rng(3)
  tried = dict.fromkeys(NAMES, 0)
  for seed in range(80):
    person, view = sample([3, seed])
    view = clear(view, occluder=view.occluder)
    before = picture(person, view, regions=False)[0]
    for name in NAMES:
      options = attributes.alternatives(person, name)
      if not options:
        continue
      value = options[int(rng.integers(len(options)))]
      other = dataclasses.replace(person, **{name: value})
      shown = {n for p in (person, other) for n in attributes.visible(p, view)} & {name}
      after = picture(other, view, regions=False)[0]
      changed = (before != after).any()
      assert changed == bool(shown), (name, getattr(person, name), value, view)
      tried[name] += 1
  never = {name for name, count in tried.items() if not count}
  assert never <= {"open", "tie_colour"}, never  # their own test below


@pytest.mark.parametrize("direction", attributes.DIRECTIONS)
def test_open_front_and_tie_show_from_the_front_only(direction):
  view = clear(sample(4)[1], direction=direction)
  closed = find(upper="blazer", open=False, tie_colour=None, scarf_colour=None)
  worn_open = dataclasses.replace(
    closed, open=True, inner_colour="yellow", inner_pattern="plain"
  )
  tie = dataclasses.replace(closed, tie_colour="red", upper_colour="grey")
  plain = dataclasses.replace(tie, tie_colour=None)
  front = direction.startswith("front")
  for one, other in ((closed, worn_open), (tie, plain)):
    pair = [picture(p, view)[0] for p in (one, other)]
    assert (pair[0] != pair[1]).any() == front


def pixels_like(image, colour, tolerance=40):
  """How many pixels are close to a named colour."""
  near = np.abs(image.astype(int) - attributes.COLOURS[colour]).max(-1) < tolerance
  return int(near.sum())


@pytest.mark.parametrize("colour", ["red", "yellow", "green", "blue", "purple"])
def test_colours_of_garments_are_in_the_picture(colour):
  person = find(upper="t-shirt", lower="trousers", upper_pattern="plain", bag="none")
  person = dataclasses.replace(
    person, upper_colour="black", lower_colour="white", trim_colour=None,
    lower_pattern="plain", lower_pattern_colour=None, belt_colour=None,
    scarf_colour=None, headwear="none", carried="none", headphones_colour=None,
    shoe_colour="grey", sole_colour="white", socks="none",
  )  # fmt: skip
  view = clear(sample(5)[1], direction="front", background="wall", clutter=0)
  plain = pixels_like(picture(person, view)[0], colour)
  for name in ("upper_colour", "lower_colour"):
    image = picture(dataclasses.replace(person, **{name: colour}), view)[0]
    assert pixels_like(image, colour) > plain + 150, name


def side_of(person, view, colour):
  """Mean column of the pixels of a colour, as a share of the width."""
  image = picture(person, view, 192, 64)[0].astype(int)
  near = np.abs(image - attributes.COLOURS[colour]).max(-1) < 40
  assert near.sum() > 15
  return float(np.nonzero(near)[1].mean() / 64)


@pytest.mark.parametrize(("thing", "value"), [
  ("bag", "handbag"), ("bag", "shoulder bag"), ("carried", "book"),
])  # fmt: skip
def test_left_and_right_are_the_persons_own(thing, value):
  person = find(upper="sweater", bag="none", carried="none", scarf_colour=None)
  name, colour = (
    ("bag_side", "bag_colour") if thing == "bag" else ("carried_hand", "carried_colour")
  )
  person = dataclasses.replace(
    person, upper_colour="grey", upper_pattern="plain", trim_colour=None,
    upper_pattern_colour=None, print=None, lower_colour="black", headwear="none",
    headphones_colour=None, shoe_colour="white", sole_colour="black",
    lower_pattern="plain", lower_pattern_colour=None, belt_colour=None, socks="none",
    **{thing: value, name: "left", colour: "yellow"},
  )  # fmt: skip
  view = clear(sample(6)[1], background="wall", clutter=0, shift_x=0.0)
  front = dataclasses.replace(view, direction="front")
  back = dataclasses.replace(view, direction="back")
  right_hand = dataclasses.replace(person, **{name: "right"})
  assert side_of(person, front, "yellow") > 0.6
  assert side_of(right_hand, front, "yellow") < 0.4
  assert side_of(person, back, "yellow") < 0.4
  assert side_of(right_hand, back, "yellow") > 0.6


def test_boxes_are_true_to_the_pixels():
  """Pixels that follow a region's colour fill its box, and lie nowhere else."""
  pairs = {
    "bag": "bag_colour", "carried": "carried_colour", "shoes": "shoe_colour",
    "lower": "lower_colour", "head": "headwear_colour",
  }  # fmt: skip
  found = dict.fromkeys(pairs, 0)
  for seed in range(60):
    person, view = sample([7, seed])
    view = clear(view)
    before, boxes = picture(person, view, 384, 128)
    for region, name in pairs.items():
      options = attributes.alternatives(person, name)
      if not options or name not in attributes.visible(person, view):
        continue
      other = dataclasses.replace(person, **{name: options[0]})
      after, _ = picture(other, view, 384, 128, regions=False)
      strong = np.abs(before.astype(int) - after).max(-1) > 24
      rows, columns = np.nonzero(strong)
      cx, cy, w, h = boxes[region]
      low, high = np.array([cx - w / 2, cy - h / 2]), np.array([cx + w / 2, cy + h / 2])
      first = np.array([columns.min() / 128, rows.min() / 384])
      last = np.array([(columns.max() + 1) / 128, (rows.max() + 1) / 384])
      assert (first > low - 0.04).all() and (last < high + 0.04).all(), (seed, region)
      if region == "bag":  # nothing else in this region
        assert (first < low + 0.06).all() and (last > high - 0.06).all(), seed
      found[region] += 1
  assert min(found.values()) > 5, found


def test_boxes_name_only_what_shows():
  person = find(bag="none", carried="none")
  view = clear(sample(8)[1])
  boxes = picture(person, view)[1]
  assert set(boxes) == {"head", "upper", "lower", "shoes"} - (
    {"lower"} if person.lower == "none" else set()
  )
  hidden = picture(person, dataclasses.replace(view, occluder="low"))[1]
  assert "shoes" not in hidden
  assert boxes["head"][1] < boxes["upper"][1] < boxes["shoes"][1]
  for cx, cy, w, h in boxes.values():
    assert cx - w / 2 >= 0 and cx + w / 2 <= 1 and cy - h / 2 >= 0 and cy + h / 2 <= 1
  assert picture(person, view, regions=False)[1] == {}


def test_domains_differ_clearly():
  """The mean grey and the spread of pictures tell the camera families apart."""
  means = {}
  for domain in attributes.DOMAINS:
    images = []
    for seed in range(12):
      person, _ = sample([9, seed])
      view = attributes.sample_view(np.random.default_rng([9, seed, 1]), domain)
      images.append(picture(person, view, regions=False)[0])
    pixels = np.stack(images).astype(float)
    means[domain] = pixels.mean((0, 1, 2))
  names = list(means)
  for i, one in enumerate(names):
    for other in names[:i]:
      assert np.abs(means[one] - means[other]).max() > 8, (one, other, means)


def test_same_picture_at_any_size():
  """A small drawing is what a large one becomes when it is reduced."""
  from PIL import Image

  for seed in range(6):
    person, view = sample([10, seed])
    view = clear(view)
    large = picture(person, view, 384, 128)[0]
    small = picture(person, view, 96, 32)[0].astype(float)
    reduced = np.asarray(Image.fromarray(large).reduce(4)).astype(float)
    assert np.abs(small - reduced).mean() < 9
