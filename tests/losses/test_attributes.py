"""Losses of attribute prompts against slow transcriptions in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tpr_jax.losses import attributes

ROWS, COUNT = 7, 5


def slow_entropy(logits, label, smoothing):
  logits = np.asarray(logits, np.float64)
  log_p = logits - np.log(np.exp(logits).sum())
  target = [smoothing / 2 + (1 - smoothing) * (label == c) for c in (0, 1)]
  return -sum(t * p for t, p in zip(target, log_p, strict=True))


def slow_contrast(cosine, labels, temperature, smoothing):
  """Attribute after attribute, image after image; an unknown one is passed over."""
  total = 0.0
  for a in range(labels.shape[1]):
    found = [
      slow_entropy(cosine[i, 2 * a : 2 * a + 2] / temperature, labels[i, a], smoothing)
      for i in range(len(labels))
      if labels[i, a] != -1
    ]
    total += sum(found) / len(found) if found else 0.0
  return total / labels.shape[1]


def slow_true(labels, image, prompt):
  """1: prompt 2a is true where the label is 0, prompt 2a + 1 where it is 1."""
  label = labels[image, prompt // 2]
  return -1 if label == -1 else int(label == prompt % 2)


def slow_matching(logits, labels, chosen, smoothing):
  total = 0.0
  for r, prompt in enumerate(chosen):
    found = [
      slow_entropy(logits[i, r], true, smoothing)
      for i in range(len(labels))
      if (true := slow_true(labels, i, prompt)) != -1
    ]
    total += sum(found) / len(found) if found else 0.0
  return total / len(chosen)


@pytest.fixture(scope="module")
def given():
  rng = np.random.default_rng(0)
  cosine = rng.uniform(-1, 1, (ROWS, 2 * COUNT)).astype(np.float32)
  labels = rng.integers(-1, 2, (ROWS, COUNT)).astype(np.int32)
  labels[:, 3], labels[2] = -1, -1  # an attribute nobody knows, an image without any
  return cosine, labels


@pytest.mark.parametrize("smoothing", [0.0, 0.4])
def test_contrast_is_the_formula(given, smoothing):
  cosine, labels = given
  found = jax.jit(attributes.contrast, static_argnames="smoothing")(
    cosine, labels, 0.07, smoothing=smoothing
  )
  assert found.shape == (COUNT,) and found.dtype == jnp.float32
  expected = slow_contrast(cosine, labels, 0.07, smoothing)
  np.testing.assert_allclose(found.mean(), expected, rtol=1e-5)
  assert found[3] == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.4])
def test_matching_is_the_formula(given, smoothing):
  _, labels = given
  chosen = np.array([9, 0, 4, 6])  # 6: nobody knows
  logits = np.random.default_rng(1).normal(size=(ROWS, 4, 2)).astype(np.float32)
  true = attributes.prompt_labels(labels)[:, chosen]
  found = attributes.matching(logits, true, smoothing=smoothing).mean()
  expected = slow_matching(logits, labels, chosen, smoothing)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_worked_number():
  """One image, one attribute: -log sigmoid(1), smoothed by 0.4."""
  cosine, labels = jnp.array([[0.1, 0.0]]), jnp.array([[0]])
  right, wrong = np.log1p(np.exp(-1.0)), np.log1p(np.exp(1.0))
  found = attributes.contrast(cosine, labels, 0.1, smoothing=0.4)
  np.testing.assert_allclose(found, [0.8 * right + 0.2 * wrong], rtol=1e-6)


def test_labels_of_prompts(given):
  _, labels = given
  found = np.asarray(attributes.prompt_labels(labels))
  for i in range(ROWS):
    for p in range(2 * COUNT):
      assert found[i, p] == slow_true(labels, i, p)


def test_images_in_another_order_change_nothing(given):
  cosine, labels = given
  order = np.random.default_rng(2).permutation(ROWS)
  one = attributes.contrast(cosine, labels, 0.07, smoothing=0.4)
  other = attributes.contrast(cosine[order], labels[order], 0.07, smoothing=0.4)
  np.testing.assert_allclose(one, other, rtol=1e-5)


def test_gradients_and_none_where_nothing_is_known(given):
  cosine, labels = given
  loss = lambda c, t: attributes.contrast(c, labels, t, smoothing=0.4).mean()
  check_grads(loss, (cosine, 0.5), order=1, modes=["rev"], rtol=2e-2, atol=1e-3)
  grad = jax.grad(loss)(jnp.asarray(cosine), 0.07)
  assert (grad[2] == 0).all() and (grad[:, 6:8] == 0).all()
  nothing = np.full_like(labels, -1)
  value, grad = jax.value_and_grad(
    lambda c: attributes.contrast(c, nothing, 0.07, smoothing=0.4).mean()
  )(jnp.asarray(cosine))
  assert value == 0 and (grad == 0).all()


def test_drawn_prompts_differ_and_all_are_drawn():
  keys = jax.random.split(jax.random.key(0), 300)
  drawn = np.asarray(jax.vmap(lambda k: attributes.draw_prompts(k, 10, 3))(keys))
  assert all(len(set(row)) == 3 for row in drawn.tolist())
  counts = np.bincount(drawn.ravel(), minlength=10)
  assert counts.min() > 60 and counts.max() < 120  # 90 each


def test_drawn_images_are_those_that_a_prompt_is_true_of(given):
  _, labels = given
  true = attributes.prompt_labels(labels)
  keys = jax.random.split(jax.random.key(1), 200)
  drawn, found = jax.vmap(lambda k: attributes.draw_images(k, true))(keys)
  drawn, found = np.asarray(drawn), np.asarray(found[0])
  assert not found[6] and not found[7]
  for p in np.flatnonzero(found):
    right = np.flatnonzero(true[:, p] == 1)
    assert set(drawn[:, p]) == set(right), p
  nobody = attributes.draw_images(keys[0], jnp.full_like(true, -1))
  assert not nobody[1].any()


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda c, y: attributes.contrast(c[:, :4], y, 1.0), "4 prompts for 5 attributes"),
    (lambda c, y: attributes.contrast(c, y, 1.0, smoothing=1.5), "smoothing=1.5"),
    (lambda c, y: attributes.draw_prompts(jax.random.key(0), 4, 5), "5 of 4 prompts"),
    (lambda c, y: attributes.draw_prompts(jax.random.key(0), 4, 0), "0 of 4 prompts"),
  ],
)
def test_what_cannot_be_is_an_error(given, call, message):
  with pytest.raises(ValueError, match=message):
    call(*given)
