"""`model.residual`: the dtype of what blocks add to, beside that of their products."""

import functools
import re

import jax
import numpy as np
import pytest

from tests.models import weights
from tpr_jax.core import tree
from tpr_jax.models import build
from tpr_jax.models.layers.block import Blocks

VOCAB, LENGTH, SIZE, DEPTH = 40, 12, (32, 16), 5
CLIP = dict(
  variant="tiny",
  image_size=SIZE,
  vision_width=32,
  vision_layers=DEPTH,
  text_length=LENGTH,
  text_width=32,
  text_layers=DEPTH,
  joint_dim=32,
  part_width=32,
  part_layers=DEPTH,
  matcher_layers=DEPTH,
  matcher_heads=2,
  mlm_layers=DEPTH,
  mlm_heads=2,
)
SWIN = dict(
  variant="swin_tiny",
  image_size=SIZE,
  patch=4,
  window=2,
  vision_width=16,
  vision_depths=(1, DEPTH),
  text_length=LENGTH,
  text_positions=LENGTH,
  text_width=32,
  text_hidden=64,
  text_layers=2 * DEPTH,
  fusion_layer=DEPTH,
  joint_dim=16,
)
HEADS = {"tiny": ("parts", "matcher", "mlm"), "swin_tiny": ("itm",)}
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (4, *SIZE, 3), np.uint8)
TEXT = RNG.integers(4, VOCAB - 1, (4, LENGTH)).astype(np.int32)
TEXT[:, -1] = VOCAB - 1
TOKENS, SEEN = RNG.normal(size=(2, 4, LENGTH, 32)).astype(np.float32)
ROWS = RNG.normal(size=(2, 4, 6, 32)).astype(np.float32)
MASK = TEXT < VOCAB
QUIET = re.compile(r"/(out|proj)/(kernel|bias)$")


def _fusion(model, *given):
  return model.text.fusion(*given)


STACKS = {  # what blocks make of numbers: (model, its method, inputs)
  "vision": (CLIP, "image_rows", (IMAGE,)),
  "text": (CLIP, "text_rows", (TEXT,)),
  "parts": (CLIP, "parts", (ROWS[0],)),
  "matcher": (CLIP, "match", tuple(ROWS)),
  "mlm": (CLIP, "words", tuple(ROWS)),
  "swin": (SWIN, "image_tokens", (IMAGE,)),
  "bert": (SWIN, "text_tokens", (TEXT,)),
  "fusion": (SWIN, _fusion, (TOKENS, MASK, SEEN)),
}


@functools.cache
def params(variant):
  """Of branches that add little to a stream, as those of trained towers: what is lost
  is lost in the stream."""
  drawn = weights.drawn(built(variant, dtype="float32"), IMAGE, TEXT)
  quiet = lambda name, leaf: leaf * 0.1 if QUIET.search(name) else leaf
  return tree.map_named(quiet, drawn)


def built(variant, **fields):
  config = dict({"tiny": CLIP, "swin_tiny": SWIN}[variant], **fields)
  return build.build(config, vocab_size=VOCAB, heads=HEADS[variant])


def made(stack, **fields):
  """float64 of what a stack computes, by the fields of its model: behind its last
  block, if it is one of `Blocks`, which a head may follow that blurs it."""
  config, method, inputs = STACKS[stack]
  model = built(config["variant"], **fields)
  told = dict(method=method, capture_intermediates=lambda m, _: isinstance(m, Blocks))
  run = jax.jit(lambda p, *x: model.apply(p, *x, **told))
  out, seen = run(params(config["variant"]), *inputs)
  inner = [x for name, x in tree.flat(seen).items() if "__call__" in name]
  return np.asarray(inner[0] if inner else out, np.float64), out.dtype


@pytest.mark.parametrize("stack", STACKS)
def test_a_float32_stream_loses_less(stack):
  true, _ = made(stack, dtype="float32")
  wide, dtype = made(stack, dtype="bfloat16", residual="float32")
  narrow, same = made(stack, dtype="bfloat16", residual="same")
  assert dtype == same
  off = [
    np.linalg.norm(found - true) / np.linalg.norm(true) for found in (wide, narrow)
  ]
  assert 0 < off[0] < 0.85 * off[1] and off[1] < 0.05, off


def test_in_float32_both_are_one():
  for stack in ("vision", "bert"):
    wide, _ = made(stack, dtype="float32", residual="float32")
    same, _ = made(stack, dtype="float32", residual="same")
    np.testing.assert_array_equal(wide, same)


@pytest.mark.parametrize("variant", HEADS)
def test_another_word(variant):
  with pytest.raises(ValueError, match="unknown residual 'sane'; did you mean 'same'"):
    built(variant, residual="sane")
