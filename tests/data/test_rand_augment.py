"""RandAugment: what each op does to pixels and boxes, and what is drawn."""

import collections

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.data.test_boxes import RECORD, marked, white
from tpr_jax.data import rand_augment, transforms
from tpr_jax.data.op import PipeError

MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


def picture(height=40, width=20, seed=0):
  rng = np.random.default_rng(seed)
  small = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
  return np.kron(small, np.ones((4, 4, 1), np.uint8))


def example(image):
  return dict(image=image, caption="a man", record=RECORD)


def run(spec, image, seed=0):
  return transforms.build(spec)(example(image), np.random.default_rng(seed))["image"]


def applied(kind, magnitude, image):
  return rand_augment.apply(example(image), kind, magnitude)["image"]


# ---- single ops


@pytest.mark.parametrize("kind", rand_augment.KINDS)
@pytest.mark.parametrize("magnitude", [7, -7])
def test_an_op_gives_a_new_picture_of_the_same_size(kind, magnitude):
  image = picture()
  kept = image.copy()
  found = applied(kind, magnitude, image)
  assert found.shape == image.shape and found.dtype == np.uint8
  np.testing.assert_array_equal(image, kept)
  assert (kind == "identity") == np.array_equal(found, image)


@pytest.mark.parametrize("kind", MOVES)
def test_no_magnitude_moves_nothing(kind):
  np.testing.assert_array_equal(applied(kind, 0, picture()), picture())


@pytest.mark.parametrize("kind", ["brightness", "sharpness"])
def test_magnitude_five_changes_no_colour(kind):
  np.testing.assert_array_equal(applied(kind, 5, picture()), picture())


def test_brightness_and_sharpness_are_factors():
  image = picture()
  expected = np.clip(image * 1.36, 0, 255)
  assert np.abs(applied("brightness", 7, image) - expected).max() <= 1
  # Away from the smoothed picture by 1.36 times as much as it was.
  kernel = np.ones((3, 3))
  kernel[1, 1] = 5
  y, x = 17, 8
  patch = image[y - 1 : y + 2, x - 1 : x + 2].astype(float)
  smooth = (patch * kernel[..., None]).sum(axis=(0, 1)) / 13
  expected = np.clip(smooth + 1.36 * (image[y, x] - smooth), 0, 255)
  assert np.abs(applied("sharpness", 7, image)[y, x] - expected).max() <= 1.5


def test_contrast_is_pillows():
  image = picture() // 2 + 40
  found = applied("auto_contrast", 7, image)
  assert (found.min(axis=(0, 1)) == 0).all() and (found.max(axis=(0, 1)) == 255).all()
  expected = np.asarray(ImageOps.equalize(Image.fromarray(image)))
  np.testing.assert_array_equal(applied("equalize", 7, image), expected)


@pytest.mark.parametrize("way", [1, -1])
def test_translations_are_pixels(way):
  image = picture()
  across = np.full_like(image, 128)
  down = np.full_like(image, 128)
  if way > 0:
    across[:, 7:], down[7:] = image[:, :-7], image[:-7]
  else:
    across[:, :-7], down[:-7] = image[:, 7:], image[7:]
  np.testing.assert_array_equal(applied("translate_x", 7 * way, image), across)
  np.testing.assert_array_equal(applied("translate_y", 7 * way, image), down)


def test_a_shear_moves_rows_by_their_height():
  """Row y by 0.21 y, its own edge is left alone; columns likewise."""
  image = np.full((60, 60, 3), 0, np.uint8)
  image[:, 30:] = 255
  found = applied("shear_x", 7, image)
  for y in (0, 20, 40):
    edge = np.flatnonzero(found[y, :, 0] == 255)[0]
    assert abs(edge - (30 + 0.21 * y)) <= 1.5, y
  turned = applied("shear_y", -7, np.swapaxes(image, 0, 1))
  for x in (0, 20, 40):
    edge = np.flatnonzero(turned[:, x, 0] == 255)[0]
    assert abs(edge - (30 - 0.21 * x)) <= 1.5, x


def test_a_rotation_keeps_the_middle_and_the_length():
  turned = rand_augment.matrix("rotate", 7, 40, 20)
  np.testing.assert_allclose(turned @ (10, 20, 1), (10, 20))
  np.testing.assert_allclose(turned[:, :2] @ turned[:, :2].T, np.eye(2), atol=1e-12)
  assert np.degrees(np.arctan2(turned[1, 0], turned[0, 0])) == pytest.approx(21)
  back = rand_augment.matrix("rotate", -7, 40, 20)
  np.testing.assert_allclose(back[:, :2] @ turned[:, :2], np.eye(2), atol=1e-12)


# ---- boxes


@pytest.mark.parametrize("kind", MOVES)
@pytest.mark.parametrize("magnitude", [4, -4])
def test_the_pixels_of_a_box_stay_in_it(kind, magnitude):
  given = marked((20, 24, 12, 16), height=80, width=60)
  found = rand_augment.apply(given, kind, magnitude)
  x, y, w, h = found["box"]
  left, top, width, height = white(found["image"] // 2 + 10)  # grey counts as black
  assert x - 1 <= left and y - 1 <= top
  assert left + width <= x + w + 1 and top + height <= y + h + 1
  # And the box is no larger than it must be, but for the tips of turned corners.
  assert w <= width + 3 and h <= height + 3


def test_a_box_is_cut_to_the_picture_and_dropped_outside():
  given = marked((0, 0, 10, 10))
  cut = rand_augment.apply(given, "translate_x", -7)
  assert cut["box"] == pytest.approx((0, 0, 3, 10))
  small = marked((0, 0, 5, 5))
  assert rand_augment.apply(small, "translate_x", -7)["box"] is None
  assert rand_augment.apply(given, "equalize", 7)["box"] == given["box"]
  assert "box" not in rand_augment.apply(example(picture()), "rotate", 7)


# ---- what is drawn


def test_the_numbers_of_the_example_decide():
  image = picture()
  found = [run("rand_augment(2,7)", image, seed).tobytes() for seed in range(40)]
  again = [run("rand_augment(2,7)", image, seed).tobytes() for seed in range(40)]
  assert found == again
  assert len(set(found)) > 15 and image.tobytes() in found


def test_later_ops_see_the_same_numbers_whatever_was_drawn():
  """Of all ops as many numbers are drawn."""

  def left_over(kinds, p):
    rng = np.random.default_rng(3)
    rand_augment.RandAugment(2, 7, p, kinds)(example(picture()), rng)
    return rng.random()

  assert left_over(("identity",), 0) == left_over(("rotate",), 1)


def test_each_kind_way_and_chance_is_as_likely_as_it_should_be(monkeypatch):
  met = collections.Counter()

  def note(given, kind, magnitude):
    met[kind, magnitude] += 1
    return given

  monkeypatch.setattr(rand_augment, "apply", note)
  op, rng = rand_augment.RandAugment(), np.random.default_rng(0)
  for _ in range(4_000):
    op(example(picture()), rng)
  assert set(met) == {(kind, m) for kind in rand_augment.KINDS for m in (7, -7)}
  assert abs(met.total() - 4_000) < 150  # two ops, each with probability a half
  assert max(abs(n - 200) for n in met.values()) < 60


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("rand_augment(0)", "ops is a number > 0"),
    ("rand_augment(2,11)", "magnitude is between 0 and 10"),
    ("rand_augment(p=2)", "p is between 0 and 1"),
    ("rand_augment(kinds=('rotat',))", "kinds are some of identity, auto_contrast"),
    ("rand_augment(kinds=())", "kinds are some of"),
    ("rand_augmen(2)", "did you mean 'rand_augment'"),
  ],
)
def test_wrong_arguments_are_refused(spec, message):
  with pytest.raises(PipeError, match=message):
    transforms.build(spec)


def test_it_stands_before_normalize():
  with pytest.raises(PipeError, match="put it before normalize"):
    run("normalize|rand_augment", picture())
  pipe = transforms.build("resize(20,10)|rand_augment")
  assert pipe.size == (20, 10) and not pipe.deterministic
