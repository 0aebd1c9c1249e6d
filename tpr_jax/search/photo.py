"""One file of a picture: its digest, its time, its pixels and a small copy."""

import dataclasses
import datetime
import hashlib
import io

import numpy as np
from PIL import Image

from tpr_jax.data import images

THUMBNAIL = (96, 240)  # at most; width, height
_QUALITY = 82
_EXIF, _ORIGINAL, _DIGITIZED, _CHANGED = 0x8769, 0x9003, 0x9004, 0x0132


@dataclasses.dataclass(frozen=True)
class Photo:
  """pixels: uint8 [h, w, 3], upright. thumbnail: JPEG."""

  pixels: np.ndarray
  thumbnail: bytes


def digest(data: bytes) -> str:
  """32 hex digits that tell one content from another."""
  return hashlib.blake2b(data, digest_size=16).hexdigest()


def open(data: bytes, name: str) -> Photo:
  """Raises ImageError: `data.images.decode`."""
  pixels = images.decode(data, name)
  return Photo(pixels, thumbnail(pixels))


def thumbnail(pixels: np.ndarray) -> bytes:
  """uint8 [h, w, 3] -> a small JPEG."""
  small = Image.fromarray(pixels)
  small.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
  out = io.BytesIO()
  small.save(out, "JPEG", quality=_QUALITY)
  return out.getvalue()


def taken(data: bytes) -> datetime.datetime | None:
  """When the camera says that the picture was taken, by the camera's clock.

  None: the file does not tell, or tells no time (cameras without a clock write zeros).
  """
  try:
    with Image.open(io.BytesIO(data), formats=images.FORMATS) as image:
      exif = image.getexif()
      inner = exif.get_ifd(_EXIF)
  except Exception:  # EXIF of cameras breaks parsers in many ways, pixels being fine
    return None
  for value in (inner.get(_ORIGINAL), inner.get(_DIGITIZED), exif.get(_CHANGED)):
    try:
      return datetime.datetime.strptime(
        str(value).strip(" \0")[:19], "%Y:%m:%d %H:%M:%S"
      )
    except ValueError:
      continue
  return None


def when(data: bytes, modified: int) -> datetime.datetime:
  """`taken`, or else when the file was modified, in UTC (`modified`: ns since 1970)."""
  return taken(data) or datetime.datetime.fromtimestamp(
    modified // 1_000_000_000, datetime.UTC
  ).replace(tzinfo=None)
