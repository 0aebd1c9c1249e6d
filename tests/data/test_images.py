import io
import struct

import numpy as np
import pytest
from PIL import Image

from tpr_jax.data import images
from tpr_jax.data.record import ImageError


def picture(height=40, width=24):
  """A colour picture whose four corners differ, smooth enough for JPEG."""
  rows, cols = np.mgrid[0:height, 0:width]
  red, green = rows * 255 // (height - 1), cols * 255 // (width - 1)
  return np.stack([red, green, 255 - red], axis=2).astype(np.uint8)


def encoded(image, kind="PNG", **options):
  out = io.BytesIO()
  image.save(out, kind, **options)
  return out.getvalue()


def far(a, b):
  return np.abs(a.astype(int) - b.astype(int)).max()


def test_lossless_colour_is_returned_as_it_is(tmp_path):
  path = tmp_path / "straße 人.png"
  path.write_bytes(encoded(Image.fromarray(picture())))
  out, facts = images.inspect(path)
  np.testing.assert_array_equal(out, picture())
  assert out.dtype == np.uint8 and out.flags.writeable and out.flags.c_contiguous
  assert facts == images.Facts("PNG", "RGB", 40, 24, ())


def test_grayscale_is_repeated():
  gray = picture()[:, :, 0]
  out, facts = images.inspect(encoded(Image.fromarray(gray), "JPEG", quality=100))
  assert out.shape == (40, 24, 3) and far(out[:, :, 0], gray) <= 3
  assert (out[:, :, 0] == out[:, :, 1]).all() and (out[:, :, 0] == out[:, :, 2]).all()
  assert facts.oddities == ("grayscale",) and facts.mode == "L"


def test_bilevel_becomes_black_and_white():
  bits = picture()[:, :, 0] > 127
  out = images.decode(encoded(Image.fromarray(bits)))
  np.testing.assert_array_equal(out[:, :, 1], np.where(bits, 255, 0))


def test_cmyk_jpeg_keeps_its_colours():
  red = Image.new("RGB", (24, 40), (220, 30, 20))
  out, facts = images.inspect(encoded(red.convert("CMYK"), "JPEG", quality=100))
  assert far(out, np.array(red)) <= 6  # an inverted channel would be off by ~200
  assert facts.oddities == ("cmyk",)


def test_palette_and_palette_with_transparency():
  palette = Image.new("P", (4, 4))
  palette.putpalette([10, 20, 30, 200, 100, 50])
  palette.putpixel((1, 0), 1)
  out, facts = images.inspect(encoded(palette))
  assert tuple(out[0, 1]) == (200, 100, 50) and tuple(out[0, 0]) == (10, 20, 30)
  assert facts.oddities == ("palette",)
  out, facts = images.inspect(encoded(palette, transparency=0))
  assert tuple(out[0, 1]) == (200, 100, 50)
  assert tuple(out[0, 0]) == (255, 255, 255)  # over white, not the hidden colour
  assert facts.oddities == ("palette", "transparent")


@pytest.mark.parametrize(
  "mode, colour, want",
  [
    ("RGBA", (100, 0, 200, 0), (255, 255, 255)),
    ("RGBA", (100, 0, 200, 255), (100, 0, 200)),
    ("RGBA", (100, 0, 200, 51), (224, 204, 244)),  # 0.2 colour + 0.8 white
    ("LA", (0, 51), (204, 204, 204)),
  ],
)
def test_transparency_is_laid_over_white(mode, colour, want):
  out, facts = images.inspect(encoded(Image.new(mode, (6, 4), colour)))
  assert far(out[0, 0], np.array(want)) <= 1
  assert "transparent" in facts.oddities


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
  deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
  out, facts = images.inspect(encoded(Image.fromarray(deep), kind))
  np.testing.assert_array_equal(out[:, :, 2], np.arange(256).reshape(16, 16))
  assert "16-bit" in facts.oddities


def test_thirty_two_bit_floats_are_refused_by_name():
  data = encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
  with pytest.raises(ImageError, match=r"odd\.tif: 32-bit pixels"):
    images.decode(data, "odd.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(orientation):
  upright = picture()
  # How the pixels must be stored so that a viewer sees `upright` (EXIF 2.3, 0x0112).
  stored = {
    1: upright,
    2: upright[:, ::-1],
    3: upright[::-1, ::-1],
    4: upright[::-1],
    5: upright.transpose(1, 0, 2),
    6: np.rot90(upright),
    7: upright[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(upright, -1),
  }[orientation]
  exif = Image.Exif()
  exif[0x0112] = orientation
  data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
  out, facts = images.inspect(data)
  np.testing.assert_array_equal(out, upright)
  assert (facts.height, facts.width) == upright.shape[:2]
  assert facts.oddities == (() if orientation == 1 else ("exif-rotated",))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_unreadable_exif_leaves_the_pixels_usable():
  exif = b"Exif\x00\x00II\x2a\x00" + struct.pack("<I", 8) + b"\xff\xff" + b"\x00" * 4
  plain = encoded(Image.fromarray(picture()), "JPEG", quality=95)
  data = encoded(Image.fromarray(picture()), "JPEG", quality=95, exif=exif)
  np.testing.assert_array_equal(images.decode(data), images.decode(plain))


def test_an_exif_block_that_raises_is_a_fact_not_an_error(monkeypatch):
  def broken(self):
    raise SyntaxError("not a TIFF file")

  monkeypatch.setattr(Image.Image, "getexif", broken)
  out, facts = images.inspect(encoded(Image.fromarray(picture())))
  np.testing.assert_array_equal(out, picture())
  assert facts.oddities == ("exif-unreadable",)


def test_two_picture_jpegs_and_animations_give_their_first_frame():
  first, second = Image.new("RGB", (8, 6), (200, 0, 0)), Image.new("RGB", (8, 6))
  for kind, oddities in (("MPO", ()), ("GIF", ("palette", "animated"))):
    data = encoded(first, kind, save_all=True, append_images=[second])
    out, facts = images.inspect(data)
    assert far(out, np.array(first)) <= 2
    assert set(facts.oddities) == set(oddities)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "progressive"])
@pytest.mark.parametrize("keep", [0.03, 0.3, 0.6, 0.95])
def test_truncated_files_are_errors(kind, keep, tmp_path):
  noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
  options = {"progressive": True} if kind == "progressive" else {}
  kind = "JPEG" if kind == "progressive" else kind
  data = encoded(Image.fromarray(noise), kind, **options)
  path = tmp_path / "cut.jpg"
  path.write_bytes(data[: int(len(data) * keep)])
  with pytest.raises(ImageError, match=r"cut\.jpg"):
    images.decode(path)


def test_non_images_are_named(tmp_path):
  path = tmp_path / "page.jpg"
  path.write_text("<html>not found</html>")
  with pytest.raises(ImageError, match=r"page\.jpg: not a picture .*<html>"):
    images.decode(path)
  path.write_bytes(b"")
  with pytest.raises(ImageError, match="empty"):
    images.decode(path)
  with pytest.raises(ImageError, match="bytes"):
    images.decode(b"junk")
  with pytest.raises(ImageError, match="cannot be opened"):
    images.decode(tmp_path)


def test_a_missing_file_is_its_own_error(tmp_path):
  with pytest.raises(images.MissingImage, match=r"imgs/1\.jpg: no such file"):
    images.decode(tmp_path / "1.jpg", "imgs/1.jpg")


def test_decompression_bombs_are_refused(monkeypatch):
  data = encoded(Image.new("L", (200, 300)))
  monkeypatch.setattr(images, "MAX_PIXELS", 59_999)
  with pytest.raises(ImageError, match=r"big\.png: 200 x 300 pixels"):
    images.decode(data, "big.png")
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own guard fires
  with pytest.raises(ImageError, match=r"big\.png: refused"):
    images.decode(data, "big.png")


def test_jpeg_encoding_is_deterministic_and_close():
  data = images.encode_jpeg(picture(), quality=95)
  assert data == images.encode_jpeg(picture(), quality=95)
  assert np.abs(images.decode(data).astype(int) - picture()).mean() < 4
  with pytest.raises(ValueError, match="uint8"):
    images.encode_jpeg(picture().astype(np.float32))
