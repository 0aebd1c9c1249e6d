"""Every image and caption of a split through the two towers, once.

Each process of a run reads its own share of every batch. What only one of them knows,
which rows are real and why a picture is broken, is brought together, so that all end
with the same features, to the byte.

With `flip` an image's feature is the plain mean v of its own unit row and that of its
mirror image, which is shorter than 1 and stays so (MRA, arXiv:2507.10195): images
whose two rows differ have lower cosines. Rows get one more column instead,

  image  [v, sqrt(1 - |v|^2)]    text  [t, 0]

so that they are unit rows like all others, whose product is the cosine t v.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from tpr_jax.core import compiling, processes, sharding
from tpr_jax.core.types import Outputs, Params
from tpr_jax.data import captions as captions_of
from tpr_jax.data import eval_batches
from tpr_jax.data.damage import Damage
from tpr_jax.data.record import Dataset
from tpr_jax.data.tokenizer import Tokenizer
from tpr_jax.data.transforms import Pipe
from tpr_jax.second_stage import Kept, SecondStage


class EvaluationError(Exception):
  """A split cannot be evaluated: says why."""


@dataclasses.dataclass(frozen=True)
class Features:
  """One split, encoded. Rows are unit vectors.

  Attributes:
    image: float32 [n, D], the readable images. D: one column more with `flip`.
    image_record: int32 [n], their index in the dataset.
    text: float32 [m, D], all captions.
    text_record, text_caption: int32 [m], which caption of which record.
    damage: images that could not be read, and captions that cannot be asked.
    empty: rows of `text` that are of a caption without words: queries like the others,
      since every published number counts all of them.
    image_kept, text_kept: name -> [n, ...], [m, ...], what a second stage scores pairs
      by (second_stage.py); empty without one.
    mirrored_kept: as `image_kept`, of the mirror images; empty without `flip`.
  """

  image: np.ndarray
  image_record: np.ndarray
  text: np.ndarray
  text_record: np.ndarray
  text_caption: np.ndarray
  damage: Damage
  empty: Sequence[int] = ()
  image_kept: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  text_kept: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  mirrored_kept: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  @property
  def broken(self) -> dict[str, str]:
    """Name of image -> why it could not be read."""
    return self.damage.unreadable()


class _Side(NamedTuple):
  """The images or the texts of a split; n of them were real.

  Attributes:
    features: float32 [n, D] for each view.
    number: int32 [n], ascending: of the record, or of the caption in their order.
    kept: name -> [n, ...], for each view.
  """

  features: Sequence[np.ndarray]
  number: np.ndarray
  kept: Sequence[Mapping[str, np.ndarray]]


def _mirrored(images: np.ndarray) -> np.ndarray:
  """[n, H, W, 3], left and right exchanged; before the resize it would be the same."""
  return images[:, :, ::-1]


_AS_IT_IS = (lambda rows: rows,)


def averaged(views: Sequence[np.ndarray]) -> np.ndarray:
  """Unit rows [n, D] of each view of images -> [n, D + 1] as above."""
  mean = np.mean(views, axis=0, dtype=np.float64)
  rest = np.maximum(1.0 - np.einsum("ij,ij->i", mean, mean), 0.0)
  return np.column_stack([mean, np.sqrt(rest)]).astype(np.float32)


def beside_averaged(rows: np.ndarray) -> np.ndarray:
  """Unit rows [n, D] of texts -> [n, D + 1]: what `averaged` rows are compared with."""
  return np.pad(rows, ((0, 0), (0, 1)))


class Encoder:
  """The two towers of a model, compiled once for fixed batch shapes.

  Args:
    model: a module with `image_rows` and `text_rows`; with a second stage also
      `encode_image` and `encode_text`.
    mesh: batches are split over it; parameters stay where they are. Where it has
      devices of several processes, all of them call everything here, and together.
    flip: also encodes the mirror image of every image, see above.

  Raises:
    ValueError: a mesh over which batches cannot be split evenly among processes.
  """

  def __init__(self, model: nn.Module, mesh: Mesh, *, flip: bool = False):
    self._flip = flip
    self._batch_sh = sharding.batch_sharding(mesh)
    self._shards = sharding.batch_shards(mesh)
    self._share = sharding.batch_share(mesh)
    whole = sharding.replicated(mesh)

    def tower(side: str) -> Callable[..., tuple[dict[str, jax.Array], Outputs]]:
      def run(
        params: Params, batch: Mapping[str, jax.Array], stage: SecondStage | None
      ):
        def rows(module, x):
          if stage is None:
            return getattr(module, f"{side}_rows")(x), {}
          out = getattr(module, f"encode_{side}")(x)
          return out[side], getattr(stage, side)(module, out)

        found, kept = model.apply({"params": params}, batch["x"], method=rows)
        # Its number comes back beside each row: in which order the devices of several
        # processes hold a batch is the mesh's affair.
        return dict(features=found, number=batch["number"]), kept

      return jax.jit(
        run,
        static_argnums=2,
        out_shardings=whole,
        compiler_options=compiling.options(mesh),
      )

    self._image, self._text = tower("image"), tower("text")

  def images(self, params: Params, images: np.ndarray, batch: int) -> np.ndarray:
    """[n, H, W, 3] as the pipe leaves them -> float32 [n, D] unit rows, n >= 1.

    Every process gives all of them. With the `batch` of a call on a dataset, nothing
    is compiled anew.
    """
    if not self._flip:
      return self._arrays(self._image, params, images, batch)
    views = (images, _mirrored(images))
    return averaged([self._arrays(self._image, params, x, batch) for x in views])

  def texts(self, params: Params, tokens: np.ndarray, batch: int) -> np.ndarray:
    """int32 [n, L] -> float32 [n, D] unit rows, n >= 1; as `images`."""
    rows = self._arrays(self._text, params, tokens, batch)
    return beside_averaged(rows) if self._flip else rows

  def _arrays(self, tower, params, arrays, batch):
    self._check_batch(batch)
    number, found = np.arange(batch, dtype=np.int32), []
    for at in range(0, len(arrays), batch):
      part = arrays[at : at + batch]
      whole = np.concatenate([part, np.repeat(part[:1], batch - len(part), axis=0)])
      rows = sharding.put(dict(x=whole, number=number), self._batch_sh)
      found.append(tower(params, rows, None)[0]["features"])
    return np.concatenate(jax.device_get(found))[: len(arrays)]

  def _check_batch(self, batch: int) -> None:
    if batch % self._shards:
      raise EvaluationError(
        f"eval.batch={batch} cannot be split evenly over {self._shards} devices"
      )

  def __call__(
    self,
    params: Params,
    dataset: Dataset,
    *,
    tokenizer: Tokenizer,
    pipe: Pipe,
    length: int,
    batch: int,
    threads: int,
    stage: SecondStage | None = None,
  ) -> Features:
    """Encodes all images and captions of `dataset`, with what `stage` needs of them.

    Raises:
      EvaluationError: the batch cannot be split over the devices, or nothing is left
        to encode.
    """
    self._check_batch(batch)
    index, count = self._share
    share = dict(batch=batch, process_index=index, process_count=count)
    pictures = eval_batches.image_batches(dataset, pipe=pipe, threads=threads, **share)
    both = (*_AS_IT_IS, _mirrored) if self._flip else _AS_IT_IS
    image = self._side(self._image, params, pictures, "image", batch, stage, views=both)
    captions = eval_batches.text_batches(dataset, tokenizer, length=length, **share)
    wordless: list[int] = []

    def note(tokens: np.ndarray, number: np.ndarray) -> None:
      empty = tokens[:, 1] == tokenizer.end_id  # the start, then the end
      wordless.extend(number[empty & (number >= 0)].tolist())

    text = self._side(self._text, params, captions, "text", batch, stage, note=note)
    if image is None or text is None:
      raise EvaluationError(
        f"{dataset.name}/{dataset.split}: no readable image or no caption to evaluate"
      )
    record, caption = captions_of.index(dataset)
    damage = self._of_all(pictures.damage)
    numbers = np.unique([n for part in self._gather(wordless) for n in part])
    empty = np.flatnonzero(np.isin(text.number, numbers))
    at = text.number[empty]
    captions_of.blame(dataset, record[at], caption[at], damage)
    return Features(
      image=averaged(image.features) if self._flip else image.features[0],
      image_record=image.number,
      text=beside_averaged(text.features[0]) if self._flip else text.features[0],
      text_record=record[text.number],
      text_caption=caption[text.number],
      damage=damage,
      empty=tuple(empty.tolist()),
      image_kept=image.kept[0],
      text_kept=text.kept[0],
      mirrored_kept=image.kept[1] if self._flip else {},
    )

  def _side(
    self, tower, params, stream, name, batch, stage, *, views=_AS_IT_IS, note=None
  ) -> _Side | None:
    """All rows of a stream, in the order of the dataset; None: none of them is real.

    Each of `views` makes of a batch what is encoded. note(rows, numbers) is told what
    this process reads.
    """
    index, count = self._share
    size = batch // count
    found, kept = ([Kept(len(stream)) for _ in views] for _ in range(2))
    for step, local in enumerate(stream):
      number = step * batch + index * size + np.arange(size)
      number = np.where(local["valid"], number, -1).astype(np.int32)
      if note is not None:
        note(local[name], number)
      for i, view in enumerate(views):
        one = dict(x=view(local[name]), number=number)
        out, more = tower(params, sharding.to_global(one, self._batch_sh), stage)
        found[i].add(out)
        kept[i].add(more)
    number = found[0].all().get("number", np.zeros(0, np.int32))
    real = np.flatnonzero(number >= 0)
    if not len(real):
      return None
    order = real[np.argsort(number[real], kind="stable")]
    return _Side(
      [each.arrays(order)["features"] for each in found],
      number[order],
      [each.arrays(order) for each in kept],
    )

  def _gather(self, value: Any) -> list[Any]:
    """The JSON values of all processes that share the mesh."""
    return [value] if self._share[1] == 1 else processes.gather(value)

  def _of_all(self, damage: Damage) -> Damage:
    """What any process met."""
    each = self._gather(damage.to_json())
    return functools.reduce(Damage.merge, map(Damage.from_json, each))
