"""The committed goldens of IRRA: what their script makes, and right by slow numpy.

Tolerances. float64 reruns: 1e-9 of the largest entry. Measured differences of float32
from float64, relative to the largest entry: outputs 7e-7, losses 1.1e-6, gradients
4e-6, final values 1e-5, norms of updates (small differences of large numbers) 6e-5. A
rerun in float32, on whatever machine, gets about ten times that, updates four times.
"""

import math

import numpy as np
import pytest

from tests.reference import irra
from tests.reference import losses as slow


def same(found, expected, tolerance, name=""):
  """Largest difference, relative to the largest entry."""
  found, expected = np.asarray(found), np.asarray(expected)
  assert found.shape == expected.shape, name
  limit = tolerance * np.abs(expected).max()
  assert np.abs(found - expected).max() <= limit, name


@pytest.fixture(scope="module")
def script():
  torch = pytest.importorskip("torch", reason="torch remakes the golden arrays")
  from tests.reference import make_irra_golden

  threads = torch.get_num_threads()
  torch.set_num_threads(1)  # as in the script; for tensors this small also faster
  yield make_irra_golden
  torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def remade(script):
  return script.make_trace()


@pytest.fixture(scope="module")
def trace():
  return irra.trace()


@pytest.fixture(scope="module")
def single():
  return irra.losses()


def cosines(inputs):
  """Rows texts, columns images."""
  image, text = (
    x / np.linalg.norm(x, axis=1, keepdims=True)
    for x in (inputs["image"].astype(float), inputs["text"].astype(float))
  )
  return text @ image.T


def test_the_files_are_small():
  assert irra.TRACE.stat().st_size < 0.8e6
  assert irra.LOSSES.stat().st_size < 0.1e6


def test_losses_are_what_the_script_makes(script):
  stored, made = irra.read(irra.LOSSES), script.make_losses()
  assert set(stored) == set(made)
  for name, value in stored.items():
    if name.startswith("inputs/"):
      np.testing.assert_array_equal(value, made[name], err_msg=name)
    else:
      same(made[name], value, 1e-9, name)


def test_trace_inputs_are_what_the_script_makes(remade):
  stored = irra.read(irra.TRACE)
  assert set(stored) == set(remade)
  exact = ("names", "weight_steps", "image_step", "lr_factors", "weight_decays")
  exact += tuple(k for k in stored if k.startswith(("weights/", "batches/")))
  for name in exact:
    np.testing.assert_array_equal(stored[name], remade[name], err_msg=name)
  for name in ("lr", *(k for k in stored if k.startswith("epoch_lr/"))):
    np.testing.assert_allclose(remade[name], stored[name], rtol=1e-12, err_msg=name)


def test_trace_results_are_what_the_script_makes(remade):
  stored = irra.read(irra.TRACE)
  limits = {
    "losses64/": 1e-9,
    "losses/": 1e-5,
    "outputs/": 1e-5,
    "gradients/": 4e-5,
    "final/": 1e-4,
    "gradient_norm": 1e-5,
  }
  for prefix, tolerance in limits.items():
    names = [name for name in stored if name.startswith(prefix)]
    assert names, prefix
    for name in names:
      same(remade[name], stored[name], tolerance, name)
  for name, tolerance in (("gradient_probes", 4e-5), ("final_probes", 2.4e-4)):
    difference = np.abs(remade[name] - stored[name])
    assert (difference <= tolerance * stored[name][:, :1]).all(), name


def test_sdm_by_slow_numpy(single):
  inputs = single["inputs"]
  similarity, ids = cosines(inputs), inputs["ids"]
  hard = slow.sdm(similarity, ids, irra.SCALE).mean()
  soft = slow.sdm(similarity, ids, irra.SCALE, inputs["image_ids"]).mean()
  assert single["sdm_hard"]["value"] == pytest.approx(hard, rel=1e-9)
  assert single["sdm_soft_rows"]["value"] == pytest.approx(soft, rel=1e-9)


def test_the_released_soft_labels_divide_by_columns(single):
  """The labels are chosen so that the missing keepdim shows."""
  inputs = single["inputs"]
  ids, image_ids = inputs["ids"], inputs["image_ids"]
  y = np.where(image_ids[:, None] == image_ids[None, :], 1.0, 0.3)
  y = np.where(ids[:, None] == ids[None, :], y, 0.0)
  similarity, total = cosines(inputs), 0.0
  for s in (similarity, similarity.T):
    p = np.stack([slow.softmax(irra.SCALE * row) for row in s])
    q = y / y.sum(axis=1)[None, :]
    total += np.sum(p * (np.log(p) - np.log(q + 1e-8)), axis=1).mean()
  released = single["sdm_soft_released"]["value"]
  assert released == pytest.approx(total, rel=1e-9)
  assert abs(released - single["sdm_soft_rows"]["value"]) > 1e-2


def test_the_other_losses_by_slow_numpy(single):
  inputs = single["inputs"]
  infonce = slow.infonce(cosines(inputs), irra.SCALE).mean()
  assert single["infonce"]["value"] == pytest.approx(infonce, rel=1e-9)
  weight, bias = inputs["weight"].astype(float), inputs["bias"].astype(float)
  both = [
    slow.cross_entropy(inputs[name] @ weight.T + bias, inputs["ids"]).mean()
    for name in ("image", "text")
  ]
  assert single["identity"]["value"] == pytest.approx(np.mean(both), rel=1e-9)
  masked = inputs["mlm_labels"] > 0
  assert 10 < masked.sum() < 60
  logits = inputs["mlm_logits"].astype(float)
  mlm = slow.cross_entropy(logits[masked], inputs["mlm_labels"][masked]).mean()
  assert single["mlm"]["value"] == pytest.approx(mlm, rel=1e-9)
  assert not single["mlm"]["d_mlm_logits"][~masked].any()


@pytest.mark.parametrize("case", ["sdm_hard", "sdm_soft_rows", "infonce"])
def test_gradients_by_differences(single, case):
  """Through the division by the length: both ends of a small move, in float64."""
  inputs = single["inputs"]
  rng = np.random.default_rng(0)
  moves = {name: rng.normal(size=(8, 16)) for name in ("image", "text")}

  def value(by):
    moved = {name: inputs[name] + by * move for name, move in moves.items()}
    if case == "infonce":
      return slow.infonce(cosines(moved), irra.SCALE).mean()
    images = inputs["image_ids"] if case == "sdm_soft_rows" else None
    return slow.sdm(cosines(moved), inputs["ids"], irra.SCALE, images).mean()

  slope = (value(1e-5) - value(-1e-5)) / 2e-5
  stored = sum(np.sum(single[case][f"d_{name}"] * moves[name]) for name in moves)
  assert stored == pytest.approx(slope, rel=1e-5)


def test_the_first_losses_follow_from_the_first_outputs(trace):
  out, batch = trace.outputs, trace.batches[0]
  similarity = cosines(dict(image=out["image_feature"], text=out["text_feature"]))
  sdm = slow.sdm(similarity, batch["ids"], irra.SCALE).mean()
  assert trace.losses["sdm"][0] == pytest.approx(sdm, rel=1e-5)
  both = [
    slow.cross_entropy(out[name].astype(float), batch["ids"]).mean()
    for name in ("image_classes", "text_classes")
  ]
  assert trace.losses["id"][0] == pytest.approx(np.mean(both), rel=1e-5)
  masked = batch["mlm_labels"] > 0
  logits = out["mlm_logits"][masked].astype(float)
  mlm = slow.cross_entropy(logits, batch["mlm_labels"][masked]).mean()
  assert trace.losses["mlm"][0] == pytest.approx(mlm, rel=1e-5)
  parts = sum(trace.losses64[term] for term in ("sdm", "id", "mlm"))
  np.testing.assert_allclose(parts, trace.losses64["total"], rtol=1e-12)


def test_float32_is_good_enough_to_compare_with(trace):
  for term in irra.TERMS:
    assert len(trace.losses[term]) == irra.STEPS
    same(trace.losses[term], trace.losses64[term], 2e-6, term)


def test_batches_keep_their_promises(trace):
  for batch in trace.batches:
    assert batch["image"].shape == (8, 32, 16, 3)
    assert batch["image"].dtype == np.float32
    assert len(set(batch["ids"].tolist())) == 5
    text, masked = batch["text"], batch["mlm_labels"] > 0
    end = text.argmax(axis=1)
    assert (text[np.arange(8), end] == irra.END).all() and end.max() == 11
    assert len(set(end.tolist())) > 1
    assert (batch["mlm_labels"][masked] == text[masked]).all()
    assert (batch["mlm_text"][~masked] == text[~masked]).all()
    assert masked.any(axis=1).all()
    assert text[masked].max() <= irra.LAST_WORD


def test_groups_and_rates(trace):
  expected = {
    "base_model.visual.conv1.weight": (1, 4e-5),
    "base_model.ln_final.weight": (1, 4e-5),
    "base_model.transformer.resblocks.0.attn.in_proj_bias": (2, 0),
    "ln_pre_i.weight": (1, 4e-5),
    "ln_pre_i.bias": (2, 0),
    "cross_attn.in_proj_weight": (5, 4e-5),
    "cross_attn.in_proj_bias": (2, 0),
    "cross_modal_transformer.resblocks.2.ln_2.weight": (5, 4e-5),
    "cross_modal_transformer.resblocks.2.mlp.c_proj.bias": (2, 0),
    "classifier.weight": (5, 4e-5),
    "classifier.bias": (5, 0),
    "mlm_head.ln.bias": (5, 0),
  }
  for name, (factor, decay) in expected.items():
    assert trace.lr_factor[name] == factor, name
    assert trace.weight_decay[name] == decay, name
  warm = [0.1, 0.28, 0.46, 0.64, 0.82]
  cosine = [0.5 * (1 + math.cos(math.pi * k / 55)) for k in range(55)]
  for factor, rates in trace.epoch_lr.items():
    np.testing.assert_allclose(rates, 1e-5 * factor * np.array(warm + cosine))
  np.testing.assert_allclose(trace.lr, 1e-3 * np.repeat((warm + cosine)[:7], 2))
