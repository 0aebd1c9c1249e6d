"""What can score a pair of text and image again after the global ranking.

A `SecondStage` says what it keeps of every image and of every text while they are
encoded, and how it scores pairs of what was kept. Pairs are scored by pair_scores.py,
the ranking that uses them is two_stage.py. Another scorer is another entry of `STAGES`
and methods of the model; nothing else knows what is kept.

"itm" is a cross-encoder over the tokens of both sides. The keys and values that its
cross-attention makes of an image are the same for every text; they are several times
the size of the tokens, so that the host keeps tokens, and the device makes keys of the
images it holds.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from tpr_jax.core.numerics import part_similarity
from tpr_jax.core.types import Outputs

Rows = Mapping[str, jax.Array]  # name -> [n, ...], the same n for all


@dataclasses.dataclass(frozen=True)
class SecondStage:
  """How pairs are scored again. Functions get the model bound to its parameters.

  Attributes:
    heads: of the model (models/build.HEADS), without which there is no score.
    trained_by: the losses of which one must be active for those heads to be there.
    image, text: (model, outputs of `encode_image` or `encode_text`) -> rows to keep.
    pairs: (model, image rows [P], text rows [P]) -> float32 [P], higher is better; a
      pair's score must not depend on the other pairs.
    ready: (model, image rows) -> the rows that `pairs` gets instead, made once of every
      image when it comes to the device; None: the rows that were kept.
    block: pairs that one device scores at a time.
  """

  heads: tuple[str, ...]
  trained_by: tuple[str, ...]
  image: Callable[[Any, Outputs], Rows]
  text: Callable[[Any, Outputs], Rows]
  pairs: Callable[[Any, Rows, Rows], jax.Array]
  ready: Callable[[Any, Rows], Rows] | None = None
  block: int = 1024


def _image_parts(model: Any, out: Outputs) -> Rows:
  return dict(parts=model.parts(out["image_tokens"]))


def _text_parts(model: Any, out: Outputs) -> Rows:
  return dict(parts=model.parts(out["text_tokens"], out["text_mask"]))


def _local(model: Any, image: Rows, text: Rows) -> jax.Array:
  """Mean over k of the cosine of part k with part k, in [-1, 1]."""
  del model
  one = lambda a, b: part_similarity(a[None], b[None])[0, 0]
  return jax.vmap(one)(text["parts"], image["parts"])


def _matcher(model: Any, image: Rows, text: Rows) -> jax.Array:
  """The matcher's probability of "one person", in [0, 1]."""
  return jax.nn.sigmoid(model.match(image["parts"], text["parts"]))


def _both(model: Any, image: Rows, text: Rows) -> jax.Array:
  """Their sum."""
  return _local(model, image, text) + _matcher(model, image, text)


def _image_tokens(model: Any, out: Outputs) -> Rows:
  del model
  return dict(tokens=out["image_tokens"])


def _text_tokens(model: Any, out: Outputs) -> Rows:
  del model
  return dict(tokens=out["text_tokens"], mask=out["text_mask"])


def _image_keys(model: Any, image: Rows) -> Rows:
  return dict(keys=model.image_keys(image["tokens"]))


def _itm(model: Any, image: Rows, text: Rows) -> jax.Array:
  """The cross-encoder's logit of "they belong together", as it is: no softmax."""
  known = dict(image_tokens=image.get("tokens"), image_keys=image.get("keys"))
  return model.pair_logits(text["tokens"], text["mask"], **known)[:, 1]


_PARTS = dict(image=_image_parts, text=_text_parts)
_MATCHER = dict(_PARTS, heads=("parts", "matcher"), trained_by=("matching",))
STAGES = {
  "local": SecondStage(
    heads=("parts",), trained_by=("sdm_local", "matching"), pairs=_local, **_PARTS
  ),
  "matcher": SecondStage(pairs=_matcher, **_MATCHER),
  "local+matcher": SecondStage(pairs=_both, **_MATCHER),
  "itm": SecondStage(
    heads=("itm",),
    trained_by=("itm",),
    image=_image_tokens,
    text=_text_tokens,
    pairs=_itm,
    ready=_image_keys,
    # 0.5 GB of keys where they are 6 layers of 97 tokens, 1,536 wide.
    block=128,
  ),
}


class Kept:
  """Rows kept of a stream of batches, on the host, without a second copy of them.

  Args:
    batches: how many will come.
  """

  def __init__(self, batches: int):
    self._batches, self._seen = batches, 0
    self._arrays: dict[str, np.ndarray] = {}
    self._pending: list[Rows] = []

  def add(self, rows: Rows) -> None:
    """Takes over a batch; it leaves the device while the next ones are computed."""
    if rows:
      self._pending.append(rows)
    if len(self._pending) > 2:
      self._store()

  def all(self) -> dict[str, np.ndarray]:
    """Name -> every row that came; {} if none did."""
    while self._pending:
      self._store()
    return dict(self._arrays)

  def arrays(self, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> the chosen rows (int [n], numbers of all that came), in that order."""
    # No copy, where only padding is left out.
    first = np.array_equal(rows, np.arange(len(rows)))
    chosen = slice(len(rows)) if first else rows
    return {name: array[chosen] for name, array in self.all().items()}

  def _store(self) -> None:
    rows = jax.device_get(self._pending.pop(0))
    for name, value in rows.items():
      if name not in self._arrays:
        shape = (self._batches * len(value), *value.shape[1:])
        self._arrays[name] = np.empty(shape, value.dtype)
      at = self._seen * len(value)
      self._arrays[name][at : at + len(value)] = value
    self._seen += 1
