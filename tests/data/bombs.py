"""Small files that announce, or unpack to, far more than they hold."""

import io
import struct
import zlib

from PIL import Image

_UNPACKED = zlib.compress(b"a" * 300_000_000, 9)  # 0.3 MB


def _chunk(kind, data):
  check = struct.pack(">I", zlib.crc32(kind + data))
  return struct.pack(">I", len(data)) + kind + data + check


def _png(width, height, extra=b""):
  head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
  rows = zlib.compress(b"\0" * ((width + 1) * min(height, 40)))
  chunks = _chunk(b"IHDR", head) + extra + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
  return b"\x89PNG\r\n\x1a\n" + chunks


def _gif(screen, frame):
  head = struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
  body = struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\x00\x3b"
  return b"GIF89a" + head + b"\x2c" + body


def _tiff(width, height, **layout):
  """Deflated zeros; `layout`: tile=(w, h), or rows=rows of the only strip."""
  data = zlib.compress(b"\0" * 1000)
  tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1}
  where = 8 + 2 + 12 * (10 if "tile" in layout else 9) + 4
  if "tile" in layout:
    tags |= {322: layout["tile"][0], 323: layout["tile"][1], 324: where, 325: len(data)}
  else:
    tags |= {273: where, 278: layout["rows"], 279: len(data)}
  out = b"II*\0" + struct.pack("<IH", 8, len(tags))
  for tag, value in sorted(tags.items()):
    out += struct.pack("<HHII", tag, 4, 1, value)
  return out + struct.pack("<I", 0) + data


def _jpeg(width, height, size=(64, 64), scans=0):
  """A progressive JPEG whose header gives another size, its last scan repeated."""
  out = io.BytesIO()
  Image.new("L", size, 128).save(out, "JPEG", progressive=True)
  data = bytearray(out.getvalue())
  at = data.index(b"\xff\xc2")
  data[at + 5 : at + 9] = struct.pack(">HH", height, width)
  data, last = bytes(data[:-2]), data.rindex(b"\xff\xda")
  return data + data[last:] * scans + b"\xff\xd9"


def _webp(width, height):
  out = io.BytesIO()
  Image.new("RGB", (64, 64)).save(out, "WEBP", lossless=True)
  data = bytearray(out.getvalue())
  at = data.index(b"VP8L") + 9
  bits = struct.unpack("<I", data[at : at + 4])[0] >> 28 << 28
  data[at : at + 4] = struct.pack("<I", bits | (height - 1) << 14 | (width - 1))
  return bytes(data)


def files():
  """Name -> bytes, half a megabyte at most."""
  z = _UNPACKED
  return {
    "size.png": _png(60_000, 60_000),
    "seventy_megapixels.png": _png(10_000, 7_000),  # below Pillow's own guard
    "ztxt.png": _png(32, 32, _chunk(b"zTXt", b"k\0\0" + z)),
    "itxt.png": _png(32, 32, _chunk(b"iTXt", b"k\0\1\0\0\0" + z)),
    "profile.png": _png(32, 32, _chunk(b"iCCP", b"k\0\0" + z)),
    "screen.gif": _gif((60_000, 60_000), (16, 16)),
    "frame.gif": _gif((16, 16), (60_000, 60_000)),
    "frame_81_megapixels.gif": _gif((16, 16), (9_000, 9_000)),
    "size.tif": _tiff(60_000, 60_000, rows=60_000),
    "tile.tif": _tiff(16, 16, tile=(32_000, 32_000)),
    "size.jpg": _jpeg(65_000, 65_000),
    "scans.jpg": _jpeg(6_900, 6_900, (6_900, 6_900), 3_000),
    "size.webp": _webp(16_000, 16_000),
    "header.ppm": b"P6 60000 60000 255\n" + b"\0" * 64,
    "size.bmp": b"BM"
    + struct.pack("<IHHI", 54, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    + b"\0" * 64,
  }
