import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import weights
from tpr_jax.models.granularity import GranularityDecoder
from tpr_jax.models.identity import FusedIdentity, SharedIdentity
from tpr_jax.models.matcher import Matcher


@pytest.fixture(scope="module")
def tokens():
  return jax.random.normal(jax.random.key(1), (3, 7, 24))


def test_decoder_ignores_the_order_of_tokens_and_what_is_masked(tokens):
  decoder = GranularityDecoder(queries=4, width=16, heads=2)
  params = weights.drawn(decoder, tokens)
  apply = jax.jit(decoder.apply)
  mask = jnp.arange(7)[None, :] < jnp.array([7, 5, 1])[:, None]
  parts = apply(params, tokens, mask)
  assert parts.shape == (3, 4, 16) and parts.dtype == jnp.float32
  order = jnp.array([4, 2, 0, 6, 1, 5, 3])
  shuffled = apply(params, tokens[:, order], mask[:, order])
  np.testing.assert_allclose(shuffled, parts, atol=1e-5)
  noise = jnp.where(mask[..., None], tokens, 100.0)
  np.testing.assert_allclose(apply(params, noise, mask), parts, atol=1e-5)
  assert np.abs(apply(params, noise) - parts).max() > 1e-2


def test_decoder_maps_tokens_in_only_where_widths_differ(tokens):
  other = GranularityDecoder(queries=4, width=16, heads=2)
  same = GranularityDecoder(queries=4, width=24, heads=2)
  assert "tokens_in" in weights.drawn(other, tokens)["params"]
  assert "tokens_in" not in weights.drawn(same, tokens)["params"]


def test_at_the_start_parts_differ_from_each_other_and_follow_the_input(tokens):
  """Parts that are all alike could not learn to be different parts."""
  decoder = GranularityDecoder(queries=4, width=32, heads=2)
  out, _ = jax.jit(decoder.init_with_output)(jax.random.key(0), tokens)
  parts = np.asarray(out)
  unit = parts / np.linalg.norm(parts, axis=-1, keepdims=True)
  between = np.einsum("bkw,blw->bkl", unit, unit)[:, ~np.eye(4, dtype=bool)]
  assert np.abs(between).max() < 0.7
  assert np.abs(parts[0] - parts[1]).max() > 0.05


def test_matcher_tells_image_from_text_and_pools_parts():
  image = jax.random.normal(jax.random.key(1), (5, 4, 16))
  text = jax.random.normal(jax.random.key(2), (5, 4, 16))
  matcher = Matcher(heads=2)
  params = weights.drawn(matcher, image, text)
  apply = jax.jit(matcher.apply)
  logits = apply(params, image, text)
  assert logits.shape == (5,) and logits.dtype == jnp.float32
  assert np.abs(apply(params, text, image) - logits).max() > 1e-4
  order = jnp.array([2, 0, 3, 1])
  permuted = apply(params, image[:, order], text)
  np.testing.assert_allclose(permuted, logits, atol=1e-5)
  rows = jnp.array([4, 2, 0])
  np.testing.assert_allclose(
    apply(params, image[rows], text[rows]), logits[rows], atol=1e-5
  )


def test_identity_heads_start_near_even_odds():
  image = jax.random.normal(jax.random.key(1), (6, 16))
  text = jax.random.normal(jax.random.key(2), (6, 16))
  fused, shared = FusedIdentity(400), SharedIdentity(400)
  key = jax.random.key(0)
  fused_out, fused_params = jax.jit(fused.init_with_output)(key, image, text)
  shared_out, shared_params = jax.jit(shared.init_with_output)(key, image)
  assert fused_out.shape == (6, 401) and shared_out.shape == (6, 400)
  assert np.abs(fused_out).max() < 0.1 and np.abs(shared_out).max() < 0.1
  for params in (fused_params, shared_params):
    classifier = params["params"]["classifier"]
    np.testing.assert_allclose(np.std(classifier["kernel"]), 0.001, rtol=0.1)
    assert not np.any(classifier["bias"])
