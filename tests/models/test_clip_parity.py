"""Our towers against activations that transformers computed with the same weights."""

import pathlib

import jax
import numpy as np
import pytest

from tests.convert.golden import CONFIG
from tests.models.clip_weights import from_hugging_face
from tpr_jax.models import build

GOLDEN = pathlib.Path(__file__).parent / "golden" / "clip_tiny.npz"


@pytest.fixture(scope="module")
def golden():
  with np.load(GOLDEN) as file:
    return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def params(golden):
  weights = {
    name.removeprefix("weights/"): value.astype(np.float32)
    for name, value in golden.items()
    if name.startswith("weights/")
  }
  return from_hugging_face(weights, layers=2)


def outputs(golden, params, **overrides):
  model = build.build({**CONFIG, **overrides}, vocab_size=60)
  return jax.jit(model.apply)(params, golden["image_input"], golden["text_input"])


def test_shapes_are_the_models_own(golden, params):
  model = build.build(CONFIG, vocab_size=60)
  made = jax.eval_shape(
    model.init, jax.random.key(0), golden["image_input"], golden["text_input"]
  )
  assert jax.tree.map(lambda x: x.shape, made) == jax.tree.map(np.shape, params)


def test_float32_agrees_with_transformers(golden, params):
  out = outputs(golden, params)
  for name in ("image", "text", "image_tokens"):
    np.testing.assert_allclose(out[name], golden[name], atol=1e-5, rtol=1e-5)
  # Behind the end token PyTorch attends like we do: causal, without a padding mask.
  np.testing.assert_allclose(
    out["text_tokens"], golden["text_tokens"], atol=1e-5, rtol=1e-5
  )


def test_remat_changes_nothing(golden, params):
  plain, remat = outputs(golden, params), outputs(golden, params, remat=True)
  np.testing.assert_allclose(remat["image"], plain["image"], atol=1e-6)
  np.testing.assert_allclose(remat["text"], plain["text"], atol=1e-6)


def test_bfloat16_is_close_and_keeps_its_promises(golden, params):
  out = outputs(golden, params, dtype="bfloat16")
  assert out["image_tokens"].dtype == out["text_tokens"].dtype == "bfloat16"
  for name in ("image", "text"):
    assert out[name].dtype == "float32"
    np.testing.assert_allclose(np.linalg.norm(out[name], axis=1), 1.0, atol=1e-6)
    cosine = np.sum(np.asarray(out[name]) * golden[name], axis=1)
    assert cosine.min() > 0.999
    assert np.abs(cosine - 1).max() > 1e-7  # it did compute in bfloat16


def test_the_activation_matters(golden, params):
  out = outputs(golden, params, activation="gelu")
  assert np.abs(np.asarray(out["image"]) - golden["image"]).max() > 1e-3
