"""Layouts of outputs: told apart, and read as a slow transcription reads them."""

import numpy as np
import pytest

from tpr_jax.detect import layouts
from tpr_jax.detect.problems import DetectorError


def outputs(**shapes):
  return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(
  ("expected", "inputs", "classes", "shapes"),
  [
    ("detr", ["pixel_values"], 91, dict(logits=(1, 100, 92), pred_boxes=(1, 100, 4))),
    (
      *("detr", ["pixel_values"], 80),
      dict(logits=(1, 300, 80), pred_boxes=(1, 300, 4), last_hidden_state=(1, 9, 9)),
    ),
    (
      *("dfine", ["images", "orig_target_sizes"], None),
      dict(labels=(1, 300), boxes=(1, 300, 4), scores=(1, 300)),
    ),
    ("torchvision", ["x"], None, dict(boxes=(7, 4), labels=(7,), scores=(7,))),
    ("torchvision", ["x"], None, dict(boxes=(0, 4), labels=(0,), scores=(0,))),
    ("yolo", ["images"], 80, dict(output0=(1, 84, 8400))),
    ("yolo", ["images"], None, dict(output0=(1, 5, 8400))),
    ("yolo", ["images"], 2, dict(output0=(1, 6, 8400))),
    ("end2end", ["images"], 80, dict(output0=(1, 300, 6))),
    ("end2end", ["images"], None, dict(output0=(1, 0, 6))),
  ],
)
def test_they_are_told_by_names_and_shapes(expected, inputs, classes, shapes):
  assert layouts.name(inputs, outputs(**shapes), classes) == expected


@pytest.mark.parametrize(
  ("classes", "shapes", "part"),
  [
    (80, dict(output0=(1, 25200, 85)), "YOLOv5"),
    (80, dict(output0=(1, 116, 8400), output1=(1, 32, 160, 160)), "output1"),
    (80, dict(output0=(1, 56, 8400)), r"\[1, 56, 8400\]"),  # poses
    (None, dict(output0=(2, 84, 8400)), r"\[2, 84, 8400\]"),
    (None, dict(output0=(1, 1000)), r"\[1, 1000\]"),
    (None, dict(logits=(1, 1000)), "understood are"),
    (None, dict(boxes=(7, 4), scores=(7,)), "boxes"),
  ],
)
def test_anything_else_is_told_with_what_was_found(classes, shapes, part):
  with pytest.raises(DetectorError, match=part):
    layouts.name(["images"], outputs(**shapes), classes)


@pytest.mark.parametrize("softmax", [True, False])
def test_detr(softmax):
  rng = np.random.default_rng(0)
  logits = rng.normal(0, 3, (1, 40, 4 if softmax else 3)).astype(np.float32)
  shares = rng.uniform(0, 1, (1, 40, 4)).astype(np.float32)
  found, scores = layouts.read(
    "detr", dict(logits=logits, pred_boxes=shares), [1], 3, (200, 100), 0.5
  )
  expected = []
  for row, (x, y, w, h) in zip(logits[0].astype(float), shares[0], strict=True):
    if softmax:
      chances = np.exp(row) / np.exp(row).sum()
      if int(np.argmax(chances[:3])) != 1:
        continue
    else:
      chances = 1 / (1 + np.exp(-row))
    corners = (
      100 * (x - w / 2),
      200 * (y - h / 2),
      100 * (x + w / 2),
      200 * (y + h / 2),
    )
    expected.append((*corners, chances[1]))
  np.testing.assert_allclose(np.c_[found, scores], expected, rtol=1e-5, atol=1e-4)


def test_a_raw_yolo_keeps_the_best_of_boxes_on_one_another():
  whole = np.zeros((1, 6, 5), np.float32)
  whole[0, :4] = np.transpose(
    [
      [50, 50, 20, 60],
      [51, 50, 20, 60],
      [150, 50, 20, 60],
      [90, 50, 20, 60],
      [9, 9, 4, 9],
    ]
  )
  #             the same person twice, alone, a dog above all, too weak
  whole[0, 5] = [0.8, 0.9, 0.7, 0.6, 0.3]
  whole[0, 4] = [0.1, 0.1, 0.1, 0.65, 0.0]
  found, scores = layouts.read("yolo", dict(o=whole), [1], 2, (160, 160), 0.5)
  assert found.tolist() == [[41, 20, 61, 80], [140, 20, 160, 80]]
  assert scores == pytest.approx([0.9, 0.7])


def test_end_to_end_and_named_outputs_keep_people():
  rows = np.float32([[1, 2, 3, 4, 0.9, 0], [5, 6, 7, 8, 0.8, 1], [1, 1, 9, 9, 0.7, 0]])
  found, scores = layouts.read("end2end", dict(o=rows[None]), [0], 2, (9, 9), 0.5)
  assert found.tolist() == [[1, 2, 3, 4], [1, 1, 9, 9]]
  named = dict(boxes=rows[:, :4], scores=rows[:, 4], labels=rows[:, 5].astype(int))
  again = layouts.read("torchvision", named, [0], None, (9, 9), 0.5)
  np.testing.assert_array_equal(again[0], found)
  np.testing.assert_array_equal(again[1], scores)


@pytest.mark.parametrize("layout", ["yolo", "end2end", "detr-softmax", "detr"])
def test_what_is_no_number_comes_out_to_be_counted(layout):
  if layout.startswith("detr"):
    classes = 2 if layout == "detr" else 1
    broken = dict(
      logits=np.full((1, 3, 2), np.nan, np.float32), pred_boxes=np.ones((1, 3, 4))
    )
  else:
    classes = 2
    shape = (1, 6, 9) if layout == "yolo" else (1, 3, 6)
    broken = dict(o=np.full(shape, np.nan, np.float32))
  name = layout.partition("-")[0]
  found, scores = layouts.read(name, broken, [0], classes, (9, 9), 0.5)
  assert len(found) == len(scores) >= 3 and not np.isfinite(scores).any()
