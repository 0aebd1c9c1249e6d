"""Detectors of transformers: small ones of random weights, against the library."""

import json
import shutil

import numpy as np
import pytest

from tests.detect import scenes
from tpr_jax.detect import boxes, inputs, layouts, place, wanted
from tpr_jax.detect.problems import DetectorError

torch = pytest.importorskip("torch", reason="torch is not installed (the extra torch)")
NAMES = {0: "dog", 1: "person"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A YOLOS of one layer that takes most of what it looks at for a person."""
  import transformers

  torch.manual_seed(0)
  config = transformers.YolosConfig(
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    image_size=[64, 64],
    patch_size=16,
    num_detection_tokens=8,
    id2label=NAMES,
    label2id={name: at for at, name in NAMES.items()},
  )
  model = transformers.YolosForObjectDetection(config)
  with torch.no_grad():
    for array in model.parameters():  # its own are so small that all boxes are one
      if array.ndim > 1:
        array.normal_(0, 0.2)
    model.class_labels_classifier.layers[-1].bias[:] = torch.tensor([0.0, 2.0, 0.0])
  made = tmp_path_factory.mktemp("yolos")
  model.save_pretrained(made)
  _processor(size={"height": 64, "width": 64}).save_pretrained(made)
  return made


def _processor(**given):
  from transformers.models.yolos import image_processing_pil_yolos as library

  return library.YolosImageProcessorPil(**given)


def load(folder, **given):
  return place.Place(wanted.wanted(str(folder), **given)).load()


def test_boxes_are_those_of_the_model_in_pixels_of_the_frame(folder):
  import transformers

  frame = scenes.scene(*scenes.crowd(3), size=(320, 480))
  corners, scores = load(folder, score=0.05)(frame)
  model = transformers.YolosForObjectDetection.from_pretrained(folder)
  seen = inputs.stretched(frame, (64, 64)).pixels
  mean, deviation = (np.float32(each).reshape(1, 3, 1, 1) for each in _NORMAL)
  with torch.no_grad():
    out = model(torch.tensor((seen - mean) / deviation))
  chances = out.logits[0].softmax(-1).numpy()
  kept = chances[:, :2].argmax(axis=1) == 1
  x, y, w, h = (out.pred_boxes[0].numpy() * (480, 320, 480, 320))[kept].T
  expected = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
  assert kept.sum() == len(corners) > 4
  np.testing.assert_allclose(corners, expected, atol=0.5)
  np.testing.assert_allclose(scores, chances[kept, 1], atol=1e-3)
  found, _ = boxes.clean(corners, scores, 480, 320, score=0.05, lowest=1)
  assert len(found) == len(corners)


_NORMAL = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def test_a_score_and_a_class_are_asked_for(folder):
  frame = scenes.scene(*scenes.crowd(3), size=(320, 480))
  every = load(folder, score=0.05)(frame)[1]
  some = load(folder, score=float(np.median(every)))(frame)[1]
  assert 0 < len(some) < len(every)
  assert len(load(folder, score=0.05, person="dog")(frame)[1]) == 8 - len(every)
  with pytest.raises(DetectorError, match="no class 'cat'"):
    load(folder, person="cat")


def test_weights_that_overflow_are_counted(folder, tmp_path):
  import transformers

  broken = tmp_path / "broken"
  shutil.copytree(folder, broken)
  model = transformers.YolosForObjectDetection.from_pretrained(broken)
  with torch.no_grad():
    model.bbox_predictor.layers[-1].bias[:] = np.nan
  model.save_pretrained(broken)
  corners, scores = load(broken, score=0.05)(scenes.scene())
  found, left_out = boxes.clean(corners, scores, 320, 320, score=0.05, lowest=1)
  assert not found and left_out[boxes.NOT_FINITE] >= 8


def test_the_digest_is_of_weights_and_configuration(folder, tmp_path):
  moved = tmp_path / "elsewhere"
  shutil.copytree(folder, moved)
  digest = lambda at: place.Place(wanted.wanted(str(at))).identity()["digest"]
  assert digest(moved) == digest(folder)
  said = json.loads((moved / "preprocessor_config.json").read_text())
  said["image_mean"] = [0.5, 0.5, 0.5]
  (moved / "preprocessor_config.json").write_text(json.dumps(said))
  assert digest(moved) != digest(folder)


def test_a_folder_that_lacks_something(folder, tmp_path):
  with pytest.raises(DetectorError, match=r"there is no config\.json"):
    load(tmp_path)
  shutil.copy(folder / "config.json", tmp_path)
  with pytest.raises(DetectorError, match=r"there is no preprocessor_config\.json"):
    load(tmp_path)
  shutil.copy(folder / "preprocessor_config.json", tmp_path)
  with pytest.raises(DetectorError, match="no object detector that transformers can"):
    load(tmp_path)
  from safetensors import numpy as arrays

  whole = arrays.load_file(folder / "model.safetensors")
  whole.pop(next(name for name in whole if "class_labels" in name))
  arrays.save_file(whole, tmp_path / "model.safetensors", {"format": "pt"})
  with pytest.raises(DetectorError, match=r"lack 1 arrays.*class_labels"):
    load(tmp_path)
  with pytest.raises(DetectorError, match="--detect_size is for"):
    load(folder, size="64x64")


@pytest.mark.parametrize("make", ["detr", "yolos"])
@pytest.mark.parametrize(
  "size",
  [
    {"height": 64, "width": 96},
    {"shortest_edge": 64, "longest_edge": 96},
    {"shortest_edge": 100, "longest_edge": 1000},
  ],
)
def test_pixels_of_an_onnx_export_are_the_librarys(make, size):
  """`inputs.Processor` is our own reading of preprocessor_config.json."""
  from transformers.models.detr import image_processing_pil_detr as library

  maker = library.DetrImageProcessorPil if make == "detr" else _processor
  processor = maker(size=size, do_pad=False)
  frame = scenes.scene(*scenes.crowd(5), size=(320, 400))
  expected = processor(images=frame, return_tensors="np")["pixel_values"]
  said = json.loads(processor.to_json_string())
  seen = inputs.Processor.of(said, "a file")(frame, None)
  assert seen.pixels.shape == expected.shape
  np.testing.assert_allclose(seen.pixels, expected, atol=0.02)


@pytest.mark.parametrize("softmax", [True, False])
def test_boxes_of_an_onnx_export_are_the_librarys(softmax):
  from transformers.models.rt_detr import image_processing_pil_rt_detr as focal
  from transformers.models.yolos.modeling_yolos import YolosObjectDetectionOutput

  rng = np.random.default_rng(1)
  # The library takes as many pairs of box and class as there are boxes, at most.
  middle = 0 if softmax else -1.5
  logits = rng.normal(middle, 3, (1, 30, 4 if softmax else 3)).astype(np.float32)
  shares = rng.uniform(0, 1, (1, 30, 4)).astype(np.float32)
  processor = _processor() if softmax else focal.RTDetrImageProcessorPil()
  out = YolosObjectDetectionOutput(
    logits=torch.tensor(logits), pred_boxes=torch.tensor(shares)
  )
  (expected,) = processor.post_process_object_detection(
    out, threshold=0.5, target_sizes=[(100, 200)]
  )
  people = expected["labels"].numpy() == 1
  corners, scores = layouts.read(
    "detr", dict(logits=logits, pred_boxes=shares), [1], 3, (100, 200), 0.5
  )
  kept = np.flatnonzero(scores >= 0.5)
  kept = kept[np.argsort(-scores[kept])]
  order = np.argsort(-expected["scores"].numpy()[people])
  same = lambda key: expected[key].numpy()[people][order]
  assert len(kept) > 3
  np.testing.assert_allclose(scores[kept], same("scores"), atol=1e-5)
  np.testing.assert_allclose(corners[kept], same("boxes"), atol=1e-3)
