"""One way from the bytes of a picture to uint8 RGB, and what the bytes hid.

Copies of the person datasets hold grayscale, CMYK, palette, 16-bit, transparent and
EXIF-rotated files beside plain JPEGs, and truncated ones. Everything that reads a
picture comes through `decode`, so training, evaluation and `--mode=check` agree on
what the pixels are and on what counts as broken.
"""

import dataclasses
import io
import os
import pathlib
import unicodedata

import numpy as np
from PIL import Image

from tpr_jax.data.record import ImageError, Record

# Formats that person datasets come in. Named, so that a PDF or PostScript file called
# .jpg is refused rather than handed to a parser that nobody expects to be running.
# (MPO, the two-picture JPEG of some cameras, is opened by Pillow's JPEG reader.)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
# A few kilobytes can announce gigabytes of pixels. Real crops are under 1 megapixel.
MAX_PIXELS = 50_000_000
_ORIENTATION = 0x0112
# EXIF orientation -> what makes it upright. Pillow's exif_transpose would also rewrite
# the EXIF block, which fails on some cameras' blocks though the pixels are fine.
_UPRIGHT = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}


class MissingImage(ImageError):
  """The picture's file is not there (the other errors: it is there and unusable)."""


@dataclasses.dataclass(frozen=True)
class Facts:
  """What a file is before `decode` turns it into RGB.

  Attributes:
    format: Pillow's name of the file format, "JPEG", "PNG", ...
    mode: Pillow's mode as stored: "RGB", "L", "CMYK", "P", "RGBA", "I;16", ...
    height, width: size after EXIF rotation.
    oddities: those of "grayscale", "cmyk", "palette", "transparent", "16-bit",
      "exif-rotated", "exif-unreadable", "animated" that hold; empty for a plain
      colour picture.
  """

  format: str
  mode: str
  height: int
  width: int
  oddities: tuple[str, ...]


def decode(
  path_or_bytes: str | os.PathLike | bytes, name: str | None = None
) -> np.ndarray:
  """Reads one picture as uint8 RGB [h, w, 3], C-contiguous and writable.

  EXIF rotation is applied; grayscale is repeated over the channels; CMYK and YCbCr
  are converted; transparency is laid over white; 16 bits are scaled to 8 (Pillow's
  own conversion would clip them); of an animation the first frame is taken. Damage
  inside JPEG data that leaves a decodable stream cannot be noticed.

  Args:
    path_or_bytes: a path, or the encoded bytes.
    name: what to call the picture in errors; default the path.

  Raises:
    MissingImage: there is no such file.
    ImageError: empty, truncated, not a picture, or over MAX_PIXELS.
  """
  return inspect(path_or_bytes, name)[0]


def inspect(
  path_or_bytes: str | os.PathLike | bytes, name: str | None = None
) -> tuple[np.ndarray, Facts]:
  """`decode`, and the `Facts` about the file beside it; same errors."""
  data, name = _read(path_or_bytes, name)
  if not data:
    raise ImageError(f"{name}: the file is empty (0 bytes)")
  try:
    # Decoders fail in many ways on damaged input (OSError, SyntaxError, ValueError,
    # struct.error, zlib.error, ...): each of them means that this file is unusable.
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
      width, height = image.size
      if width * height > MAX_PIXELS:
        raise ImageError(
          f"{name}: {width} x {height} pixels, over the limit of {MAX_PIXELS:,} that "
          "guards against decompression bombs; crop or shrink the picture"
        )
      image.load()
      return _to_rgb(image, name)
  except ImageError:
    raise
  except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
    raise ImageError(f"{name}: refused as a decompression bomb: {error}") from error
  except Image.UnidentifiedImageError as error:
    raise ImageError(
      f"{name}: not a picture that can be read (it begins with {data[:8]!r}); "
      f"expected one of {', '.join(FORMATS)}"
    ) from error
  except Exception as error:
    raise ImageError(
      f"{name}: damaged or truncated ({len(data):,} bytes; "
      f"{type(error).__name__}: {error})"
    ) from error


def from_pillow(image: Image.Image, name: str) -> np.ndarray:
  """An opened Pillow image -> uint8 RGB [h, w, 3], by the rules of `decode`.

  Raises:
    ImageError: truncated, of a kind that has no 8-bit colours, or over MAX_PIXELS.
  """
  width, height = image.size
  if width * height > MAX_PIXELS:
    raise ImageError(f"{name}: {width} x {height} pixels, over {MAX_PIXELS:,}")
  try:
    image.load()
    return _to_rgb(image, name)[0]
  except ImageError:
    raise
  except Exception as error:  # decoders fail in many ways (see `inspect`)
    raise ImageError(
      f"{name}: damaged or truncated ({type(error).__name__}: {error})"
    ) from error


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
  """uint8 RGB [h, w, 3] -> JPEG bytes (deterministic for one Pillow version)."""
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
    raise ValueError(f"expected uint8 [h, w, 3], found {image.dtype} {image.shape}")
  out = io.BytesIO()
  Image.fromarray(image).save(out, "JPEG", quality=quality)
  return out.getvalue()


def read_bytes(path: str | os.PathLike, name: str | None = None) -> bytes:
  """The file's bytes; MissingImage or ImageError where they cannot be had."""
  name = name or os.fspath(path)
  try:
    return pathlib.Path(path).read_bytes()
  except FileNotFoundError as error:
    raise MissingImage(f"{name}: no such file ({path})") from error
  except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
    raise ImageError(f"{name}: cannot be opened: {error}") from error


def _read(path_or_bytes, name):
  if isinstance(path_or_bytes, (bytes, bytearray, memoryview)):
    return bytes(path_or_bytes), name or "picture given as bytes"
  return read_bytes(path_or_bytes, name), name or os.fspath(path_or_bytes)


def _to_rgb(image, name):
  """A loaded Pillow image -> (uint8 RGB [h, w, 3], Facts)."""
  oddities, mode, kind = [], image.mode, image.format
  if getattr(image, "is_animated", False) and kind != "MPO":
    oddities.append("animated")
  orientation = _orientation(image)
  if orientation is None:
    oddities.append("exif-unreadable")
  elif orientation != 1:
    oddities.append("exif-rotated")
    image = image.transpose(_UPRIGHT[orientation])

  if mode.startswith("I;16") or (mode == "I" and kind in ("PNG", "PPM")):
    oddities += ["16-bit", "grayscale"]
    deep = np.asarray(image).astype(np.float64) / 257.0  # 65535 -> 255
    gray = np.clip(np.rint(deep), 0, 255).astype(np.uint8)
    rgb = np.repeat(gray[:, :, None], 3, axis=2)
  elif mode in ("I", "F"):
    raise ImageError(
      f"{name}: 32-bit pixels (mode {mode}), whose range the file does not tell; "
      "save it with 8 bits a channel"
    )
  else:
    oddities += _oddities(image)
    rgb = np.array(_over_white(image))
  height, width = rgb.shape[:2]
  return rgb, Facts(kind, mode, height, width, tuple(oddities))


def _orientation(image):
  """1..8; None where the EXIF block cannot be parsed (the pixels are still good)."""
  try:
    value = image.getexif().get(_ORIENTATION, 1)
  except Exception:
    return None
  # Cameras write 0 for "unknown"; the viewer convention is to leave those alone.
  return value if value in _UPRIGHT else 1


def _oddities(image):
  found = []
  if image.mode in ("1", "L", "LA", "La"):
    found.append("grayscale")
  if image.mode in ("CMYK", "P", "PA"):
    found.append({"CMYK": "cmyk"}.get(image.mode, "palette"))
  if _transparent(image):
    found.append("transparent")
  return found


def _transparent(image):
  return (
    image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
  )


def _over_white(image):
  if not _transparent(image):
    return image.convert("RGB")
  if image.mode in ("La", "RGBa"):  # premultiplied: only these direct steps exist
    image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
  image = image.convert("RGBA")
  white = Image.new("RGBA", image.size, (255, 255, 255, 255))
  return Image.alpha_composite(white, image).convert("RGB")


@dataclasses.dataclass(frozen=True)
class FileImages:
  """`Dataset.load_image` for pictures that are files below one folder.

  Names are looked up as written and, when not ASCII, also in composed and decomposed
  Unicode form: an archive made on one system and unpacked on another changes the form
  while the name reads the same.
  """

  folder: str

  def path(self, record: Record) -> pathlib.Path:
    """Where the record's picture is, or where it was expected if it is missing."""
    path = pathlib.Path(self.folder, record.image)
    if not record.image.isascii() and not path.exists():
      for form in ("NFC", "NFD"):
        other = pathlib.Path(self.folder, unicodedata.normalize(form, record.image))
        if other.exists():
          return other
    return path

  def read_bytes(self, record: Record) -> bytes:
    """The file's own bytes. Raises MissingImage, ImageError."""
    return read_bytes(self.path(record), record.image)

  def __call__(self, record: Record, size: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 RGB [h, w, 3] at the stored size, whatever `size` wishes for."""
    return decode(self.path(record), record.image)
