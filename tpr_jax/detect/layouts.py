"""What the outputs of an .onnx detector mean: told apart by their names and shapes.

detr         logits [1, Q, C], pred_boxes [1, Q, 4]: centre and sides as shares of the
             picture. transformers' exports of DETR, YOLOS, RT-DETR, D-FINE and others.
             With one logit more than classes the last means "nothing", and a softmax
             makes scores; else each has a sigmoid of its own.
dfine        labels [1, Q], boxes [1, Q, 4], scores [1, Q], of a graph that also takes
             orig_target_sizes: RT-DETR's and D-FINE's own exports. Corners in pixels
             of the frame.
torchvision  boxes [N, 4], labels [N], scores [N]: corners in pixels of the input.
yolo         one output [1, 4 + C, N]: centre and sides in pixels of the input, then
             scores. Raw: non-maximum suppression is done here.
end2end      one output [1, N, 6]: corners in pixels of the input, score, class.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tpr_jax.detect import boxes
from tpr_jax.detect.problems import DetectorError

OVERLAP = 0.7  # of a raw YOLO's boxes, intersection over union
UNDERSTOOD = (
  "logits and pred_boxes (DETR, RT-DETR and D-FINE of transformers); boxes, labels and"
  " scores (torchvision; with the input orig_target_sizes, RT-DETR's and D-FINE's own);"
  " one output [1, 4 + classes, N] (YOLO, raw) or [1, N, 6] (YOLO, end to end)"
)
Outputs = Mapping[str, np.ndarray]


def name(inputs: Sequence[str], outputs: Outputs, classes: int | None) -> str:
  """Which layout it is, by one answer of the detector.

  Args:
    inputs: names. outputs: name -> array.
    classes: how many the file tells of; None: it does not.

  Raises:
    DetectorError: none that is understood; says what was found.
  """
  shapes = {key: value.shape for key, value in outputs.items()}
  if {"logits", "pred_boxes"} <= set(shapes):
    return "detr"
  if {"boxes", "labels", "scores"} <= set(shapes):
    return "dfine" if "orig_target_sizes" in inputs else "torchvision"
  if len(shapes) == 1:
    (shape,) = shapes.values()
    if len(shape) == 3 and shape[0] == 1:
      if shape[2] == 6 and shape[1] != 6:
        return "end2end"
      if shape[1] == 4 + (classes or shape[1] - 4) and 5 <= shape[1] < shape[2]:
        return "yolo"
  found = ", ".join(f"{key} {list(shape)}" for key, shape in shapes.items())
  hint = ""
  if any(len(each) == 3 and each[1] > each[2] > 6 for each in shapes.values()):
    hint = (
      ". It looks like a YOLO with a score of any object (YOLOv5, YOLOX), which is not"
      " understood: export it end to end"
    )
  raise DetectorError(
    f"it has the inputs {', '.join(inputs)} and the outputs {found}{hint}; understood"
    f" are {UNDERSTOOD}"
  )


def read(
  layout: str,
  outputs: Outputs,
  people: Sequence[int],
  classes: int | None,
  seen: tuple[int, int],
  least: float,
) -> tuple[np.ndarray, np.ndarray]:
  """The boxes of people.

  Args:
    people: numbers of their class. classes: as in `name`.
    seen: (H, W) of what the detector saw.
    least: scores that do not matter are below it.

  Returns:
    float [N, 4], left, top, right, bottom in pixels of what it saw (dfine: of the
    frame), and float [N], scores.
  """
  if layout == "detr":
    return _detr(outputs, people, classes, seen)
  if layout in ("dfine", "torchvision"):
    corners, labels, scores = (outputs[key] for key in ("boxes", "labels", "scores"))
    return _chosen(corners.reshape(-1, 4), scores.ravel(), labels.ravel(), people)
  (whole,) = outputs.values()
  if layout == "end2end":
    return _chosen(whole[0, :, :4], whole[0, :, 4], whole[0, :, 5], people)
  return _yolo(whole[0].astype(np.float64), people, least)


def _chosen(
  corners: np.ndarray, scores: np.ndarray, labels: np.ndarray, people: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
  # A label that is no number is no other class either: it is counted as such later.
  kept = np.isin(labels, people) | ~np.isfinite(labels)
  scores = np.where(np.isfinite(labels), scores, np.nan)
  return corners[kept], scores[kept]


def _detr(
  outputs: Outputs, people: Sequence[int], classes: int | None, seen: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
  logits = outputs["logits"][0].astype(np.float64)
  if classes is not None and logits.shape[1] == classes + 1:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = (powers / powers.sum(axis=1, keepdims=True))[:, :-1]
    best = scores.argmax(axis=1)
    kept = np.isin(best, people) | ~np.isfinite(scores).all(axis=1)
  else:
    with np.errstate(over="ignore"):  # exp of much: 0 is right
      scores = 1 / (1 + np.exp(-logits))
    kept = np.ones(len(scores), bool)
  high, wide = seen
  shares = outputs["pred_boxes"][0].astype(np.float64) * (wide, high, wide, high)
  return _corners(shares[kept]), scores[kept][:, list(people)].max(axis=1)


def _yolo(
  whole: np.ndarray, people: Sequence[int], least: float
) -> tuple[np.ndarray, np.ndarray]:
  """float [4 + C, N]; of each box the class with the best score counts."""
  scores = whole[4:].max(axis=0)
  person = np.isin(whole[4:].argmax(axis=0), people)
  kept = (person & (scores >= least)) | ~np.isfinite(whole).all(axis=0)
  corners, scores = _corners(whole[:4, kept].T), scores[kept]
  finite = np.isfinite(corners).all(axis=1) & np.isfinite(scores)
  rows = np.flatnonzero(finite)
  rows = rows[boxes.suppressed(corners[rows], scores[rows], OVERLAP)]
  rows = np.concatenate([rows, np.flatnonzero(~finite)])
  return corners[rows], scores[rows]


def _corners(centred: np.ndarray) -> np.ndarray:
  """[N, 4] centre and sides -> left, top, right, bottom."""
  centre, half = centred[:, :2], centred[:, 2:] / 2
  return np.concatenate([centre - half, centre + half], axis=1)
