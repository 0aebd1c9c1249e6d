"""A picture of the index, large: its own file, if it is still the one that was indexed.

Of a person in a frame it is what was cut out, or the whole frame with a box. A client
names a content, never a path. The file is found by the index and its bytes
must have the hash that the index holds, so that whatever a name or a link leads to by
now, nothing else than what was indexed is shown. And it is drawn anew: the metadata of
the file, such as where it was taken, and what else its bytes may be, stay here.
"""

import io
import pathlib

import numpy as np
from PIL import Image

from tpr_jax.data import images
from tpr_jax.data.record import ImageError
from tpr_jax.search import frames, photo
from tpr_jax.search.answer import Stored
from tpr_jax.serve import limits
from tpr_jax.serve.problems import Refused

_QUALITY = 90


def jpeg(folder: pathlib.Path, stored: Stored) -> bytes:
  """The picture, drawn anew. Raises Refused (404): `content`."""
  return _drawn(pixels(folder, stored))


def frame(folder: pathlib.Path, stored: Stored) -> bytes:
  """The frame of a person, drawn anew with a box.

  Raises:
    Refused (404): it is a whole picture; `content`.
  """
  if stored.box is None:
    raise Refused(404, "This is a whole picture, which was cut out of no frame.")
  data, path = content(folder, stored)
  return frames.drawn(images.decode(data, path), stored.box, limits.VIEW)


def pixels(folder: pathlib.Path, stored: Stored) -> np.ndarray:
  """uint8 [h, w, 3] of the picture, or of what was cut out of its frame.

  Raises:
    Refused (404): `content`.
  """
  data, path = content(folder, stored)
  whole = images.decode(data, path)
  return whole if stored.cut is None else stored.cut.cut(whole)


def content(folder: pathlib.Path, stored: Stored) -> tuple[bytes, str]:
  """The bytes that were indexed, and the name that they have now.

  Raises:
    Refused (404): no file of these names holds that content any more.
  """
  for path in stored.paths:
    try:
      data = images.read_bytes(folder / path, path)
    except ImageError:
      continue  # the next file of the same content
    if photo.digest(data) == stored.content:
      return data, path
  raise Refused(
    404,
    "The file has gone, or is another than when it was indexed: only the small copy"
    " is left.",
  )


def _drawn(pixels) -> bytes:
  picture = Image.fromarray(pixels)
  picture.thumbnail((limits.VIEW, limits.VIEW), Image.Resampling.LANCZOS)
  out = io.BytesIO()
  picture.save(out, "JPEG", quality=_QUALITY)
  return out.getvalue()
