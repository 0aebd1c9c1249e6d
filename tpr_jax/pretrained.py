"""Trained towers in two lines: texts and pictures in, unit rows out (numpy).

  model = tpr_jax.load("runs/cfam")
  model.encode_texts(["a man in a red coat"]) @ model.encode_images(["1.jpg"]).T

Where they come from is loading.py.
Decoding, tokens, padding to a few fixed shapes and compilation happen inside.
"""

import collections
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

from tpr_jax.core import compiling
from tpr_jax.data import images as pictures
from tpr_jax.data import tokenizer as tokenizers
from tpr_jax.data import transforms
from tpr_jax.data.record import ImageError
from tpr_jax.models import build

BROKEN = ("error", "nan")
_SHORTEST = 32  # tokens of the smallest text bucket
_FEW = (1, 8)  # rows of the small batches: one picture should not cost sixty-four


class Pretrained:
  """Two towers, their tokenizer and their way to read pictures; loading.py makes it.

  Attributes:
    image_size: (height, width) that every picture is squashed to.
    text_length: tokens of the longest text, start and end included.
    dim: D, the length of a row.
    tokenizer: data/tokenizer.py.
    params: {"visual": ..., "text": ...}, float32 numpy arrays; more with heads.
    fields: of the model (models/build.py).
    filter: of the resize (data/transforms.py).
    logit_scale: natural logarithm of 1 / temperature, None where unknown.
    image_tower, text_tower: jitted (params, uint8 [b, H, W, 3] or int32 [b, L]) ->
      float32 [b, D].
    place, detail: where the weights came from ("step 375: ..." for a run).
    resized, unused: what loading changed and left out.
  """

  def __init__(
    self,
    params: Mapping[str, Any],
    fields: Mapping[str, Any],
    tokenizer: tokenizers.Tokenizer,
    *,
    filter: str = "bilinear",
    logit_scale: float | None = None,
    batch: int = 64,
    threads: int = 4,
    place: str = "",
    detail: str = "",
    resized: Sequence[str] = (),
    unused: Sequence[str] = (),
    heads: Sequence[str] = (),
  ):
    self.params, self.fields, self.tokenizer = dict(params), dict(fields), tokenizer
    self.image_size = tuple(fields["image_size"])
    self.text_length, self.dim = fields["text_length"], fields["joint_dim"]
    self.filter, self.logit_scale = filter, logit_scale
    self.place, self.detail = place, detail
    self.resized, self.unused = resized, unused
    self._batch, self._threads = batch, threads
    self._resize = transforms.Resize(*self.image_size, filter)
    self.model = build.build(fields, vocab_size=tokenizer.vocab_size, heads=heads)
    self._on_device: Any = None
    self.image_tower = self._tower("image_rows")
    self.text_tower = self._tower("text_rows")

  def __repr__(self) -> str:
    height, width = self.image_size
    detail = f", {self.detail}" if self.detail else ""
    return (
      f"Pretrained({self.place!r}{detail}; {height} x {width} pixels,"
      f" {self.text_length} tokens, {self.dim} dimensions)"
    )

  def _tower(self, method: str) -> Any:
    """tower(params, batch) -> unit rows."""
    run = self._precisely(lambda model, batch: getattr(model, method)(batch))
    return jax.jit(run, compiler_options=compiling.options())

  def _precisely(self, method: Callable[..., Any]) -> Callable[..., Any]:
    """(params, ...) -> method(model, ...); float32 is full float32 on any device."""
    precision = "highest" if self.fields["dtype"] == "float32" else None

    def run(params: Any, *values: Any) -> Any:
      with jax.default_matmul_precision(precision):
        return self.model.apply({"params": params}, *values, method=method)

    return run

  def _placed(self) -> Any:
    if self._on_device is None:
      self._on_device = jax.device_put(self.params)
    return self._on_device

  def encode_images(
    self, images: Sequence[Any], *, broken: str = "error", progress: bool | None = None
  ) -> np.ndarray:
    """n pictures -> float32 [n, D], unit rows, row i of picture i.

    Args:
      images: paths, encoded bytes, Pillow images, or uint8 arrays ([h, w], [h, w, 1],
        [h, w, 3] RGB or [h, w, 4] RGBA). Rotation flags, grayscale, CMYK, palettes and
        transparency are handled as in training (data/images.py).
      broken: "error", or "nan": a picture that cannot be read gets a row of NaN, and a
        warning names it.
      progress: show a bar; None: on a terminal.

    Raises:
      ImageError: a picture cannot be read; names it.
    """
    images = _listed(images, "encode_images", "pictures")
    if broken not in BROKEN:
      raise ValueError(f"broken={broken!r}: expected one of {', '.join(BROKEN)}")
    rows = np.full((len(images), self.dim), np.nan, np.float32)
    failed: list[str] = []
    with _bar(len(images), "image", progress) as bar:
      pending: list[tuple[int, np.ndarray]] = []
      for index, picture in self._decoded(images):
        bar.update()
        if isinstance(picture, np.ndarray):
          pending.append((index, picture))
        elif broken == "error":
          raise picture
        else:
          failed.append(str(picture))
        if len(pending) == self._batch:
          self._fill(rows, pending, self.image_tower)
          pending = []
      self._fill(rows, pending, self.image_tower)
    if failed:
      more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
      warnings.warn(
        f"{len(failed)} of {len(images)} pictures cannot be read, their rows are NaN:"
        f" {'; '.join(failed[:5])}{more}",
        stacklevel=2,
      )
    return rows

  def encode_texts(
    self, texts: Sequence[str], *, progress: bool | None = None
  ) -> np.ndarray:
    """n texts -> float32 [n, D], unit rows, row i of text i.

    Texts that are longer than `text_length` tokens are cut; a warning counts them.

    Raises:
      TokenizerError: something is no string.
    """
    texts = _listed(texts, "encode_texts", "texts")
    rows = np.full((len(texts), self.dim), np.nan, np.float32)
    if not texts:
      return rows
    ids, counts = self.tokenizer.encode(texts, self.text_length)
    if (counts > self.text_length).any():
      warnings.warn(
        f"texts are cut: {tokenizers.cut_report(counts, self.text_length)}",
        stacklevel=2,
      )
    with _bar(len(texts), "text", progress) as bar:
      for bucket, members in self.buckets(counts):
        for start in range(0, len(members), self._batch):
          chosen = members[start : start + self._batch]
          batch = [(int(i), ids[i, :bucket]) for i in chosen]
          self._fill(rows, batch, self.text_tower)
          bar.update(len(chosen))
    return rows

  def similarity(self, texts: Sequence[str], images: Sequence[Any]) -> np.ndarray:
    """m texts, n pictures -> float32 [m, n] cosines."""
    return self.encode_texts(texts) @ self.encode_images(images).T

  def buckets(self, counts: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(text length, indices of the texts that are padded to it)."""
    whole = (self.fields.get("projection"), self.fields.get("text_bins"))
    if whole == ("bins", "all"):  # a feature depends on its padding
      yield self.text_length, np.arange(len(counts))
      return
    lengths = [min(_SHORTEST, self.text_length)]
    while lengths[-1] < self.text_length:
      lengths.append(min(2 * lengths[-1], self.text_length))
    place = np.searchsorted(lengths, np.minimum(counts, self.text_length))
    for i, length in enumerate(lengths):
      members = np.flatnonzero(place == i)
      if len(members):
        yield length, members

  def _fill(
    self, rows: np.ndarray, batch: Sequence[tuple[int, np.ndarray]], tower: Any
  ) -> None:
    """Writes the rows of one batch."""
    if batch:
      index, values = zip(*batch, strict=True)
      rows[list(index)] = self._padded(tower, values)

  def _padded(self, tower: Any, values: Sequence[np.ndarray]) -> Any:
    """What a tower makes of a batch, whose shape is padded to one of three."""
    few = (n for n in _FEW if len(values) <= n < self._batch)
    size = next(few, self._batch)
    stacked = np.stack(values)
    # Copies of a true row, so that no strange numbers arise in the padding.
    padded = np.concatenate([stacked, np.repeat(stacked[:1], size - len(values), 0)])
    found = tower(self._placed(), padded)
    return jax.tree.map(lambda x: np.asarray(x)[: len(values)], found)

  def _decoded(
    self, images: Sequence[Any]
  ) -> Iterator[tuple[int, np.ndarray | ImageError]]:
    """(index, uint8 [H, W, 3] or what is wrong), in order, decoded by threads."""
    ahead = 2 * max(self._batch, self._threads)
    waiting: collections.deque[tuple[int, Future]] = collections.deque()
    with ThreadPoolExecutor(self._threads) as pool:
      try:
        for index, image in enumerate(images):
          waiting.append((index, pool.submit(self._picture, image, index)))
          if len(waiting) >= ahead:
            first, future = waiting.popleft()
            yield first, future.result()
        while waiting:
          first, future = waiting.popleft()
          yield first, future.result()
      finally:
        for _, future in waiting:
          future.cancel()

  def _picture(self, image: Any, index: int) -> np.ndarray | ImageError:
    try:
      return self._resize(dict(image=_rgb(image, index)), None)["image"]
    except ImageError as error:
      return error


def _rgb(image: Any, index: int) -> np.ndarray:
  """uint8 RGB [h, w, 3] of anything that `encode_images` takes.

  Raises:
    ImageError: it cannot be read.
    TypeError: it is no picture.
  """
  if isinstance(image, str | os.PathLike):
    return pictures.decode(image)
  if isinstance(image, bytes | bytearray | memoryview):
    return pictures.decode(image, f"picture {index} (bytes)")
  if isinstance(image, Image.Image):
    name = getattr(image, "filename", "") or f"picture {index} (Pillow)"
    return pictures.from_pillow(image, str(name))
  array = np.asarray(image)
  if array.ndim == 3 and array.shape[2] == 1:
    array = array[:, :, 0]
  colour = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
  if array.dtype != np.uint8 or not colour or not array.size:
    raise TypeError(
      f"picture {index} is {type(image).__name__} of {array.dtype} {array.shape};"
      " expected a path, bytes, a Pillow image, or a uint8 array [h, w], [h, w, 3] or"
      " [h, w, 4] with values 0..255"
    )
  return pictures.from_pillow(Image.fromarray(array), f"picture {index} (array)")


def _listed(values: Any, method: str, what: str) -> list[Any]:
  """A list of the values; one alone is a mistake that would go unnoticed."""
  single = isinstance(values, str | bytes | os.PathLike | Image.Image)
  if single or (isinstance(values, np.ndarray) and values.dtype == np.uint8):
    single = single or values.ndim < 4
  if single:
    raise TypeError(
      f"{method} takes a list of {what}, found one {type(values).__name__}: write"
      f" {method}([...])"
    )
  return list(values)


def _bar(total: int, unit: str, shown: bool | None) -> tqdm:
  """A progress bar; None: on a terminal alone."""
  return tqdm(total=total, unit=unit, disable=None if shown is None else not shown)


def inverse_temperature(logit_scale: float | None) -> str:
  """For people: "50" of ln 50; "unknown"."""
  return "unknown" if logit_scale is None else f"{math.exp(logit_scale):.4g}"
