"""Each op exactly, by its distribution, and in what it refuses."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
from PIL import Image

from tpr_jax.data import transforms
from tpr_jax.data.record import Record

RECORD = Record("a.jpg", 7, ("a man",), "train")


def picture(height=48, width=16, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def example(image=None, caption="a man"):
  image = picture() if image is None else image
  return dict(image=image, caption=caption, record=RECORD)


def run(spec, given=None, seed=0):
  given = example() if given is None else given
  return transforms.build(spec)(given, np.random.default_rng(seed))


# ---- the parser


def test_pipe_string_to_ops():
  pipe = transforms.build(
    "resize(384,128)|flip(0.5)|pad_crop(10)|erase(0.5, area=(0.02, 0.2), fill='mean')"
  )
  assert pipe.ops == (
    transforms.Resize(384, 128),
    transforms.Flip(0.5),
    transforms.PadCrop(10),
    transforms.Erase(0.5, area=(0.02, 0.2)),
  )
  assert pipe.size == (384, 128) and not pipe.deterministic
  head, tail = pipe.split()
  assert head.ops == pipe.ops[:1] and tail.ops == pipe.ops[1:]
  assert head.deterministic


def test_pipe_spelling():
  build = transforms.build
  assert build("flip").ops == build("flip()").ops == build(" flip( p = 0.5 ) ").ops
  assert build("").ops == () and build("").size is None
  assert build("resize(8, 4)|resize(height=16, width=6)").size == (16, 6)
  assert build("resize(8, 4)|normalize").deterministic
  assert build("pad_crop(2, fill=(1, 2, 3))").ops[0].fill == (1, 2, 3)
  pipe = build("flip")
  assert build(pipe) is pipe
  assert not build("flip(words='skip')").changes_caption
  assert build("resize(8,4)|flip(words='swap')").changes_caption


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("resise(4,4)", r"unknown op 'resise'.*did you mean 'resize'.*Known: resize, flip"),
    ("zoom", r"unknown op 'zoom'"),
    ("resize(4)", r"missing 1 required.*'width'.*takes resize\(height.*width"),
    ("flip(0.5, side='x')", r"unexpected keyword argument 'side'.*flip\(p: float = 0"),
    ("flip(2)", r"p is between 0 and 1.*takes flip"),
    ("flip('x')", "p is between 0 and 1"),
    ("flip(words='mirror')", "words is keep, skip or swap"),
    ("resize(0, 4)", "numbers > 0"),
    ("resize(4.5, 4)", "numbers > 0"),
    ("resize(4, 4, 'cubic')", "filter is one of"),
    ("pad_crop(-1)", "pad is a number of pixels"),
    ("pad_crop(2, fill=300)", "between 0 and 255"),
    ("erase(area=(0.5, 0.1))", "area is"),
    ("erase(aspect=(0, 1))", "aspect is"),
    ("erase(fill='black')", "fill is 'mean'"),
    ("normalize(std=(1, 1, 0))", "std is above 0"),
    ("normalize(mean=(1, 1))", "three numbers"),
    ("resize(4, 4)|", "cannot read the pipe"),
    ("resize(4,4) flip", "cannot read the pipe"),
    ("flip(p=x)", "plain numbers, strings and tuples"),
    ("flip(__import__('os').getcwd())", "plain numbers, strings and tuples"),
    ("flip(*[1])", "plain numbers, strings and tuples"),
    ("flip & erase", "is not an op"),
    ("os.getcwd()", "is not an op"),
    ("3", "is not an op"),
  ],
)
def test_bad_pipes_are_explained(spec, message):
  with pytest.raises(transforms.PipeError, match=message):
    transforms.build(spec)


def test_a_pipe_that_is_no_string():
  with pytest.raises(transforms.PipeError, match="a pipe is a string"):
    transforms.build(["flip"])


# ---- properties of every op


ALL = [
  "resize(20,30)",
  "resize(48,16)",
  "flip(1)",
  "flip(1, words='swap')",
  "pad_crop(5)",
  "erase(1)",
  "normalize",
  "resize(40,16)|flip|pad_crop(3)|erase|normalize",
]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("make", [np.ascontiguousarray, np.asfortranarray])
def test_a_flip_is_the_mirror_image_in_an_array_of_its_own(dtype, make):
  picture = make(np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(dtype))
  found = run("flip(1)", dict(example(), image=picture))["image"]
  assert np.array_equal(found, picture[:, ::-1]) and found.dtype == dtype
  assert found.flags.c_contiguous and found.base is None


@pytest.mark.parametrize("spec", ALL)
def test_ops_never_touch_their_input_and_repeat_themselves(spec):
  given = example(caption="the left hand")
  given["image"].flags.writeable = False  # a write raises
  before = dict(given)
  first = run(spec, given, seed=3)
  assert given == before and given["image"] is before["image"]
  again = run(spec, given, seed=3)
  assert np.array_equal(first["image"], again["image"])
  assert first["caption"] == again["caption"] and first["record"] is RECORD
  assert set(first) == {"image", "caption", "record"}


@pytest.mark.parametrize("spec", ["resize(20,30)", "normalize"])
def test_deterministic_ops_draw_nothing(spec):
  assert transforms.build(spec)(example(), None)["image"].shape[2] == 3
  assert transforms.build(spec).deterministic


# ---- resize


@pytest.mark.parametrize("name", sorted(transforms.FILTERS))
@pytest.mark.parametrize("size", [(96, 40), (12, 5)])
def test_resize_is_pillows(name, size):
  image = picture(61, 23)
  out = run(f"resize({size[0]},{size[1]},'{name}')", example(image))["image"]
  resample = getattr(Image.Resampling, name.upper())
  golden = np.array(Image.fromarray(image).resize(size[::-1], resample))
  assert out.dtype == np.uint8 and out.shape == (*size, 3)
  assert np.array_equal(out, golden)


def test_resize_default_is_bilinear_and_antialiased():
  image = np.zeros((40, 40, 3), np.uint8)
  image[:, ::2] = 255  # stripes one pixel wide vanish, where plain sampling aliases
  small = run("resize(10,10)", example(image))["image"]
  assert abs(small.astype(int) - 128).max() < 24
  assert transforms.Resize(1, 1).filter == "bilinear"


def test_resize_refuses_floats():
  with pytest.raises(transforms.PipeError, match="before normalize"):
    run("normalize|resize(10,10)")


# ---- flip


def test_flip_mirrors_the_width():
  given = example()
  assert np.array_equal(run("flip(1)", given)["image"], given["image"][:, ::-1])
  assert run("flip(0)", given)["image"] is given["image"]


def test_flip_share():
  given, rng = example(), np.random.default_rng(0)
  pipe = transforms.build("flip(0.3)")
  share = np.mean(
    [pipe(given, rng)["image"] is not given["image"] for _ in range(4000)]
  )
  assert abs(share - 0.3) < 4 * math.sqrt(0.21 / 4000)


SIDED = "A bag on the LEFT, Left-hand pocket; the rightmost, righthand one. Right leg"
UNSIDED = "bright upright copyright, lefty rightly"


def test_flip_and_the_words_left_and_right():
  for caption in (SIDED, UNSIDED):
    given = example(caption=caption)
    flipped = np.ascontiguousarray(given["image"][:, ::-1])
    keep = run("flip(1, words='keep')", given)
    assert np.array_equal(keep["image"], flipped) and keep["caption"] == caption
    skip = run("flip(1, words='skip')", given)
    assert np.array_equal(
      skip["image"], given["image"] if caption == SIDED else flipped
    )
    assert skip["caption"] == caption
    swap = run("flip(1, words='swap')", given)
    assert np.array_equal(swap["image"], flipped)
    assert run("flip(1, words='swap')", swap)["caption"] == caption
    assert run("flip(0, words='swap')", given)["caption"] == caption
  swapped = run("flip(1, words='swap')", example(caption=SIDED))["caption"]
  assert swapped == (
    "A bag on the RIGHT, Right-hand pocket; the leftmost, lefthand one. Left leg"
  )
  assert run("flip(1, words='swap')", example(caption=UNSIDED))["caption"] == UNSIDED


def test_skipping_a_flip_leaves_later_numbers_alone():
  sided, plain = example(caption="left"), example(caption="a man")
  for seed in range(20):
    boxes = []
    for given in (sided, plain):
      white = {**given, "image": np.full((48, 16, 3), 255, np.uint8)}
      out = run("flip(0.5, words='skip')|erase(1, fill=0)", white, seed)
      boxes.append(out["image"])
    assert np.array_equal(*boxes)


# ---- pad and crop


def test_pad_crop_is_a_window_on_the_padded_picture():
  given = example(picture(12, 9))
  padded = np.pad(given["image"], ((4, 4), (4, 4), (0, 0)))
  windows = {
    padded[i : i + 12, j : j + 9].tobytes(): (i, j) for i in range(9) for j in range(9)
  }
  rng, pipe, met = np.random.default_rng(0), transforms.build("pad_crop(4)"), []
  for _ in range(2000):
    out = pipe(given, rng)["image"]
    assert out.shape == (12, 9, 3) and out.dtype == np.uint8
    met.append(windows[out.tobytes()])
  rows, columns = np.array(met).T
  assert len(set(met)) == 81  # both ends of both ranges are reached
  for axis in (rows, columns):
    assert np.abs(np.bincount(axis, minlength=9) / 2000 - 1 / 9).max() < 0.035
  assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.1


def test_a_pad_wider_than_the_picture():
  given = example(picture(4, 3))
  padded = np.pad(given["image"], ((6, 6), (6, 6), (0, 0)))
  windows = {
    padded[i : i + 4, j : j + 3].tobytes() for i in range(13) for j in range(13)
  }
  found = [run("pad_crop(6)", given, seed)["image"].tobytes() for seed in range(200)]
  assert set(found) <= windows
  assert np.zeros((4, 3, 3), np.uint8).tobytes() in found  # moved out of sight


def test_pad_crop_fill():
  given = example(np.zeros((6, 6, 3), np.uint8))
  outs = [run("pad_crop(6, fill=(1, 2, 3))", given, seed)["image"] for seed in range(9)]
  colours = np.unique(np.concatenate(outs).reshape(-1, 3), axis=0).tolist()
  assert colours == [[0, 0, 0], [1, 2, 3]]
  assert np.array_equal(run("pad_crop(0)", given)["image"], given["image"])


# ---- erase


def boxes(count, **kwargs):
  """(share of area, height / width, top, left, h, w) of erased boxes, from pixels."""
  op, rng = transforms.Erase(1, fill=255, **kwargs), np.random.default_rng(0)
  black, found = np.zeros((200, 100, 3), np.uint8), []
  for _ in range(count):
    mask = op(example(black), rng)["image"].any(axis=2)
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert len(ys) and mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1].all()
    assert mask.sum() == len(ys) * len(xs)  # one solid box
    found.append((mask.mean(), len(ys) / len(xs), ys[0], xs[0], len(ys), len(xs)))
  return np.array(found).T


def test_erase_area_and_aspect_follow_torchvision():
  share, aspect, top, left, h, w = boxes(1500, area=(0.02, 0.1))
  # All such boxes fit 200 x 100, so nothing is rejected and the laws are exact up to
  # rounding to whole pixels.
  assert share.min() > 0.018 and share.max() < 0.105
  assert abs(share.mean() - 0.06) < 0.003
  assert np.abs(np.quantile(share, [0.25, 0.75]) - [0.04, 0.08]).max() < 0.004
  logs = np.log(aspect)
  low, high = math.log(0.3), math.log(3.3)
  assert abs(logs.mean() - (low + high) / 2) < 4 * (high - low) / math.sqrt(12 * 1500)
  assert (
    np.abs(
      np.quantile(logs, [0.25, 0.75])
      - [low * 0.75 + high * 0.25, low * 0.25 + high * 0.75]
    ).max()
    < 0.12
  )
  place = top / (200 - h), left / (100 - w)
  for axis in place:
    assert abs(axis.mean() - 0.5) < 0.04 and axis.min() < 0.02 and axis.max() > 0.98


def test_erase_default_ranges_are_irras():
  op = transforms.Erase()
  assert (op.p, op.area, op.aspect, op.fill) == (0.5, (0.02, 0.4), (0.3, 3.3), "mean")
  share, aspect, *_ = boxes(300)
  assert share.min() > 0.015 and share.max() < 0.41
  assert aspect.min() > 0.28 and aspect.max() < 3.5


def test_erase_share():
  given, rng = example(), np.random.default_rng(0)
  pipe = transforms.build("erase(0.5, area=(0.02, 0.1))")
  share = np.mean(
    [pipe(given, rng)["image"] is not given["image"] for _ in range(3000)]
  )
  assert abs(share - 0.5) < 4 * math.sqrt(0.25 / 3000)


def test_erase_gives_up_after_ten_tries():
  class Counting:
    """A generator that counts its uniform numbers: two a try."""

    def __init__(self):
      self.rng, self.uniforms = np.random.default_rng(0), 0

    def random(self):
      return self.rng.random()

    def uniform(self, low, high):
      self.uniforms += 1
      return self.rng.uniform(low, high)

    def integers(self, low, high):
      return self.rng.integers(low, high)

  given, rng = example(), Counting()
  op = transforms.Erase(1, area=(1, 1), aspect=(1, 1))  # 27.7 x 27.7 in 48 x 16
  assert op(given, rng)["image"] is given["image"]
  assert rng.uniforms == 20


def test_erase_colours():
  mean, std = np.array(transforms.CLIP_MEAN), np.array(transforms.CLIP_STD)
  black = example(np.zeros((40, 20, 3), np.uint8))

  def colour(spec):
    out = run(spec, black)["image"]
    erased = out[(out != run(spec.split("|erase")[0], black)["image"]).any(axis=2)]
    assert len(np.unique(erased, axis=0)) == 1
    return erased[0]

  assert colour("flip(0)|erase(1)").tolist() == [123, 117, 104]
  assert colour("flip(0)|erase(1, fill=9)").tolist() == [9, 9, 9]
  # After normalize, "mean" is zero; "irra" is the mean itself, whose pixel is brighter.
  assert colour("normalize|erase(1)").tolist() == [0, 0, 0]
  irra = colour("normalize|erase(1, fill='irra')")
  assert irra.dtype == np.float32 and np.allclose(irra, mean)
  pixels = colour("flip(0)|erase(1, fill='irra')")
  assert np.abs((pixels / 255 - mean) / std - mean).max() < 0.5 / 255 / std.min() + 1e-6


# ---- normalize


def test_normalize_matches_the_definition():
  image = picture()
  out = run("normalize", example(image))["image"]
  golden = np.empty(image.shape)
  for c in range(3):
    scaled = image[:, :, c].astype(np.float64) / 255
    golden[:, :, c] = (scaled - transforms.CLIP_MEAN[c]) / transforms.CLIP_STD[c]
  assert out.dtype == np.float32 and np.abs(out - golden).max() < 1e-6
  plain = run("normalize(mean=(0, 0, 0), std=(1, 1, 1))", example(image))["image"]
  assert np.allclose(plain, image / 255)
  with pytest.raises(transforms.PipeError, match="only once"):
    run("normalize|normalize")


def test_ops_are_frozen_and_travel():
  pipe = transforms.build("resize(8,4)|erase(0.3)")
  assert pickle.loads(pickle.dumps(pipe)) == pipe
  with pytest.raises(dataclasses.FrozenInstanceError):
    pipe.ops[0].height = 3
