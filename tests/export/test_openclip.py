"""What is exported for OpenCLIP: back bit for bit, and the package's own features."""

import json
import math

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.data import test_tokenizer
from tests.export import models
from tpr_jax.export import openclip
from tpr_jax.export.problems import ExportError
from tpr_jax.loading import load
from tpr_jax.pretrained import Pretrained

merges_path = test_tokenizer.merges_path

SHAPES = {
  "tall": dict(image_size=(96, 40), activation="quick_gelu"),
  "square": dict(image_size=(32, 32), length=77, activation="gelu"),
  "patches that are no squares": dict(image_size=(32, 20), patch=(8, 4)),
  "other settings": dict(
    epsilon=1e-3, pixel_mean=(0.5, 0.25, 0.125), pixel_std=(0.5, 0.3, 0.2)
  ),
}


def written(folder, **options):
  model = models.random(**options)
  return model, openclip.write(model, folder)


@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
def test_out_and_in_again_is_the_same_bits(tmp_path, options):
  model, notes = written(tmp_path, scale=math.log(20), **options)
  again = load(tmp_path)
  models.assert_same(again.params, model.params)
  assert again.fields == model.fields and notes == {"tokenizer": "json"}
  assert again.filter == "bilinear" and again.tokenizer.vocab_size == 2048
  assert again.logit_scale == pytest.approx(math.log(20), abs=1e-6)


@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
def test_openclip_gives_the_same_features(tmp_path, options):
  torch = pytest.importorskip("torch")
  open_clip = pytest.importorskip("open_clip")
  model, _ = written(tmp_path, scale=math.log(20), **options)
  place = f"local-dir:{tmp_path}"
  clip, _, preprocess = open_clip.create_model_and_transforms(place)
  clip.eval()
  batch = models.images(model)
  pixels = models.normalised(model, batch)
  from PIL import Image

  seen = np.stack([preprocess(Image.fromarray(row)) for row in batch])
  np.testing.assert_allclose(seen, pixels, atol=1e-5)
  ids = open_clip.get_tokenizer(place)(models.CAPTIONS)
  np.testing.assert_array_equal(ids, models.ids(model))
  with torch.inference_mode():
    image = clip.encode_image(torch.from_numpy(pixels.copy()), normalize=True)
    text = clip.encode_text(ids, normalize=True)
  ours = models.expected(model, batch, models.CAPTIONS)
  np.testing.assert_allclose(image, ours[0], atol=1e-5)
  np.testing.assert_allclose(text, ours[1], atol=1e-5)
  assert float(clip.logit_scale.detach().exp()) == pytest.approx(20, rel=1e-5)


def test_the_config_says_what_openclip_needs(tmp_path):
  written(tmp_path, image_size=(96, 40), scale=1.0)
  config = json.loads((tmp_path / "open_clip_config.json").read_text())
  vision, text = (config["model_cfg"][f"{t}_cfg"] for t in ("vision", "text"))
  assert vision["image_size"] == [96, 40] and vision["patch_size"] == [8, 8]
  assert (vision["width"], vision["layers"], vision["head_width"]) == (32, 2, 8)
  assert (text["context_length"], text["vocab_size"], text["heads"]) == (32, 2048, 2)
  assert config["model_cfg"]["embed_dim"] == 16 and config["model_cfg"]["quick_gelu"]
  assert config["preprocess_cfg"]["resize_mode"] == "squash"
  weights = load_file(tmp_path / "open_clip_model.safetensors")
  assert weights["visual.positional_embedding"].shape == (1 + 12 * 5, 32)
  assert weights["logit_scale"] == np.float32(1.0)


def test_clips_vocabulary_is_openclips_own(tmp_path, merges_path):
  words = f"merges:{merges_path}"
  _, notes = written(tmp_path, words=words, text_width=8, text_heads=1)
  assert notes["tokenizer"] == "clip"
  config = json.loads((tmp_path / "open_clip_config.json").read_text())
  assert "hf_tokenizer_name" not in config["model_cfg"]["text_cfg"]
  assert load(tmp_path).tokenizer.vocab_size == 49_408


def test_what_openclip_cannot_express(tmp_path):
  with pytest.raises(ExportError, match=r"stride of \(4, 4\).*--format=stablehlo"):
    written(tmp_path, stride=(4, 4))
  model = models.random()
  model = Pretrained(model.params, model.fields, model.tokenizer, filter="box")
  with pytest.raises(ExportError, match=r"filter 'box'.*bilinear, bicubic"):
    openclip.write(model, tmp_path)
  assert list(tmp_path.iterdir()) == []
