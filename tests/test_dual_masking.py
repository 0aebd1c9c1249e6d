"""GA-DMS in the objective: scores against a slow tower, what learns, what a step is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.reference import gass as reference
from tpr_jax import dual_masking, gradients, objectives
from tpr_jax.core import tree
from tpr_jax.losses import mlm
from tpr_jax.models import build

LOSSES = dict(sdm=1.0, mlm=0.4)
LAYERS = 2
DUAL = dict(
  score="gass",
  score_layers=LAYERS,
  score_scales=(1, 2),
  score_norm="per_sample",
  score_rows="all",
  score_refresh="same_step",
  attn_denominator="attention",
  grad_target="attention",
  gass_heads=0,
  alpha_noise=0.2,
  gamma_noise=0.9,
  alpha_info=0.3,
  gamma_info=0.1,
  sharpness=20.0,
  corruption_noise="mask",
  corruption_mtp="bert",
  force_one="mtp",
  sdm_grad_scale=1.0,
)
MASKING = dict(tiny.MASKING, share=0.0)


def choices(**changes):
  return dict(tiny.OBJECTIVE, identity="shared", dual=dict(DUAL, **changes))


@functools.cache
def model():
  # Three text blocks: one that is not watched.
  return build.build(
    dict(tiny.FIELDS, text_layers=LAYERS + 1),
    vocab_size=tiny.VOCAB,
    num_classes=tiny.CLASSES,
    heads=("mlm",),
  )


@functools.cache
def params():
  """Larger than the initial ones, so that attention is far from uniform."""
  drawn = jax.jit(tiny.init_fn(model()))(jax.random.key(0))
  return tree.map_named(
    lambda name, x: x * (1.0 if name.endswith("scale") else 3.0), drawn
  )


def objective(losses=LOSSES, masking=MASKING, **changes):
  return objectives.make_objective(model(), losses, choices(**changes), masking=masking)


def encoded(batch):
  image = model().apply({"params": params()}, batch["image"], method="encode_image")
  return {k: jax.lax.stop_gradient(v) for k, v in image.items()}


def scores(batch, seed=0, **changes):
  dual = objective(**changes).dual
  keys = jax.random.split(jax.random.key(seed), len(batch["text"]))
  made = jax.jit(dual.scores)(params(), encoded(batch), batch["text"], keys)
  return np.asarray(made)


@pytest.mark.parametrize(
  "changes, options",
  [
    ({}, {}),
    (dict(gass_heads=1), dict(watched_heads=1)),
    (dict(grad_target="state"), dict(target="state")),
    (dict(attn_denominator="importance"), dict(denominator="importance")),
  ],
)
def test_scores_are_those_of_the_slow_tower(changes, options):
  """Gradients of all layers in one backward pass, against differences one by one."""
  batch = tiny.batch(3)
  found = scores(batch, **changes)
  image = np.float64(encoded(batch)["image_feature"])
  weights = jax.tree.map(np.float64, params()["text"])
  for row, ids in enumerate(batch["text"]):
    expected = reference.scores(
      weights, ids, image[row], tiny.FIELDS["text_heads"], LAYERS, **options
    )
    np.testing.assert_allclose(found[row], expected, atol=2e-4)
    assert expected.max() == 1.0 or not expected.any()


@pytest.mark.parametrize("score", ["gass", "grad_eclip", "cosine", "random"])
def test_every_score_is_zero_but_at_words_and_in_0_to_1(score):
  batch = tiny.batch(16)
  found = scores(batch, score=score)
  place = np.arange(tiny.LENGTH)[None, :]
  words = (place > 0) & (place < batch["text"].argmax(axis=1)[:, None])
  assert not found[~words].any()
  assert found.min() >= 0 and found.max() <= 1 and np.isfinite(found).all()
  assert len(np.unique(found[words])) > words.sum() / 3


def test_scores_differ_by_kind_and_random_ones_by_key_alone():
  batch = tiny.batch(8)
  kinds = {kind: scores(batch, score=kind) for kind in dual_masking.SCORES[:-1]}
  for one, other in [("gass", "grad_eclip"), ("gass", "cosine"), ("cosine", "random")]:
    assert np.abs(kinds[one] - kinds[other]).max() > 0.1
  again = scores(batch, seed=1, score="random")
  assert np.abs(again - kinds["random"]).max() > 0.1
  np.testing.assert_array_equal(scores(batch, seed=1), kinds["gass"])


def test_padding_changes_nothing_where_only_text_is_pooled():
  """With `score_rows="all"`, the page's formula, padding takes part in the pooling and
  in the minimum and maximum of w: there other padding makes other scores."""
  batch = tiny.batch(8)
  padded = batch["text"].copy()
  place = np.arange(tiny.LENGTH)[None, :]
  after = place > padded.argmax(axis=1)[:, None]
  padded[after] = np.random.default_rng(1).integers(1, tiny.VOCAB - 3, after.sum())
  other = dict(batch, text=padded)
  np.testing.assert_array_equal(
    scores(other, score_rows="text"), scores(batch, score_rows="text")
  )
  assert np.abs(scores(other) - scores(batch)).max() > 1e-3
  # So does a longer row of the same padding: buckets of lengths give other scores.
  short = batch["text"][:, : int(batch["text"].argmax(axis=1).max()) + 1]
  found = scores(dict(batch, text=short), score_rows="text")
  whole = scores(batch, score_rows="text")[:, : short.shape[1]]
  np.testing.assert_allclose(found, whole, atol=1e-5)  # sums of another length


@pytest.mark.parametrize("score", ["gass", "cosine"])
def test_no_parameter_learns_through_a_score(score):
  batch, dual = tiny.batch(4), objective(score=score).dual
  keys = jax.random.split(jax.random.key(0), 4)

  def total(p):
    image = model().apply({"params": p}, batch["image"], method="encode_image")
    return jnp.sum(dual.scores(p, image, batch["text"], keys) ** 2)

  value, grads = jax.jit(jax.value_and_grad(total))(params())
  assert value > 0
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(grads))


@functools.cache
def gradient(micro_batches=1):
  """grad_fn of the objective, compiled once for batches of eight."""
  return jax.jit(gradients.make_grad_fn(objective(), micro_batches=micro_batches))


def test_captions_of_one_word_and_of_none_stay_finite():
  batch = tiny.batch(8)
  batch["text"][0, 2:] = 0
  batch["text"][0, 2] = tiny.VOCAB - 1  # one word
  batch["text"][1, 1:] = 0
  batch["text"][1, 1] = tiny.VOCAB - 1  # none
  for kind in ("gass", "grad_eclip", "cosine"):
    found = scores(batch, score=kind)
    assert np.isfinite(found).all() and not found[1].any()
    np.testing.assert_allclose(found[0], np.round(found[0]), atol=1e-6)  # 0 or 1
  assert np.isfinite(scores(batch, score_norm="batch")).all()
  (loss, _), grads = gradient()(params(), batch, jax.random.key(0))
  assert np.isfinite(loss)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


# ---- a step


def test_each_loss_reads_its_own_view():
  """SDM the noise caption, MTP the informative one; the whole one only scores."""
  batch, made = tiny.batch(8), objective()
  key = jax.random.key(3)
  mask_key, drop_key = jax.random.split(key)
  prepared = made.prepare(batch, mask_key)
  out = jax.jit(made.encode)(params(), prepared, drop_key)
  views = made.dual.views(
    dual_masking.row_keys(prepared["keys"])[1], batch["text"], out["scores"]
  )
  assert (views.noise != batch["text"]).any() and (views.labels >= 0).any()
  text = model().apply({"params": params()}, views.noise, method="encode_text")
  np.testing.assert_allclose(out["text"], text["text"], atol=1e-5)
  image = encoded(batch)
  told = model().apply({"params": params()}, views.informative, method="encode_text")
  logits = model().apply(
    {"params": params()}, told["text_tokens"], image["image_tokens"], method="words"
  )
  total, count = mlm.cross_entropy(logits, views.labels)
  np.testing.assert_allclose(out["mlm"], total, rtol=1e-4)
  np.testing.assert_array_equal(out["mlm_count"], count)
  _, metrics = made.reduce(params(), out, prepared)
  words = (batch["text"].argmax(axis=1) - 1).sum()
  assert metrics["words_hidden"] == pytest.approx((views.labels >= 0).sum() / words)
  hidden = (views.noise != batch["text"]).sum()
  assert metrics["noise_hidden"] == pytest.approx(hidden / words)
  assert set(metrics) == {"sdm", "mlm", "words_hidden", "noise_hidden"}


@pytest.mark.proof
def test_micro_batches_give_the_gradient_of_the_whole_batch():
  batch, key = tiny.batch(8), jax.random.key(1)
  whole, split = (gradient(n)(params(), batch, key) for n in (1, 4))
  for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(split), strict=True):
    scale = max(float(jnp.abs(one).max()), 1e-6)
    np.testing.assert_allclose(other, one, atol=2e-5 * scale)


def test_the_share_of_sdm_s_gradient():
  batch, key = tiny.batch(8), jax.random.key(1)
  only = dict(sdm=1.0)
  full, eighth = (
    jax.jit(gradients.make_grad_fn(objective(only, sdm_grad_scale=share)))(
      params(), batch, key
    )
    for share in (1.0, 0.125)
  )
  np.testing.assert_allclose(full[0][0], eighth[0][0], rtol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a * 0.125, b, rtol=1e-4, atol=1e-9),
    full[1],
    eighth[1],
  )


def test_alpha_0_hides_nothing_and_no_score_is_the_plain_objective():
  batch, key = tiny.batch(8), jax.random.key(1)
  _, metrics = jax.jit(gradients.loss_fn(objective(alpha_noise=0.0)))(
    params(), batch, key
  )
  assert metrics["noise_hidden"] == 0 and metrics["words_hidden"] > 0
  plain = objectives.make_objective(
    model(), LOSSES, choices(score="none"), masking=MASKING
  )
  assert plain.dual is None
  old = {k: v for k, v in choices().items() if k != "dual"}  # of an earlier run
  assert objectives.make_objective(model(), LOSSES, old, masking=MASKING).dual is None


@pytest.mark.parametrize(
  "changes, message",
  [
    (dict(score="gas"), r"dual.score='gas'.*gass"),
    (dict(score_norm="epoch"), "per_sample"),
    (dict(grad_target="token"), "attention"),
    (dict(alpha_noise=1.5), "probability"),
    (dict(score_scales=()), r"\(1, 2\)"),
    (dict(score_layers=0), "at least one block"),
    (dict(force_one="yes"), "mtp"),
  ],
)
def test_what_cannot_be_used_is_said(changes, message):
  with pytest.raises(ValueError, match=message):
    objective(**changes)


def test_what_does_not_go_together_is_said():
  with pytest.raises(ValueError, match="mlm_in_place"):
    objectives.make_objective(
      model(), LOSSES, dict(choices(), mlm_in_place=True), masking=MASKING
    )
  with pytest.raises(ValueError, match=r"text\.mask_share"):
    objective(masking=tiny.MASKING)
  with pytest.raises(ValueError, match="micro_batches"):
    gradients.make_grad_fn(objective(score_norm="batch"), micro_batches=2)
  with pytest.raises(ValueError, match="3 blocks; 4"):
    scores(tiny.batch(2), score_layers=4)
