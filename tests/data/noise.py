"""A dataset of noise: pictures of several sizes, captions, some files unreadable."""

import dataclasses
import io

import numpy as np
from PIL import Image

from tpr_jax.data.record import Dataset, ImageError, Record

TEXT = ("A man with a red bag in his left hand", "blue jeans; white sneakers")


@dataclasses.dataclass(frozen=True)
class Pictures:
  """Noise of a size that varies with the record; some of it unreadable."""

  broken: tuple = ()

  def __call__(self, record, size):
    number = int(record.image.removesuffix(".png"))
    if number in self.broken:
      raise ImageError(f"{record.image}: cut short after {number} bytes")
    shape = (30 + number % 5, 14 + number % 3, 3)
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


@dataclasses.dataclass(frozen=True)
class Files(Pictures):
  """The same as PNG files, which have bytes of their own."""

  def read_bytes(self, record):
    file = io.BytesIO()
    Image.fromarray(self(record, None)).save(file, "PNG")
    return file.getvalue()


def dataset(count=20, broken=(), load=None):
  records = tuple(
    Record(
      f"{i}.png", 100 - i // 3, tuple(f"{t} {i}" for t in TEXT[: 1 + i % 2]), "train"
    )
    for i in range(count)
  )
  return Dataset("noise", "train", records, load or Pictures(tuple(broken)))
