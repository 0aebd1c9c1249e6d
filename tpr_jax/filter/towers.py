"""Two towers as a scorer: whatever `tpr_jax.load` takes, on all devices here.

Each device runs the same program on its own `batch` rows, so that a row's bits do not
depend on how many devices there are; a process uses its own devices alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tpr_jax import model_eval
from tpr_jax.core import compiling
from tpr_jax.data import tokenizer, transforms
from tpr_jax.filter.settings import Scorer as Asked
from tpr_jax.pretrained import Pretrained


class Towers:
  """A scorer (scorers.py) with one row for a picture.

  Args:
    found: the towers.
    batch: rows at a time on each device.
    devices: default: this process's.
  """

  def __init__(
    self, found: Pretrained, batch: int, devices: Sequence[Any] | None = None
  ):
    self.found, self.batch, self.size = found, batch, found.image_size
    devices = jax.local_devices() if devices is None else list(devices)
    mesh = Mesh(np.array(devices), ("rows",))
    self._step = batch * len(devices)
    whole, rows = PartitionSpec(), PartitionSpec("rows")
    self._rows = NamedSharding(mesh, rows)
    self._params = jax.device_put(found.params, NamedSharding(mesh, whole))
    height, width = found.image_size
    self._resize = transforms.Resize(height, width, found.filter)

    def tower(run: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
      mapped = jax.shard_map(
        run, mesh=mesh, in_specs=(whole, rows), out_specs=rows, check_vma=False
      )
      return jax.jit(mapped, compiler_options=compiling.options(mesh))

    self._image, self._text = tower(found.image_tower), tower(found.text_tower)

  @classmethod
  def load(cls, asked: Asked) -> "Towers":
    """Raises as `loading.load`."""
    how = model_eval.Options(
      image_size=tuple(asked.load["image_size"]) or None,
      text_length=asked.load["text_length"] or None,
      tokenizer=asked.load["tokenizer"],
      activation=asked.load["activation"],
      dtype=asked.dtype,
    )
    return cls(how.load(asked.place), asked.batch)

  def __repr__(self) -> str:
    return repr(self.found)

  def prepare(self, picture: np.ndarray | None) -> np.ndarray:
    """-> uint8 [H, W, 3]."""
    if picture is None:
      return np.zeros((*self.found.image_size, 3), np.uint8)
    return self._resize(dict(image=picture), None)["image"]

  def encode_images(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
    """N pictures uint8 [H, W, 3] -> float32 [N, 1, D]."""
    return self._encode(self._image, np.stack(prepared))[:, None]

  def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
    """N texts -> float32 [N, D]."""
    ids, counts = self.found.tokenizer.encode(list(texts), self.found.text_length)
    rows = np.zeros((len(texts), self.found.dim), np.float32)
    for length, members in self.found.buckets(counts):
      rows[members] = self._encode(self._text, ids[members, :length])
    return rows

  def report(self, texts: Sequence[str]) -> str:
    _, counts = self.found.tokenizer.encode(list(texts), self.found.text_length)
    return tokenizer.cut_report(counts, self.found.text_length)

  def _encode(self, tower: Any, values: np.ndarray) -> np.ndarray:
    """[N, ...] -> float32 [N, D]; the last rows are repeated to fill the devices."""
    found = []
    for start in range(0, len(values), self._step):
      part = values[start : start + self._step]
      short = self._step - len(part)
      padded = np.concatenate([part, np.repeat(part[:1], short, axis=0)])
      placed = jax.device_put(padded, self._rows)
      found.append(tower(self._params, placed))
      if len(found) > 1:  # one is under way while the next is made ready
        found[-2] = np.asarray(found[-2], np.float32)
    return np.concatenate([np.asarray(x, np.float32) for x in found])[: len(values)]
