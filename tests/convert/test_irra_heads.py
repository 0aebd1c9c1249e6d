"""The heads of an IRRA checkpoint: taken up whole, started anew, or refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.reference import irra
from tpr_jax.convert import irra_heads
from tpr_jax.convert.source import ConvertError
from tpr_jax.core import tree
from tpr_jax.initial import Initial
from tpr_jax.models import build

SIZES = irra.MODEL["towers"]
FIELDS = dict(
  variant="tiny",
  image_size=SIZES["vision"]["image"],
  patch=SIZES["vision"]["patch"],
  stride=SIZES["vision"]["patch"],
  **{f"vision_{k}": SIZES["vision"][k] for k in ("width", "layers", "heads")},
  **{f"text_{k}": SIZES[k] for k in ("width", "layers", "heads", "length")},
  joint_dim=SIZES["joint"],
  mlm_layers=irra.MODEL["depth"],
  mlm_heads=2,
)


@functools.cache
def fresh(heads=("identity_shared", "mlm"), classes=irra.MODEL["classes"], **fields):
  """Parameters of zeros: whatever is not 0 afterwards came from the file."""
  model = build.build(
    FIELDS | fields,
    vocab_size=SIZES["vocabulary"],
    num_classes=classes,
    heads=heads,
  )
  text = jnp.full((2, SIZES["length"]), irra.END, jnp.int32)
  image = jnp.zeros((2, *FIELDS["image_size"], 3), jnp.uint8)
  shapes = jax.eval_shape(model.init, jax.random.key(0), image, text)["params"]
  return jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)


def apply(tmp_path, weights, params):
  """(parameters with the file's weights, what the terminal is told)."""
  path = tmp_path / "irra.safetensors"
  save_file(weights, path)
  initial = Initial(str(path), (), {})
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  shardings = jax.tree.map(lambda _: device, params)
  found = initial.apply(params, shardings, FIELDS, SIZES["vocabulary"])
  return found, "\n".join(initial.lines())


@pytest.fixture(scope="module")
def weights():
  return irra.trace().weights


def leaf(params, name):
  for part in name.split("/"):
    params = params[part]
  return np.asarray(params)


def test_heads_come_along(tmp_path, weights):
  found, said = apply(tmp_path, weights, fresh())
  width = SIZES["joint"]
  for name, expected in {
    "identity_shared/classifier/kernel": weights["classifier.weight"].T,
    "mlm/ln_image/scale": weights["ln_pre_i.weight"],
    "mlm/cross_attn/q/kernel": weights["cross_attn.in_proj_weight"][:width].T,
    "mlm/cross_attn/kv/bias": weights["cross_attn.in_proj_bias"][width:],
    "mlm/blocks/block_3/mlp/fc/kernel": weights[
      "cross_modal_transformer.resblocks.3.mlp.c_fc.weight"
    ].T,
    "mlm/head/words/bias": weights["mlm_head.fc.bias"],
  }.items():
    np.testing.assert_array_equal(leaf(found, name), expected, err_msg=name)
  assert "anew" not in said and "unused" not in said
  # Every leaf of the file has its place: nothing but the zeros of a bias stays 0.
  zero = [name for name in tree.names(found) if not np.any(leaf(found, name))]
  assert zero == ["identity_shared/classifier/bias"]


def test_a_classifier_of_other_people_starts_anew(tmp_path, weights):
  found, said = apply(tmp_path, weights, fresh(classes=5))
  assert not np.any(leaf(found, "identity_shared/classifier/kernel"))
  assert np.any(leaf(found, "mlm/head/words/kernel"))
  assert "starts anew: identity_shared: of 11 people, not 5" in said
  assert "2 leaves of the file are unused: classifier.bias" in said


def test_a_head_that_the_file_lacks_starts_anew(tmp_path, weights):
  some = {k: v for k, v in weights.items() if k.startswith(("base_model.", "class"))}
  found, said = apply(tmp_path, some, fresh())
  assert "starts anew: mlm: not in the file" in said
  assert np.any(leaf(found, "identity_shared/classifier/kernel"))


def test_heads_that_the_model_lacks_are_told(tmp_path, weights):
  found, said = apply(tmp_path, weights, fresh(heads=()))
  assert set(found) == {"visual", "text"}
  assert "leaves of the file are unused: classifier.bias, classifier.weight" in said


def test_part_of_a_head_is_refused(tmp_path, weights):
  some = {k: v for k, v in weights.items() if k != "mlm_head.fc.bias"}
  with pytest.raises(ConvertError, match=r"'mlm' without mlm_head\.fc\.bias"):
    apply(tmp_path, some, fresh())


def test_a_head_of_another_size_is_refused(tmp_path, weights):
  other = dict(weights)
  other["mlm_head.dense.weight"] = np.ones((64, 128), np.float32)
  with pytest.raises(ConvertError, match=r"mlm/head/dense/kernel of shape \(128, 64\)"):
    apply(tmp_path, other, fresh())


def test_every_leaf_of_the_heads_has_a_name():
  names = [n for n in tree.names(fresh()) if n.startswith(irra_heads.HEADS)]
  assert {irra_heads.file_name(name) for name in names} == {
    name for name in irra.trace().names if not name.startswith("base_model.")
  }
