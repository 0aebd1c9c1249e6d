"""A tiny cross-encoder: the methods of a model that the stage "itm" uses."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests import tiny
from tests.models import weights
from tpr_jax.core import numerics

WIDTH, LAYERS, CELL = 8, 2, 8


class CrossEncoder(nn.Module):
  """Tokens of patches and words; texts attend to images in every layer."""

  vocab_size: int

  def setup(self):
    # Without biases, which noise would be small beside.
    self.patch = nn.Dense(WIDTH, use_bias=False)
    self.word = nn.Embed(self.vocab_size, WIDTH)
    self.project = [nn.Dense(WIDTH, use_bias=False) for _ in range(2)]
    self.key_value = [nn.Dense(2 * WIDTH) for _ in range(LAYERS)]
    self.query = [nn.Dense(WIDTH) for _ in range(LAYERS)]
    self.itm_head = nn.Dense(2)

  def encode_image(self, image, train=False):
    b, height, width, _ = image.shape
    cells = image.reshape(b, height // CELL, CELL, width // CELL, CELL, 3)
    cells = cells.swapaxes(2, 3).reshape(b, -1, CELL * CELL * 3) / 64.0 - 2.0
    tokens = jnp.tanh(self.patch(cells))
    # Where it is matters, or mirror images would be alike.
    tokens *= 1.0 + jnp.arange(tokens.shape[1])[:, None] % (width // CELL)
    mean = tokens.mean(axis=1, keepdims=True)
    rows = numerics.unit(self.project[0](mean[:, 0]))
    return dict(image=rows, image_tokens=jnp.concatenate([mean, tokens], axis=1))

  def image_rows(self, image):
    return self.encode_image(image)["image"]

  def text_rows(self, text):
    return self.encode_text(text)["text"]

  def encode_text(self, text, train=False):
    mask = text != 0
    tokens = self.word(text)
    mean = (tokens * mask[..., None]).sum(axis=1) / mask.sum(axis=1)[:, None]
    rows = numerics.unit(self.project[1](mean))
    return dict(text=rows, text_tokens=tokens, text_mask=mask)

  def image_keys(self, image_tokens):
    """[B, N, D] -> [B, layers, N, 2 D]."""
    return jnp.stack([layer(image_tokens) for layer in self.key_value], axis=1)

  def pair_logits(
    self, text_tokens, text_mask, image_tokens=None, image_mask=None, image_keys=None
  ):
    """-> float32 [P, 2]; class 1: they belong together."""
    keys = self.image_keys(image_tokens) if image_keys is None else image_keys
    states = text_tokens * text_mask[..., None]
    for layer in range(LAYERS):
      key, value = jnp.split(keys[:, layer], 2, axis=-1)
      score = jnp.einsum("pld,pnd->pln", self.query[layer](states), key)
      states += jnp.einsum("pln,pnd->pld", jax.nn.softmax(score), value)
    states = jnp.tanh(3.0 * states) * text_mask[..., None]
    return 5.0 * self.itm_head(states.sum(axis=1) / text_mask.sum(axis=1)[:, None])

  def __call__(self, image, text):
    seen, read = self.encode_image(image), self.encode_text(text)
    tokens = read["text_tokens"], read["text_mask"]
    return self.pair_logits(*tokens, seen["image_tokens"])


def model(vocab_size):
  """(module, parameters)."""
  module = CrossEncoder(vocab_size)
  image = np.zeros((1, *tiny.SIZE, 3), np.uint8)
  text = np.ones((1, tiny.LENGTH), np.int32)
  params = weights.drawn(module, image, text)["params"]
  return module, jax.tree.map(jnp.asarray, params)
