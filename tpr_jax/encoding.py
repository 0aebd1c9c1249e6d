"""Every image and caption of a split through the two towers, once."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from tpr_jax.core import sharding
from tpr_jax.core.types import Outputs, Params
from tpr_jax.data import captions as captions_of
from tpr_jax.data import pipeline
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
    image: float32 [n, D], the readable images.
    image_record: int32 [n], their index in the dataset.
    text: float32 [m, D], all captions.
    text_record, text_caption: int32 [m], which caption of which record.
    damage: images that could not be read, and captions that cannot be asked.
    empty: rows of `text` that are of a caption without words: queries like the others,
      since every published number counts all of them.
    image_kept, text_kept: name -> [n, ...], [m, ...], what a second stage scores pairs
      by (second_stage.py); empty without one.
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

  @property
  def broken(self) -> dict[str, str]:
    """Name of image -> why it could not be read."""
    return self.damage.unreadable()


class Encoder:
  """The two towers of a model, compiled once for fixed batch shapes.

  Args:
    model: a module with `encode_image` and `encode_text`.
    mesh: batches are split over it; parameters stay where they are.
  """

  def __init__(self, model: nn.Module, mesh: Mesh):
    self._batch_sh = sharding.batch_sharding(mesh)
    self._shards = sharding.batch_shards(mesh)
    whole = sharding.replicated(mesh)

    def tower(side: str) -> Callable[..., tuple[jax.Array, Outputs]]:
      def run(params: Params, x: jax.Array, stage: SecondStage | None):
        def rows(module, x):
          out = getattr(module, f"encode_{side}")(x)
          return out[side], getattr(stage, side)(module, out) if stage else {}

        return model.apply({"params": params}, x, method=rows)

      return jax.jit(run, static_argnums=2, out_shardings=whole)

    self._image, self._text = tower("image"), tower("text")

  def _rows(self, batch: np.ndarray) -> jax.Array:
    count, index = jax.process_count(), jax.process_index()
    size = len(batch) // count
    rows = batch[index * size : (index + 1) * size]
    return jax.make_array_from_process_local_data(self._batch_sh, rows)

  def images(self, params: Params, images: np.ndarray, batch: int) -> np.ndarray:
    """[n, H, W, 3] as the pipe leaves them -> float32 [n, D] unit rows, n >= 1.

    With the `batch` of a call on a dataset, nothing is compiled anew.
    """
    return self._arrays(self._image, params, images, batch)

  def texts(self, params: Params, tokens: np.ndarray, batch: int) -> np.ndarray:
    """int32 [n, L] -> float32 [n, D] unit rows, n >= 1; `batch` as in `images`."""
    return self._arrays(self._text, params, tokens, batch)

  def _arrays(self, tower, params, arrays, batch):
    self._check_batch(batch)
    found = []
    for at in range(0, len(arrays), batch):
      part = arrays[at : at + batch]
      whole = np.concatenate([part, np.repeat(part[:1], batch - len(part), axis=0)])
      rows, _ = tower(params, self._rows(whole), None)
      found.append(rows[: len(part)])
    return np.concatenate(jax.device_get(found))

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
    images, valid = [], []
    stream = pipeline.image_batches(dataset, pipe=pipe, batch=batch, threads=threads)
    image_kept = Kept(len(stream))
    for rows in stream:
      image, kept = self._image(params, self._rows(rows["image"]), stage)
      images.append(image)
      image_kept.add(kept)
      valid.append(rows["valid"])
    texts, record, caption, real, wordless = [], [], [], [], []
    captions = pipeline.text_batches(dataset, tokenizer, length=length, batch=batch)
    text_kept = Kept(len(captions))
    for rows in captions:
      text, kept = self._text(params, self._rows(rows["text"]), stage)
      texts.append(text)
      text_kept.add(kept)
      record.append(rows["record"])
      caption.append(rows["caption"])
      real.append(rows["valid"])
      wordless.append(rows["text"][:, 1] == tokenizer.end_id)  # start, then the end
    if not images or not texts or not np.concatenate(valid).any():
      raise EvaluationError(
        f"{dataset.name}/{dataset.split}: no readable image or no caption to evaluate"
      )
    seen, told = np.concatenate(valid), np.concatenate(real)
    record, caption = np.concatenate(record)[told], np.concatenate(caption)[told]
    empty = np.flatnonzero(np.concatenate(wordless)[told])
    captions_of.blame(dataset, record[empty], caption[empty], stream.damage)
    return Features(
      image=np.concatenate(jax.device_get(images))[seen],
      image_record=np.flatnonzero(seen).astype(np.int32),
      text=np.concatenate(jax.device_get(texts))[told],
      text_record=record,
      text_caption=caption,
      damage=stream.damage,
      empty=tuple(empty.tolist()),
      image_kept=image_kept.arrays(seen),
      text_kept=text_kept.arrays(told),
    )
