"""Writes the .onnx files of this folder: python -m tests.detect.make_onnx (needs onnx).

Small detectors that really look: of figures on gray (114, as letterboxes are padded)
that are three times as high as wide, in three sizes. Every place of a grid of 4 pixels
is scored by how much of a box differs from gray, less how much of its surroundings
does; nothing is learnt. The same graph ends in each layout of detect/layouts.py.
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
SIDE, CELL = 160, 4  # pixels of the input; of a cell
GRID = SIDE // CELL
SIZES = ((12, 4), (16, 5), (21, 7))  # rows and columns of cells
RING = 2  # cells around
NEAR = 9  # cells in which one place is the best
NAMES = "{0: 'dog', 1: 'person'}"
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


class Graph:
  """Nodes and constants, in the order in which they are added."""

  def __init__(self):
    self.nodes, self.constants = [], []

  def constant(self, value, kind=np.float32):
    name = f"c{len(self.constants)}"
    self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
    return name

  def __call__(self, op, *given, name=None, **attributes):
    name = name or f"n{len(self.nodes)}"
    self.nodes.append(helper.make_node(op, given, [name], **attributes))
    return name


def kernel(rows, columns):
  """float32 [1, 1, h, w]: the mean of a box less that of the ring around it."""
  whole = np.ones((rows + 2 * RING, columns + 2 * RING))
  inner = np.zeros_like(whole)
  inner[RING:-RING, RING:-RING] = 1
  ring = whole - inner
  return (inner / inner.sum() - ring / ring.sum())[None, None]


def candidates(graph, picture):
  """-> names of boxes [1, 4, N] (centre and sides, pixels) and scores [1, 1, N]."""
  far = graph("Abs", graph("Sub", picture, graph.constant(114 / 255)))
  far = graph("ReduceMax", far, graph.constant([1], np.int64), keepdims=1)
  far = graph("Clip", graph("Mul", far, graph.constant(12.0)), *_between(graph))
  cells = graph("AveragePool", far, kernel_shape=[CELL, CELL], strides=[CELL, CELL])
  centre = (np.arange(GRID, dtype=np.float32) + 0.5) * CELL
  shape = graph.constant([1, 1, GRID, GRID], np.int64)
  flat = graph.constant([1, -1, GRID * GRID], np.int64)
  boxes, scores = [], []
  for rows, columns in SIZES:
    pads = [(n + 2 * RING - 1) // 2 for n in (rows, columns)]
    pads += [n + 2 * RING - 1 - p for n, p in zip((rows, columns), pads, strict=True)]
    weights = graph.constant(kernel(rows, columns))
    score = graph("Conv", cells, weights, pads=pads)
    # The middle of an even number of cells lies between two of them.
    shift = [CELL / 2 if n % 2 == 0 else 0 for n in (rows, columns)]
    parts = (
      (centre + shift[1]).reshape(1, 1, 1, GRID),
      (centre + shift[0]).reshape(1, 1, GRID, 1),
      np.full((1, 1, 1, 1), columns * CELL),
      np.full((1, 1, 1, 1), rows * CELL),
    )
    box = [graph("Expand", graph.constant(part), shape) for part in parts]
    boxes.append(graph("Reshape", graph("Concat", *box, axis=1), flat))
    score = graph("Clip", score, *_between(graph))
    scores.append(score)
  scores = highest(graph, graph("Concat", *scores, axis=1))
  flat = graph.constant([1, 1, -1], np.int64)
  return graph("Concat", *boxes, axis=2), graph("Reshape", scores, flat)


def highest(graph, scores):
  """[1, sizes, GRID, GRID] -> the same, but 0 where one near is higher."""
  pads = [NEAR // 2] * 4
  near = graph("MaxPool", scores, kernel_shape=[NEAR, NEAR], strides=[1, 1], pads=pads)
  near = graph("ReduceMax", near, graph.constant([1], np.int64), keepdims=1)
  return graph("Where", graph("Less", scores, near), graph.constant(0.0), scores)


def _between(graph):
  return graph.constant(0.0), graph.constant(1.0)


def best(graph, boxes, scores):
  """-> boxes [1, M, 4] (centre and sides) and scores [1, M, 1], best of their place."""
  rows = graph("Transpose", boxes, perm=[0, 2, 1])
  most, overlap, least = (
    graph.constant([value], kind)
    for value, kind in ((50, np.int64), (0.3, np.float32), (0.2, np.float32))
  )
  chosen = graph(
    "NonMaxSuppression", rows, scores, most, overlap, least, center_point_box=1
  )
  at = graph("Gather", chosen, graph.constant(2, np.int64), axis=1)
  scores = graph("Transpose", scores, perm=[0, 2, 1])
  return graph("Gather", rows, at, axis=1), graph("Gather", scores, at, axis=1)


def corners(graph, boxes, name=None):
  """[1, M, 4], centre and sides -> left, top, right, bottom."""
  one = np.eye(2)
  matrix = np.block([[one, one], [-one / 2, one / 2]])
  return graph("MatMul", boxes, graph.constant(matrix), name=name)


def yolo(graph, boxes, scores):
  dog = graph("Mul", scores, graph.constant(0.5))
  graph("Concat", boxes, dog, scores, axis=1, name="output0")
  return {"output0": [1, 6, None]}, dict(names=NAMES, imgsz=f"[{SIDE}, {SIDE}]")


def end2end(graph, boxes, scores):
  boxes, scores = best(graph, boxes, scores)
  label = graph("Add", graph("Mul", scores, graph.constant(0.0)), graph.constant(1.0))
  parts = (corners(graph, boxes), scores, label)
  graph("Concat", *parts, axis=2, name="output0")
  return {"output0": [1, None, 6]}, dict(names=NAMES)


def torchvision(graph, boxes, scores):
  boxes, scores = best(graph, boxes, scores)
  flat = graph.constant([-1], np.int64)
  graph(
    "Reshape", corners(graph, boxes), graph.constant([-1, 4], np.int64), name="boxes"
  )
  graph("Reshape", scores, flat, name="scores")
  same = graph("Mul", graph("Reshape", scores, flat), graph.constant(0.0))
  label = graph("Add", graph("Cast", same, to=INT), graph.constant(1, np.int64))
  graph("Identity", label, name="labels")
  return {"boxes": [None, 4], "labels": [None], "scores": [None]}, {}


def dfine(graph, boxes, scores):
  boxes, scores = best(graph, boxes, scores)
  size = graph("Cast", "orig_target_sizes", to=FLOAT)  # [1, 2]: width, height
  share = graph("Div", graph("Concat", size, size, axis=1), graph.constant(SIDE))
  share = graph("Unsqueeze", share, graph.constant([1], np.int64))
  graph("Mul", corners(graph, boxes), share, name="boxes")
  flat = graph.constant([1, -1], np.int64)
  graph("Reshape", scores, flat, name="scores")
  same = graph("Mul", graph("Reshape", scores, flat), graph.constant(0.0))
  label = graph("Add", graph("Cast", same, to=INT), graph.constant(1, np.int64))
  graph("Identity", label, name="labels")
  return {"labels": [1, None], "boxes": [1, None, 4], "scores": [1, None]}, {}


def detr(graph, boxes, scores):
  """A sigmoid for each class: RT-DETR's way. (DETR's softmax is tested by numbers.)"""
  boxes, scores = best(graph, boxes, scores)
  graph("Div", boxes, graph.constant(SIDE), name="pred_boxes")
  small = graph("Clip", scores, graph.constant(1e-6), graph.constant(1 - 1e-6))
  rest = graph("Sub", graph.constant(1.0), small)
  person = graph("Log", graph("Div", small, rest))
  dog = graph("Sub", graph("Mul", person, graph.constant(0.0)), graph.constant(9.0))
  graph("Concat", dog, person, axis=2, name="logits")
  return {"logits": [1, None, 2], "pred_boxes": [1, None, 4]}, {}


def write(layout):
  """Writes one of them; `detr` has a folder, with transformers' two files."""
  graph = Graph()
  picture = "pixel_values" if layout is detr else "images"
  outputs, metadata = layout(graph, *candidates(graph, picture))
  given = [helper.make_tensor_value_info(picture, FLOAT, [1, 3, SIDE, SIDE])]
  if layout is dfine:
    given.append(helper.make_tensor_value_info("orig_target_sizes", INT, [1, 2]))
  made = [
    helper.make_tensor_value_info(name, INT if name == "labels" else FLOAT, shape)
    for name, shape in outputs.items()
  ]
  whole = helper.make_graph(graph.nodes, layout.__name__, given, made, graph.constants)
  model = helper.make_model(
    whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
  )
  helper.set_model_props(model, metadata)
  onnx.checker.check_model(model)
  place = HERE / "detr" if layout is detr else HERE
  (place / f"{layout.__name__}.onnx").write_bytes(model.SerializeToString())


if __name__ == "__main__":
  for layout in (yolo, end2end, torchvision, dfine, detr):
    write(layout)
