"""Trained towers with the heads that score a text and a picture as a pair.

  model = tpr_jax.load("runs/cfam", second_stage="local+matcher")
  _, pictures = model.keep_images(["1.jpg", "2.jpg"])
  _, (text,) = model.keep_texts(["a man in a red coat"])
  model.pair_scores(text, pictures)

What a second stage keeps of a picture (second_stage.py) is made once, beside its row;
what it costs to score a pair does not depend on the towers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tpr_jax.core import compiling
from tpr_jax.pretrained import Pretrained
from tpr_jax.second_stage import STAGES

Kept = Mapping[str, np.ndarray]  # of one picture or text: name -> array


class Paired(Pretrained):
  """Args: by: of `STAGES`. The others: of Pretrained, params with those of the heads.

  Attributes:
    by: the second stage's name.
  """

  def __init__(self, *args: Any, by: str, **options: Any):
    self.by, self._stage = by, STAGES[by]
    super().__init__(*args, heads=self._stage.heads, **options)
    self._keeping = {side: self._with_kept(side) for side in ("image", "text")}
    self._pairs = jax.jit(self._scored, compiler_options=compiling.options())

  def keep_images(self, images: Sequence[Any]) -> tuple[np.ndarray, list[Kept]]:
    """n pictures, as `encode_images` takes -> (unit rows float32 [n, D], n Kept).

    Raises:
      ImageError: a picture cannot be read; names it.
    """
    pictures = []
    for _, picture in self._decoded(list(images)):
      if not isinstance(picture, np.ndarray):
        raise picture
      pictures.append(picture)
    return self._kept("image", [pictures] if pictures else [])

  def keep_texts(self, texts: Sequence[str]) -> tuple[np.ndarray, list[Kept]]:
    """n texts -> (unit rows float32 [n, D], n Kept).

    Raises:
      TokenizerError: something is no string.
    """
    ids, counts = self.tokenizer.encode(list(texts), self.text_length)
    groups = list(self.buckets(counts)) if len(texts) else []
    parts = [list(ids[members, :length]) for length, members in groups]
    rows, kept = self._kept("text", parts)
    order = np.argsort(np.concatenate([m for _, m in groups])) if groups else []
    return rows[order] if groups else rows, [kept[i] for i in order]

  def pair_scores(self, text: Kept, images: Sequence[Kept]) -> np.ndarray:
    """float32 [n]: the second stage's score of a text with each of n pictures."""
    if not images:
      return np.zeros(0, np.float32)
    size = self._stage.block
    stacked = {k: np.stack([each[k] for each in images]) for k in images[0]}
    found = []
    for start in range(0, len(images), size):
      some = {k: array[start : start + size] for k, array in stacked.items()}
      found.append(np.asarray(self._pairs(self._placed(), some, dict(text))))
    return np.concatenate(found)

  def kept_shapes(self) -> dict[str, tuple[int, ...]]:
    """Name -> shape of what is kept of one picture."""
    one = jax.ShapeDtypeStruct((1, *self.image_size, 3), np.uint8)
    _, kept = jax.eval_shape(self._keeping["image"], self.params, one)
    return {name: array.shape[1:] for name, array in kept.items()}

  # --- inside ---------------------------------------------------------------------

  def _with_kept(self, side: str) -> Any:
    """Jitted (params, batch) -> (unit rows, name -> [b, ...])."""
    method = f"encode_{side}"

    def both(model, batch):
      out = getattr(model, method)(batch)
      return out[side], getattr(self._stage, side)(model, out)

    return jax.jit(self._precisely(both), compiler_options=compiling.options())

  def _scored(self, params: Any, images: Any, text: Any) -> jax.Array:
    (count,) = {len(array) for array in images.values()}
    texts = {
      name: jax.numpy.broadcast_to(array, (count, *array.shape))
      for name, array in text.items()
    }
    return self._precisely(self._stage.pairs)(params, images, texts)

  def _kept(
    self, side: str, groups: Sequence[Sequence[np.ndarray]]
  ) -> tuple[np.ndarray, list[Kept]]:
    """Rows and what is kept of all values, group by group."""
    rows, kept = [np.zeros((0, self.dim), np.float32)], []
    for values in groups:
      for start in range(0, len(values), self._batch):
        some = values[start : start + self._batch]
        found, more = self._padded(self._keeping[side], some)
        rows.append(found.astype(np.float32))
        kept += [{k: array[i] for k, array in more.items()} for i in range(len(some))]
    return np.concatenate(rows), kept
