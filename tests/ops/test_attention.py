import jax
import jax.numpy as jnp
import numpy as np

from tpr_jax.ops import attention, masks


def drawn(dtype=np.float32, batch=2, queries=5, keys=5, heads=3, width=4):
  rng = np.random.default_rng(0)
  shape = lambda length: (batch, length, heads, width)
  sizes = (queries, keys, keys)
  return [jnp.asarray(rng.normal(size=shape(n)), dtype) for n in sizes]


def slow(q, k, v, mask):
  """One query at a time, over the keys that it may see."""
  out = np.zeros(q.shape)
  weights = np.zeros((q.shape[0], q.shape[2], q.shape[1], k.shape[1]))
  for b, i, h in np.ndindex(q.shape[:3]):
    seen = np.flatnonzero(np.broadcast_to(mask, weights.shape)[b, h, i])
    logits = np.array([q[b, i, h] @ k[b, j, h] for j in seen]) / np.sqrt(q.shape[-1])
    p = np.exp(logits) / np.exp(logits).sum()
    weights[b, h, i, seen] = p
    out[b, i, h] = sum(p[n] * v[b, j, h] for n, j in enumerate(seen))
  return out, weights


def test_against_loops_with_each_mask():
  q, k, v = drawn(queries=4, keys=6)
  padding = masks.keys_only(jnp.arange(6)[None, :] < jnp.array([[6], [2]]))
  for mask in (jnp.ones((1, 1, 1, 1), bool), padding):
    out, weights = jax.jit(attention.attend, static_argnames="return_weights")(
      q, k, v, mask, return_weights=True
    )
    expected, expected_weights = slow(*map(np.asarray, (q, k, v, mask)))
    np.testing.assert_allclose(out, expected, atol=1e-5)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-5)


def test_causal_sees_itself_and_the_past():
  q, k, v = drawn()
  expected, _ = slow(*map(np.asarray, (q, k, v)), np.tril(np.ones((1, 1, 5, 5), bool)))
  out = attention.attend(q, k, v, masks.Causal(5))
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_the_first_are_seen_by_all():
  q, k, v = drawn(keys=6)
  out = attention.attend(q, k, v, masks.First(4, 6))
  np.testing.assert_allclose(out, attention.attend(q, k[:, :4], v[:, :4]), atol=1e-6)


def test_an_additive_mask_is_added():
  q, k, v = drawn()
  boolean = masks.Causal(5).array()
  additive = jnp.where(boolean, 0.0, -1e30)
  np.testing.assert_allclose(
    attention.attend(q, k, v, additive), attention.attend(q, k, v, boolean), atol=1e-6
  )
  shifted = attention.attend(q, k, v, jnp.full((1, 1, 5, 5), 3.0))
  np.testing.assert_allclose(shifted, attention.attend(q, k, v), atol=1e-5)


def test_nothing_to_see_is_the_mean_and_never_nan():
  q, k, v = drawn()
  nothing = jnp.zeros((1, 1, 1, 5), bool)
  out, grads = jax.value_and_grad(
    lambda q: jnp.sum(attention.attend(q, k, v, nothing)[0, 0, 0, 0])
  )(q)
  np.testing.assert_allclose(out, v[0, :, 0, 0].mean(), rtol=1e-5)
  assert np.isfinite(grads).all()


def test_bfloat16_keeps_a_float32_softmax():
  q, k, v = drawn(jnp.bfloat16)
  out, weights = attention.attend(q, k, v, return_weights=True)
  assert out.dtype == jnp.bfloat16 and weights.dtype == jnp.float32
  np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-6)
  wide = attention.attend(*(x.astype(jnp.float32) for x in (q, k, v)))
  np.testing.assert_allclose(out.astype(jnp.float32), wide, atol=0.03)


def test_dropout_is_of_the_weights():
  """Halved weights halve the result; those returned are those that were used."""
  rng = np.random.default_rng(9)
  q, k, v = rng.normal(size=(3, 2, 4, 2, 3)).astype(np.float32)
  whole = lambda w: w
  plain, weights = attention.attend(q, k, v, drop=whole, return_weights=True)
  np.testing.assert_allclose(plain, attention.attend(q, k, v), atol=1e-6)
  half = attention.attend(q, k, v, drop=lambda w: 0.5 * w, return_weights=True)
  np.testing.assert_allclose(half[0], 0.5 * plain, rtol=1e-6)
  np.testing.assert_allclose(half[1], 0.5 * weights, rtol=1e-6)
