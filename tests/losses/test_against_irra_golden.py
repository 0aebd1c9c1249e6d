"""Our losses and their gradients against PyTorch's (tests/reference/make_irra_golden).

The goldens are float64 results of float32 inputs, so 1e-5 of the largest entry is the
rounding of our float32 alone. Gradients are taken with respect to features of any
length: `unit` and `similarity` are part of what is compared.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import irra
from tpr_jax.core import numerics
from tpr_jax.losses import contrastive, identity, sdm

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def golden():
  return irra.losses()


def cosines(image, text):
  return numerics.similarity(numerics.unit(text), numerics.unit(image))


def agree(formula, golden, case, names):
  """`formula` of the named inputs -> []; its value and every gradient."""
  expected = golden[case]
  given = [jnp.asarray(golden["inputs"][name]) for name in names]
  value, gradients = jax.jit(
    jax.value_and_grad(formula, argnums=tuple(range(len(names))))
  )(*given)
  assert set(expected) == {"value", *(f"d_{name}" for name in names)}
  assert float(value) == pytest.approx(float(expected["value"]), rel=TOLERANCE)
  for name, gradient in zip(names, gradients, strict=True):
    target = expected[f"d_{name}"]
    assert gradient.shape == target.shape
    limit = TOLERANCE * np.abs(target).max()
    np.testing.assert_allclose(gradient, target, rtol=0, atol=limit, err_msg=name)


def test_sdm_with_hard_labels(golden):
  ids = golden["inputs"]["ids"]

  def loss(image, text):
    return sdm.sdm(cosines(image, text), ids, irra.SCALE).mean()

  agree(loss, golden, "sdm_hard", ("image", "text"))


def soft(golden):
  ids, image_ids = golden["inputs"]["ids"], golden["inputs"]["image_ids"]

  def loss(image, text):
    similarity = cosines(image, text)
    return sdm.sdm(similarity, ids, irra.SCALE, image_ids=image_ids).mean()

  return loss


def test_sdm_with_soft_labels_divides_by_the_sum_of_the_row(golden):
  agree(soft(golden), golden, "sdm_soft_rows", ("image", "text"))


def test_sdm_with_soft_labels_departs_from_the_released_code(golden):
  """By the documented keepdims: see tpr_jax/losses/sdm.py."""
  inputs = golden["inputs"]
  ours = float(soft(golden)(inputs["image"], inputs["text"]))
  assert abs(ours - golden["sdm_soft_released"]["value"]) > 1e-2


def test_infonce(golden):
  def loss(image, text):
    return contrastive.infonce(cosines(image, text), irra.SCALE).mean()

  agree(loss, golden, "infonce", ("image", "text"))


def test_identity_with_the_classifier(golden):
  ids = golden["inputs"]["ids"]

  def loss(image, text, weight, bias):
    classes = [numerics.similarity(x, weight) + bias for x in (image, text)]
    return identity.shared(*classes, ids).mean()

  agree(loss, golden, "identity", ("image", "text", "weight", "bias"))


def test_mlm_over_masked_positions(golden):
  labels = golden["inputs"]["mlm_labels"]

  def loss(logits):
    masked = labels > 0  # IRRA's labels: 0 where nothing was masked
    return numerics.masked_mean(identity.cross_entropy(logits, labels, masked), masked)

  agree(loss, golden, "mlm", ("mlm_logits",))
