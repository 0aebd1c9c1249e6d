"""Detectors that are .onnx files: they find figures, whatever their layout."""

import json
import shutil
import sys

import numpy as np
import pytest

from tests.detect import scenes
from tpr_jax.detect import boxes, wanted
from tpr_jax.detect.problems import DetectorError

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra detect)")

DETR = scenes.file("detr").parent


def found(detector, frame):
  """(left, top, right, bottom) of each person, best first."""
  height, width = frame.shape[:2]
  corners, scores = detector(frame)
  kept, left_out = boxes.clean(corners, scores, width, height, score=0.5, lowest=32)
  assert not left_out
  return [(b.x, b.y, b.x + b.width, b.y + b.height) for b in (e.box for e in kept)]


def all_found(figures, got, least):
  """Every figure has a box of its own, and there are no others."""
  assert len(got) == len(figures), (figures, got)
  for figure in figures:
    best = max(scenes.overlap(figure.corners, each) for each in got)
    assert best >= least, (figure, got)


@pytest.mark.parametrize("layout", scenes.LAYOUTS)
def test_everybody_is_found_and_nobody_else(layout):
  detector = scenes.detector(layout).load()
  assert detector.layout == layout
  assert found(detector, scenes.scene()) == []
  for number in range(12):
    figures = scenes.crowd(number)
    all_found(figures, found(detector, scenes.scene(*figures)), 0.7)


@pytest.mark.parametrize("size", [(240, 500), (500, 240), (321, 322)])
def test_boxes_of_letterboxes_come_back_to_the_frame(size):
  detector = scenes.detector("yolo").load()
  scale = max(size) / 160
  figure = scenes.Figure(size[1] // 3, size[0] // 4, round(48 * scale) // 3 * 3)
  frame = scenes.scene(figure, size=size)
  all_found([figure], found(detector, frame), 0.6)


@pytest.mark.parametrize("layout", ["dfine", "torchvision", "detr"])
def test_boxes_of_stretched_frames_come_back(layout):
  figure = scenes.Figure(60, 40, 128)  # half as high and as wide where it is seen
  narrow = scenes.scene(figure)
  wide = np.repeat(narrow, 2, axis=1)
  left, top, right, bottom = figure.corners
  (got,) = found(scenes.detector(layout).load(), wide)
  assert scenes.overlap(got, (2 * left, top, 2 * right, bottom)) > 0.7


def test_classes_are_found_by_name_and_number():
  frame = scenes.scene(*scenes.crowd(2))
  people = found(scenes.detector(person="PERSON").load(), frame)
  assert found(scenes.detector(person="1").load(), frame) == people
  assert found(scenes.detector(person="dog").load(), frame) == []
  with pytest.raises(DetectorError, match=r"no class 'cat'.*'dog', 'person'"):
    scenes.detector(person="cat").load()
  with pytest.raises(DetectorError, match="classes 0 to 1"):
    scenes.detector(person="2").load()
  with pytest.raises(DetectorError, match="give its number, --detect_class=0"):
    scenes.detector("torchvision", person="person").load()


def test_a_size_that_the_graph_does_not_take():
  assert scenes.detector(size="160x160").load()
  with pytest.raises(DetectorError, match="takes pictures of 160 x 160"):
    scenes.detector(size="320x320").load()


def test_an_export_of_transformers_needs_its_two_files(tmp_path):
  shutil.copy(scenes.file("detr"), tmp_path)
  load = lambda: scenes.place.Place(wanted.wanted(str(tmp_path / "detr.onnx"))).load()
  with pytest.raises(DetectorError, match=r"preprocessor_config\.json tell"):
    load()
  for name in ("config.json", "preprocessor_config.json"):
    shutil.copy(DETR / name, tmp_path)
  assert load().layout == "detr"
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(DetectorError, match=r"config\.json cannot be read"):
    load()
  shutil.copy(DETR / "config.json", tmp_path)
  said = json.loads((tmp_path / "preprocessor_config.json").read_text())
  for changed in (
    dict(size={"max_height": 800, "max_width": 1333}),
    dict(pad_size={"height": 640, "width": 640}),
    dict(do_normalize=True),
  ):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said | changed))
    with pytest.raises(DetectorError, match=r"preprocessor_config\.json"):
      load()


def test_the_two_files_may_lie_above_a_folder_called_onnx(tmp_path):
  (tmp_path / "onnx").mkdir()
  shutil.copy(scenes.file("detr"), tmp_path / "onnx" / "model.onnx")
  for name in ("config.json", "preprocessor_config.json"):
    shutil.copy(DETR / name, tmp_path)
  there = scenes.place.Place(wanted.wanted(str(tmp_path / "onnx" / "model.onnx")))
  before = there.identity()["digest"]
  assert there.load().layout == "detr"
  (tmp_path / "config.json").write_text('{"id2label": {"0": "person", "1": "dog"}}')
  assert there.identity()["digest"] != before


def test_weights_beside_the_graph_are_part_of_it(tmp_path):
  shutil.copy(scenes.file(), tmp_path)
  there = scenes.place.Place(wanted.wanted(str(tmp_path / "yolo.onnx")))
  before = there.identity()["digest"]
  (tmp_path / "notes.txt").write_text("of something else")
  assert there.identity()["digest"] == before
  (tmp_path / "yolo.onnx_data").write_bytes(b"weights")
  assert there.identity()["digest"] != before


def test_what_is_no_onnx_model(tmp_path):
  (tmp_path / "a.onnx").write_bytes(b"nothing")
  with pytest.raises(DetectorError, match="no ONNX model that onnxruntime can run"):
    scenes.place.Place(wanted.wanted(str(tmp_path / "a.onnx"))).load()


def test_without_onnxruntime_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "onnxruntime", None)
  with pytest.raises(DetectorError, match=r'pip install "tpr_jax\[detect\]"'):
    scenes.detector().load()
