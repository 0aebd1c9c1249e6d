"""Rendered people: what the camera does to the picture, from light to JPEG."""

import io

import numpy as np
from PIL import Image, ImageFilter

from tpr_jax.data.rendered.views import CASTS


def camera(image, view, rng):
  """PIL RGB at its final size -> uint8 [h, w, 3] as camera `view` would store it."""
  image = image.point(_levels(view))
  width, height = image.size
  radius = view.blur * width
  if radius > 0.2:
    image = image.filter(ImageFilter.GaussianBlur(radius))
  if view.resolution < 0.97:
    small = (
      max(round(width * view.resolution), 8),
      max(round(height * view.resolution), 24),
    )
    image = image.resize(small, Image.Resampling.BOX)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
  pixels = _light_and_noise(np.asarray(image), view, rng)
  if not view.jpeg:
    return pixels
  stream = io.BytesIO()
  Image.fromarray(pixels).save(stream, "JPEG", quality=view.jpeg)
  return np.asarray(Image.open(stream))


def _levels(view):
  """Gain, contrast and colour cast as one table of 3 x 256 entries."""
  grey = np.arange(256.0)
  tables = []
  for gain in CASTS[view.cast]:
    values = ((grey - 128) * view.contrast + 128) * view.light * gain
    tables.append(np.clip(np.round(values), 0, 255).astype(int))
  return np.concatenate(tables).tolist()


def _light_and_noise(pixels, view, rng):
  """A slope of light across the picture, and triangular noise of the right spread."""
  width = pixels.shape[1]
  slope = 1 + 0.12 * view.shade * np.linspace(-1, 1, width, dtype=np.float32)
  out = pixels * slope[None, :, None]
  if view.noise > 0:
    # Four random bits up, four down: standard deviation sqrt(2 * (256 - 1) / 12).
    bits = np.frombuffer(rng.bytes(pixels.size), np.uint8).reshape(pixels.shape)
    step = np.subtract(bits & 15, bits >> 4, dtype=np.int8).astype(np.float32)
    out += step * np.float32(view.noise / np.sqrt(2 * 255 / 12))
  return np.clip(out + 0.5, 0, 255).astype(np.uint8)
