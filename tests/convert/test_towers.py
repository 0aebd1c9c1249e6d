"""Converted towers: same outputs as transformers, tables resized, sizes, way back."""

import jax
import numpy as np
import pytest

from tests.convert import golden
from tests.models.test_position import bilinear_slow
from tpr_jax.convert import towers
from tpr_jax.convert.source import ConvertError, Source
from tpr_jax.models import build

HEADS = {
  "cross_attn.in_proj_weight": np.zeros((48, 16), np.float32),
  "cross_modal_transformer.resblocks.0.ln_1.weight": np.zeros(16, np.float32),
  "classifier.weight": np.zeros((5, 16), np.float32),
  "mlm_head.dense.weight": np.zeros((16, 16), np.float32),
  "visul_emb_layer.linear.weight": np.zeros((4, 16), np.float32),
  "texual_emb_layer.linear.weight": np.zeros((4, 16), np.float32),
}


def source(weights, layout="openai", **settings):
  known = dict(activation="quick_gelu", **settings)
  return Source("somewhere.pt", dict(weights), layout, known, None)


def irra(openai, **more):
  weights = {f"base_model.{k}": v for k, v in openai.items() if k != "logit_scale"}
  return {**weights, **HEADS, **more}


def convert(found, fields=None, **kwargs):
  kwargs.setdefault("vocab_size", golden.VOCABULARY)
  return towers.towers(found, fields or golden.fields(), **kwargs)


def test_hugging_face_layout(hf):
  params, report = convert(source(hf, "huggingface"))
  golden.check_params(params)
  golden.check_outputs(params)
  assert report.logit_scale == float(hf["logit_scale"])
  assert (report.kept, report.resized, report.dropped) == ([], [], ["logit_scale"])


def test_openai_layout(openai):
  params, _ = convert(source(openai))
  golden.check_params(params)
  golden.check_outputs(params)


def test_shapes_are_the_models_own(openai):
  overrides = dict(image_size=(32, 16), stride=4, text_length=20)
  params, _ = convert(source(openai), golden.fields(**overrides))
  model = build.build({**golden.CONFIG, **overrides}, vocab_size=60)
  image, text = np.zeros((1, 32, 16, 3), np.uint8), np.zeros((1, 20), np.int32)
  made = jax.eval_shape(model.init, jax.random.key(0), image, text)["params"]
  assert jax.tree.map(lambda x: x.shape, made) == jax.tree.map(np.shape, params)


def test_irra_layout_reports_its_heads(openai):
  params, report = convert(source(irra(openai), "irra"))
  golden.check_params(params)
  assert report.kept == sorted(HEADS)


def test_irra_table_of_the_models_grid_is_taken_as_it_is(openai):
  # 16 rows of 8x2 are a square's number too: the table of an IRRA is none.
  table = np.random.default_rng(0).normal(size=(17, 32)).astype(np.float32)
  weights = irra(openai, **{"base_model.visual.positional_embedding": table})
  params, report = convert(source(weights, "irra"), golden.fields(image_size=(64, 16)))
  np.testing.assert_array_equal(params["visual"]["position_embedding"], table)
  assert report.resized == []


def test_a_table_of_no_square_needs_its_grid_only_for_another(openai):
  table = np.random.default_rng(0).normal(size=(1 + 10, 32)).astype(np.float32)  # 5x2
  weights = {**openai, "visual.positional_embedding": table}
  same = golden.fields(image_size=(40, 16))
  params, report = convert(source(weights), same)
  np.testing.assert_array_equal(params["visual"]["position_embedding"], table)
  assert report.resized == []
  with pytest.raises(ConvertError, match=r"1 \+ 10 rows.*pass grid="):
    convert(source(weights))
  params, report = convert(source(weights), grid=(5, 2))
  expected = bilinear_slow(table[1:].reshape(5, 2, 32), (3, 3)).reshape(9, 32)
  np.testing.assert_allclose(
    params["visual"]["position_embedding"][1:], expected, atol=1e-6
  )
  assert report.resized == ["visual/position_embedding: 11 rows (5x2) -> 10 (3x3)"]


def test_tables_for_tall_images_with_overlap_and_longer_texts(openai):
  fields = golden.fields(image_size=(32, 16), stride=4, text_length=30)
  params, report = convert(source(openai), fields)
  assert report.resized == [
    "visual/position_embedding: 10 rows (3x3) -> 22 (7x3)",
    "text/position_embedding: 12 rows -> 30",
  ]
  old = openai["visual.positional_embedding"]
  found = params["visual"]["position_embedding"]
  np.testing.assert_array_equal(found[0], old[0])
  square = old[1:].reshape(3, 3, 32)
  slow = bilinear_slow(square, (7, 3)).reshape(21, 32)
  np.testing.assert_allclose(found[1:], slow, atol=1e-6)
  words = bilinear_slow(openai["positional_embedding"][:, None], (30, 1))[:, 0]
  np.testing.assert_allclose(params["text"]["position_embedding"], words, atol=1e-6)


def test_tables_against_torch(openai):
  torch = pytest.importorskip("torch")
  fields = golden.fields(image_size=(32, 16), stride=4, text_length=30)
  params, _ = convert(source(openai), fields)
  resize = torch.nn.functional.interpolate
  square = torch.from_numpy(openai["visual.positional_embedding"][1:].copy())
  square = square.reshape(1, 3, 3, 32).permute(0, 3, 1, 2)
  image = resize(square, size=(7, 3), mode="bilinear", align_corners=False)
  image = image.permute(0, 2, 3, 1).reshape(21, 32).numpy()
  np.testing.assert_allclose(
    params["visual"]["position_embedding"][1:], image, atol=1e-6
  )
  words = torch.from_numpy(openai["positional_embedding"]).T[None]
  text = resize(words, size=30, mode="linear", align_corners=False)[0].T.numpy()
  np.testing.assert_allclose(params["text"]["position_embedding"], text, atol=1e-6)


def test_sizes_are_deduced(hf, openai):
  expected = dict(
    vision_width=32,
    vision_layers=2,
    vision_heads=4,
    patch=(8, 8),
    grid=(3, 3),
    text_width=24,
    text_layers=2,
    text_heads=1,
    text_length=12,
    vocab_size=60,
    joint_dim=16,
  )
  assert towers.variant_fields(source(openai, vision_heads=4)) == expected
  found = source(hf, "huggingface", vision_heads=4)
  assert towers.variant_fields(found) == expected
  found = source(irra(openai), "irra", vision_heads=4)
  assert towers.variant_fields(found) == expected


def test_there_and_back_is_bit_identical(hf, openai):
  for weights, layout, back in (
    (hf, "huggingface", towers.to_huggingface),
    (openai, "openai", towers.to_openai),
  ):
    params, _ = convert(source(weights, layout))
    out = back(params, golden.fields())
    assert set(out) == set(weights) - {"logit_scale"}
    for name, value in out.items():
      np.testing.assert_array_equal(value, weights[name])
      assert value.flags["C_CONTIGUOUS"] and value.dtype == np.float32
    again, _ = convert(source(out, layout))
    golden.check_params(again)


def test_export_takes_a_learnt_scale_and_leaves_heads(openai):
  params, _ = convert(source(openai))
  more = {**params, "logit_scale": np.float32(3.0), "matcher": dict(x=np.ones(2))}
  out = towers.to_openai(more, golden.fields())
  assert out["logit_scale"] == 3.0 and set(out) == set(openai)


def test_exports_that_cannot_be(openai):
  params, _ = convert(source(openai))
  with pytest.raises(ConvertError, match=r"block_2.*expected two towers"):
    towers.to_openai(params, golden.fields(text_layers=3))
  with pytest.raises(ConvertError, match="text/position_embedding has shape"):
    towers.to_huggingface(params, golden.fields(text_length=13))


def test_missing_extra_and_wrong_leaves_are_told_at_once(openai):
  weights = {**openai, "visual.extra": np.ones(3, np.float32)}
  del weights["ln_final.bias"]
  weights["visual.proj"] = np.zeros((32, 17), np.float32)
  with pytest.raises(ConvertError) as error:
    convert(source(weights))
  text = str(error.value)
  assert "3 problems" in text and "ln_final.bias is missing" in text
  assert "visual.proj has shape (32, 17), expected (32, 16)" in text
  assert "visual.extra has no place" in text


def test_extra_leaves_can_be_allowed(openai):
  weights = {**openai, "visual.extra": np.ones(3, np.float32)}
  _, report = convert(source(weights), allow=(r"^visual\.extra$",))
  assert report.kept == ["visual.extra"]


@pytest.mark.parametrize("layout", ["openai", "irra"])
def test_no_block_is_dropped_in_silence(openai, layout):
  weights = irra(openai) if layout == "irra" else openai
  with pytest.raises(ConvertError, match=r"12 problems.*resblocks.1.*vision_layers 2"):
    convert(source(weights, layout), golden.fields(vision_layers=1))


def test_another_vocabulary(hf):
  with pytest.raises(ConvertError, match=r"\(60, 24\), expected \(70, 24\).*tokenizer"):
    convert(source(hf, "huggingface"), vocab_size=70)


def test_a_larger_variant_is_named():
  big = build.settings(dict(variant="L/14"))
  weights = {
    "visual.class_embedding": np.zeros(1024),
    "visual.conv1.weight": np.zeros((1024, 3, 14, 14)),
    "visual.positional_embedding": np.zeros((257, 1024)),
    "token_embedding.weight": np.zeros((9, 768)),
    "positional_embedding": np.zeros((77, 768)),
    "text_projection": np.zeros((768, 768)),
    "visual.transformer.resblocks.23.ln_1.bias": np.zeros(1024),
    "transformer.resblocks.11.ln_1.bias": np.zeros(768),
  }
  assert towers.variant_fields(source(weights))["vision_layers"] == big["vision_layers"]
  with pytest.raises(ConvertError) as error:
    convert(source(weights), build.settings(dict(variant="B/16")), vocab_size=9)
  text = str(error.value)
  assert "looks like a ViT-L/14 (vision_width 1024, vision_layers 24" in text
  assert "asks for vision_width 768" in text and text.endswith("use variant=L/14")
  assert len(text) < 1200  # the first problems, not all


def test_heads_of_the_config_must_agree(hf):
  found = source(hf, "huggingface", vision_heads=8)
  with pytest.raises(ConvertError, match="vision_heads is 8 in the file's config, 4"):
    convert(found)


def test_weights_that_do_not_say_their_activation(openai):
  bare = Source("open_clip.bin", openai, "openai", {}, None)
  with pytest.raises(ConvertError, match="does not say which activation"):
    convert(bare)
  _, report = convert(bare, activation="gelu")
  assert report.settings == dict(activation="gelu")
