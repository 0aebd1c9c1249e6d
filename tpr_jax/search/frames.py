"""The frame of a person: the file out of which it was cut, with the box drawn."""

import io
import pathlib

import numpy as np
from PIL import Image, ImageDraw

from tpr_jax.data import images
from tpr_jax.data.record import ImageError
from tpr_jax.detect.boxes import Box
from tpr_jax.search import photo
from tpr_jax.search.answer import Hit

_QUALITY = 86
_INNER, _OUTER = "#ff9a1f", "#101010"  # seen on light and on dark


def read(folder: pathlib.Path, path: str, content: str) -> np.ndarray | None:
  """uint8 [h, w, 3] of a file, if its bytes still have the hash `content`; else None.

  Args:
    path: below the folder.
  """
  try:
    data = images.read_bytes(folder / path, path)
    return images.decode(data, path) if photo.digest(data) == content else None
  except ImageError:
    return None


def drawn(pixels: np.ndarray, box: Box, longest: int) -> bytes:
  """The whole frame with a box: JPEG with sides of `longest` pixels at most."""
  picture = Image.fromarray(pixels)
  picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
  across, down = picture.width / pixels.shape[1], picture.height / pixels.shape[0]
  left, top = box.x * across, box.y * down
  right, bottom = (box.x + box.width) * across, (box.y + box.height) * down
  thick = max(2, round(max(picture.size) / 320))
  pen = ImageDraw.Draw(picture)
  # Around the person, not over it.
  for width, colour in ((2 * thick, _OUTER), (thick, _INNER)):
    edges = (left - width, top - width, right + width - 1, bottom + width - 1)
    pen.rectangle(edges, outline=colour, width=width)
  out = io.BytesIO()
  picture.save(out, "JPEG", quality=_QUALITY)
  return out.getvalue()


def of_hit(folder: pathlib.Path, hit: Hit, longest: int) -> bytes | None:
  """JPEG of the frame of a hit; None: it is a whole picture, or its file has gone or
  has changed."""
  if hit.box is None:
    return None
  pixels = read(folder, hit.path, hit.content)
  return None if pixels is None else drawn(pixels, hit.box, longest)
