"""The objective of Swin + BERT: its terms and switches, and pieces of the batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny_cross as tiny
from tpr_jax import cross_objective, gradients, objectives
from tpr_jax.core import tree
from tpr_jax.models import projection
from tpr_jax.ops import bins

RUNNING = {
  f"{side}_projection/bn/{name}"
  for side in ("image", "text")
  for name in ("mean", "variance")
}


FEW = dict(itc=1.0, itm=1.0, mlm=1.0)  # compiled several times


@functools.cache
def _gradients(few=False, micro_batches=1, pieces=1):
  losses = FEW if few else tiny.LOSSES
  objective = tiny.objective(losses, dict(tiny.OBJECTIVE, itm_pieces=pieces))
  grad_fn = gradients.make_grad_fn(objective, micro_batches=micro_batches)
  params = tiny.params(objective.model)
  return jax.jit(grad_fn)(params, tiny.batch(8), jax.random.key(3))


def _loss(losses, batch=None, **choices):
  choices = dict(tiny.OBJECTIVE, **choices)
  loss_fn, params = tiny.loss_and_params(losses, choices)
  batch = tiny.batch(8) if batch is None else batch
  return jax.jit(loss_fn)(params, batch, jax.random.key(3))


def test_every_loss_is_a_term_and_every_parameter_learns():
  (loss, metrics), grads = _gradients()
  assert set(metrics) == {*tiny.LOSSES, "temperature", cross_objective.RUNNING}
  total = sum(weight * float(metrics[name]) for name, weight in tiny.LOSSES.items())
  assert float(loss) == pytest.approx(total, rel=1e-6)
  for name, grad in tree.flat(grads).items():
    assert np.isfinite(grad).all(), name
    assert (np.abs(grad).max() > 0) == (name not in RUNNING), name


@pytest.mark.parametrize(("micro_batches", "pieces"), [(2, 3)])
def test_pieces_of_the_batch_and_of_the_pairs_change_nothing(micro_batches, pieces):
  (loss, metrics), grads = _gradients(True)
  (found, again), pieced = _gradients(True, micro_batches, pieces)
  assert float(found) == pytest.approx(float(loss), rel=1e-6)
  for name, value in tree.flat(metrics).items():
    np.testing.assert_allclose(tree.flat(again)[name], value, rtol=1e-5, atol=1e-7)
  scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(grads))
  for name, grad in tree.flat(grads).items():
    np.testing.assert_allclose(
      tree.flat(pieced)[name], grad, rtol=1e-4, atol=1e-6 * scale, err_msg=name
    )


def test_statistics_are_those_of_region_then_image_and_phrase_then_caption():
  (_, metrics), _ = _gradients()
  objective = tiny.objective()
  params, batch = tiny.params(objective.model), tiny.batch(8)
  out = jax.jit(objective.encode)(params, batch, jax.random.key(0))
  sequence, mask = bins.region_sequence(out["image_tokens"], batch["region"])
  pooled = dict(
    image=[
      projection.pooled(sequence, mask, bins=3, first=False),
      projection.pooled(out["image_tokens"], bins=3, first=False),
    ],
    text=[
      projection.pooled(out[name], bins=3, first=True)
      for name in ("phrase_tokens", "text_tokens", "eda_tokens")
    ],
  )
  for side, rows in pooled.items():
    mean, variance = 0.0, 1.0
    for x in rows:
      mean = 0.9 * mean + 0.1 * x.mean(axis=0)
      variance = 0.9 * variance + 0.1 * x.var(axis=0)
    found = metrics[cross_objective.RUNNING]
    name = f"{side}_projection/bn"
    np.testing.assert_allclose(found[f"{name}/mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[f"{name}/variance"], variance, rtol=1e-4)


def test_views_that_are_read_together_are_as_if_alone():
  """Captions of a shorter bucket, with padding's id where a word was masked."""
  objective = tiny.objective()
  params, batch = tiny.params(objective.model), tiny.batch(8)
  for name in ("text", "masked", "labels"):
    batch[name] = batch[name][:, :10]
  batch["masked"][:, 1] = 0
  out = jax.jit(objective.encode)(params, batch, jax.random.key(0))
  apply = functools.partial(objective.model.apply, {"params": params})
  read = jax.jit(functools.partial(apply, method="text_tokens"), static_argnums=1)
  for name in ("text", "eda", "phrase"):
    alone = read(batch[name])
    np.testing.assert_allclose(out[f"{name}_tokens"], alone, rtol=1e-5, atol=1e-5)
  mask = batch["text"] != 0
  states = read(batch["masked"], False, mask)
  at = np.tile(np.arange(10), (8, 1))
  predict = jax.jit(functools.partial(apply, method="masked_words"))
  logits = predict(states, mask, out["image_tokens"], at)
  log_p = jax.nn.log_softmax(logits)
  chosen = batch["labels"] >= 0
  words = np.take_along_axis(log_p, batch["labels"][..., None] * chosen[..., None], -1)
  expected = -(words[..., 0] * chosen).sum(axis=1)
  np.testing.assert_allclose(out["mlm"], expected, rtol=1e-5)


REGIONS = dict(region_itc=1.0, region_itm=1.0)


@functools.cache
def _regions(**choices):
  return _loss(REGIONS, **choices)[1]


def test_the_released_region_loss_does_not_see_the_region():
  batch = tiny.batch(8)
  batch["region"] = ~batch["region"]
  batch["region"][:, 0] = True
  ours = _regions(), _loss(REGIONS, batch)[1]
  assert float(ours[0]["region_itc"]) != pytest.approx(float(ours[1]["region_itc"]))
  released = dict(region_feature="image", region_mean=False)
  theirs = _regions(**released), _loss(REGIONS, batch, **released)[1]
  assert float(theirs[0]["region_itc"]) == pytest.approx(
    float(theirs[1]["region_itc"]), rel=1e-6
  )
  assert float(theirs[0]["region_itm"]) != pytest.approx(
    float(theirs[1]["region_itm"]), rel=1e-6
  )


def test_one_hot_positives_are_those_of_phrases_that_all_differ():
  batch = tiny.batch(8)
  assert len(set(batch["phrase_id"].tolist())) < 8
  alone = _loss(REGIONS, batch, region_positives="pair")[1]
  batch["phrase_id"] = np.arange(100, 108, dtype=np.int32)
  different = _loss(REGIONS, batch)[1]
  assert float(alone["region_itc"]) == pytest.approx(
    float(different["region_itc"]), rel=1e-6
  )


@pytest.mark.parametrize(
  ("change", "term"),
  [
    (dict(region_feature="image"), "region_itc"),
    (dict(region_mean=False), "region_itm"),
    (dict(region_positives="pair"), "region_itc"),
    (dict(label_smoothing=0.2), "region_itc"),
    (dict(itm_group=2), "region_itm"),
  ],
)
def test_every_switch_changes_its_term(change, term):
  assert float(_regions(**change)[term]) != pytest.approx(
    float(_regions()[term]), rel=1e-5
  )


def test_the_gradient_scale_leaves_loss_and_temperature():
  def grads(scale):
    choices = dict(tiny.OBJECTIVE, itc_grad_scale=scale)
    loss_fn, params = tiny.loss_and_params(dict(itc=1.0), choices)
    run = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    return run(params, tiny.batch(8), jax.random.key(0))

  (loss, _), whole = grads(1.0)
  (same, _), quarter = grads(0.25)
  assert float(loss) == float(same)
  np.testing.assert_allclose(quarter["temperature"], whole["temperature"], rtol=1e-6)
  found, expected = tree.flat(quarter["visual"]), tree.flat(whole["visual"])
  for name, grad in expected.items():
    np.testing.assert_allclose(found[name], 0.25 * grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
  ("losses", "choices", "message"),
  [
    (dict(sdm=1.0), {}, "not a loss of Swin"),
    (dict(itc=1.0), dict(region_feature="box"), "objective.region_feature='box'"),
    (dict(itc=1.0), dict(region_positives="one"), "objective.region_positives='one'"),
    (dict(itc=1.0), dict(label_smoothing=1.0), "objective.label_smoothing=1.0"),
    (dict(itm=1.0), dict(itm_smoothing=-0.1), "objective.itm_smoothing=-0.1"),
    (dict(itc=1.0), dict(itm_pieces=0), "objective.itm_pieces=0"),
    (dict(itc=1.0), dict(itm_group=-1), "objective.itm_group=-1"),
  ],
)
def test_impossible_choices_are_errors(losses, choices, message):
  with pytest.raises(ValueError, match=message):
    objectives.make_objective(
      tiny.model(), losses, dict(tiny.OBJECTIVE, **choices), masking={}
    )


def test_a_loss_of_swin_and_bert_is_refused_for_clip():
  with pytest.raises(ValueError, match="not a loss of CLIP towers"):
    objectives.make_objective(None, dict(itc=1.0), {}, masking={})
