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
import stat
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
MAX_BYTES = 1 << 28  # of a file: MAX_PIXELS as 16-bit RGB fit twice over
# Crops of people have sides of 20 to 2,000 pixels, one to four times as high as wide.
# Below and beyond these is no odd crop but a placeholder (1 x 1), or a strip that a
# detector or a cut-off download left.
MIN_SIDE = 4
MAX_ASPECT = 32  # longer side / shorter side
# A progressive JPEG usually has 10 scans. Each is a pass over all pixels and may take
# 100 bytes, so a small file can keep a decoder busy for hours.
MAX_SCANS = 100
_TILE_SIDES = (322, 323)  # TIFF: TileWidth, TileLength
_TILE = 1 << 22  # pixels of a TIFF's tile, whatever the size of the picture
_SCAN = b"\xff\xda"
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

  kind = "missing"


class UnopenedImage(ImageError):
  """It is there and is no file that may be read: a folder, a pipe, no permission."""

  kind = "unopened"


class AbsurdSize(ImageError):
  """The picture has a size that no picture of a person has."""

  kind = "size"


class Bomb(ImageError):
  """A small file that would take much memory or time to decode."""

  kind = "bomb"


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
    UnopenedImage: it is no regular file, or may not be read.
    AbsurdSize: `check_size`.
    Bomb: it would take more memory or time than its size lets expect. Told by the
      header, before anything is decoded.
    ImageError: empty, truncated or not a picture.
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
      check_size(*image.size, name)
      _check_effort(image, data, name)
      image.load()
      return _to_rgb(image, name)
  except ImageError:
    raise
  except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
    raise Bomb(f"{name}: refused as a decompression bomb: {error}") from error
  except Image.UnidentifiedImageError as error:
    raise ImageError(
      f"{name}: not a picture that can be read (it begins with {data[:8]!r}); "
      f"expected one of {', '.join(FORMATS)}"
    ) from error
  except Exception as error:
    if "Decompressed data too large" in str(error):  # PNG: zTXt, iTXt, iCCP
      raise Bomb(
        f"{name}: a decompression bomb: a text or profile in {len(data):,} bytes "
        f"unpacks to far more ({error}); save the picture without it"
      ) from error
    raise ImageError(
      f"{name}: damaged or truncated ({len(data):,} bytes; "
      f"{type(error).__name__}: {error})"
    ) from error


def from_pillow(image: Image.Image, name: str) -> np.ndarray:
  """An opened Pillow image -> uint8 RGB [h, w, 3], by the rules of `decode`.

  Raises:
    AbsurdSize, Bomb: `check_size`.
    ImageError: truncated, or of a kind that has no 8-bit colours.
  """
  check_size(*image.size, name)
  try:
    image.load()
    return _to_rgb(image, name)[0]
  except ImageError:
    raise
  except Exception as error:  # decoders fail in many ways (see `inspect`)
    raise ImageError(
      f"{name}: damaged or truncated ({type(error).__name__}: {error})"
    ) from error


def check_size(width: int, height: int, name: str) -> None:
  """Is this the size of a picture that can show a person?

  Raises:
    Bomb: more than MAX_PIXELS.
    AbsurdSize: a side shorter than MIN_SIDE, or longer than MAX_ASPECT times the other.
  """
  if width * height > MAX_PIXELS:
    raise Bomb(
      f"{name}: {width} x {height} pixels, over the limit of {MAX_PIXELS:,} that "
      "guards against decompression bombs; crop or shrink the picture"
    )
  short, long = sorted((width, height))
  if short < MIN_SIDE:
    raise AbsurdSize(
      f"{name}: {width} x {height} pixels: the shorter side is below {MIN_SIDE}, so it "
      "shows nothing; is it a placeholder?"
    )
  if long > MAX_ASPECT * short:
    raise AbsurdSize(
      f"{name}: {width} x {height} pixels: one side is more than {MAX_ASPECT} times as "
      "long as the other, so it is a strip and no picture of a person"
    )


def _check_effort(image: Image.Image, data: bytes, name: str) -> None:
  """Raises Bomb where decoding would take far more than the picture's size says."""
  if image.format in ("JPEG", "MPO"):
    scans = data.count(_SCAN)  # inside of compressed data FF is followed by 00
    if scans > MAX_SCANS:
      raise Bomb(
        f"{name}: a JPEG of {scans:,} scans, over the limit of {MAX_SCANS}: each is a "
        "pass over all pixels; save it anew"
      )
  if image.format == "TIFF":
    # A tile is unpacked whole, though the picture may be a corner of it.
    sides = [image.tag_v2.get(tag, 1) for tag in _TILE_SIDES]
    if sides[0] * sides[1] > max(_TILE, image.width * image.height):
      raise Bomb(
        f"{name}: a TIFF of {image.width} x {image.height} pixels in tiles of "
        f"{sides[0]} x {sides[1]}; save it anew"
      )


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
  """uint8 RGB [h, w, 3] -> JPEG bytes (deterministic for one Pillow version)."""
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
    raise ValueError(f"expected uint8 [h, w, 3], found {image.dtype} {image.shape}")
  out = io.BytesIO()
  Image.fromarray(image).save(out, "JPEG", quality=quality)
  return out.getvalue()


def read_bytes(path: str | os.PathLike, name: str | None = None) -> bytes:
  """The bytes of a regular file: never waits for a pipe, a device or a terminal.

  Raises:
    MissingImage: there is no such file.
    UnopenedImage: it is no regular file, or may not be read.
    Bomb: more than MAX_BYTES.
  """
  name = name or os.fspath(path)
  try:
    # Looked at before it is opened, since to open a device can have effects; and again
    # once it is open, since only then it is surely the same.
    kind = _KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    if kind is None:
      with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        data = b"" if kind else _whole(file, status.st_size)
  except FileNotFoundError as error:
    raise MissingImage(f"{name}: no such file ({path})") from error
  except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
    raise UnopenedImage(f"{name}: cannot be opened: {error}") from error
  if kind is not None:
    raise UnopenedImage(f"{name}: cannot be opened: {path} is {kind}, no regular file")
  if len(data) > MAX_BYTES:
    raise Bomb(
      f"{name}: the file has more than {MAX_BYTES:,} bytes, the limit for one picture"
    )
  return data


def _whole(file, size: int) -> bytes:
  """All of a file, or MAX_BYTES + 1 of it. `size` is what the file system says: as much
  memory is asked for, and not MAX_BYTES for every small picture."""
  data = file.read(min(size, MAX_BYTES) + 1)
  if len(data) > size:  # of a file that grows, or whose size nobody knows
    data += file.read(MAX_BYTES + 1 - len(data))
  return data


_KINDS = {
  stat.S_IFDIR: "a folder",
  stat.S_IFIFO: "a pipe",
  stat.S_IFSOCK: "a socket",
  stat.S_IFCHR: "a device",
  stat.S_IFBLK: "a device",
}


def _open_at_once(path, flags):
  return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


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
    deep = np.clip(np.asarray(image), 0, 65535).astype(np.uint32)
    deep += 128  # nearest of v / 257, so that 65535 is 255; in place: it may be large
    deep //= 257
    gray = deep.astype(np.uint8)
    del deep
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
    return image if image.mode == "RGB" else image.convert("RGB")
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
    # os.path: pathlib raises where a folder may not be looked into.
    if not record.image.isascii() and not os.path.exists(path):
      for form in ("NFC", "NFD"):
        other = pathlib.Path(self.folder, unicodedata.normalize(form, record.image))
        if os.path.exists(other):
          return other
    return path

  def read_bytes(self, record: Record) -> bytes:
    """The file's own bytes. Raises MissingImage, ImageError."""
    return read_bytes(self.path(record), record.image)

  def __call__(self, record: Record, size: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 RGB [h, w, 3] at the stored size, whatever `size` wishes for."""
    return decode(self.path(record), record.image)
