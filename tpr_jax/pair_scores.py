"""Scores of chosen pairs of texts and images, by a second stage, over a mesh.

What is kept of the images goes to the devices in pieces of at most `GALLERY` bytes,
each image once, and whole on every device; on the way `SecondStage.ready` makes of it
what serves all its pairs. While a piece is there, the pairs of its images are scored,
text by text, in blocks of `SecondStage.block` on each device: few texts travel with a
block. Most galleries are one piece.

Blocks have one fixed number of pairs, and a pair's score doesn't depend on the others
of its block: neither the number of devices nor of pieces changes a score by more than
float32 rounding.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from tpr_jax.core import compiling, sharding
from tpr_jax.core.times import duration
from tpr_jax.core.types import Params
from tpr_jax.second_stage import Rows, SecondStage

# Largest piece of a gallery, in bytes, that a device holds; two of them for a moment,
# while one follows the other.
GALLERY = 2 << 30
# With fewer ready images to a piece it is not worth while to make them ready: all texts
# travel again for each piece.
FEWEST = 256
CACHES = ("auto", "keys", "tokens")
_QUIET = 15.0  # seconds between two lines of progress

Say = Callable[[str], None]
Arrays = Mapping[str, np.ndarray]  # name -> [n, ...], rows kept on the host


def cached(
  stage: SecondStage, cache: str, model: nn.Module, params: Params, image: Any
) -> SecondStage:
  """The stage with or without `ready`, as `cache` asks.

  Args:
    stage: one that has a `ready`, or `cache` is "auto".
    cache: "keys": make images ready; "tokens": don't, which takes less memory and
      repeats that work for each pair; "auto": do, where `GALLERY` bytes hold `FEWEST`
      images.
    image: name -> kept rows, or their shapes.
  """
  if stage.ready is None or cache == "keys":
    return stage
  if cache == "auto" and GALLERY // _bytes(stage, model, params, image) >= FEWEST:
    return stage
  return dataclasses.replace(stage, ready=None)


def pieces(
  stage: SecondStage, model: nn.Module, params: Params, image: Any
) -> tuple[int, int]:
  """(number of pieces of a gallery, images of each but the last).

  Args:
    image: name -> kept rows [n, ...], or their shapes.
  """
  (rows,) = {len(array) for array in image.values()}
  most = max(GALLERY // _bytes(stage, model, params, image), 1)
  number = -(-rows // most)
  return number, -(-rows // number)


def _bytes(stage: SecondStage, model: nn.Module, params: Params, image: Any) -> int:
  """What a device holds of one image."""
  one = {k: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for k, x in image.items()}
  if stage.ready is not None:
    ready = lambda params, x: model.apply({"params": params}, x, method=stage.ready)
    one = jax.eval_shape(ready, params, one)
  return sum(x.size * x.dtype.itemsize for x in one.values())


def scores(
  stage: SecondStage,
  model: nn.Module,
  params: Params,
  images: Arrays,
  texts: Arrays,
  columns: np.ndarray,
  *,
  mesh: Mesh,
  say: Say = lambda text: None,
) -> tuple[np.ndarray, float]:
  """(float32 [Q, T], seconds): the score of text i with image columns[i, j].

  Args:
    images: rows kept of every image, texts: of the Q texts; every process has all.
    columns: int [Q, T] rows of `images`, the shortlists.
    say: gets lines of progress, where it takes long.

  Returns:
    Seconds: without compilation, one block having been scored once before.
  """
  _, each = pieces(stage, model, params, images)
  plan = _Plan(columns, each, stage.block * sharding.batch_shards(mesh))
  hold = functools.partial(_held, stage, model, params, images, each, mesh)
  run = _compiled(stage, model, mesh)
  rows, whole = sharding.batch_sharding(mesh), sharding.replicated(mesh)

  def launch(gallery: Rows, block: _Block) -> jax.Array:
    text = {name: array[block.texts] for name, array in texts.items()}
    image_at, text_at = sharding.put((block.image, block.text), rows)
    return run(params, gallery, image_at, sharding.put(text, whole), text_at)

  number, block = next(iter(plan))
  jax.block_until_ready(launch(hold(number), block))  # compiles
  return _all(launch, hold, plan, say)


def _held(
  stage: SecondStage,
  model: nn.Module,
  params: Params,
  images: Arrays,
  each: int,
  mesh: Mesh,
  number: int,
) -> Rows:
  """Piece `number` of the gallery on every device, filled up to one size."""
  size = len(next(iter(images.values())))
  ready = stage.ready is not None
  # Images are made ready by all devices, each its share.
  filled = each + (-each % sharding.batch_shards(mesh) if ready else 0)
  at = number * each + np.arange(filled)
  chosen = np.minimum(at, size - 1) if at[-1] >= size else slice(at[0], at[-1] + 1)
  some = {name: array[chosen] for name, array in images.items()}
  if not ready:
    return sharding.put(some, sharding.replicated(mesh))
  rows = sharding.put(some, sharding.batch_sharding(mesh))
  return _compiled_ready(stage, model, mesh)(params, rows)


@functools.lru_cache(maxsize=8)
def _compiled_ready(
  stage: SecondStage, model: nn.Module, mesh: Mesh
) -> Callable[[Params, Rows], Rows]:
  def ready(params, image):
    return model.apply({"params": params}, image, method=stage.ready)

  return _jit(ready, mesh)


@functools.lru_cache(maxsize=8)
def _compiled(
  stage: SecondStage, model: nn.Module, mesh: Mesh
) -> Callable[..., jax.Array]:
  """Jitted (params, images, image [P], texts, text [P]) -> float32 [P]."""
  rows = sharding.batch_sharding(mesh)
  spread = lambda x: jax.lax.with_sharding_constraint(x, rows)

  def run(params, images, image, texts, text):
    of_image = {name: array[image] for name, array in images.items()}
    of_text = {name: array[text] for name, array in texts.items()}
    pair = jax.tree.map(spread, (of_image, of_text))
    return model.apply({"params": params}, *pair, method=stage.pairs)

  return _jit(run, mesh)


def _jit(fn: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
  whole = sharding.replicated(mesh)
  return jax.jit(fn, out_shardings=whole, compiler_options=compiling.options(mesh))


def _all(
  launch: Callable[[Rows, "_Block"], jax.Array],
  hold: Callable[[int], Rows],
  plan: "_Plan",
  say: Say,
) -> tuple[np.ndarray, float]:
  """Walks the pieces and their blocks, two ahead of what is read back."""
  found = np.empty(plan.shape[0] * plan.shape[1], np.float32)
  started = told = time.perf_counter()
  pending: list[tuple[np.ndarray, jax.Array]] = []
  done, held, gallery = 0, -1, None

  def store() -> int:
    pairs, values = pending.pop(0)
    found[pairs] = np.asarray(values)[: len(pairs)]
    return len(pairs)

  for number, block in plan:
    if number != held:
      gallery = None  # the last one may go while the next one comes
      held, gallery = number, hold(number)
    pending.append((block.pairs, launch(gallery, block)))
    if len(pending) > 2:
      done, now = done + store(), time.perf_counter()
      if now - told > _QUIET:
        told, left = now, (now - started) * (found.size - done) / done
        say(f"    {done:,} of {found.size:,} pairs, {duration(left)} to go")
  while pending:
    store()
  return found.reshape(plan.shape), time.perf_counter() - started


@dataclasses.dataclass(frozen=True)
class _Block:
  """Pairs of one piece: p of them, filled up to a fixed number P.

  Attributes:
    pairs: int [p] places in the shortlists, row by row.
    image: int32 [P] rows of the piece.
    texts: int [R] rows of the texts, R as fixed as P.
    text: int32 [P] which of `texts`.
  """

  pairs: np.ndarray
  image: np.ndarray
  texts: np.ndarray
  text: np.ndarray


class _Plan:
  """(number of a piece, block) in the order in which they are scored.

  Args:
    columns: int [Q, T] shortlists.
    each: images of a piece.
    size: P, pairs of a block.
  """

  def __init__(self, columns: np.ndarray, each: int, size: int):
    self.shape, self._each, self._size = columns.shape, each, size
    self._image = columns.ravel()
    piece = self._image // each
    self._order = np.argsort(piece, kind="stable")  # then text by text, as they are
    ends = np.cumsum(np.bincount(piece))
    self._spans = [
      (number, start, min(start + size, stop))
      for number, (first, stop) in enumerate(zip([0, *ends], ends, strict=False))
      for start in range(first, stop, size)
    ]
    starts = np.array([start for _, start, _ in self._spans])
    text = self._order // columns.shape[1]
    new = np.diff(text, prepend=-1) != 0
    new[starts] = True
    self._texts = int(np.add.reduceat(new, starts, dtype=np.int64).max())

  def __iter__(self) -> Iterator[tuple[int, _Block]]:
    for number, start, stop in self._spans:
      pairs = self._order[start:stop]
      filled = np.pad(pairs, (0, self._size - len(pairs)), mode="edge")
      texts, text = np.unique(filled // self.shape[1], return_inverse=True)
      texts = np.pad(texts, (0, self._texts - len(texts)), mode="edge")
      image = self._image[filled] - number * self._each
      yield number, _Block(pairs, image.astype(np.int32), texts, text.astype(np.int32))
