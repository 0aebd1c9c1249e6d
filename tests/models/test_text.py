import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import weights
from tpr_jax import program
from tpr_jax.models import build, clip_text

VOCAB, LENGTH = 50, 16
CONFIG = dict(variant="tiny", text_length=LENGTH, text_width=32, text_heads=2)
CONFIG |= dict(text_layers=2, joint_dim=24, part_width=16, part_heads=2)
CONFIG |= dict(image_size=(16, 8), vision_width=16, vision_layers=1, vision_heads=2)


def caption(words, length=LENGTH):
  ids = [48, *words, 49]
  return ids + [0] * (length - len(ids))


@pytest.fixture(scope="module")
def model_and_params():
  model = build.build(CONFIG, vocab_size=VOCAB, heads=("parts",))
  image = jnp.zeros((2, 16, 8, 3), jnp.uint8)
  text = jnp.array([caption([1, 2, 3]), caption([4])])
  return model, weights.drawn(model, image, text)


def encode(model_and_params, rows):
  model, params = model_and_params
  apply = jax.jit(functools.partial(model.apply, method="encode_text"))
  return apply(params, jnp.array(rows, jnp.int32))


def test_mask_is_true_up_to_and_including_the_end():
  ids = jnp.array([caption([1, 2, 3]), caption(range(1, 15))])
  np.testing.assert_array_equal(clip_text.end_of_text(ids), [4, 15])
  np.testing.assert_array_equal(clip_text.real_tokens(ids).sum(axis=1), [5, 16])
  np.testing.assert_array_equal(clip_text.real_tokens(ids)[0, 4:6], [True, False])


def test_later_tokens_do_not_change_earlier_ones(model_and_params):
  words = list(range(1, 13))
  changed = words[:6] + [40] + words[7:]
  tokens = encode(model_and_params, [caption(words), caption(changed)])["text_tokens"]
  np.testing.assert_allclose(tokens[0, :7], tokens[1, :7], atol=1e-6)
  assert np.abs(tokens[0, 7:] - tokens[1, 7:]).max() > 1e-3


def test_what_follows_the_end_changes_neither_feature_nor_parts(model_and_params):
  model, params = model_and_params
  clean, dirty = caption([5, 6, 7]), caption([5, 6, 7])
  dirty[5:] = [9, 8, 7, 6, 5, 4, 3, 2, 1, 10, 11]
  out = encode(model_and_params, [clean, dirty])
  np.testing.assert_allclose(out["text"][0], out["text"][1], atol=1e-6)
  apply = jax.jit(functools.partial(model.apply, method="parts"))
  parts = apply(params, out["text_tokens"], out["text_mask"])
  np.testing.assert_allclose(parts[0], parts[1], atol=1e-5)
  # Without the mask they would differ: the test above can fail.
  loose = apply(params, out["text_tokens"])
  assert np.abs(loose[0] - loose[1]).max() > 1e-3


def test_shorter_rows_mean_the_same(model_and_params):
  long = encode(model_and_params, [caption([5, 6, 7])])["text"]
  short = encode(model_and_params, [caption([5, 6, 7], length=8)])["text"]
  np.testing.assert_allclose(long, short, atol=1e-6)


def test_the_feature_is_the_projected_end_token(model_and_params):
  out = encode(model_and_params, [caption([5, 6, 7])])
  np.testing.assert_allclose(out["text_feature"][0], out["text_tokens"][0, 4])
  length = np.linalg.norm(out["text_feature"][0])
  np.testing.assert_allclose(out["text"][0], out["text_feature"][0] / length, rtol=1e-5)


def test_too_long_a_text_is_refused(model_and_params):
  with pytest.raises(ValueError, match=r"20 tokens.*holds 16"):
    encode(model_and_params, [caption([1], length=20)])


def test_an_id_outside_the_vocabulary_is_not_silently_another_word(model_and_params):
  out = encode(model_and_params, [[48, 1, 77, 49] + [0] * 12])
  assert np.isnan(out["text"]).all()


def test_a_vocabulary_whose_end_is_not_last_is_refused(model_and_params):
  """WordPiece's: its end token has a small id, and argmax would find a word."""
  model, _ = model_and_params
  config = SimpleNamespace(
    model=SimpleNamespace(image_size=(16, 8)), text=SimpleNamespace(length=LENGTH)
  )
  assert callable(program.init_fn(config, model, VOCAB - 1))
  with pytest.raises(ValueError, match=r"id 3 of 50.*highest id.*use 'people'"):
    program.init_fn(config, model, 3)
