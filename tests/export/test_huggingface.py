"""What is exported for transformers: its own features, its own tokenizer, and back."""

import json
import math
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.data import test_tokenizer
from tests.export import models
from tpr_jax.convert import files
from tpr_jax.convert.source import ConvertError
from tpr_jax.export import huggingface
from tpr_jax.export.problems import ExportError
from tpr_jax.loading import load

merges_path = test_tokenizer.merges_path

# Grids whose table is a square, picked out of one, or interpolated.
SHAPES = {
  "square": dict(image_size=(32, 32)),
  "square with a rest": dict(image_size=(37, 37)),
  "picked": dict(image_size=(48, 16)),  # 6 x 2, every third
  "interpolated": dict(image_size=(96, 40)),  # 12 x 5
  "wide, with a rest": dict(image_size=(26, 60)),  # 3 x 7
  "square grid of a tall picture": dict(image_size=(39, 33)),
  "long text": dict(image_size=(32, 16), length=168),
  "clip's text": dict(image_size=(32, 32), length=77),
  "other settings": dict(
    image_size=(32, 16),
    activation="gelu",
    epsilon=1e-3,
    pixel_mean=(0.5, 0.25, 0.125),
    pixel_std=(0.5, 0.3, 0.2),
  ),
}


def written(folder, **options):
  model = models.random(**options)
  return model, huggingface.write(model, folder)


@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
def test_transformers_gives_the_same_features(tmp_path, options):
  torch = pytest.importorskip("torch")
  from transformers import AutoTokenizer, CLIPModel

  model, notes = written(tmp_path, **options)
  clip, info = CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
  assert not any(info[k] for k in ("missing_keys", "unexpected_keys"))
  assert not info["mismatched_keys"]
  clip.eval()
  tokenizer = AutoTokenizer.from_pretrained(tmp_path)
  texts = tokenizer(
    models.CAPTIONS,
    padding="max_length",
    truncation=True,
    max_length=model.text_length,
    return_tensors="pt",
  )
  np.testing.assert_array_equal(texts["input_ids"], models.ids(model))
  batch = models.images(model)
  asked = dict(interpolate_pos_encoding=True) if notes["side"] else {}
  with torch.inference_mode():
    pixels = torch.from_numpy(models.normalised(model, batch).copy())
    out = clip(pixel_values=pixels, **texts, **asked)
    short = tokenizer(models.CAPTIONS[:2], padding=True, return_tensors="pt")
    few = clip.get_text_features(**short).pooler_output
  image, text = models.expected(model, batch, models.CAPTIONS)
  np.testing.assert_allclose(out.image_embeds, image, atol=1e-5)
  np.testing.assert_allclose(out.text_embeds, text, atol=1e-5)
  few = few / few.norm(dim=1, keepdim=True)
  np.testing.assert_allclose(few, text[:2], atol=1e-5)


def test_the_image_processor_makes_our_pixels(tmp_path):
  pytest.importorskip("torch")
  from PIL import Image
  from transformers import AutoImageProcessor

  model, _ = written(tmp_path, **SHAPES["other settings"])
  rng = np.random.default_rng(0)
  picture = rng.integers(0, 256, (90, 50, 3), dtype=np.uint8)
  processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
  found = processor(Image.fromarray(picture), return_tensors="np")["pixel_values"]
  resized = Image.fromarray(picture).resize((16, 32), Image.Resampling.BILINEAR)
  wanted = models.normalised(model, np.asarray(resized)[None])
  np.testing.assert_allclose(found, wanted, atol=1e-5)


ROUND = ("square with a rest", "picked", "wide, with a rest", "other settings")


@pytest.mark.parametrize("shape", ROUND)
def test_out_and_in_again_is_the_same_bits(tmp_path, shape):
  model, _ = written(tmp_path, scale=math.log(20), **SHAPES[shape])
  again = load(tmp_path)
  models.assert_same(again.params, model.params)
  assert again.fields == {**model.fields, "dtype": "float32"}
  assert again.filter == model.filter == "bilinear"
  assert again.logit_scale == pytest.approx(math.log(20), abs=1e-6)
  batch = models.images(model)
  image, text = models.expected(model, batch, models.CAPTIONS[:2])
  np.testing.assert_allclose(again.encode_images(list(batch)), image, atol=1e-6)
  np.testing.assert_allclose(again.encode_texts(models.CAPTIONS[:2]), text, atol=1e-6)


def test_the_grid_is_known_when_the_table_is_resized(tmp_path):
  written(tmp_path, image_size=(26, 60))
  assert load(tmp_path, image_size=(40, 40)).resized == (
    "visual/position_embedding: 22 rows (3x7) -> 26 (5x5)",
  )


def test_a_table_trained_elsewhere_wins_over_the_copy(tmp_path):
  model, _ = written(tmp_path, image_size=(96, 40))
  path = tmp_path / "model.safetensors"
  name = "vision_model.embeddings.position_embedding.weight"
  weights = load_file(path)
  weights[name] = weights[name] * np.float32(1.5)
  save_file(weights, path)
  found = files.read(tmp_path).weights[name]
  table = model.params["visual"]["position_embedding"] * 1.5
  assert np.abs(found - table).max() < 1e-5
  (tmp_path / files.TABLE_FILE).unlink()
  np.testing.assert_array_equal(files.read(tmp_path).weights[name], found)


@pytest.mark.parametrize(
  ("fields", "found"),
  [
    (dict(patch=(8, 4)), r"patches of \(8, 4\), which are not square"),
    (dict(stride=(4, 4)), r"patches of \(8, 8\) with a stride of \(4, 4\)"),
  ],
)
def test_what_transformers_cannot_express(tmp_path, fields, found):
  with pytest.raises(ExportError, match=f"{found}.*--format=stablehlo"):
    written(tmp_path, **fields)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("scale", "kept"), [(math.log(50), math.log(50)), (9, None)])
def test_the_scale_is_clips_and_at_most_its_limit(tmp_path, scale, kept):
  written(tmp_path, scale=scale)
  found = load_file(tmp_path / "model.safetensors")["logit_scale"]
  assert found == pytest.approx(kept or math.log(100)) and found.shape == ()


def test_clips_vocabulary_travels_with_its_files(tmp_path, merges_path):
  pytest.importorskip("transformers")
  from transformers import AutoTokenizer, CLIPTokenizer

  words = f"merges:{merges_path}"
  model, notes = written(tmp_path, words=words, text_width=8, text_heads=1)
  assert notes["tokenizer"] == "clip"
  captions = models.CAPTIONS
  for kind in (AutoTokenizer, CLIPTokenizer):
    tokenizer = kind.from_pretrained(tmp_path)
    found = tokenizer(captions, truncation=True)["input_ids"]
    for row, ours in zip(found, models.ids(model), strict=True):
      assert row == ours[: len(row)].tolist() and not ours[len(row) :].any()
  assert load(tmp_path).tokenizer.name == f"clip:{tmp_path}"
  config = json.loads((tmp_path / "config.json").read_text())["text_config"]
  assert (config["bos_token_id"], config["eos_token_id"]) == (49_406, 49_407)


def test_typed_special_tokens_are_text(tmp_path):
  pytest.importorskip("transformers")
  from transformers import AutoTokenizer

  model, _ = written(tmp_path)
  caption = "a <|endoftext|> man <|pad|>"
  found = AutoTokenizer.from_pretrained(tmp_path)([caption])["input_ids"][0]
  ours, counts = model.tokenizer.encode([caption], 32)
  assert found == ours[0, : counts[0]].tolist()
  again = load(tmp_path).tokenizer
  np.testing.assert_array_equal(again.encode([caption], 32)[0], ours)


def test_no_files_of_the_instant_tokenizer(tmp_path):
  pytest.importorskip("instant_clip_tokenizer")
  _, notes = written(tmp_path, words="instant", text_width=8, text_heads=1)
  assert notes["tokenizer"] == "none"
  assert not (tmp_path / "tokenizer_config.json").exists()
  assert load(tmp_path).tokenizer.name == "instant"


def test_a_foreign_vocabulary_without_files_asks_for_a_tokenizer(tmp_path):
  written(tmp_path)
  (tmp_path / "tokenizer.json").unlink()
  with pytest.raises(ConvertError, match=r"2,048 is not CLIP's.*pass tokenizer="):
    load(tmp_path)
  assert load(tmp_path, tokenizer="people").tokenizer.vocab_size == 2048
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    load(tmp_path, tokenizer="people").encode_texts(["a man"])
