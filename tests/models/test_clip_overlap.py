"""Overlapping patches on a picture that is no square: our towers against PyTorch's.

The numbers of golden/clip_overlap.npz need no PyTorch; where it is installed, the file
is made again, and other inputs are compared as well.
"""

import functools

import jax
import numpy as np
import pytest

from tests.reference import make_clip_overlap_golden as golden
from tpr_jax.convert import towers
from tpr_jax.convert.source import Source
from tpr_jax.models import build

CONFIG = dict(
  variant="tiny",
  image_size=golden.VISION["image"],
  **{k: golden.VISION[k] for k in ("patch", "stride")},
  **{f"vision_{k}": golden.VISION[k] for k in ("width", "layers", "heads")},
  **{f"text_{k}": golden.TEXT[k] for k in ("length", "width", "layers", "heads")},
  joint_dim=golden.JOINT,
)
NAMES = ("image", "text", "image_tokens", "text_tokens")


@functools.cache
def stored():
  with np.load(golden.PATH) as file:
    return {name: file[name] for name in file.files}


def weights():
  return {
    name.removeprefix("weights/"): value.astype(np.float32)
    for name, value in stored().items()
    if name.startswith("weights/")
  }


@functools.cache
def model():
  return build.build(CONFIG, vocab_size=golden.VOCABULARY)


@functools.cache
def apply():
  return jax.jit(model().apply)


def ours(image, ids, layout="openai", named=None):
  """Outputs of the towers that the weights (the stored ones) make, in a layout."""
  prefix = "base_model." if layout == "irra" else ""
  named = {f"{prefix}{name}": v for name, v in (named or weights()).items()}
  found = Source("the golden file", named, layout, dict(activation="quick_gelu"), None)
  fields = build.settings(CONFIG)
  params, report = towers.towers(found, fields, vocab_size=golden.VOCABULARY)
  assert report.resized == [] and report.kept == []
  return apply()({"params": params}, image, np.asarray(ids, np.int32))


def assert_same(found, expected):
  for name in NAMES:
    np.testing.assert_allclose(
      found[name], expected[name], atol=1e-5, rtol=1e-5, err_msg=name
    )


@pytest.mark.parametrize("layout", ["openai", "irra"])
def test_every_token_is_that_of_the_golden_file(layout):
  data = stored()
  found = ours(data["image_input"], data["text_input"], layout)
  # 4 rows of 3 patches where side by side there would be 3 of 2; the rest is cut off.
  assert found["image_tokens"].shape == (3, 1 + 4 * 3, golden.JOINT)
  assert found["text_tokens"].shape == (3, 24, golden.JOINT)
  assert_same(found, data)


def test_the_rest_that_fills_no_patch_is_not_looked_at():
  image, ids = golden.inputs(seed=1)
  changed = image.copy()
  changed[:, 26:], changed[:, :, 20:] = 9.0, 9.0
  np.testing.assert_array_equal(
    ours(image, ids)["image_tokens"], ours(changed, ids)["image_tokens"]
  )
  changed[:, 25] = 9.0  # the last row of the last patches
  moved = np.abs(ours(changed, ids)["image_tokens"] - ours(image, ids)["image_tokens"])
  assert moved.max() > 1e-2


def test_a_position_table_read_by_columns_would_show():
  data, named = stored(), weights()
  table = named["visual.positional_embedding"]
  turned = table[1:].reshape(4, 3, -1).swapaxes(0, 1).reshape(12, -1)
  named["visual.positional_embedding"] = np.concatenate([table[:1], turned])
  found = ours(data["image_input"], data["text_input"], named=named)
  assert np.abs(found["image_tokens"] - data["image_tokens"]).max() > 0.1


def test_against_torch_on_other_inputs():
  pytest.importorskip("torch", reason="PyTorch computes the towers anew")
  image, ids = golden.inputs(seed=2)
  assert_same(ours(image, ids), golden.outputs(weights(), image, ids))


def test_the_file_is_what_the_script_makes():
  pytest.importorskip("torch", reason="PyTorch makes the golden file")
  made, data = golden.make(), stored()
  assert set(made) == set(data)
  for name, value in made.items():
    if name in NAMES:  # another release may round otherwise
      np.testing.assert_allclose(value, data[name], atol=1e-6, err_msg=name)
    else:
      np.testing.assert_array_equal(value, data[name], err_msg=name)
