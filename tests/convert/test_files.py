"""Reading: every kind of folder and file, and every way in which one can be broken."""

import json
import pickle

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.convert import golden
from tpr_jax.convert import files, towers
from tpr_jax.convert.source import ConvertError


def params_of(place, **kwargs):
  found = files.read(place)
  return towers.towers(found, golden.fields(), vocab_size=60, **kwargs)[0]


def test_hugging_face_folder(hf_folder):
  preprocessor = dict(image_mean=[0.1, 0.2, 0.3], image_std=[1, 1, 1])
  (hf_folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
  for name in ("vocab.json", "merges.txt"):
    (hf_folder / name).write_text("{}")
  found = files.read(str(hf_folder))
  assert found.layout == "huggingface" and found.tokenizer_place == str(hf_folder)
  assert found.settings == dict(
    activation="quick_gelu",
    epsilon=1e-5,
    vision_heads=4,
    text_heads=2,
    pixel_mean=(0.1, 0.2, 0.3),
    pixel_std=(1.0, 1.0, 1.0),
  )
  golden.check_outputs(params_of(hf_folder))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_safetensors(hf_folder, hf, dtype):
  ids = {"text_model.embeddings.position_ids": np.arange(12)[None]}
  halves = {name: value.astype(dtype) for name, value in hf.items()}
  save_file({**halves, **ids}, hf_folder / "model.safetensors")
  found = files.read(hf_folder)
  for name, value in hf.items():
    assert found.weights[name].dtype == np.float32
    np.testing.assert_array_equal(
      found.weights[name], value.astype(dtype).astype(np.float32)
    )
  _, report = towers.towers(found, golden.fields(), vocab_size=60)
  assert report.dropped == ["logit_scale", "text_model.embeddings.position_ids"]


def test_shards(hf_folder, hf):
  (hf_folder / "model.safetensors").unlink()
  names = sorted(hf)
  where = {}
  for i in range(3):
    shard = f"model-0000{i + 1}-of-00003.safetensors"
    save_file({n: hf[n] for n in names[i::3]}, hf_folder / shard)
    where.update(dict.fromkeys(names[i::3], shard))
  index = hf_folder / "model.safetensors.index.json"
  index.write_text(json.dumps(dict(weight_map=where)))
  golden.check_params(params_of(hf_folder))
  where["visual_projection.bias"] = where[names[0]]
  index.write_text(json.dumps(dict(weight_map=where)))
  with pytest.raises(ConvertError, match="in no shard"):
    files.read(hf_folder)
  (hf_folder / shard).unlink()
  with pytest.raises(ConvertError, match=r"model-00003.*not beside it"):
    files.read(hf_folder)


def test_open_clip_folder(tmp_path, openai):
  model = dict(vision_cfg=dict(width=32, head_width=8), text_cfg=dict(heads=2))
  config = dict(model_cfg=model, preprocess_cfg=dict(mean=[0.5] * 3, std=[0.2] * 3))
  path = tmp_path / "open_clip_config.json"
  path.write_text(json.dumps(config))
  save_file(openai, tmp_path / "open_clip_model.safetensors")
  found = files.read(tmp_path)
  assert found.layout == "openai" and found.tokenizer_place is None
  expected = dict(vision_heads=4, text_heads=2, epsilon=1e-5)
  pixels = dict(pixel_mean=(0.5,) * 3, pixel_std=(0.2,) * 3)
  assert found.settings == dict(activation="gelu", **expected, **pixels)
  model["quick_gelu"] = True
  path.write_text(json.dumps(config))
  assert files.read(tmp_path).settings["activation"] == "quick_gelu"
  golden.check_params(params_of(tmp_path))
  model["text_cfg"]["no_causal_mask"] = True
  path.write_text(json.dumps(config))
  with pytest.raises(ConvertError, match="no_causal_mask"):
    files.read(tmp_path)


def test_bare_open_clip_weights_need_an_activation(tmp_path, openai):
  path = tmp_path / "open_clip_model.safetensors"
  save_file({f"module.{k}": v for k, v in openai.items()}, path)
  assert files.read(path).settings == {}
  with pytest.raises(ConvertError, match="Pass activation="):
    params_of(path)
  golden.check_outputs(params_of(path, activation="quick_gelu"))


def test_configs_that_are_not_ours(hf_folder):
  path, relu = hf_folder / "config.json", dict(hidden_act="relu")
  for changed, message in (
    (dict(model_type="siglip"), "siglip"),
    (dict(text_config=dict(hidden_act="gelu")), "both towers share one"),
    (dict(vision_config=dict(layer_norm_eps=1e-6)), "layer_norm_eps"),
    (dict(text_config=relu, vision_config=relu), "relu"),
  ):
    path.write_text(json.dumps({**golden.HF_CONFIG, **changed}))
    with pytest.raises(ConvertError, match=message):
      files.read(hf_folder)
  path.write_text("{")
  with pytest.raises(ConvertError, match="no JSON"):
    files.read(hf_folder)


def test_other_architectures(tmp_path):
  path = tmp_path / "model.safetensors"
  one = np.ones(1, np.float32)
  for names, message in (
    (["visual.layer1.0.conv1.weight", "positional_embedding"], "ResNet"),
    (["vision_model.embeddings.patch_embedding.weight"], "SigLIP"),
    (["fc.weight"], "fc.weight"),
  ):
    save_file(dict.fromkeys(names, one), path)
    with pytest.raises(ConvertError, match=message) as error:
      files.read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_safetensors(hf_folder, keep):
  path = hf_folder / "model.safetensors"
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(ConvertError, match="truncated or no safetensors"):
    files.read(hf_folder)


def test_places_with_nothing(tmp_path):
  with pytest.raises(ConvertError, match=r"expected config\.json with"):
    files.read(tmp_path)
  (tmp_path / "notes.txt").write_text("")
  with pytest.raises(ConvertError, match="no checkpoint by its name"):
    files.read(tmp_path / "notes.txt")
  for place in (str(tmp_path / "nothing"), "weights.pt", "a/b/c"):
    with pytest.raises(ConvertError, match="no such file or folder"):
      files.read(place)


def test_hub_id_without_network(tmp_path, monkeypatch):
  constants = pytest.importorskip("huggingface_hub.constants")
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # was read at its import
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
  with pytest.raises(ConvertError) as error:
    files.read("someone/some-clip")
  text = str(error.value)
  assert "hf download someone/some-clip" in text and "\n" not in text


def test_hub_id_fetches_one_kind_of_weights(hf_folder, monkeypatch):
  hub = pytest.importorskip("huggingface_hub")
  asked = []

  def snapshot_download(name, allow_patterns):
    asked.append((name, allow_patterns))
    empty = hf_folder / "first"
    empty.mkdir(exist_ok=True)
    return str(empty if len(asked) == 1 else hf_folder)

  monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
  golden.check_params(params_of("someone/some-clip"))
  assert [name for name, _ in asked] == ["someone/some-clip"] * 2
  assert "model.safetensors" in asked[0][1] and "model.safetensors" not in asked[1][1]
  assert not any(pattern == "*" for _, patterns in asked for pattern in patterns)


class Code:
  """Pickles to a call that creates a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_with_code_is_not_run(tmp_path, protocol):
  path, made = tmp_path / "model.pt", tmp_path / "made"
  path.write_bytes(pickle.dumps({"state_dict": Code(made)}, protocol))
  with pytest.raises(ConvertError, match="open to be run"):
    files.read(path)
  assert not made.exists()


def test_files_that_are_no_checkpoint(tmp_path):
  path = tmp_path / "model.pth"
  for content in (b"", b"<html>", b"PK\x03\x04", b"\x80\x02garbage", b"\x80\x04N."):
    path.write_bytes(content)
    with pytest.raises(ConvertError) as error:
      files.read(path)
    assert str(path) in str(error.value)
