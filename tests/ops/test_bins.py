"""Adaptive bins: the spans that the design gives, torch's rule, and masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tpr_jax.ops import bins

pool = jax.jit(bins.adaptive_bins, static_argnums=1)


def slow(tokens, count, mask=None):
  """Loops in float64: a token is in bin i where floor(iM/n) <= m < ceil((i+1)M/n)."""
  rows, length, width = tokens.shape
  mask = np.ones((rows, length), bool) if mask is None else mask
  out = np.zeros((rows, count, width))
  for b in range(rows):
    for i in range(count):
      inside = [
        m
        for m in range(length)
        if np.floor(i * length / count) <= m < np.ceil((i + 1) * length / count)
      ]
      kept = [m for m in inside if mask[b, m]] or list(np.flatnonzero(mask[b]))
      if kept:
        out[b, i] = sum(np.float64(tokens[b, m]) for m in kept) / len(kept)
  return out


@pytest.mark.parametrize(
  "length, spans",
  [
    (49, ((0, 17), (16, 33), (32, 49))),
    (96, ((0, 32), (32, 64), (64, 96))),
    (55, ((0, 19), (18, 37), (36, 55))),
    (2, ((0, 1), (0, 2), (1, 2))),  # fewer tokens than bins: they are shared
  ],
)
def test_the_spans_of_three_bins(length, spans):
  assert bins.edges(length, 3) == spans


@pytest.mark.parametrize("length, count", [(49, 3), (96, 3), (55, 3), (7, 4), (2, 3)])
def test_bins_are_the_transcription(length, count):
  rng = np.random.default_rng(length)
  tokens = rng.normal(size=(3, length, 5)).astype(np.float32)
  np.testing.assert_allclose(pool(tokens, count), slow(tokens, count), atol=1e-6)
  mask = rng.random((3, length)) < 0.3
  mask[1] = False
  mask[1, -1] = True  # one token alone, in the last bin: all bins are it
  mask[2] = False
  found = np.asarray(pool(tokens, count, mask))
  np.testing.assert_allclose(found, slow(tokens, count, mask), atol=1e-6)
  np.testing.assert_array_equal(found[1], np.tile(tokens[1, -1], (count, 1)))
  np.testing.assert_array_equal(found[2], 0.0)


def test_a_full_mask_is_no_mask_and_sums_are_float32():
  tokens = np.random.default_rng(0).normal(size=(2, 49, 4)).astype(np.float32)
  full = np.ones((2, 49), bool)
  np.testing.assert_allclose(pool(tokens, 3, full), pool(tokens, 3), rtol=1e-6)
  half = jnp.asarray(tokens, jnp.bfloat16)
  found = pool(half, 3)
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, slow(np.float32(half), 3), atol=1e-6)


def test_gradients_reach_what_is_masked_in_alone():
  rng = np.random.default_rng(1)
  tokens = rng.normal(size=(2, 8, 3)).astype(np.float32)
  mask = np.array([[1, 0, 1, 1, 0, 0, 0, 0], [0] * 8], bool)
  loss_fn = lambda x: jnp.sum(bins.adaptive_bins(x, 3, mask) ** 2)
  tokens[0, 1] = np.nan  # hidden: neither the value nor the gradient knows
  value, grad = jax.value_and_grad(loss_fn)(tokens)
  assert np.isfinite(value)
  np.testing.assert_array_equal(np.any(grad, axis=2), mask)
  tokens[0, 1] = 0.0
  check_grads(loss_fn, (tokens,), 1, ["rev"], rtol=1e-2)


def test_a_region_s_sequence_starts_with_its_mean():
  rng = np.random.default_rng(2)
  tokens = rng.normal(size=(2, 5, 3)).astype(np.float32)
  region = np.array([[0, 1, 1, 0], [1, 1, 1, 1]], bool)
  sequence, seen = bins.region_sequence(tokens, region)
  np.testing.assert_allclose(sequence[0, 0], tokens[0, 2:4].mean(axis=0), rtol=1e-6)
  np.testing.assert_allclose(sequence[1, 0], tokens[1, 1:].mean(axis=0), rtol=1e-6)
  np.testing.assert_array_equal(sequence[:, 1:], tokens[:, 1:])
  np.testing.assert_array_equal(seen, np.c_[[True, True], region])
  hidden = bins.region_sequence(tokens, region, show_mean=False)[1]
  np.testing.assert_array_equal(hidden, np.c_[[False, False], region])
  bf16 = bins.region_sequence(jnp.asarray(tokens, jnp.bfloat16), region)[0]
  assert bf16.dtype == jnp.bfloat16


def test_errors_say_what_was_found():
  tokens = jnp.zeros((2, 6, 3))
  with pytest.raises(ValueError, match=r"0 bins of 6 tokens"):
    bins.adaptive_bins(tokens, 0)
  with pytest.raises(ValueError, match=r"mask of shape \(2, 5\).*\(2, 6\)"):
    bins.adaptive_bins(tokens, 3, jnp.ones((2, 5), bool))
