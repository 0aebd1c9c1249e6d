"""The model of an index, behind one interface: what it is, and what it does.

What it is can be told without loading it, so that a second run with nothing new is
done in seconds; it is loaded, and compiled, when the first picture or text needs it.
"""

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tpr_jax.search.settings import Load

BATCH = 64
Kept = Mapping[str, np.ndarray]  # of a picture or text, by a second stage
_PROBES = (
  "A woman in a dark-green coat, 2 bags & a black umbrella; she's running.",
  "Zwölf Männer mit Hüten -- 人",
)


class Encoder(Protocol):
  """A loaded model. Attributes: dim: D, the length of a row."""

  dim: int

  def prepare(self, pixels: np.ndarray) -> np.ndarray:
    """uint8 RGB [h, w, 3] -> uint8 [H, W, 3] for `encode_images`; by many threads."""

  def encode_images(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
    """N prepared pictures -> float32 [N, D], unit rows."""

  def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
    """N texts -> float32 [N, D], unit rows."""

  def keep_images(
    self, prepared: Sequence[np.ndarray]
  ) -> tuple[np.ndarray, list[Kept]]:
    """Rows, and what a second stage keeps of each; where `about` names one."""

  def keep_texts(self, texts: Sequence[str]) -> tuple[np.ndarray, list[Kept]]:
    """As `keep_images`."""

  def pair_scores(self, text: Kept, images: Sequence[Kept]) -> np.ndarray:
    """float32 [n]: the second stage's score of a text with each picture."""

  def about(self) -> dict[str, Any]:
    """Plain values: how pictures and texts are brought to it; "second_stage", where it
    has one: "by", its name, and "kept", name -> shape of what it keeps of a picture."""


class Model(Protocol):
  """A model that need not be loaded."""

  def identity(self) -> dict[str, Any]:
    """Plain values: "digest", that tells its weights from others; "place", "step" and
    "load", how to find and to load it again."""

  def load(self) -> Encoder:
    """Loads it; raises what loading raises."""


class Towers:
  """`Pretrained` towers as an Encoder."""

  def __init__(self, found: Any):
    from tpr_jax.data import transforms

    self._found, self.dim = found, found.dim
    self._resize = transforms.Resize(*found.image_size, found.filter)

  def prepare(self, pixels: np.ndarray) -> np.ndarray:
    return self._resize(dict(image=pixels), None)["image"]

  def encode_images(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
    # Its own resize to the size that they have leaves them as they are.
    return self._found.encode_images(list(prepared), progress=False)

  def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
    return self._found.encode_texts(list(texts), progress=False)

  def keep_images(
    self, prepared: Sequence[np.ndarray]
  ) -> tuple[np.ndarray, list[Kept]]:
    return self._found.keep_images(list(prepared))

  def keep_texts(self, texts: Sequence[str]) -> tuple[np.ndarray, list[Kept]]:
    return self._found.keep_texts(list(texts))

  def pair_scores(self, text: Kept, images: Sequence[Kept]) -> np.ndarray:
    return self._found.pair_scores(text, images)

  def about(self) -> dict[str, Any]:
    found = self._found
    more = {}
    if getattr(found, "by", ""):
      more["second_stage"] = dict(by=found.by, kept=found.kept_shapes())
    return more | dict(
      dim=found.dim,
      image_size=list(found.image_size),
      filter=found.filter,
      # What it does, not what it is called: its name may hold a folder, which may move.
      tokenizer=found.tokenizer.name.partition(":")[0],
      tokens=_digest(found.tokenizer.encode(_PROBES, found.text_length)[0]),
      text_length=found.text_length,
      dtype=found.fields["dtype"],
    )


@dataclasses.dataclass(frozen=True)
class Place:
  """A Model: whatever `loading.load` takes, and how."""

  place: str
  how: Load = dataclasses.field(default_factory=Load)

  def identity(self) -> dict[str, Any]:
    """Reads every byte of the weights once."""
    from tpr_jax import weights_id

    found = weights_id.of(self.place)
    how = {k: v for k, v in dataclasses.asdict(self.how).items() if v is not None}
    if "image_size" in how:
      how["image_size"] = list(how["image_size"])
    return dict(place=found.place, digest=found.digest, step=found.step, load=how)

  def load(self) -> Towers:
    from tpr_jax import loading  # JAX takes seconds

    how = dataclasses.asdict(self.how)
    how["second_stage"] = how["second_stage"] or ""
    return Towers(loading.load(self.place, batch=BATCH, **how))


def _digest(ids: np.ndarray) -> str:
  return hashlib.blake2b(ids.astype("<i4").tobytes(), digest_size=8).hexdigest()


class Lazy:
  """An Encoder that is loaded when it is first used, once, by whichever thread.

  Args:
    before, after: called with the model, and with the encoder that it became; raise
      where it is not the expected one.
  """

  def __init__(
    self,
    model: Model,
    before: Callable[[Model], None],
    after: Callable[[Encoder], None],
  ):
    self._model, self._before, self._after = model, before, after
    self._lock, self._encoder = threading.Lock(), None

  def __call__(self) -> Encoder:
    with self._lock:
      if self._encoder is None:
        self._before(self._model)
        found = self._model.load()
        self._after(found)
        self._encoder = found
      return self._encoder
