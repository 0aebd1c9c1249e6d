"""Batch normalisation against torch's formulas in numpy, and its running statistics."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tpr_jax.core import sharding
from tpr_jax.models.layers import batch_norm
from tpr_jax.models.layers.batch_norm import BatchNorm
from tpr_jax.models.projection import BinProjection, TokenProjection, pooled

ROWS = np.random.default_rng(0).normal(3.0, 2.0, (8, 5)).astype(np.float32)
PARAMS = dict(
  scale=np.array([1, 2, 0.5, 1, 1], np.float32),
  bias=np.array([0, 1, 0, -1, 0], np.float32),
  mean=np.array([3, 2, 3, 4, 0], np.float32),
  variance=np.array([4, 1, 2, 9, 1], np.float32),
)


def slow(x, mean, variance):
  """float64, number by number."""
  out = np.zeros(x.shape)
  for i, row in enumerate(np.float64(x)):
    for j, value in enumerate(row):
      z = (value - mean[j]) / np.sqrt(variance[j] + 1e-5)
      out[i, j] = z * PARAMS["scale"][j] + PARAMS["bias"][j]
  return out


@jax.jit
def train(params, x):
  return BatchNorm().apply({"params": params}, x, True, mutable=["running"])


def test_training_takes_the_batch_and_evaluation_what_ran():
  wide = np.float64(ROWS)
  out, _ = train(PARAMS, ROWS)
  np.testing.assert_allclose(out, slow(ROWS, wide.mean(0), wide.var(0)), atol=1e-5)
  still = BatchNorm().apply({"params": PARAMS}, ROWS)
  expected = slow(ROWS, PARAMS["mean"], PARAMS["variance"])
  np.testing.assert_allclose(still, expected, atol=1e-5)
  # Where nobody asks for "running", training changes nothing and returns rows alone.
  alone = BatchNorm().apply({"params": PARAMS}, ROWS, True)
  np.testing.assert_allclose(alone, out, atol=1e-6)


def test_a_constant_column_is_the_bias_and_large_means_keep_their_digits():
  rows = ROWS.copy()
  rows[:, 0], rows[:, 1] = 7.0, ROWS[:, 1] + 3000.0
  out, _ = train(PARAMS, rows)
  np.testing.assert_array_equal(np.asarray(out)[:, 0], PARAMS["bias"][0])
  wide = np.float64(rows)
  expected = slow(rows, wide.mean(0), wide.var(0))
  np.testing.assert_allclose(np.asarray(out)[:, 1], expected[:, 1], atol=2e-3)


class Twice(nn.Module):
  """Two calls in training, one in evaluation."""

  @nn.compact
  def __call__(self, first, second):
    norm = BatchNorm(name="bn")
    return norm(first, True), norm(second, True), norm(first, False)


def test_running_statistics_fold_calls_in_their_order():
  params = {"inner": {"bn": PARAMS}, "other": {"kernel": np.ones(2)}}
  other = ROWS[:3] * 2
  variables = {"params": params["inner"]}
  out, sown = Twice().apply(variables, ROWS, other, mutable=["running"])
  np.testing.assert_allclose(out[0], train(PARAMS, ROWS)[0], atol=1e-6)
  new = jax.jit(batch_norm.updated)(params, {"inner": sown["running"]})
  assert set(new) == {"inner/bn/mean", "inner/bn/variance"}
  for name, of in (("mean", np.mean), ("variance", np.var)):
    value = np.float64(PARAMS[name])
    for x in (ROWS, other):  # torch's momentum of 0.1
      value = 0.9 * value + 0.1 * of(np.float64(x), axis=0)
    np.testing.assert_allclose(new[f"inner/bn/{name}"], value, rtol=1e-5)
  assert batch_norm.updated(params, {}) == {}
  slower = batch_norm.updated(params, {"inner": sown["running"]}, momentum=0.99)
  for name, value in slower.items():
    before = PARAMS[name.removeprefix("inner/bn/")]
    moved, further = (np.abs(v - before) for v in (value, new[name]))
    assert 0 < moved.max() < further.max()


def test_a_mesh_normalises_by_the_global_batch():
  mesh = sharding.make_mesh(dict(data=4, fsdp=2))
  rows = jax.device_put(ROWS, sharding.batch_sharding(mesh))
  out, sown = train(PARAMS, rows)
  expected, there = train(PARAMS, ROWS)
  np.testing.assert_allclose(out, expected, atol=1e-5)
  for name in ("mean", "variance"):
    np.testing.assert_allclose(sown["running"][name], there["running"][name], rtol=1e-5)


def test_running_statistics_get_no_gradient_and_init_sows_nothing():
  loss = lambda params, t: jnp.sum(BatchNorm().apply({"params": params}, ROWS, t) ** 2)
  for mode in (True, False):
    grads = jax.grad(loss)(PARAMS, mode)
    assert np.any(grads["scale"]) and np.any(grads["bias"])
    assert not np.any(grads["mean"]) and not np.any(grads["variance"])
  made = BatchNorm().init(jax.random.key(0), ROWS, True)
  assert set(made) == {"params"}
  np.testing.assert_array_equal(made["params"]["variance"], np.ones(5))
  assert BatchNorm(dtype="bfloat16").apply(made, ROWS).dtype == jnp.bfloat16


def test_one_row_is_refused():
  with pytest.raises(ValueError, match=r"found a training batch of 1 row, expected 2"):
    BatchNorm().apply({"params": PARAMS}, ROWS[:1], True)


# ---- projections


def tokens_of(count, width=4):
  return np.random.default_rng(count).normal(size=(2, count, width)).astype(np.float32)


def test_bins_are_three_stripes_of_all_tokens_but_the_first():
  """N = 49 and 96 of images, 55 of texts, with the bounds of the released code."""
  for count, spans in (
    (49, [(0, 17), (16, 33), (32, 49)]),
    (96, [(0, 32), (32, 64), (64, 96)]),
    (55, [(0, 19), (18, 37), (36, 55)]),
  ):
    x = tokens_of(1 + count)
    means = [np.float64(x[:, 1 + a : 1 + b]).mean(axis=1) for a, b in spans]
    for first in (False, True):
      rows = np.concatenate([x[:, 0], *means] if first else means, axis=1)
      np.testing.assert_allclose(pooled(x, bins=3, first=first), rows, atol=1e-6)


def test_a_mask_leaves_tokens_out_of_their_bins():
  x = tokens_of(10)
  mask = np.ones((2, 10), bool)
  mask[0, 2], mask[0, 7:], mask[1, 0] = False, False, False
  found = np.asarray(pooled(x, mask, bins=3, first=True)).reshape(2, 4, 4)
  np.testing.assert_allclose(found[0, 1], x[0, [1, 3]].mean(axis=0), atol=1e-6)
  # The last bin has no token: the mean of all that count.
  np.testing.assert_allclose(found[0, 3], x[0, [1, 3, 4, 5, 6]].mean(axis=0), atol=1e-6)
  # The first token's mask is about attention alone.
  np.testing.assert_allclose(found[1, 0], x[1, 0], atol=1e-6)
  np.testing.assert_allclose(found[1, 1], x[1, 1:4].mean(axis=0), atol=1e-6)


def test_the_projection_of_bins_is_norm_dropout_and_a_linear_map():
  x = np.random.default_rng(1).normal(size=(6, 10, 4)).astype(np.float32)
  model = BinProjection(joint_dim=7, first=True)
  params = model.init(jax.random.key(0), x)["params"]
  assert params["dense"]["kernel"].shape == (16, 7)
  assert 0.7e-5 < np.std(params["dense"]["kernel"]) < 1.3e-5
  run = jax.jit(
    functools.partial(model.apply, train=True, mutable=["running"]),
  )
  rng = lambda n: dict(dropout=jax.random.key(n))
  (one, sown), (two, _) = (run({"params": params}, x, rngs=rng(n)) for n in (0, 1))
  assert set(sown["running"]["bn"]) == {"mean", "variance"}
  assert one.shape == (6, 7) and one.dtype == jnp.float32
  assert np.abs(one - two).max() > 1e-6
  still = model.apply({"params": params}, x)
  rows = np.asarray(pooled(x, bins=3, first=True)) / np.sqrt(1 + 1e-5)
  np.testing.assert_allclose(still, rows @ params["dense"]["kernel"], atol=1e-9)


def test_the_linear_projection_reads_the_first_token():
  x = tokens_of(6)
  model = TokenProjection(joint_dim=3, dtype="bfloat16")
  params = TokenProjection(joint_dim=3).init(jax.random.key(0), x)
  assert set(params["params"]) == {"linear"}
  expected = x[:, 0] @ params["params"]["linear"]["kernel"]
  out = TokenProjection(joint_dim=3).apply(params, x, train=True)
  np.testing.assert_allclose(out, expected, atol=1e-6)
  low = model.apply(params, x)
  assert low.dtype == jnp.float32
  np.testing.assert_allclose(low, expected, atol=2e-2)
