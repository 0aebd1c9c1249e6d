"""Swin's published names: both kinds of files, and errors that name every leaf."""

import jax
import numpy as np
import pytest

from tests.reference import make_swin_golden as golden
from tpr_jax.convert import relative_position, swin
from tpr_jax.convert.source import ConvertError
from tpr_jax.core import tree

FIELDS = dict(
  image_size=(48, 96),
  patch=4,
  width=golden.WIDTH,
  depths=golden.DEPTHS,
  heads=golden.HEADS,
  windows=(3, 3, 3),
)
OTHER = FIELDS | dict(image_size=(96, 64), windows=(4, 4, 2))


@pytest.fixture(scope="module")
def hub():
  with np.load(golden.PATH) as file:
    named = {
      name.removeprefix("weights/"): file[name]
      for name in file.files
      if name.startswith("weights/")
    }
  return golden.of_case(named, "odd")


@pytest.fixture(scope="module")
def official(hub):
  """The same weights under the authors' names, written out, with their buffers."""
  made = {}
  for part in ("weight", "bias"):
    made[f"patch_embed.proj.{part}"] = hub[
      f"embeddings.patch_embeddings.projection.{part}"
    ]
    made[f"patch_embed.norm.{part}"] = hub[f"embeddings.norm.{part}"]
    made[f"norm.{part}"] = hub[f"layernorm.{part}"]
    made[f"head.{part}"] = np.zeros((5, 32)[: 2 if part == "weight" else 1], "float32")
    for s in range(3):
      if s < 2:
        at = f"layers.{s}.downsample.norm.{part}"
        made[at] = hub["encoder." + at]
      for b in range(2):
        new, old = f"layers.{s}.blocks.{b}.", f"encoder.layers.{s}.blocks.{b}."
        three = [
          hub[f"{old}attention.self.{x}.{part}"] for x in ("query", "key", "value")
        ]
        made[f"{new}attn.qkv.{part}"] = np.concatenate(three)
        for ours, theirs in (
          ("attn.proj", "attention.output.dense"),
          ("norm1", "layernorm_before"),
          ("norm2", "layernorm_after"),
          ("mlp.fc1", "intermediate.dense"),
          ("mlp.fc2", "output.dense"),
        ):
          made[f"{new}{ours}.{part}"] = hub[f"{old}{theirs}.{part}"]
  for s in range(3):
    if s < 2:
      at = f"layers.{s}.downsample.reduction.weight"
      made[at] = hub["encoder." + at]
    for b in range(2):
      at = f"layers.{s}.blocks.{b}.attn."
      name = "relative_position_bias_table"
      made[at + name] = hub[f"encoder.layers.{s}.blocks.{b}.attention.self.{name}"]
      made[f"{at}relative_position_index"] = np.zeros((9, 9), np.int64)
    made[f"layers.{s}.blocks.1.attn_mask"] = np.zeros((4, 9, 9), np.float32)
  return made


def same(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_both_kinds_of_names_give_the_same_parameters(hub, official):
  found = swin.from_huggingface(hub, FIELDS, interpolate=False)
  assert tree.shapes(found) == swin.shapes(FIELDS)
  for leaf in jax.tree.leaves(found):
    assert leaf.dtype == np.float32 and leaf.flags["C_CONTIGUOUS"]
  same(swin.from_official(official, FIELDS, interpolate=False), found)
  # A classifier's file: "swin." before the names, and the head.
  classifier = {f"swin.{name}": value for name, value in hub.items()}
  classifier["classifier.weight"] = np.zeros((5, 32))
  same(swin.from_huggingface(classifier, FIELDS, interpolate=False), found)


def test_a_part_of_a_larger_file_by_its_prefix(official):
  state = {f"vision_encoder.{name}": value for name, value in official.items()}
  state["text_encoder.bert.embeddings.word_embeddings.weight"] = np.zeros((3, 2))
  found = swin.from_official(state, FIELDS, interpolate=False, prefix="vision_encoder.")
  same(found, swin.from_official(official, FIELDS, interpolate=False))


def test_there_and_back(hub):
  params = swin.from_huggingface(hub, FIELDS, interpolate=False)
  state, config = swin.to_huggingface(params, FIELDS | dict(drop_path=0.1))
  assert set(state) == set(hub)
  for name, value in state.items():
    np.testing.assert_array_equal(value, hub[name], err_msg=name)
    assert value.dtype == np.float32 and value.flags["C_CONTIGUOUS"]
  assert config["window_size"] == 3 and config["drop_path_rate"] == 0.1
  assert config["image_size"] == [48, 96] and config["depths"] == [2, 2, 2]


def test_other_windows_are_an_error_unless_asked_for(official):
  with pytest.raises(ConvertError) as told:
    swin.from_official(official, OTHER, interpolate=False)
  assert "6 problems" in str(told.value)
  assert "table has shape (25, 1), expected (49, 1)" in str(told.value)
  assert "windows (3, 3, 3); the model windows (4, 4, 2)" in str(told.value)
  assert "interpolate=True" in str(told.value)
  found = swin.from_official(official, OTHER, interpolate=True)
  assert tree.shapes(found) == swin.shapes(OTHER)
  old = swin.from_official(official, FIELDS, interpolate=True)
  for name, leaf in tree.flat(found).items():
    before = tree.flat(old)[name]
    if name.endswith("relative_position_bias"):
      before = relative_position.resize(before, 2 if "stage_2" in name else 4)
    np.testing.assert_array_equal(leaf, before, err_msg=name)


def test_everything_wrong_is_told_at_once(official):
  state = dict(official)
  del state["norm.bias"]
  state["layers.0.blocks.0.mlp.fc1.weight"] = np.zeros((31, 8))
  state["absolute_pos_embed"] = np.zeros((1, 9, 8))
  with pytest.raises(ConvertError) as told:
    swin.from_official(state, FIELDS, interpolate=True)
  for part in (
    "3 problems",
    "norm.bias is missing",
    "mlp.fc1.weight has shape (31, 8), expected (32, 8)",
    "absolute_pos_embed has no place",
  ):
    assert part in str(told.value)
  assert "The file has" not in str(told.value)  # its sizes are the model's


def test_another_size_is_named(hub):
  fields = FIELDS | dict(width=16, depths=(2, 4, 2), windows=(4, 4, 2))
  with pytest.raises(ConvertError) as told:
    swin.from_huggingface(hub, fields, interpolate=True)
  assert "; and" in str(told.value) and "more." in str(told.value)
  assert "width 8, depths (2, 2, 2); the model width 16, depths (2, 4, 2)" in str(
    told.value
  )


def test_a_table_too_small_to_resize_is_named(official):
  state = dict(official)
  name = "layers.1.blocks.0.attn.relative_position_bias_table"
  state[name] = np.zeros((9, 2), np.float32)
  with pytest.raises(ConvertError, match=name.replace(".", r"\.") + ": .*3 x 3 at"):
    swin.from_official(state, FIELDS, interpolate=True)


def test_nothing_of_swin_is_an_error():
  with pytest.raises(ConvertError, match=r"patch_embed\.proj\.weight is missing"):
    swin.from_official({"visual.proj": np.zeros(3)}, FIELDS, interpolate=False)


@pytest.mark.parametrize(
  "changes, message",
  [
    (dict(windows=(4, 4, 2)), r"windows \(4, 4, 2\).*one window"),
    (dict(epsilon=1e-6), "epsilon 1e-06"),
    (dict(width=16), r"found \(4, 4, 3, 8\), expected \(4, 4, 3, 16\)"),
    (dict(depths=(2, 2, 4)), "found no such leaf"),
  ],
)
def test_towers_that_transformers_cannot_be(hub, changes, message):
  params = swin.from_huggingface(hub, FIELDS, interpolate=False)
  with pytest.raises(ConvertError, match=message):
    swin.to_huggingface(params, FIELDS | changes)
