"""`tpr_jax.load`: rows in the order of what was given, whatever the batch."""

import io
import json
import pathlib
import warnings

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import tpr_jax
from tests import written_run
from tests.convert import golden
from tests.export import models
from tests.models import weights as drawing
from tpr_jax import config as configs
from tpr_jax import loading
from tpr_jax.convert import files, towers
from tpr_jax.convert.source import ConvertError
from tpr_jax.data import images as pictures
from tpr_jax.data import transforms
from tpr_jax.data.record import ImageError
from tpr_jax.data.tokenizer import TokenizerError
from tpr_jax.experiment import Experiment
from tpr_jax.loading import load
from tpr_jax.models import build
from tpr_jax.pretrained import Pretrained
from tpr_jax.run_folder import RunError

TOLERANCE = dict(atol=2e-6)


@pytest.fixture(scope="module")
def model():
  return models.random()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """(folder, config, {step: parameters})."""
  folder = tmp_path_factory.mktemp("runs") / "drawn"
  return folder, *written_run.write(folder)


def photographs(count, seed=0):
  rng = np.random.default_rng(seed)
  return [
    rng.integers(0, 256, (40 + 3 * i, 25 + i, 3), dtype=np.uint8) for i in range(count)
  ]


def rows_of(model, arrays):
  """Image rows one picture at a time, by Pillow and the module itself."""
  height, width = model.image_size
  small = [
    Image.fromarray(a).resize((width, height), Image.Resampling.BILINEAR)
    for a in arrays
  ]
  batch = np.stack([np.asarray(picture) for picture in small])
  return np.asarray(model.image_tower(model.params, batch))


# ---- rows


def test_rows_do_not_depend_on_the_batch(model):
  arrays, captions = photographs(11), [f"a {'red ' * n}coat" for n in range(11)]
  image = rows_of(model, arrays)
  text = np.asarray(model.text_tower(model.params, models.ids(model, captions)))
  assert image.shape == text.shape == (11, 16)
  for batch in (1, 5, 64):
    other = Pretrained(model.params, model.fields, model.tokenizer, batch=batch)
    found = other.encode_images(arrays)
    assert found.dtype == np.float32 and isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, image, **TOLERANCE)
    found = other.encode_texts(captions)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, text, **TOLERANCE)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_texts_of_all_lengths_come_back_in_order():
  long = models.random(length=100)
  assert [n for n, _ in long.buckets(np.array([3, 40, 70, 900]))] == [32, 64, 100]
  captions = ["red " * n for n in (90, 2, 60, 1, 33, 29, 30, 31, 5)]
  found = long.encode_texts(captions)
  for caption, row in zip(captions, found, strict=True):
    ids = models.ids(long, [caption])
    wanted = long.text_tower(long.params, ids)[0]
    np.testing.assert_allclose(row, wanted, **TOLERANCE)


def test_nothing_gives_no_rows(model):
  assert model.encode_images([]).shape == (0, 16)
  assert model.encode_texts([]).shape == (0, 16)


def test_similarity(model):
  arrays = photographs(2)
  found = model.similarity(["a", "b", "c"], arrays)
  wanted = model.encode_texts(["a", "b", "c"]) @ model.encode_images(arrays).T
  assert found.shape == (3, 2)
  np.testing.assert_allclose(found, wanted, **TOLERANCE)


def test_cut_texts_are_counted(model):
  with pytest.warns(UserWarning, match=r"texts are cut: 2 of 3 captions exceed 32"):
    model.encode_texts(["a man", "red " * 40, "blue " * 50])
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    model.encode_texts(["a man"])


# ---- pictures of every kind


def test_the_same_picture_in_every_form(model, tmp_path):
  (array,) = photographs(1)
  path = tmp_path / "a.png"
  Image.fromarray(array).save(path)
  forms = [array, Image.fromarray(array), str(path), path, path.read_bytes()]
  with Image.open(path) as opened:
    found = model.encode_images([*forms, opened])
  for row in found:
    np.testing.assert_array_equal(row, found[0])
  np.testing.assert_allclose(found[:1], rows_of(model, [array]), **TOLERANCE)


def test_gray_transparent_rotated_and_cmyk(model, tmp_path):
  (array,) = photographs(1)
  gray = array[:, :, 0]
  upright = Image.fromarray(array)
  turned = tmp_path / "turned.png"
  exif = Image.Exif()
  exif[0x0112] = 6  # to be turned by 270 degrees
  upright.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
  cmyk = tmp_path / "cmyk.jpg"
  upright.convert("CMYK").save(cmyk)
  clear = np.concatenate([array, np.zeros_like(array[:, :, :1])], axis=2)
  found = model.encode_images([gray, gray[:, :, None], clear, turned, cmyk])
  wanted = rows_of(
    model,
    [
      np.repeat(gray[:, :, None], 3, axis=2),
      np.repeat(gray[:, :, None], 3, axis=2),
      np.full_like(array, 255),
      array,
      pictures.decode(cmyk),
    ],
  )
  np.testing.assert_allclose(found, wanted, **TOLERANCE)


def test_a_broken_picture_is_named_or_a_row_of_nan(model, tmp_path):
  arrays = photographs(6)
  good = io.BytesIO()
  Image.fromarray(arrays[0]).save(good, "PNG")
  cut = tmp_path / "cut.png"
  cut.write_bytes(good.getvalue()[:200])
  gone = tmp_path / "gone.png"
  given = [*arrays[:2], cut, *arrays[2:], gone]
  with pytest.raises(ImageError, match=r"cut\.png: damaged or truncated"):
    model.encode_images(given)
  with pytest.warns(UserWarning, match=r"2 of 8 pictures.*NaN.*cut\.png.*gone\.png"):
    found = model.encode_images(given, broken="nan")
  assert found.shape == (8, 16) and np.isnan(found[[2, 7]]).all()
  np.testing.assert_allclose(
    found[[0, 1, 3, 4, 5, 6]], rows_of(model, arrays), **TOLERANCE
  )
  with pytest.raises(ValueError, match="error, nan"):
    model.encode_images(given, broken="skip")


def test_what_is_no_list_of_pictures_or_texts(model, tmp_path):
  array = photographs(1)[0]
  for one in ("a.png", tmp_path / "a.png", Image.fromarray(array), array, b"x"):
    with pytest.raises(TypeError, match="takes a list of pictures"):
      model.encode_images(one)
  with pytest.raises(TypeError, match="takes a list of texts, found one str"):
    model.encode_texts("a man")
  with pytest.raises(TypeError, match=r"picture 1 is ndarray of float64.*uint8 array"):
    model.encode_images([array, array / 255])
  with pytest.raises(TokenizerError, match="a caption must be a string"):
    model.encode_texts(["a", 3])


# ---- runs


def test_a_run_is_its_best_checkpoint(run):
  folder, config, params = run
  model = tpr_jax.load(folder)
  models.assert_same(model.params, {k: params[3][k] for k in ("visual", "text")})
  assert model.detail == "step 3: best validation R1 (20.00)"
  assert model.image_size == (32, 16) and model.text_length == 32 and model.dim == 16
  assert model.tokenizer.name == "people" and model.filter == "bilinear"
  assert model.logit_scale == pytest.approx(-np.log(config.objective.temperature))
  assert {name.split("/")[0] for name in model.unused} == {
    "granularity",
    "identity_fused",
    "matcher",
  }
  assert "step 3" in repr(model) and model.resized == ()


def test_reading_a_run_is_silent(run, caplog):
  tpr_jax.load(run[0])
  assert not caplog.records


def test_a_run_gives_the_rows_of_its_evaluation(run):
  folder, config, params = run
  made = Experiment(config, folder)
  dataset = made.eval_data("test")
  features = made._evaluate(made.model(12), params[3], dataset)
  model = tpr_jax.load(folder, batch=7)
  images = [dataset.load_image(record, (32, 16)) for record in dataset.records]
  captions = [text for record in dataset.records for text in record.captions]
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # texts of 32 tokens are cut here
    found = model.encode_texts(captions)
  np.testing.assert_allclose(model.encode_images(images), features.image, **TOLERANCE)
  np.testing.assert_allclose(found, features.text, **TOLERANCE)


def test_without_validation_a_run_is_its_last_checkpoint(tmp_path):
  _, params = written_run.write(tmp_path / "run", scores={2: None, 4: None})
  model = tpr_jax.load(tmp_path / "run")
  assert model.detail == "step 4: last step (no validation split)"
  models.assert_same(model.params["text"], params[4]["text"])


def test_settings_of_pretrained_weights_come_from_run_json(tmp_path):
  decided = dict(activation="gelu", epsilon=1e-4, pixel_mean=[0.1, 0.2, 0.3])
  weights = dict(place="gone", tokenizer="people", settings=decided, unused=[])
  config = written_run.small_run.config()
  with config.unlocked():
    config.model.init_from, config.text.tokenizer = "gone", "auto"
    config.data.eval_image = "resize(32,16,'bicubic')|normalize((0.5,0.5,0.5))"

  folder = tmp_path / "run"
  folder.mkdir()
  configs.write_json(folder / "run.json", {"weights": weights})
  written_run.write(folder, config=config, weights=weights)
  model = tpr_jax.load(folder)
  assert model.fields["activation"] == "gelu" and model.fields["epsilon"] == 1e-4
  # A normalize in the pipe is done before the model sees the picture: it wins.
  assert model.fields["pixel_mean"] == (0.5, 0.5, 0.5)
  assert model.fields["pixel_std"] == transforms.CLIP_STD
  assert model.filter == "bicubic" and model.tokenizer.name == "people"


def test_other_sizes_resize_the_tables(run):
  model = tpr_jax.load(run[0], image_size=(48, 24), text_length=20)
  assert model.image_size == (48, 24) and model.text_length == 20
  assert model.resized == (
    "visual/position_embedding: 9 rows (4x2) -> 19 (6x3)",
    "text/position_embedding: 32 rows -> 20",
  )
  assert model.encode_images(photographs(1)).shape == (1, 16)


def test_bfloat16_is_near(run):
  found = tpr_jax.load(run[0], dtype="bfloat16").encode_texts(["a man"])
  wanted = tpr_jax.load(run[0]).encode_texts(["a man"])
  assert found.dtype == np.float32
  assert 0 < np.abs(found - wanted).max() < 0.05


def test_runs_that_cannot_be_loaded(run, tmp_path):
  empty = tmp_path / "run"
  empty.mkdir()
  (empty / "config.json").write_bytes((run[0] / "config.json").read_bytes())
  with pytest.raises(ConvertError, match="holds no checkpoint"):
    tpr_jax.load(empty)
  (empty / "checkpoints").mkdir()
  with pytest.raises(RunError, match="has this run been trained"):
    tpr_jax.load(empty)
  (empty / "run.json").write_bytes((run[0] / "run.json").read_bytes())
  with pytest.raises(RunError, match="no checkpoint"):
    tpr_jax.load(empty)
  config = configs.read_json(empty / "config.json")
  config["data"]["eval_image"] = "resize(64,32)|resize(32,16)"
  configs.write_json(empty / "config.json", config)
  with pytest.raises(configs.ConfigError, match="one resize"):
    tpr_jax.load(empty)


# ---- published files


def test_a_hugging_face_folder_has_its_own_square(tmp_path):
  hf, _ = golden.load()
  (tmp_path / "config.json").write_text(json.dumps(golden.HF_CONFIG))
  save_file(hf, tmp_path / "model.safetensors")
  with pytest.raises(ConvertError, match=r"60 is not CLIP's 49,408: pass tokenizer="):
    load(tmp_path)
  fields = dict(image_size=None, text_length=None, dtype="float32", activation=None)
  found = loading._fields(files.read(tmp_path), **fields)
  assert found.pop("vocab_size") == 60
  wanted = golden.fields()
  names = ("image_size", "patch", "text_length", "activation", "vision_heads")
  assert {k: found[k] for k in names} == {k: wanted[k] for k in names}


def irra(folder, image_size, patch, words="people"):
  """(path of a file with IRRA's names, the model in it)."""
  made = models.random(image_size=image_size, patch=patch, words=words, vision_heads=1)
  weights = towers.to_openai(made.params, made.fields)
  weights = {f"base_model.{name}": value for name, value in weights.items()}
  weights["classifier.weight"] = np.zeros((3, 16), np.float32)
  path = pathlib.Path(folder) / "best.safetensors"
  save_file(weights, path)
  return path, made


def test_an_irra_file_is_of_people(tmp_path):
  path, made = irra(tmp_path, (384, 128), (16, 16))
  model = load(path, tokenizer="people")
  assert model.image_size == (384, 128) and model.filter == "bilinear"
  assert model.unused == ("classifier.weight",)
  models.assert_same(model.params, made.params)


def test_a_grid_that_nothing_tells_must_be_given(tmp_path):
  path, made = irra(tmp_path, (96, 40), (8, 8))
  with pytest.raises(ConvertError, match=r"1 \+ 60 rows.*pass image_size="):
    load(path, tokenizer="people")
  model = load(path, tokenizer="people", image_size=(96, 40))
  models.assert_same(model.params, made.params)


def test_weights_alone_need_an_activation(tmp_path):
  made = models.random(image_size=(32, 32), vision_width=64, vision_heads=1)
  path = tmp_path / "lone.safetensors"
  save_file(towers.to_openai(made.params, made.fields), path)
  with pytest.raises(ConvertError, match="pass activation='quick_gelu'"):
    load(path, tokenizer="people")
  model = load(path, tokenizer="people", activation="gelu")
  assert model.fields["activation"] == "gelu" and model.filter == "bicubic"
  with pytest.raises(ConvertError, match=r"vocabulary of 2,048.*has 49,408"):
    pytest.importorskip("instant_clip_tokenizer")
    load(path, tokenizer="instant", activation="gelu")


def test_no_such_place():
  with pytest.raises(ConvertError, match="no such file or folder"):
    tpr_jax.load("./nowhere")
  with pytest.raises(ValueError, match="expected 1 at least"):
    tpr_jax.load("./nowhere", batch=0)


def test_the_module_is_the_dual_encoder_without_heads(model):
  heads = build.build(model.fields, vocab_size=2048)
  image = np.zeros((1, 32, 16, 3), np.uint8)
  drawn = drawing.drawn(heads, image, np.zeros((1, 32), np.int32))["params"]
  models.assert_same(model.params, drawn)
