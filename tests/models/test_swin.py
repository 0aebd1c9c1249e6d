"""The Swin tower: sizes, errors, training behaviour, devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tests.models import weights
from tpr_jax.convert import swin as convert
from tpr_jax.core import sharding, tree
from tpr_jax.models import swin
from tpr_jax.models.layers.mlp import Mlp

SIZE = (32, 16)  # grids 8x4, where windows of 2 are shifted once, and 4x2
PIXELS = dict(pixel_mean=(0.5, 0.4, 0.3), pixel_std=(0.3, 0.2, 0.25))
SMALL = dict(image_size=SIZE, windows=(2, 2), width=16, depths=(2, 1), heads=(2, 4))


def tower(**changes):
  return swin.SwinTower(**{**SMALL, **PIXELS, **changes})


@functools.cache
def params():
  return weights.drawn(tower(), images(1))


def images(count, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), np.uint8)


@functools.cache
def applied(dtype="float32"):
  """Of a tower with dropout and drop-path, which are off here."""
  model = tower(dropout=0.3, drop_path=0.3, dtype=dtype)
  return jax.jit(lambda p, x, key: model.apply(p, x, False, rngs={"dropout": key}))


# ---- sizes


@pytest.mark.parametrize(
  "size, args, expected",
  [
    ((224, 224), (7,), (7, 7, 7, 7)),
    ((384, 256), (8, 4), (8, 8, 8, 4)),  # MRA, fine-tuning
    ((384, 128), (8,), (8, 8, 8, 4)),  # APTM: the last grid is 12 x 4
    ((384, 384), (12,), (12, 12, 12, 12)),
    ((64, 64), (7, 9), None),  # grids of 16: 7 does not divide
    ((256, 128), (16,), (16, 16, 8, 4)),
  ],
)
def test_windows(size, args, expected):
  if expected is None:
    with pytest.raises(ValueError, match=r"stage 0 has a grid of 16 x 16.*1, 2, 4, 8"):
      swin.windows(size, *args)
  else:
    assert swin.windows(size, *args) == expected


def test_a_window_that_the_last_grid_does_not_take_is_explained():
  message = r"the last stage has a grid of 12 x 8, which windows of 8 x 8 do not fill.*"
  with pytest.raises(ValueError, match=message + r"1, 2, 4 do.*`last`"):
    swin.windows((384, 256), 8)
  with pytest.raises(ValueError, match="windows of 0 x 0"):
    swin.windows((384, 256), 8, 0)


@pytest.mark.parametrize("size", [(384, 250), (30, 32), (16, 32), (0, 32)])
def test_images_that_patches_do_not_fill_are_refused(size):
  with pytest.raises(ValueError, match=r"does not fill 4 stages.*multiples of 32"):
    swin.grids(size)


@pytest.mark.parametrize(
  "changes, message",
  [
    (dict(windows=(2,)), "one entry for each stage"),
    (dict(heads=(2, 4, 8)), "one entry for each stage"),
    (dict(windows=(3, 2)), "grid of 8 x 4, which windows of 3 x 3"),
    (dict(windows=(8, 2)), "grid of 8 x 4, which windows of 8 x 8"),
    (dict(image_size=(36, 16)), r"images are \(32, 16, 3\).*\(36, 16, 3\)"),
    (dict(heads=(3, 4)), "width 16 is not a multiple of 3 heads"),
  ],
)
def test_fields_that_do_not_fit(changes, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(tower(**changes).init, jax.random.key(0), images(1))


@pytest.mark.parametrize(
  "size, args, count, tokens",
  [((224, 224), (7,), 86_743_224, 50), ((384, 256), (8, 4), 86_753_016, 97)],
)
def test_swin_b_has_the_published_size(size, args, count, tokens):
  fields = dict(image_size=size, windows=swin.windows(size, *args))
  model = swin.SwinTower(**fields, **PIXELS)
  image = jax.ShapeDtypeStruct((2, *size, 3), jnp.uint8)
  out, made = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
  assert out.shape == (2, tokens, 1024) and tree.count(made) == count
  sizes = dict(patch=4, width=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32))
  assert tree.shapes(made["params"]) == convert.shapes(fields | sizes)


# ---- values


def test_the_first_token_is_the_mean_and_rows_are_independent():
  apply, image = applied(), images(4)
  found = np.asarray(apply(params(), image, jax.random.key(0)))
  assert found.shape == (4, 1 + 4 * 2, 32) and found.dtype == np.float32
  np.testing.assert_allclose(found[:, 0], found[:, 1:].mean(axis=1), atol=1e-6)
  order = np.array([2, 0, 3, 1])
  turned = apply(params(), image[order], jax.random.key(0))
  np.testing.assert_allclose(turned, found[order], atol=1e-5)


def test_uint8_and_normalised_pixels_are_the_same():
  image = images(2)
  ready = (image / 255.0 - PIXELS["pixel_mean"]) / PIXELS["pixel_std"]
  key = jax.random.key(0)
  np.testing.assert_allclose(
    applied()(params(), image, key),
    applied()(params(), ready.astype(np.float32), key),
    atol=1e-5,
  )


def test_one_window_along_a_side_is_never_shifted():
  """Windows as wide as the grid: the upper half knows nothing of the lower one in the
  first stage, which a shift would mix."""
  image = images(1)
  other = image.copy()
  other[:, 16:] = 0  # rows 4..7 of 8

  def moved(window):
    model = tower(windows=(window,), depths=(2,), heads=(2,))
    made, run = weights.drawn(model, image), jax.jit(model.apply)
    change = np.abs(np.asarray(run(made, image)) - run(made, other))
    return change[0, 1:].reshape(8, 4, -1).max(axis=(1, 2))

  wide, narrow = moved(4), moved(2)
  assert not wide[:4].any() and wide[4:].min() > 1e-2
  # Windows of 2 are shifted by one: row 3 sees row 4, and the rows above do not.
  assert not narrow[:3].any() and narrow[3:].min() > 1e-3


def test_bfloat16_is_close_and_stays_bfloat16():
  key = jax.random.key(0)
  exact = np.asarray(applied()(params(), images(3), key))
  found = applied("bfloat16")(params(), images(3), key)
  assert found.dtype == jnp.bfloat16
  found = np.asarray(found, np.float32)
  cosine = np.sum(found * exact, -1) / (
    np.linalg.norm(found, axis=-1) * np.linalg.norm(exact, axis=-1)
  )
  assert 1e-7 < np.abs(cosine - 1).max() < 1e-2


# ---- training


@functools.cache
def gradients(remat=False):
  model = tower(drop_path=0.4, remat=remat)  # dropout's draws take long to compile
  mix = np.random.default_rng(1).normal(size=(8, 9, 32)).astype(np.float32)

  def loss(p, image, key):
    out = model.apply(p, image, True, rngs={"dropout": key})
    return jnp.sum(jnp.tanh(out) * mix)

  return jax.jit(jax.value_and_grad(loss))


def check_gradients(found, expected):
  for name, leaf in tree.flat(expected).items():
    limit = 1e-4 * np.abs(leaf).max()
    np.testing.assert_allclose(tree.flat(found)[name], leaf, atol=limit, err_msg=name)


def test_every_parameter_has_a_gradient():
  _, grads = gradients()(params(), images(8), jax.random.key(0))
  for name, leaf in tree.flat(grads).items():
    assert np.abs(leaf).max() > 1e-4, name


@pytest.mark.parametrize(
  "name", ["stage_0/block_1/relative_position_bias", "stage_0/merge/ln/scale"]
)
def test_gradients_by_finite_differences(name):
  """Along the gradient itself, where the slope is its length."""
  args = (images(8), jax.random.key(0))
  leaves = tree.flat(params()["params"])
  way = np.asarray(tree.flat(gradients()(params(), *args)[1]["params"])[name])
  length = np.linalg.norm(way)

  def loss(step):
    moved = {**leaves, name: leaves[name] + step * way / length}
    return float(gradients()({"params": tree.nested(moved)}, *args)[0])

  slope = (loss(0.02) - loss(-0.02)) / 0.04
  np.testing.assert_allclose(slope, length, rtol=1e-2)


def test_drop_path_grows_to_the_last_block():
  """Of two blocks the first keeps everything; equal pictures come out in four kinds,
  by which branches of the other are kept."""
  image = np.repeat(images(1), 256, axis=0)
  model = tower(depths=(1, 1), drop_path=0.9)
  made, rngs = weights.drawn(model, image[:1]), {"dropout": jax.random.key(1)}
  found = jax.jit(lambda p, x: model.apply(p, x, True, rngs=rngs))(made, image)
  kinds, counts = np.unique(np.round(found[:, 1], 3), axis=0, return_counts=True)
  assert len(kinds) == 4
  # Both are dropped with probability 0.81: 207 of 256, give or take 6.3.
  assert 180 < counts.max() < 235


def test_chance_is_the_keys_and_of_training_alone():
  image, run = images(8), gradients()
  value = lambda seed: float(run(params(), image, jax.random.key(seed))[0])
  assert value(0) == value(0) and abs(value(0) - value(1)) > 1e-2
  off = [applied()(params(), image[:2], jax.random.key(seed)) for seed in (0, 1)]
  np.testing.assert_array_equal(*off)


def test_every_place_of_dropout_works():
  """Two equal pictures differ, where all but one of the branches is made 0."""
  image = np.repeat(images(1), 2, axis=0)
  model = tower(depths=(1,), heads=(2,), windows=(2,), dropout=0.5)
  run = jax.jit(lambda p, x, key: model.apply(p, x, True, rngs={"dropout": key}))
  made = tree.flat(weights.drawn(model, image[:1])["params"])
  quiet = ("attn/out", "mlp/proj", "ln_patch")
  ramp = np.arange(16, dtype=np.float32)

  def differ(kept):
    leaves = {
      name: np.zeros_like(v) if any(part in name for part in quiet) else v
      for name, v in made.items()
    }
    out = run({"params": tree.nested(leaves | kept)}, image, jax.random.key(0))
    return bool(np.abs(out[0] - out[1]).max() > 1e-3)

  assert not differ({})  # nothing is left that could be dropped
  assert differ({"ln_patch/bias": ramp})
  assert differ({"stage_0/block_0/attn/out/bias": ramp})
  assert differ({"stage_0/block_0/mlp/proj/bias": ramp})


def test_the_perceptron_drops_twice():
  layer = Mlp(activation="gelu", dropout=0.5)
  made = layer.init(jax.random.key(0), np.ones((1, 4)))["params"]
  made = jax.tree.map(np.ones_like, made)  # equal hidden units, equal outputs
  rngs = {"dropout": jax.random.key(1)}
  run = lambda p: np.asarray(
    layer.apply({"params": p}, np.ones((64, 4)), True, rngs=rngs)
  )
  # Behind the second: half of the outputs. Behind the first: rows have other sums.
  found = run(made)
  assert 0.4 < np.mean(found == 0) < 0.6
  assert len(np.unique(np.round(found.max(axis=1), 3))) > 5
  assert not (layer.apply({"params": made}, np.ones((1, 4))) == 0).any()


# ---- devices


def test_neither_devices_nor_remat_change_a_number():
  mesh = sharding.make_mesh(dict(data=2, fsdp=2, tensor=2))
  placed = sharding.state_shardings(params(), mesh, ("auto",))
  found = {n: s.spec for n, s in tree.flat(placed["params"]).items()}
  at = "stage_0/block_1/"
  split = ("tensor", "fsdp")
  assert found[at + "attn/qkv/kernel"] == PartitionSpec(split)
  assert found[at + "attn/out/kernel"] == PartitionSpec(split)
  assert found[at + "mlp/fc/kernel"] == PartitionSpec("fsdp", "tensor")
  assert found[at + "mlp/fc/bias"] == PartitionSpec("tensor")
  assert found[at + "mlp/proj/kernel"] == PartitionSpec(split)
  assert found[at + "relative_position_bias"] == PartitionSpec()
  assert found["stage_0/merge/reduction/kernel"] == PartitionSpec("fsdp")

  def step(p, batch, key):
    value, grads = gradients(remat=True)(p, batch["image"], key)
    return (value, {}), grads

  image, key = images(8), jax.random.key(0)
  value, grads = gradients()(params(), image, key)
  run = jax.jit(
    sharding.on_mesh(step, mesh, placed),
    in_shardings=(placed, sharding.batch_sharding(mesh), None),
  )
  (same, _), split_grads = run(params(), {"image": image}, key)
  np.testing.assert_allclose(same, value, rtol=1e-5)
  check_gradients(split_grads, grads)
