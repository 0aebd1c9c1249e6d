"""Boxes move as the picture does: the pixels they hold stay theirs."""

import numpy as np
import pytest

from tpr_jax.data import boxes, transforms
from tpr_jax.data.record import Record

RECORD = Record("a.jpg", 7, ("a man",), "train")
PIPE = "box_crop(10)|flip(0.5)|resize(224,224,'bicubic')|erase(0.6)"


def marked(box, height=60, width=30):
  """A black picture whose pixels in the box are white, which erase may not hide."""
  image = np.zeros((height, width, 3), np.uint8)
  x, y, w, h = box
  image[y : y + h, x : x + w] = 255
  box = tuple(map(float, box))
  return dict(image=image, caption="a man", record=RECORD, box=box, phrase="a shirt")


def white(image):
  """(x, y, w, h) of the box around the pixels that are nearer white than black."""
  mask = image.mean(axis=2) > 127
  if not mask.any():
    return None
  ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
  return xs[0], ys[0], len(xs), len(ys)


def run(spec, given, seed=0):
  return transforms.build(spec)(given, np.random.default_rng(seed))


# ---- from shares to pixels


@pytest.mark.parametrize(
  "shares, want",
  [
    ((0.5, 0.5, 1, 1), (0, 0, 30, 60)),
    ((0.5, 0.5, 0.5, 0.25), (7.5, 22.5, 15, 15)),
    ((0.5, 0.5, 0, 0), (15, 30, 1, 1)),  # where the reference stops
    ((0.1, 0.1, 0.5, 0.5), (0, 0, 15, 30)),  # begins outside: moved, not cut
    ((0.9, 0.9, 0.5, 0.5), (19.5, 39, 10.5, 21)),  # ends outside: cut
    ((1, 1, 0.2, 0.2), (27, 54, 3, 6)),
    ((1, 1, 0, 0), (29, 59, 1, 1)),
    ((0.52, 0.52, 0.52, 0.52), (7.5, 15.5, 15, 31)),  # 15.6 and 31.2 are cut to whole
  ],
)
def test_shares_become_pixels_as_the_reference_has_it(shares, want):
  assert boxes.in_pixels(shares, 60, 30) == want


def test_any_shares_make_a_box_inside():
  rng = np.random.default_rng(0)
  for _ in range(2_000):
    height, width = (int(n) for n in rng.integers(1, 50, 2))
    x, y, w, h = boxes.in_pixels(rng.uniform(0, 1, 4), height, width)
    assert min(x, y) >= 0 and min(w, h) > 0
    assert x + w <= width and y + h <= height


# ---- through the ops


@pytest.mark.parametrize(
  "spec",
  ["flip(1)", "flip(0)", "pad_crop(6)", "resize(120,90,'nearest')", "box_crop(4)",
   "box_crop(0)", "box_crop(4)|flip(1)|pad_crop(3)|flip(1)"],
)  # fmt: skip
def test_a_box_holds_the_same_pixels(spec):
  rng = np.random.default_rng(1)
  for seed in range(40):
    x, y = int(rng.integers(0, 25)), int(rng.integers(0, 55))
    w, h = int(rng.integers(1, 31 - x)), int(rng.integers(1, 61 - y))
    out = run(spec, marked((x, y, w, h)), seed)
    assert out["box"] == white(out["image"])


def test_resizing_a_box_keeps_what_it_holds():
  out = run("resize(224,224,'bicubic')", marked((9, 15, 12, 30)))
  assert np.allclose(out["box"], [67.2, 56, 89.6, 112])
  assert np.abs(np.subtract(out["box"], white(out["image"]))).max() <= 1


def test_pad_crop_drops_a_box_that_it_leaves_outside():
  met = {True: 0, False: 0}
  for seed in range(60):
    out = run("pad_crop(20)", marked((0, 0, 3, 3)), seed)
    left = white(out["image"])
    assert out["box"] == left
    met[left is None] += 1
    if left is None:
      assert run("flip(1)|resize(9,9)|box_crop(1)", out, seed)["box"] is None
  assert min(met.values()) > 10


def test_erasing_and_normalising_leave_boxes_alone():
  given = marked((10, 20, 9, 24))
  for spec in ("erase(1)", "normalize"):
    assert run(spec, given)["box"] == given["box"]
    assert run(spec, given)["phrase"] == "a shirt"


@pytest.mark.parametrize("spec", ["resize(20,30)|flip|pad_crop(3)|erase|normalize"])
def test_no_op_draws_other_numbers_for_a_box(spec):
  given = marked((4, 5, 9, 24))
  plain = {k: v for k, v in given.items() if k not in ("box", "phrase")}
  for seed in range(30):
    with_box, without = run(spec, given, seed), run(spec, plain, seed)
    assert np.array_equal(with_box["image"], without["image"])
    assert set(without) == {"image", "caption", "record"} and "box" in with_box


def test_the_phrase_is_treated_as_the_caption_is():
  given = {**marked((0, 0, 4, 4)), "phrase": "the left shoe"}
  swapped = run("flip(1, words='swap')", given)
  assert (swapped["caption"], swapped["phrase"]) == ("a man", "the right shoe")
  assert run("flip(1, words='skip')", given)["image"] is given["image"]
  assert run("flip(1)", given)["phrase"] == "the left shoe"
  whole = {**given, "phrase": None, "caption": "left"}  # of a record without regions
  assert run("flip(1, words='swap')", whole)["phrase"] is None


# ---- the crop that keeps the box


def test_box_crop_reaches_all_that_it_may_and_no_more():
  """Sides are uniform between the picture's and the box's, both ends included."""
  given, pipe = marked((3, 2, 5, 4), 9, 10), transforms.build("box_crop(2)")
  rng, met = np.random.default_rng(0), []
  for _ in range(4_000):
    out = pipe(given, rng)
    x, y, w, h = out["box"]
    left, top = 3 + 2 - x, 2 + 2 - y
    height, width = out["image"].shape[:2]
    met.append((left, top, left + width, top + height))
    assert (w, h) == (5, 4) and white(out["image"]) == out["box"]
  for side, (low, high) in zip(
    np.array(met).T, [(0, 5), (0, 4), (10, 14), (8, 13)], strict=True
  ):
    counts = np.bincount(side.astype(int), minlength=high + 1)
    assert counts[:low].sum() == 0 and len(counts) == high + 1
    assert np.abs(counts[low:] / 4_000 - 1 / (high - low + 1)).max() < 0.03


def test_box_crop_without_a_box_takes_padding_alone():
  image = np.full((20, 10, 3), 200, np.uint8)
  given = dict(image=image, caption="a man", record=RECORD)
  sizes = set()
  for seed in range(200):
    out = run("box_crop(3)", given, seed)
    assert set(out) == set(given) and (out["image"] == 200).all(axis=2).sum() == 200
    assert set(np.unique(out["image"])) <= {0, 200}  # the border is black
    sizes.add(out["image"].shape[:2])
  assert {h for h, _ in sizes} == set(range(20, 27))
  assert {w for _, w in sizes} == set(range(10, 17))


def test_box_crop_needs_a_resize_after_it():
  assert transforms.build(PIPE).size == (224, 224)
  assert transforms.build("resize(8,8)|box_crop").size is None
  assert not transforms.build(PIPE).deterministic
  with pytest.raises(transforms.PipeError, match=r"box_crop\(pad: int = 10\)"):
    transforms.build("box_crop(-1)")


# ---- erasing as MRA does


class Script:
  """A generator that gives the numbers of a list, and keeps what it was asked for."""

  def __init__(self, *numbers):
    self.numbers, self.asked = list(numbers), []

  def _next(self, *asked):
    self.asked.append(asked)
    return self.numbers.pop(0)

  def random(self):
    return self._next("random")

  def uniform(self, low, high):
    return self._next("uniform", low, high)

  def integers(self, low, high):
    return self._next("integers", low, high)


def test_uniform_aspect_is_not_the_exponential_of_one():
  given = dict(image=np.zeros((100, 100, 3), np.uint8), caption="", record=RECORD)
  rng = Script(0.1, 0.09, 2.25, 5, 7)
  pipe = transforms.build(
    "erase(0.6, aspect=(0.3, 3.3333333), uniform=True, tries=100)"
  )
  out = pipe(given, rng)["image"]
  # Area 0.09 x 100 x 100 = 900, height / width 2.25: 45 x 20, at row 5 and column 7.
  assert (out[5:50, 7:27] == [123, 117, 104]).all() and out[50:].sum() == 0
  assert rng.asked[:3] == [
    ("random",),
    ("uniform", 0.02, 0.4),
    ("uniform", 0.3, 3.3333333),
  ]
  assert rng.asked[3:] == [("integers", 0, 56), ("integers", 0, 81)]


def test_the_number_of_tries_is_a_choice():
  given = dict(image=np.zeros((30, 10, 3), np.uint8), caption="", record=RECORD)
  for tries in (1, 100):
    rng = Script(0, *[1.0, 1.0] * tries)  # 17 x 17 does not fit
    pipe = transforms.build(
      f"erase(1, area=(1, 1), aspect=(1, 1), uniform=True, tries={tries})"
    )
    assert pipe(given, rng)["image"] is given["image"] and not rng.numbers
  for wrong, message in (("tries=0", "tries is"), ("uniform=1", "uniform is True")):
    with pytest.raises(transforms.PipeError, match=message):
      transforms.build(f"erase({wrong})")
