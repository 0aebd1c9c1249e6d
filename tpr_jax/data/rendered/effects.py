"""Rendered people: what the camera does to the picture, from light to JPEG."""

import io

import numpy as np
from PIL import Image, ImageFilter

from tpr_jax.data.rendered.views import CASTS


def camera(image, view, rng):
  """PIL RGB at its final size -> uint8 [h, w, 3] as camera `view` would store it."""
  width, height = image.size
  radius = view.blur * width
  if radius > 0.15:
    image = image.filter(ImageFilter.BoxBlur(radius * 1.4))
  if view.resolution < 0.97:
    # Below 8 x 24 nothing would be left of a person.
    small = (
      max(round(width * view.resolution), 8),
      max(round(height * view.resolution), 24),
    )
    image = image.resize(small, Image.Resampling.BOX)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
  pixels = _expose(np.asarray(image), view, rng)
  if not view.jpeg:
    return pixels
  stream = io.BytesIO()
  Image.fromarray(pixels).save(stream, "JPEG", quality=view.jpeg)
  return np.array(Image.open(stream))


def _expose(pixels, view, rng):
  """Contrast, gain, colour cast, a slope of light from one side, sensor noise."""
  width = pixels.shape[1]
  slope = 1 + 0.12 * view.shade * np.linspace(-1, 1, width)
  gain = view.light * slope[:, None] * np.array(CASTS[view.cast])  # [w, 3]
  out = pixels * (gain * view.contrast).astype(np.float32)
  out += (gain * (128 - 128 * view.contrast) + 0.5).astype(np.float32)
  if view.noise > 0:
    # Four random bits minus four: triangular, standard deviation sqrt(2 * 255 / 12).
    bits = np.frombuffer(rng.bytes(pixels.size), np.uint8).reshape(pixels.shape)
    step = np.subtract(bits & 15, bits >> 4, dtype=np.int8)
    out += step * np.float32(view.noise / np.sqrt(2 * 255 / 12))
  np.clip(out, 0, 255, out=out)
  return out.astype(np.uint8)
