"""Cross-attention as maps: against a slow transcription, and without a trace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny_cross
from tests.models import weights
from tpr_jax.models import cross_maps
from tpr_jax.models.layers.post_norm import NUDGE, SEEN

FIELDS = dict(text_layers=3, fusion_layer=1)
BATCH = tiny_cross.batch(4)
IMAGE, TEXT = BATCH["image"], BATCH["text"]


@functools.cache
def model():
  """(module, parameters that make sharp maps)."""
  module = tiny_cross.model(**FIELDS)
  made = weights.drawn(module, IMAGE[:2], TEXT[:2])["params"]
  return module, jax.tree.map(jnp.asarray, made)


@functools.cache
def compiled(by):
  module, _ = model()
  return jax.jit(lambda p, *batch: cross_maps.maps(module, p, *batch, by))


@functools.cache
def found(by):
  return np.asarray(compiled(by)(model()[1], IMAGE, TEXT))


@functools.cache
def inputs():
  module, params = model()
  tower = lambda name, x: module.apply({"params": params}, x, method=name)
  run = jax.jit(lambda a, b: (tower("text_tokens", b), tower("image_tokens", a)))
  text, image = run(IMAGE, TEXT)
  return text, TEXT != 0, image


@functools.cache
def attended():
  """float32 [P, F, H, L, T]: softmax(q k / sqrt(width)), layer after layer."""
  _, params = model()
  states, mask, image = inputs()
  layers = []
  for i in range(1, 3):
    p = params["text"][f"layer_{i}"]
    dense = lambda x, p: np.asarray(x, np.float64) @ p["kernel"] + p["bias"]
    norm = lambda x, p: (
      (x - x.mean(-1, keepdims=True))
      / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
      * p["scale"]
      + p["bias"]
    )
    cut = lambda x: x.reshape(*x.shape[:2], 2, 8)

    def attend(q, k, v, allowed):
      logits = np.einsum("blhd,bthd->bhlt", q, k) / np.sqrt(8)
      logits = np.where(allowed, logits, -np.inf)
      w = np.exp(logits - logits.max(-1, keepdims=True))
      w /= w.sum(-1, keepdims=True)
      y = np.einsum("bhlt,bthd->blhd", w, v)
      return w, y.reshape(*y.shape[:2], -1)

    qkv = map(cut, np.split(dense(states, p["attn"]["qkv"]), 3, axis=-1))
    _, y = attend(*qkv, np.asarray(mask)[:, None, None])
    states = norm(states + dense(y, p["attn"]["out"]), p["ln_attn"])
    q = cut(dense(states, p["cross_attn"]["q"]))
    kv = map(cut, np.split(dense(image, p["cross_attn"]["kv"]), 2, axis=-1))
    w, y = attend(q, *kv, True)
    layers.append(w)
    states = norm(states + dense(y, p["cross_attn"]["out"]), p["ln_cross"])
    inner = np.asarray(jax.nn.gelu(dense(states, p["mlp"]["fc"]), approximate=False))
    states = norm(states + dense(inner, p["mlp"]["proj"]), p["ln_mlp"])
  return np.stack(layers, axis=1)


def words_of(row):
  """Places of the words of one text: after [CLS], before [SEP]."""
  return range(1, list(TEXT[row]).index(tiny_cross.END))


def rows_of(row, by):
  return words_of(row) if by.startswith("words") else [0]


@pytest.mark.parametrize("by", ["words", "cls"])
def test_maps_are_the_mean_attention_of_their_rows(by):
  every = attended()
  assert found(by).shape == (4, 2, tiny_cross.CELLS)
  for row in range(4):
    chosen = every[row][:, :, list(rows_of(row, by))]  # [F, H, rows, T]
    expected = chosen.mean(axis=(1, 2))[:, 1:]
    np.testing.assert_allclose(found(by)[row], expected, rtol=2e-4, atol=1e-6)
  assert np.ptp(found(by), axis=-1).min() > 1e-3  # maps that say something


@pytest.mark.parametrize("by", ["words*gradient", "cls*gradient"])
def test_gradients_are_those_of_finite_differences(by):
  """d logit / d w by moving single weights of a layer: float32, so loosely."""
  module, params = model()
  states = inputs()
  every, row, step = attended(), 1, 2e-2
  run = jax.jit(
    lambda nudge: module.apply(
      {"params": params, NUDGE: nudge}, *states, method="pair_logits"
    )[row, 1]
  )
  empty = {
    "text": {
      f"layer_{i}": {"cross_attn": {"weights": np.zeros(every[:, 0].shape, np.float32)}}
      for i in (1, 2)
    }
  }
  expected = np.zeros((2, tiny_cross.CELLS))
  for layer in range(2):
    for cell in range(tiny_cross.CELLS):
      for head in range(2):
        for token in rows_of(row, by):
          moved = jax.tree.map(np.copy, empty)
          leaf = moved["text"][f"layer_{layer + 1}"]["cross_attn"]["weights"]
          leaf[row, head, token, cell + 1] = step
          up = float(run(moved))
          leaf[row, head, token, cell + 1] = -step
          slope = (up - float(run(moved))) / (2 * step)
          weight = every[row, layer, head, token, cell + 1]
          expected[layer, cell] += weight * max(slope, 0.0) / 2 / len(rows_of(row, by))
  scale = expected.max()
  assert scale > 0
  np.testing.assert_allclose(found(by)[row], expected, atol=0.03 * scale)
  if by.startswith("words"):  # the last layer's logit reads [CLS] alone
    assert not found(by)[:, -1].any() and found(by)[:, 0].any()
  else:
    assert found(by)[:, -1].any()


def test_other_pairs_change_nothing():
  order = np.array([3, 1, 0, 0])
  for by in ("words", "words*gradient"):
    again = np.asarray(compiled(by)(model()[1], IMAGE[order], TEXT[order]))
    scale = np.abs(found(by)).max()
    np.testing.assert_allclose(again, found(by)[order], rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("by", ["cls*gradient"])
def test_layers_that_are_computed_again_are_seen_too(by):
  """remat: the same parameters, the same maps."""
  module, params = tiny_cross.model(**FIELDS, remat=True), model()[1]
  again = jax.jit(lambda: cross_maps.maps(module, params, IMAGE, TEXT, by))()
  scale = np.abs(found(by)).max()
  np.testing.assert_allclose(again, found(by), rtol=1e-4, atol=1e-5 * scale)


def test_a_pass_that_nobody_watches_is_as_it_was():
  module, params = model()
  states = inputs()

  def run(watch):
    method = dict(method="pair_logits", mutable=[watch] if watch else False)
    return module.apply({"params": params}, *states, **method)

  plain, (watched, seen) = (jax.jit(run, static_argnums=0)(x) for x in (None, SEEN))
  np.testing.assert_array_equal(plain, watched)
  assert list(seen) == [SEEN]
  # Neither parameters nor anything else are added where nobody asks.
  shapes = jax.eval_shape(module.init, jax.random.key(0), IMAGE, TEXT)
  assert list(shapes) == ["params"]


def test_models_that_cannot_be_asked_are_refused():
  with pytest.raises(ValueError, match=r"unknown map 'word'; expected one of words, "):
    cross_maps.check(model()[0], "word")
  none = tiny_cross.model(losses=dict(itc=1.0))
  with pytest.raises(ValueError, match="no fusion layers"):
    cross_maps.check(none, "words")
  headless = tiny_cross.model(losses=dict(mlm=1.0))
  cross_maps.check(headless, "words")
  with pytest.raises(ValueError, match="without the loss itm; ask for 'cls'"):
    cross_maps.check(headless, "cls*gradient")
  with pytest.raises(ValueError, match="no fusion layers"):
    cross_maps.check(object(), "words")
