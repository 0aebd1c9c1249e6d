"""The PyTorch side of the benchmarks does our work: same loss, gradient and steps."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the PyTorch side needs torch")

from tests import tiny  # noqa: E402
from tests.benchmarks import sizes, steps  # noqa: E402
from tests.benchmarks.pytorch import step as torch_step  # noqa: E402
from tests.benchmarks.pytorch import weights  # noqa: E402
from tpr_jax import gradients, objectives, program  # noqa: E402

ROWS, CLASSES, CLOSE = 6, 10, 2e-5
OTHER = dict(remat=True, activation="gelu", joint_dim=48)


def config(**fields):
  """The recipe with towers of a few numbers; texts are not masked, which is random."""
  c = sizes.config("tiny")
  c.model.update(dict(image_size=(32, 16), patch=(8, 8), stride=(8, 8), part_width=32))
  c.model.update(dict(vision_layers=1, text_layers=1, **fields))
  c.text.length, c.text.mask_share, c.data.batch = 20, 0.0, ROWS
  return c


def rows(c):
  """A batch with two captions of one person, short texts and long ones."""
  found = steps.random_rows(
    ROWS, c.text.length, c.model.image_size, steps.CLIP, least=4
  )
  found["ids"][1] = found["ids"][0]
  return found


def pair(c):
  """(our program, parameters, our batch, the PyTorch step, its batch)."""
  built, _ = steps.build(c, classes=CLASSES)
  # Drawn, biases and scales too: none is a stand-in for another, nothing is compiled.
  rng = np.random.default_rng(1)
  draw = lambda x: rng.standard_normal(x.shape).astype(np.float32) * x.shape[-1] ** -0.5
  params, batch = jax.tree.map(draw, built.plan.shapes.params), rows(c)
  theirs = torch_step.Step(
    c, built.model, params, masking=program.masking(steps.CLIP, c.text)
  )
  return built, params, batch, theirs, theirs.on_device(batch)


def gradient(c, built, params, batch):
  objective = objectives.make_objective(
    built.model,
    c.losses,
    c.objective,
    masking=program.masking(steps.CLIP, c.text),
  )
  grad = jax.jit(jax.value_and_grad(gradients.loss_fn(objective), has_aux=True))
  return grad(params, batch, jax.random.key(1))


def apart(a, b):
  """Largest difference, by the largest entry of the second."""
  return float(abs(a - b).max() / max(abs(b).max(), 1e-6))


@pytest.mark.parametrize("fields", [{}, pytest.param(OTHER, marks=pytest.mark.proof)])
def test_loss_and_gradient_are_ours(fields):
  c = config(**fields)
  built, params, batch, theirs, given = pair(c)
  (loss, terms), grads = gradient(c, built, params, batch)
  found, parts = theirs.loss(given)
  found.backward()
  assert found.item() == pytest.approx(float(loss), rel=CLOSE)
  assert {k: v.item() for k, v in parts.items()} == pytest.approx(
    {k: float(v) for k, v in terms.items()}, rel=CLOSE
  )
  wanted = weights.state(grads)
  got = {name: p.grad for name, p in theirs.model.named_parameters()}
  assert set(got) == set(wanted)
  wrong = {k: apart(got[k], wanted[k]) for k in got if apart(got[k], wanted[k]) > 1e-4}
  assert not wrong


def test_another_weight_is_noticed():
  """The comparison above sees a change of one number of a head."""
  c = config()
  *_, theirs, given = pair(c)
  before = theirs.loss(given)[0].item()
  with torch.no_grad():
    theirs.model.granularity.ln_final.weight[0] += 0.05
  assert theirs.loss(given)[0].item() != pytest.approx(before, rel=CLOSE)


@pytest.mark.proof
def test_three_steps_end_at_the_same_parameters():
  c = config()
  c.optim.lr = 1e-2
  built, params, batch, theirs, given = pair(c)
  state = built.plan.create(jax.random.key(0)).replace(params=params)
  start = weights.state(params)
  for _ in range(3):
    theirs(given)
    state, _ = built.step(state, batch, jax.random.key(1))
  end = weights.state(state.params)
  for name, leaf in theirs.model.named_parameters():
    way = end[name] - start[name]
    assert way.abs().max() > 0 and apart(leaf.detach() - start[name], way) < 2e-2, name


def test_rows_of_features_are_ours():
  c = config()
  built, params, batch, theirs, (image, text, _) = pair(c)
  apply = jax.jit(
    lambda method, x: built.model.apply({"params": params}, x, method=method),
    static_argnums=0,
  )
  with torch.inference_mode():
    for side, value in (("image", image), ("text", text)):
      got = getattr(theirs.model, f"encode_{side}")(value)
      wanted = np.asarray(apply(f"encode_{side}", batch[side])[side])
      np.testing.assert_allclose(got.numpy(), wanted, atol=1e-5)


def test_a_batch_of_one_person_has_a_finite_loss():
  c = config()
  *_, theirs, (image, text, ids) = pair(c)
  loss, _ = theirs.loss((image, text, torch.zeros_like(ids)))
  assert torch.isfinite(loss)


def test_masking_follows_the_rates():
  masking = dict(tiny.MASKING, share=0.5)
  text = torch.full((200, 40), 7)
  text[:, 0], text[:, 30], text[:, 31:] = tiny.VOCAB - 2, tiny.VOCAB - 1, 0
  new = torch_step.masked(text, masking, torch.Generator().manual_seed(0))
  same = new == text
  assert same[:, 0].all() and same[:, 30:].all()
  words = new[:, 1:30]
  assert (words == masking["mask_id"]).float().mean() == pytest.approx(0.4, abs=0.03)
  others = (words != 7) & (words != masking["mask_id"])
  assert others.float().mean() == pytest.approx(0.05, abs=0.01)
  assert words.max() <= masking["mask_id"]


def test_what_the_step_has_not_got_is_refused():
  c = config()
  c.optim.muon = "kernel$"
  with pytest.raises(ValueError, match="Adam with L2"):
    pair(c)


def test_names_and_layouts():
  assert weights.torch_name("visual/blocks/block_3/attn/qkv/kernel") == (
    "visual.blocks.3.attn.qkv.weight"
  )
  assert weights.torch_name("granularity/layer_1/ln_mlp/scale") == (
    "granularity.layers.1.ln_mlp.weight"
  )
  assert weights.convert("a/kernel", np.zeros((8, 4, 3, 16))).shape == (16, 3, 8, 4)


def test_autocast_computes_the_same_loss_in_bfloat16():
  c = config()
  *_, theirs, given = pair(c)
  exact = theirs.loss(given)[0]
  theirs._autocast = True
  half, _ = theirs.loss(given)
  half.backward()
  assert half.dtype == torch.float32 and half.item() != exact.item()
  assert half.item() == pytest.approx(exact.item(), rel=0.1)
  grads = [p.grad for p in theirs.model.parameters()]
  assert all(g.dtype == torch.float32 and torch.isfinite(g).all() for g in grads)


def test_torch_compile_takes_the_model_whole():
  """One graph: nothing in it falls back to Python."""
  c = config()
  *_, theirs, given = pair(c)
  compiled = torch.compile(theirs.model, backend="aot_eager", fullgraph=True)
  image, text, ids = given
  assert compiled(image, text, ids)[0].item() == pytest.approx(
    theirs.loss(given)[0].item(), rel=CLOSE
  )
