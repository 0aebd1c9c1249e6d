"""The attribute stream in the objective: its terms, pieces, and a mesh."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny_cross as tiny
from tests.losses import test_attributes as slow
from tpr_jax import attribute_stream, gradients, objectives
from tpr_jax.core import sharding, tree
from tpr_jax.models.cross_encoder import View

STREAM = dict(attr_itc=0.5, attr_itm=0.25, attr_mlm=0.125)
SMALLER = dict(projection="token", vision_depths=(1, 1))


@functools.cache
def _objective(pieces=1):
  choices = dict(tiny.OBJECTIVE, itm_pieces=pieces)
  return tiny.objective(STREAM, choices, **SMALLER)


@functools.cache
def _run():
  return jax.jit(gradients.make_grad_fn(_objective()))


@functools.cache
def _gradients(known=True):
  batch = tiny.batch(8)
  if not known:
    batch["attributes"] = np.full_like(batch["attributes"], -1)
  return _run()(tiny.params(_objective().model), batch, jax.random.key(3))


def _apply(method, *args):
  """What the model gives in float32, compiled once for each method and shape."""
  return _jitted(method)(tiny.params(_objective().model), *args)


@functools.cache
def _jitted(method):
  model = _objective().model
  return jax.jit(
    lambda params, *args: model.apply({"params": params}, *args, method=method)
  )


def test_every_loss_is_a_term_and_what_reads_prompts_learns():
  (loss, metrics), grads = _gradients()
  assert set(metrics) == {*STREAM, "temperature"}
  total = sum(w * metrics[name] for name, w in STREAM.items())
  assert float(loss) == pytest.approx(float(total), rel=1e-6)
  for name, grad in tree.flat(grads).items():
    assert np.isfinite(grad).all(), name
    assert np.abs(grad).max() > 0, name


def test_the_contrast_is_the_formula_of_the_features():
  (_, metrics), _ = _gradients()
  batch, ids = tiny.batch(8), tiny.prompts().ids
  labels = batch["attributes"]
  image, states = _apply("image_tokens", batch["image"]), _apply("text_tokens", ids)
  rows = [_apply("image_projection", image), _apply("text_projection", states)]
  rows = [np.asarray(x, np.float64) for x in rows]
  rows = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in rows]
  expected = slow.slow_contrast(rows[0] @ rows[1].T, labels, 0.07, 0.4)
  np.testing.assert_allclose(metrics["attr_itc"], expected, rtol=1e-4)


def test_matching_is_the_formula_of_every_prompt_beside_every_image():
  """All prompts are drawn, so that nothing is left to chance."""
  batch, ids = tiny.batch(8), tiny.prompts().ids
  objective, labels = _objective(), batch["attributes"]
  params = jax.tree.map(lambda x: x, tiny.params(objective.model))
  params["itm"] = jax.tree.map(lambda x: 20 * x, params["itm"])  # pairs that differ
  image = _apply("image_tokens", batch["image"])
  states = np.asarray(_apply("text_tokens", ids))
  asked = dict(names=frozenset({"attr_itm"}), drawn=len(ids))
  stream = dataclasses.replace(objective.attributes, **asked)
  pair = _jitted("pair_logits")
  view, key = (
    View("text", jnp.asarray(states), jnp.asarray(ids != 0)),
    jax.random.key(0),
  )
  found = stream.terms(
    *(params, view, None, image, labels, 0.07, key),
    lambda image, text, mask, key: pair(params, text, mask, image),
  )
  logits = [
    pair(
      params,
      np.repeat(states[p : p + 1], 8, 0),
      np.repeat(ids[p : p + 1] != 0, 8, 0),
      image,
    )
    for p in range(len(ids))
  ]
  logits = np.stack(logits, axis=1)  # [B, P, 2]
  assert np.ptp(logits[..., 1] - logits[..., 0]) > 0.05
  expected = slow.slow_matching(logits, labels, range(len(ids)), 0.4)
  np.testing.assert_allclose(found["attr_itm"], expected, rtol=1e-5)


def test_masked_words_are_those_of_prompts_and_images_that_have_them():
  """One way to mask and one image for each prompt: nothing is left to chance."""
  model, prompts = _objective().model, tiny.prompts()
  labels = np.full((8, tiny.ATTRIBUTES), -1, np.int32)
  labels[[5, 2], [0, 0]] = 0, 1  # prompt 0: image 5, prompt 1: image 2
  labels[6, 3] = 1  # prompt 7: image 6
  one_way = prompts._replace(masked=prompts.masked[1:], labels=prompts.labels[1:])
  names = frozenset({"attr_mlm"})
  stream = attribute_stream.AttributeStream(model, names, 0.4, 3, one_way)
  image = _apply("image_tokens", tiny.batch(8)["image"])
  found = jax.jit(
    lambda params, image: stream.terms(
      params, None, None, image, labels, 0.07, jax.random.key(0), None
    )
  )(tiny.params(model), image)
  shown = [0, 1, 7]
  hidden = one_way.labels[0, shown]
  everywhere = np.tile(np.arange(tiny.PROMPT_LENGTH), (3, 1))
  masked, mask = one_way.masked[0, shown], prompts.ids[shown] != 0
  states = model.apply(
    {"params": tiny.params(model)}, masked, False, mask, method="text_tokens"
  )
  chosen = image[np.array([5, 2, 6])]
  logits = _apply("masked_words", states, mask, chosen, everywhere)
  log_p = np.asarray(logits, np.float64)
  log_p -= np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
  words = [-log_p[i, j, hidden[i, j]] for i, j in np.argwhere(hidden >= 0)]
  assert len(words) > 3
  np.testing.assert_allclose(found["attr_mlm"], np.mean(words), rtol=1e-5)


def test_nothing_known_is_no_loss_of_prompts_and_finite():
  (loss, metrics), grads = _gradients(known=False)
  assert all(float(metrics[name]) == 0 for name in STREAM)
  assert float(loss) == 0
  assert all(np.isfinite(grad).all() for grad in jax.tree.leaves(grads))


def test_pieces_on_a_mesh_give_what_one_device_gives_at_once():
  """Two micro-batches, pairs in four pieces, parameters and rows split."""
  (loss, metrics), grads = _gradients()
  mesh, objective = sharding.make_mesh(dict(data=4, tensor=2)), _objective(pieces=4)
  params = tiny.params(objective.model)
  placed = sharding.state_shardings(params, mesh, ("auto",))
  grad_fn = gradients.make_grad_fn(objective, micro_batches=2)
  grad_fn = sharding.on_mesh(grad_fn, mesh, placed)
  batch = sharding.to_global(tiny.batch(8), sharding.batch_sharding(mesh))
  (found, again), pieced = jax.jit(grad_fn)(
    jax.device_put(params, placed), batch, jax.random.key(3)
  )
  assert float(found) == pytest.approx(float(loss), rel=2e-5)
  for name in metrics:
    assert float(again[name]) == pytest.approx(float(metrics[name]), rel=2e-5), name
  scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(grads))
  for name, grad in tree.flat(grads).items():
    np.testing.assert_allclose(
      tree.flat(pieced)[name], grad, rtol=1e-3, atol=2e-5 * scale, err_msg=name
    )


@pytest.mark.parametrize(
  ("change", "prompts", "message"),
  [
    (dict(attr_prompts=9), tiny.prompts(), "attr_prompts=9: there are 8 prompts"),
    (dict(attr_prompts=0), tiny.prompts(), "attr_prompts=0: expected 1 or more"),
    (dict(attr_smoothing=1.0), tiny.prompts(), "attr_smoothing=1.0"),
    ({}, None, "losses.attr_itc needs prompts"),
    ({}, tiny.prompts()._replace(masked=None), "prompts with masked words"),
  ],
)
def test_impossible_choices_are_errors(change, prompts, message):
  choices = dict(tiny.OBJECTIVE, **change)
  with pytest.raises(ValueError, match=message):
    objectives.make_objective(
      tiny.model(STREAM), STREAM, choices, masking={}, prompts=prompts
    )
