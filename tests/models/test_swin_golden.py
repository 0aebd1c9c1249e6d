"""Our Swin tower against what transformers computed with the same weights.

The numbers of golden/swin_tiny.npz need no PyTorch; where it is installed, the file is
made again, and transformers loads what we export.
"""

import functools
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.reference import make_swin_golden as golden
from tpr_jax.convert import swin as convert
from tpr_jax.core import tree
from tpr_jax.models import swin

PIXELS = dict(pixel_mean=golden.MEAN, pixel_std=golden.STD)


@functools.cache
def stored():
  with np.load(golden.PATH) as file:
    return {name: file[name] for name in file.files}


def fields(case):
  sizes = dict(patch=4, width=golden.WIDTH, depths=golden.DEPTHS, heads=golden.HEADS)
  return {**golden.CASES[case], **sizes}


def hub_weights(case):
  drawn = {
    name.removeprefix("weights/"): value
    for name, value in stored().items()
    if name.startswith("weights/")
  }
  return golden.of_case(drawn, case)


@functools.cache
def encoder(case):
  return jax.jit(swin.SwinTower(**fields(case), **PIXELS).apply)


@functools.cache
def params(case):
  return convert.from_huggingface(hub_weights(case), fields(case), interpolate=False)


def check(found, expected):
  np.testing.assert_allclose(found[:, 1:], expected, atol=1e-5, rtol=1e-5)
  np.testing.assert_allclose(found[:, 0], expected.mean(axis=1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", list(golden.CASES))
def test_every_token_is_that_of_transformers(case):
  found = encoder(case)({"params": params(case)}, stored()[f"image/{case}"])
  rows, columns = swin.grids(golden.CASES[case]["image_size"], 4, 3)[-1]
  assert found.shape == (2, 1 + rows * columns, 32)
  check(found, stored()[f"tokens/{case}"])


def test_the_windows_are_those_of_the_rule():
  sizes = {case: value["image_size"] for case, value in golden.CASES.items()}
  kinds = dict(odd=(3,), last=(4, 2), clipped=(4,))
  for case, args in kinds.items():
    found = swin.windows(sizes[case], *args, patch=4, stages=3)
    assert found == golden.CASES[case]["windows"], case


def changed(name, change):
  """Largest change of the "last" case's tokens where one leaf is another."""
  leaves = dict(tree.flat(params("last")))
  leaves[name] = change(leaves[name])
  found = encoder("last")({"params": tree.nested(leaves)}, stored()["image/last"])
  return np.abs(found[:, 1:] - stored()["tokens/last"]).max()


@pytest.mark.parametrize("block", ["stage_0/block_1", "stage_2/block_1"])
def test_a_table_of_key_minus_query_would_show(block):
  assert changed(f"{block}/relative_position_bias", lambda x: x[::-1]) > 1e-2


def test_another_order_of_merging_would_show():
  rows = lambda x: x.reshape(2, 2, 8, -1).swapaxes(0, 1).reshape(x.shape)
  assert changed("stage_0/merge/reduction/kernel", rows) > 1e-2


# ---- with PyTorch and transformers' classes


@pytest.fixture
def torch():
  found = pytest.importorskip("torch", reason="torch remakes the golden arrays")
  threads = found.get_num_threads()
  found.set_num_threads(1)
  yield found
  found.set_num_threads(threads)


def test_the_file_is_what_the_script_makes(torch):
  made, data = golden.make(), stored()
  assert set(made) == set(data)
  for name, value in made.items():
    if name.startswith("tokens/"):  # another release may round otherwise
      np.testing.assert_allclose(value, data[name], atol=1e-6, err_msg=name)
    else:
      np.testing.assert_array_equal(value, data[name], err_msg=name)


@pytest.mark.parametrize("case", list(golden.CASES))
def test_other_pictures_against_torch(torch, case):
  pictures = golden.image(case, seed=2)
  found = encoder(case)({"params": params(case)}, pictures)
  check(found, golden.tokens(hub_weights(case), case, pictures))


def test_names_in_memory_are_read_too(torch):
  named = hub_weights("odd")
  state = golden.model(**golden.CASES["odd"]).state_dict()
  state = {name: named[golden.hub_name(name)] for name in state}
  found = convert.from_huggingface(state, fields("odd"), interpolate=False)
  jax.tree.map(np.testing.assert_array_equal, found, params("odd"))


def test_transformers_loads_what_we_write(torch, tmp_path):
  from transformers import SwinModel

  state, config = convert.to_huggingface(params("odd"), fields("odd"))
  save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
  (tmp_path / "config.json").write_text(json.dumps(config))
  model, told = SwinModel.from_pretrained(tmp_path, output_loading_info=True)
  assert not any(told.values()), told
  image = stored()["image/odd"].astype(np.float32)
  pixels = (image / 255 - golden.MEAN) / golden.STD
  with torch.no_grad():
    out = model.eval()(torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float())
  expected = stored()["tokens/odd"]
  np.testing.assert_allclose(out.last_hidden_state, expected, atol=1e-5, rtol=1e-5)
  mean = np.asarray(encoder("odd")({"params": params("odd")}, stored()["image/odd"]))
  np.testing.assert_allclose(out.pooler_output, mean[:, 0], atol=1e-5, rtol=1e-5)
