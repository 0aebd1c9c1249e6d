"""Image augmentation as functions of (example, rng), named in configs as a pipe.

  build("resize(384,128)|flip(0.5)|pad_crop(10)|erase(0.5)")

An example is a dict: image (uint8 [h, w, 3] RGB, or float32 after `normalize`),
caption (str) and record; where a region is shown too, also its box (x, y, w, h) in
pixels of the picture, which moves along (boxes.py), and its phrase. An op returns a new
dict and never writes into an array it was given. Probabilities, crops and boxes follow
torchvision, which the papers used; random numbers come from the numpy Generator of the
example, so they depend on (seed, position) alone (those of `box_crop` on the box too).
"""

import ast
import dataclasses
import difflib
import inspect
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from tpr_jax.data import boxes
from tpr_jax.data.op import (
  CLIP_MEAN,
  CLIP_STD,
  Op,
  PipeError,
  colour,
  interval,
  need,
  paint,
  share,
  triple,
  whole,
)
from tpr_jax.data.rand_augment import RandAugment

FILTERS = {
  "nearest": Image.Resampling.NEAREST,
  "box": Image.Resampling.BOX,
  "bilinear": Image.Resampling.BILINEAR,
  "hamming": Image.Resampling.HAMMING,
  "bicubic": Image.Resampling.BICUBIC,
  "lanczos": Image.Resampling.LANCZOS,
}
_SIDES = re.compile(r"\b(left|right)(?=\b|most\b|wards?\b|hand)", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left"}


@dataclasses.dataclass(frozen=True)
class Resize(Op):
  """Squashes the picture to height x width, antialiased (Pillow's resize, which is
  what torchvision's Resize does to a PIL image). The field does not keep the aspect."""

  height: int
  width: int
  filter: str = "bilinear"
  random: ClassVar[bool] = False

  def __post_init__(self):
    need(whole(self.height) and whole(self.width), "height and width are numbers > 0")
    need(self.filter in FILTERS, f"filter is one of {', '.join(FILTERS)}")

  def __call__(self, example, rng):
    image = example["image"]
    if image.shape[:2] == (self.height, self.width):
      return dict(example)
    if image.dtype != np.uint8:
      raise PipeError("resize needs a uint8 image: put it before normalize")
    size = (self.width, self.height)
    resized = Image.fromarray(image).resize(size, FILTERS[self.filter])
    down, across = self.height / image.shape[0], self.width / image.shape[1]
    box = boxes.moved(example, lambda box: boxes.scaled(box, down, across))
    return {**example, **box, "image": np.asarray(resized)}


@dataclasses.dataclass(frozen=True)
class Flip(Op):
  """Mirrors the picture with probability p.

  words says what becomes of captions with the words left and right: "keep" leaves
  them as they are (the habit of the field, and wrong for those captions), "skip"
  leaves such pairs unflipped, "swap" exchanges the two words. A "left" that means
  "departed" or a "right" that means "exactly" counts as well. The phrase of a region
  is treated as its caption is.
  """

  p: float = 0.5
  words: str = "keep"

  def __post_init__(self):
    need(share(self.p), "p is between 0 and 1")
    need(self.words in ("keep", "skip", "swap"), "words is keep, skip or swap")

  @property
  def changes_caption(self):
    return self.words == "swap"

  def captions(self, caption):
    swapped = _SIDES.sub(_swap_side, caption)
    return {caption, swapped} if self.changes_caption else {caption}

  def __call__(self, example, rng):
    chosen = rng.random() < self.p  # drawn always: later ops see the same numbers
    texts = {k: example[k] for k in ("caption", "phrase") if example.get(k)}
    sided = self.words == "skip" and any(map(_SIDES.search, texts.values()))
    if not chosen or sided:
      return dict(example)
    width = example["image"].shape[1]
    box = boxes.moved(example, lambda box: boxes.flipped(box, width))
    image = np.empty_like(example["image"], order="C")
    for channel in range(3):  # one at a time: numpy copies reversed triples 8x slower
      image[:, :, channel] = example["image"][:, ::-1, channel]
    if self.words == "swap":
      texts = {k: _SIDES.sub(_swap_side, text) for k, text in texts.items()}
    return {**example, **texts, **box, "image": image}


@dataclasses.dataclass(frozen=True)
class PadCrop(Op):
  """Pads every side by `pad` pixels of colour `fill`, then crops the old size at
  random. IRRA pads before it normalises, so its border is black: fill 0. A box is cut
  where the crop cuts it; one that is left outside is dropped."""

  pad: int = 10
  fill: float | tuple | str = 0

  def __post_init__(self):
    need(whole(self.pad, 0), "pad is a number of pixels")
    colour(self.fill)

  def __call__(self, example, rng):
    image, pad = example["image"], self.pad
    height, width = image.shape[:2]
    top, left = (int(i) for i in rng.integers(0, 2 * pad + 1, size=2))
    down, right = pad - top, pad - left
    crop = np.empty_like(image, order="C")
    paint(crop, colour(self.fill, image.dtype))
    rows, columns = _shifted(height, down), _shifted(width, right)
    crop[rows[0], columns[0]] = image[rows[1], columns[1]]
    moved = boxes.moved(
      example, lambda box: boxes.shifted(box, down, right, height, width)
    )
    return {**example, **moved, "image": crop}


def _shifted(length: int, by: int) -> tuple[slice, slice]:
  """(where they come to, where they were) of the rows that stay, moved by `by`."""
  stay = max(length - abs(by), 0)
  to, was = min(max(by, 0), length), min(max(-by, 0), length)
  return slice(to, to + stay), slice(was, was + stay)


@dataclasses.dataclass(frozen=True)
class Erase(Op):
  """Random erasing (Zhong et al., arXiv:1708.04896), as torchvision draws it.

  With probability p, a box whose share of the picture is uniform in `area` and whose
  height / width is log-uniform in `aspect` (with `uniform`: uniform) is filled; boxes
  that do not fit are drawn anew, `tries` times in all. MRA (arXiv:2507.10195, its code)
  has "erase(0.6, aspect=(0.3, 3.3333333), uniform=True, tries=100)".

  fill "mean" is CLIP's mean pixel. "irra" is what IRRA's code does: it writes the mean
  as a NORMALISED value, so the pixel is brighter, mean + std * mean. A number or three
  numbers are pixel values.
  """

  p: float = 0.5
  area: tuple = (0.02, 0.4)
  aspect: tuple = (0.3, 3.3)
  fill: float | tuple | str = "mean"
  uniform: bool = False
  tries: int = 10

  def __post_init__(self):
    need(share(self.p), "p is between 0 and 1")
    need(isinstance(self.uniform, bool), "uniform is True or False")
    need(whole(self.tries), "tries is a number > 0")
    need(interval(self.area) and self.area[1] <= 1, "area is (low, high) within 0..1")
    need(interval(self.aspect) and self.aspect[0] > 0, "aspect is (low, high) above 0")
    colour(self.fill)

  def __call__(self, example, rng):
    image = example["image"]
    if rng.random() >= self.p:
      return dict(example)
    box = self.box(image.shape[0], image.shape[1], rng)
    if box is None:
      return dict(example)
    top, left, height, width = box
    image = image.copy()
    within = image[top : top + height, left : left + width]
    paint(within, colour(self.fill, image.dtype))
    return {**example, "image": image}

  def box(self, height: int, width: int, rng) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) of the box, or None when no try fits."""
    low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
    for _ in range(self.tries):
      area = height * width * rng.uniform(*self.area)
      if self.uniform:
        aspect = rng.uniform(*self.aspect)
      else:
        aspect = math.exp(rng.uniform(low, high))
      h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
      if 0 < h < height and 0 < w < width:
        top = int(rng.integers(0, height - h + 1))
        return top, int(rng.integers(0, width - w + 1)), h, w
    return None


@dataclasses.dataclass(frozen=True)
class Normalize(Op):
  """uint8 -> float32 (x / 255 - mean) / std, by default with CLIP's numbers. Default
  pipes leave it out: the model normalises uint8 on the device."""

  mean: tuple = CLIP_MEAN
  std: tuple = CLIP_STD
  random: ClassVar[bool] = False

  def __post_init__(self):
    need(triple(self.mean) and triple(self.std), "mean and std are three numbers")
    need(min(self.std) > 0, "std is above 0")

  def __call__(self, example, rng):
    if example["image"].dtype != np.uint8:
      raise PipeError("normalize needs a uint8 image: it can come only once")
    image = example["image"].astype(np.float32) / np.float32(255)
    image = (image - np.float32(self.mean)) / np.float32(self.std)
    return {**example, "image": image}


OPS: dict[str, type[Op]] = {
  "resize": Resize,
  "flip": Flip,
  "pad_crop": PadCrop,
  "box_crop": boxes.BoxCrop,
  "erase": Erase,
  "rand_augment": RandAugment,
  "normalize": Normalize,
}


@dataclasses.dataclass(frozen=True)
class Pipe:
  """Ops in order. `size` is the [height, width] they end with, None if unknown."""

  spec: str
  ops: tuple[Op, ...]

  def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> dict:
    for op in self.ops:
      example = op(example, rng)
    return dict(example)

  @property
  def deterministic(self) -> bool:
    return not any(op.random for op in self.ops)

  @property
  def changes_caption(self) -> bool:
    return any(op.changes_caption for op in self.ops)

  def captions(self, caption: str) -> set[str]:
    """Every form in which the pipe may leave this caption."""
    forms = {caption}
    for op in self.ops:
      forms = {made for form in forms for made in op.captions(form)}
    return forms

  @property
  def size(self) -> tuple[int, int] | None:
    size = None
    for op in self.ops:
      if isinstance(op, Resize):
        size = (op.height, op.width)
      elif not op.keeps_size:
        size = None
    return size

  def split(self) -> tuple["Pipe", "Pipe"]:
    """(leading deterministic ops, which may be cached; the rest)."""
    count = next((i for i, op in enumerate(self.ops) if op.random), len(self.ops))
    return Pipe(self.spec, self.ops[:count]), Pipe(self.spec, self.ops[count:])


def build(spec: "str | Pipe") -> Pipe:
  """The pipe that a string names; PipeError says which op is wrong and what it takes.

  Arguments are literals, by place or by name: "erase(0.5, area=(0.02, 0.2))".
  """
  if isinstance(spec, Pipe):
    return spec
  if not isinstance(spec, str):
    raise PipeError(
      f"a pipe is a string such as 'resize(384,128)|flip', found {spec!r}"
    )
  if not spec.strip():
    return Pipe(spec, ())
  try:
    node = ast.parse(spec.strip(), mode="eval").body
  except SyntaxError as error:
    raise PipeError(
      f"cannot read the pipe {spec!r} near character {error.offset}: expected ops "
      "joined by |, as in 'resize(384,128)|flip(0.5)'"
    ) from error
  nodes = []
  while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
    nodes.append(node.right)
    node = node.left
  return Pipe(spec, tuple(_op(node, spec) for node in [node, *reversed(nodes)]))


def _op(node: ast.expr, spec: str) -> Op:
  call = node if isinstance(node, ast.Call) else None
  name = call.func if call else node
  if not isinstance(name, ast.Name):
    raise PipeError(f"{ast.unparse(node)!r} in the pipe {spec!r} is not an op")
  if name.id not in OPS:
    near = difflib.get_close_matches(name.id, OPS, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise PipeError(
      f"unknown op {name.id!r} in the pipe {spec!r}{hint} Known: {', '.join(OPS)}"
    )
  kind = OPS[name.id]
  try:
    args = [ast.literal_eval(arg) for arg in call.args] if call else []
    pairs = (
      [(arg.arg, ast.literal_eval(arg.value)) for arg in call.keywords] if call else []
    )
    return kind(*args, **dict(pairs))
  except (TypeError, ValueError) as error:
    reason = str(error).replace(f"{kind.__name__}.__init__()", name.id)
    if "malformed node" in reason:
      reason = "arguments are plain numbers, strings and tuples"
    takes = str(inspect.signature(kind)).removesuffix(" -> None")
    raise PipeError(
      f"cannot use {ast.unparse(node)!r} in the pipe {spec!r}: {reason}. "
      f"It takes {name.id}{takes}"
    ) from error


def _swap_side(match: re.Match) -> str:
  word = match.group(0)
  other = _OTHER[word.lower()]
  if word.isupper():
    return other.upper()
  return other.capitalize() if word[0].isupper() else other
