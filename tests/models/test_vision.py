import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import weights
from tpr_jax.models import build, clip_vision
from tpr_jax.models.layers import patches
from tpr_jax.ops import flash


@pytest.mark.parametrize(
  "size, patch, stride, expected",
  [
    ((384, 128), 16, 16, (24, 8)),
    ((384, 128), 14, 14, (27, 9)),
    ((384, 128), 32, 32, (12, 4)),
    ((384, 128), 16, 12, (31, 10)),
    ((224, 224), 14, 14, (16, 16)),
  ],
)
def test_grid(size, patch, stride, expected):
  assert patches.grid(size, (patch, patch), (stride, stride)) == expected


def test_a_picture_smaller_than_a_patch_is_refused():
  with pytest.raises(ValueError, match="cannot hold a patch"):
    patches.grid((12, 64), (16, 16), (16, 16))


@pytest.mark.parametrize("stride", [(4, 3), (2, 3), (3, 1)])
def test_patches_are_inner_products_row_by_row(stride):
  """Overlapping or not, against a loop; the size leaves a rest that is cut off."""
  rng = np.random.default_rng(0)
  image = rng.normal(size=(2, 14, 11, 3)).astype(np.float32)
  layer = patches.Patches(5, (4, 3), stride)
  params = weights.drawn(layer, image)
  kernel = np.asarray(params["params"]["kernel"])
  rows, columns = patches.grid((14, 11), (4, 3), stride)
  expected = np.zeros((2, rows * columns, 5))
  for r in range(rows):
    for c in range(columns):
      top, left = r * stride[0], c * stride[1]
      piece = image[:, top : top + 4, left : left + 3]
      expected[:, r * columns + c] = np.einsum("bhwi,hwio->bo", piece, kernel)
  np.testing.assert_allclose(layer.apply(params, image), expected, atol=1e-5)


def test_normalise():
  mean, std = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)
  image = np.array([[[[255, 0, 51]]]], np.uint8)
  out = clip_vision.normalise(jnp.asarray(image), mean, std)
  np.testing.assert_allclose(out[0, 0, 0], [1.0, -1.0, 0.2], atol=1e-6)
  ready = jnp.full((1, 1, 1, 3), 3.5, jnp.float32)
  np.testing.assert_array_equal(clip_vision.normalise(ready, mean, std), ready)
  with pytest.raises(TypeError, match="int32"):
    clip_vision.normalise(jnp.zeros((1, 1, 1, 3), jnp.int32), mean, std)


CONFIG = dict(variant="tiny", image_size=(24, 16), patch=8, text_length=6)
CONFIG |= dict(vision_width=16, vision_layers=2, vision_heads=2, joint_dim=8)
CONFIG |= dict(text_width=16, text_layers=1, text_heads=2)


def init(**overrides):
  model = build.build({**CONFIG, **overrides}, vocab_size=9)
  text = jnp.array([[7, 1, 8, 0, 0, 0]])
  params = weights.drawn(model, jnp.zeros((1, 24, 16, 3), jnp.uint8), text)
  return jax.jit(functools.partial(model.apply, method="encode_image")), params, model


def test_uint8_and_normalised_float_give_one_feature():
  apply, params, model = init()
  image = np.random.default_rng(0).integers(0, 256, (3, 24, 16, 3), np.uint8)
  tower = model.visual
  ready = (image / 255.0 - tower.pixel_mean) / tower.pixel_std
  a = apply(params, image)
  b = apply(params, ready.astype(np.float32))
  assert a["image_tokens"].shape == (3, 1 + 3 * 2, 8)
  np.testing.assert_allclose(a["image"], b["image"], atol=1e-5)
  np.testing.assert_allclose(a["image_feature"], a["image_tokens"][:, 0])


def test_another_size_is_refused_with_both_sizes_named():
  apply, params, _ = init()
  with pytest.raises(ValueError, match=r"\(16, 24, 3\).*\(24, 16, 3\)"):
    apply(params, jnp.zeros((1, 16, 24, 3), "uint8"))


def test_position_matters_and_rows_are_independent():
  apply, params, _ = init()
  image = np.random.default_rng(0).integers(0, 256, (4, 24, 16, 3), np.uint8)
  out = apply(params, image)["image"]
  shuffled = apply(params, image[[2, 0, 3, 1]])["image"]
  np.testing.assert_allclose(shuffled, out[jnp.array([2, 0, 3, 1])], atol=1e-5)
  upside_down = np.concatenate([image[:, 16:], image[:, 8:16], image[:, :8]], axis=1)
  turned = apply(params, upside_down)["image"]
  assert np.abs(turned - out).max() > 1e-3


def test_drop_path_works_in_training_only_and_is_repeatable():
  _, params, model = init(drop_path=0.5)
  image = np.random.default_rng(0).integers(0, 256, (256, 24, 16, 3), np.uint8)
  image[:] = image[0]
  encode = jax.jit(
    functools.partial(model.apply, method="encode_image"), static_argnums=2
  )
  rngs = {"dropout": jax.random.key(1)}
  off = encode(params, image, False)["image"]
  np.testing.assert_array_equal(encode(params, image, False, rngs=rngs)["image"], off)
  on = encode(params, image, True, rngs=rngs)["image"]
  np.testing.assert_array_equal(encode(params, image, True, rngs=rngs)["image"], on)
  # The first of two blocks keeps everything; the last drops either branch of half of
  # the examples, so equal pictures come out in exactly four kinds.
  kinds = np.unique(np.round(np.asarray(on), 4), axis=0)
  assert len(kinds) == 4


@pytest.mark.parametrize("class_only", [False, True])
def test_a_spare_token_changes_nothing(monkeypatch, class_only):
  """With it the tokens of a picture are even in number, as cuDNN's attention has it."""
  _, params, model = init(dtype="bfloat16")
  tower = {"params": params["params"]["visual"]}
  image = np.random.default_rng(0).integers(0, 256, (3, 24, 16, 3), np.uint8)

  def value(params):
    x = model.visual.apply(params, image, class_only=class_only)
    return jnp.sum(x.astype(jnp.float32) ** 2), x

  def found():
    (_, x), grads = jax.jit(jax.value_and_grad(value, has_aux=True))(tower)
    return x, grads

  plain, lengths = found(), set()

  def fits(q, k, *_):  # the kernel itself is a GPU's
    lengths.add(k.shape[1])
    return False

  monkeypatch.setattr(flash, "available", lambda: True)
  monkeypatch.setattr(flash, "fits", fits)
  spared = found()
  assert lengths == {8}  # of 1 + 3 x 2 tokens
  for a, b in zip(*map(jax.tree.leaves, (plain, spared)), strict=True):
    assert a.shape == b.shape
    a, b = (np.asarray(x, np.float32) for x in (a, b))
    np.testing.assert_allclose(a, b, atol=0.01 * np.abs(a).max())
