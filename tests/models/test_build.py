"""Sizes of the published towers, counted here from their numbers alone."""

import jax
import jax.numpy as jnp
import pytest

from tpr_jax.core import tree
from tpr_jax.models import build


def block(width):
  """Two norms, qkv and out with biases, a 4x MLP with biases."""
  attention = 3 * (width * width + width) + width * width + width
  mlp = width * 4 * width + 4 * width + 4 * width * width + width
  return 2 * 2 * width + attention + mlp


def towers(vision, text, joint, patch, positions, length, vocab=49_408):
  (vw, vl), (tw, tl) = vision, text
  visual = patch * patch * 3 * vw + vw + positions * vw + 4 * vw + vl * block(vw)
  words = vocab * tw + length * tw + 2 * tw + tl * block(tw)
  return visual + vw * joint + words + tw * joint


def decoder(joint, width=512, queries=16, layers=2):
  cross = (width * width + width) + (width * 2 * width + 2 * width)
  layer = block(width) + 2 * 2 * width + cross + width * width + width
  bring_in = 0 if joint == width else joint * width + width
  return queries * width + layers * layer + 2 * width + bring_in


def matcher(width=512):
  return 2 * width + 2 * block(width) + width * width + width + width + 1


def fused(joint, classes):
  project = 2 * joint * joint + joint
  return project + 2 * joint + (joint + 1) * (classes + 1)


def words(width, layers, vocabulary):
  """IRRA's head: three norms, cross-attention, blocks, two dense layers and a norm."""
  attention = 4 * (width * width + width)
  head = width * width + 3 * width + (width + 1) * vocabulary
  return 6 * width + attention + layers * block(width) + head


def parameters(config, heads=(), num_classes=None, vocab_size=49_408):
  """Counted without allocating anything."""
  model = build.build(
    config, vocab_size=vocab_size, num_classes=num_classes, heads=heads
  )
  image = jnp.zeros((1, *model.visual.image_size, 3), jnp.uint8)
  text = jnp.zeros((1, model.text.length), jnp.int32)
  return jax.eval_shape(model.init, jax.random.key(0), image, text)["params"]


def test_our_count_of_clip_is_the_published_one():
  # OpenAI's ViT-B/16 and ViT-L/14 at 224 pixels and 77 tokens, temperature included.
  base = towers((768, 12), (512, 12), 512, 16, 197, 77)
  large = towers((1024, 24), (768, 12), 768, 14, 257, 77)
  assert base + 1 == 149_620_737
  assert large + 1 == 427_616_513


def test_b16_at_retrieval_size():
  expected = towers((768, 12), (512, 12), 512, 16, 193, 168)
  assert tree.count(parameters(dict(variant="B/16"))) == expected
  clip = dict(variant="B/16", image_size=224, text_length=77, learn_scale=True)
  assert tree.count(parameters(clip)) == 149_620_737


@pytest.mark.parametrize(
  "config, positions",
  [
    (dict(variant="B/32"), 12 * 4 + 1),
    (dict(variant="B/16", stride=12), 31 * 10 + 1),
    (dict(variant="B/16", image_size=(256, 128)), 16 * 8 + 1),
  ],
)
def test_patch_stride_and_image_size_change_the_position_table(config, positions):
  patch = 32 if config["variant"] == "B/32" else 16
  expected = towers((768, 12), (512, 12), 512, patch, positions, 168)
  assert tree.count(parameters(config)) == expected


def test_b16_with_every_head():
  params = parameters(dict(variant="B/16"), build.HEADS, 11_003)
  assert {name: tree.count(params[name]) for name in params if "scale" not in name} == {
    "visual": 86_192_640 - (197 - 193) * 768,
    "text": 63_428_096 + (168 - 77) * 512,
    "granularity": decoder(512),
    "matcher": matcher(),
    "identity_fused": fused(512, 11_003),
    "identity_shared": 513 * 11_003,
    "mlm": words(512, 4, 49_408),
  }


def test_l14_at_retrieval_size():
  params = parameters(dict(variant="L/14"), ("parts", "matcher"))
  expected = towers((1024, 24), (768, 12), 768, 14, 244, 168)
  assert tree.count(params["visual"]) + tree.count(params["text"]) == expected
  assert tree.count(params["granularity"]) == decoder(768)
  assert tree.count(params["matcher"]) == matcher()


@pytest.mark.parametrize(
  "heads, names",
  [
    ((), set()),
    (("parts",), {"granularity"}),
    (("parts", "matcher"), {"granularity", "matcher"}),
    (("identity_fused",), {"identity_fused"}),
    (("identity_shared",), {"identity_shared"}),
  ],
)
def test_a_head_that_is_not_named_has_no_parameters(heads, names):
  params = parameters(dict(variant="tiny"), heads, 10, vocab_size=100)
  assert set(params) == {"visual", "text"} | names


def test_using_a_head_that_is_not_there_says_which():
  model = build.build(dict(variant="tiny"), vocab_size=100)
  params = {"params": parameters(dict(variant="tiny"), vocab_size=100)}
  with pytest.raises(ValueError, match="without the head 'parts'"):
    jax.eval_shape(
      lambda p: model.apply(p, jnp.zeros((1, 4, 128)), method="parts"), params
    )


def test_a_learnt_temperature_exists_only_when_asked_for():
  model = build.build(dict(variant="tiny", learn_scale=True), vocab_size=100)
  params = {"params": {"logit_scale": jnp.log(50.0)}}
  assert model.apply(params, method="scale") == pytest.approx(50.0)
  params = {"params": {"logit_scale": jnp.log(5000.0)}}
  assert model.apply(params, method="scale") == pytest.approx(100.0)
  assert "logit_scale" not in parameters(dict(variant="tiny"), vocab_size=100)


@pytest.mark.parametrize(
  "config, heads, message",
  [
    (dict(variant="B16"), (), "did you mean 'B/16'"),
    (dict(vision_witdh=64), (), "did you mean 'vision_width'"),
    (dict(dtype="bfloat"), (), "did you mean 'bfloat16'"),
    (dict(activation="quickgelu"), (), "did you mean 'quick_gelu'"),
    (dict(), ("part",), "did you mean 'parts'"),
    (dict(), ("matcher",), "add 'parts'"),
    (dict(), ("identity_fused",), "number of identities"),
    (dict(patch=(8, 8, 3)), (), "height, width"),
    (dict(image_size=0), (), "height, width"),
    (dict(pixel_mean=(0.5,)), (), "three numbers"),
  ],
)
def test_mistakes_are_named(config, heads, message):
  with pytest.raises(ValueError, match=message):
    build.build(config, vocab_size=10, heads=heads)


def test_all_variants_share_their_fields():
  first, *others = build.VARIANTS.values()
  assert all(set(fields) == set(first) for fields in others)


def test_outputs_are_those_of_the_contract():
  model = build.build(
    dict(variant="tiny"), vocab_size=100, num_classes=10, heads=build.HEADS
  )
  image, text = jnp.zeros((2, 96, 40, 3), jnp.uint8), jnp.zeros((2, 20), jnp.int32)
  out, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), image, text)
  shapes = {name: value.shape for name, value in out.items()}
  assert shapes == dict(
    image=(2, 96),
    text=(2, 96),
    image_feature=(2, 96),
    text_feature=(2, 96),
    image_tokens=(2, 61, 96),
    text_tokens=(2, 20, 96),
    text_mask=(2, 20),
    image_parts=(2, 4, 96),
    text_parts=(2, 4, 96),
    pair_logits=(2,),
    pair_classes=(2, 11),
    image_classes=(2, 10),
    text_classes=(2, 10),
    words=(2, 20, 100),
  )
