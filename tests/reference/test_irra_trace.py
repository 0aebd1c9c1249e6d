"""Our IRRA follows the reference step by step: outputs, losses, gradients, updates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import irra as config
from tests.reference import irra
from tpr_jax import objectives, optim
from tpr_jax.convert import irra_heads, layouts, towers
from tpr_jax.convert.source import Source
from tpr_jax.core import tree
from tpr_jax.losses import mlm
from tpr_jax.models import build

SIZES = irra.MODEL["towers"]
FIELDS = build.settings(
  dict(
    variant="tiny",
    image_size=SIZES["vision"]["image"],
    patch=SIZES["vision"]["patch"],
    **{f"vision_{k}": SIZES["vision"][k] for k in ("width", "layers", "heads")},
    **{f"text_{k}": SIZES[k] for k in ("width", "layers", "heads", "length")},
    stride=SIZES["vision"]["patch"],
    joint_dim=SIZES["joint"],
    mlm_layers=irra.MODEL["depth"],
    mlm_heads=SIZES["joint"] // 64,
  )
)
TERMS = dict(sdm="sdm", identity="id", mlm="mlm")


@functools.cache
def trace():
  return irra.trace()


@functools.cache
def start():
  """(objective, parameters with the reference's weights)."""
  model = build.build(
    FIELDS,
    vocab_size=SIZES["vocabulary"],
    num_classes=irra.MODEL["classes"],
    heads=("identity_shared", "mlm"),
  )
  c = config.get_config("cuhk_pedes")
  # The reference's batches have whole captions for SDM and identity.
  c.objective.mlm_in_place = False
  objective = objectives.make_objective(model, c.losses, c.objective, masking={})
  text = jnp.full((2, SIZES["length"]), irra.END, jnp.int32)
  image = jnp.zeros((2, *FIELDS["image_size"], 3), jnp.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), image, text)["params"]
  settings = dict(activation="quick_gelu", epsilon=1e-5)
  source = Source("the trace", trace().weights, "irra", settings, None)
  params, _ = towers.towers(source, FIELDS, vocab_size=SIZES["vocabulary"])
  heads, anew = irra_heads.heads(source, tree.shapes(shapes))
  assert not anew
  params |= tree.nested(heads)
  assert tree.shapes(params) == tree.shapes(shapes)
  return objective, jax.tree.map(jnp.asarray, params)


def torch_names(params):
  """Name of the file -> array in its layout: the way back, for probes."""
  made, kv = {}, {}
  for name, value in zip(tree.names(params), jax.tree.leaves(params), strict=True):
    value = np.asarray(value)
    if name.startswith(("visual/", "text/")):
      made |= layouts.to_file("irra", name, value)
    elif "cross_attn/kv" in name or "cross_attn/q" in name:
      kv.setdefault(irra_heads.file_name(name), {})["kv" in name] = value.T
    else:
      made[irra_heads.file_name(name)] = value.T
  joined = {name: np.concatenate([v[False], v[True]]) for name, v in kv.items()}
  return made | joined


def batch(step):
  """As `prepare` hands it on, with the reference's own masking."""
  given = trace().batches[step]
  labels = given["mlm_labels"]
  return dict(
    image=given["image"],
    text=given["text"],
    masked=given["mlm_text"],
    labels=np.where(labels == 0, mlm.NOT_CHOSEN, labels),
    ids=given["ids"],
  )


@functools.cache
def grad_fn():
  objective, _ = start()

  def loss(params, batch):
    out = objective.encode(params, batch, jax.random.key(0))
    return objective.reduce(params, out, batch)

  return jax.jit(jax.value_and_grad(loss, has_aux=True))


def test_outputs_of_the_first_batch():
  objective, params = start()
  given, model = batch(0), objective.model
  expected = trace().outputs
  images, text, masked = jax.jit(
    lambda p: (
      model.apply({"params": p}, given["image"], method="encode_image"),
      model.apply({"params": p}, given["text"], method="encode_text"),
      model.apply({"params": p}, given["masked"], method="encode_text"),
    )
  )(params)
  words = model.apply(
    {"params": params},
    masked["text_tokens"],
    images["image_tokens"],
    method="words",
  )
  classes = [
    model.apply({"params": params}, side, method="classify")
    for side in (images["image_feature"], text["text_feature"])
  ]
  found = dict(
    image_tokens=images["image_tokens"][:2],
    text_tokens=text["text_tokens"][:2],
    mlm_text_tokens=masked["text_tokens"][:2],
    image_feature=images["image_feature"],
    text_feature=text["text_feature"],
    image_classes=classes[0],
    text_classes=classes[1],
    mlm_logits=words,
  )
  for name, value in found.items():
    size = np.abs(expected[name]).max()
    np.testing.assert_allclose(value, expected[name], atol=1e-5 * size, err_msg=name)


def test_first_gradient():
  _, params = start()
  _, grads = grad_fn()(params, batch(0))
  norm = float(optax.tree.norm(grads))
  assert norm == pytest.approx(trace().gradient_norm, rel=1e-5)
  found = torch_names(grads)
  assert set(found) == set(trace().names)
  for name, expected in trace().gradient_probes.items():
    probe = irra.probe(found[name])
    np.testing.assert_allclose(probe, expected, atol=1e-4 * expected[0], err_msg=name)
  for name, expected in trace().gradients.items():
    value = irra.rows(found[name])
    size = np.abs(expected).max()
    np.testing.assert_allclose(value, expected, atol=1e-4 * size, err_msg=name)


def optimizer(lr, params):
  c = config.get_config("cuhk_pedes").optim
  c.lr = lr
  steps = 60 * irra.STEPS_AN_EPOCH
  return optim.make_optimizer(
    c, params, steps=steps, steps_per_epoch=irra.STEPS_AN_EPOCH
  )


def test_groups_have_the_learning_rates_and_decays_of_the_reference():
  _, params = start()
  c = config.get_config("cuhk_pedes").optim
  for name in tree.names(params):
    if name.startswith(("visual/", "text/")):
      (theirs, *_) = layouts.file_names("irra", name)
    else:
      theirs = irra_heads.file_name(name)
    lr, decay = optim.group_factors(c.groups, name)
    assert lr == trace().lr_factor[theirs], name
    assert decay * c.weight_decay == pytest.approx(trace().weight_decay[theirs]), name


def test_learning_rates_of_all_sixty_epochs():
  _, schedule = optimizer(irra.IRRA_BASE, start()[1])
  for epoch in range(60):
    for step in range(irra.STEPS_AN_EPOCH):
      found = float(schedule(epoch * irra.STEPS_AN_EPOCH + step))
      for factor, expected in trace().epoch_lr.items():
        assert factor * found == pytest.approx(expected[epoch], rel=1e-6)


def test_fourteen_steps():
  _, params = start()
  first = params
  tx, schedule = optimizer(irra.BASE, params)
  state = jax.jit(tx.init)(params)
  update = jax.jit(tx.update)
  for step in range(irra.STEPS):
    (total, terms), grads = grad_fn()(params, batch(step))
    assert float(schedule(step)) == pytest.approx(trace().lr[step], rel=1e-6)
    for ours, theirs in TERMS.items():
      expected = trace().losses[theirs][step]
      assert float(terms[ours]) == pytest.approx(expected, rel=1e-4), (step, ours)
    assert float(total) == pytest.approx(trace().losses["total"][step], rel=1e-4)
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
  found = torch_names(jax.tree.map(lambda a, b: a - b, params, first))
  for name, expected in trace().final_probes.items():
    probe = irra.probe(found[name])
    np.testing.assert_allclose(probe, expected, atol=1e-3 * expected[0], err_msg=name)
