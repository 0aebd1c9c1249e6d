"""cuDNN's attention beside our own formula in float32: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.gpu import needs_gpu
from tpr_jax.ops import attention, flash, masks

pytestmark = needs_gpu
HEADS, WIDTH = 3, 64


def drawn(queries, keys):
  rng = np.random.default_rng(0)
  shape = lambda length: (4, length, HEADS, WIDTH)
  given = [rng.normal(size=shape(n)) for n in (queries, keys, keys, queries)]
  return [jnp.asarray(x, jnp.bfloat16) for x in given]


def valid(length):
  return masks.keys_only(jnp.arange(length) < jnp.array([[length], [3], [1], [2]]))


@pytest.mark.parametrize(
  ("queries", "keys", "mask"),
  [
    (16, 16, None),
    (193, 193, None),
    (194, 194, masks.First(193, 194)),
    (4, 193, None),
    (168, 168, masks.Causal(168)),
    (77, 77, masks.Causal(77)),
    (16, 168, valid(168)),
  ],
)
def test_value_and_gradients(queries, keys, mask):
  *qkv, weights = drawn(queries, keys)
  assert flash.available() and flash.fits(*qkv, mask)

  def value(q, k, v):
    out = attention.attend(q, k, v, mask)
    return jnp.sum(out.astype(jnp.float32) * weights.astype(jnp.float32)), out

  run = jax.jit(jax.value_and_grad(value, (0, 1, 2), has_aux=True))
  assert "__cudnn$fmha" in run.lower(*qkv).compile().as_text()
  (_, out), grads = run(*qkv)
  assert out.dtype == jnp.bfloat16
  with jax.default_matmul_precision("highest"):
    (_, wide), wide_grads = run(*(x.astype(jnp.float32) for x in qkv))
  for found, true in zip((out, *grads), (wide, *wide_grads), strict=True):
    found = found.astype(jnp.float32)
    np.testing.assert_allclose(found, true, atol=0.02 * np.abs(true).max())
    off = np.linalg.norm(found - true) / np.linalg.norm(true)
    assert off < 0.01, off  # bfloat16 has 8 bits: half a step is 0.002


def test_a_query_that_sees_nothing_gets_the_mean():
  q, k, v, _ = drawn(4, 6)
  out = attention.attend(q, k, v, jnp.zeros((1, 1, 1, 6), bool))
  mean = jnp.broadcast_to(v.astype(jnp.float32).mean(1, keepdims=True), out.shape)
  np.testing.assert_allclose(out.astype(jnp.float32), mean, atol=0.02)
