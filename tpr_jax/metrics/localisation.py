r"""Does a map over the cells of an image lie where a box is?

A map has m_i >= 0 in cell i of a grid over the whole image, i = 1..N, sum m_i = 1. A
map without any mass is taken as the same everywhere. c_i in [0, 1] is the share of cell
i's area that the box covers, b = sum c_i the box's area in cells.

  pointing   share of the cells with the highest m_i that the box touches (c_i > 0):
             1 or 0 but where cells are equal ("pointing game": Zhang et al.,
             arXiv:1608.00507)
  centre     the same, where a cell counts if its centre is in the box
  energy     sum m_i c_i, the share of the mass in the box ("energy-based pointing
             game": Wang et al., arXiv:1910.01279)
  ratio      energy / (b / N): how many times what the box's share of the area gives
  iou_best   the largest IoU of the box with the cells m_i >= t over all thresholds t,
             so the best that a reader who knew the box could choose
  iou_area   the same at the t whose number of cells is nearest to b (the fewer cells,
             where two are as near)

Chance is a map that is the same everywhere, and has scores like any other: `chance`. A
grid is coarse beside small boxes: the `limit` is the map c / b, and no other has a
larger iou_best.
Shapes: n maps, N = rows * columns cells, row-major. Plain numpy, float64.
"""

from collections.abc import Mapping

import numpy as np

SCORES = ("pointing", "centre", "energy", "ratio", "iou_best", "iou_area")
_TOUCH = 1e-6  # of a cell: less is rounding


def shares(maps) -> np.ndarray:
  """[n, N] >= 0 -> float64 [n, N], rows sum to 1.

  Raises:
    ValueError: another shape, or a value below 0 or not finite.
  """
  maps = np.asarray(maps, np.float64)
  if maps.ndim != 2 or not np.isfinite(maps).all() or (maps < 0).any():
    raise ValueError(
      f"maps have shape {maps.shape}; expected [n, cells] of finite numbers >= 0"
    )
  total = maps.sum(axis=1, keepdims=True)
  even = np.full_like(maps, 1 / maps.shape[1])
  return np.divide(maps, total, out=even, where=total > 0)


def coverage(boxes, grid: tuple[int, int]) -> np.ndarray:
  """[n, 4] (cx, cy, w, h) as shares of the image -> float64 [n, N]: c above.

  What lies outside of the image is cut off.

  Raises:
    ValueError: a shape, or a box that covers nothing.
  """
  rows, columns = grid
  left, top, right, bottom = _edges(boxes).T
  down, across = _overlap(top, bottom, rows), _overlap(left, right, columns)
  found = (down[:, :, None] * across[:, None, :]).reshape(len(down), -1)
  empty = np.flatnonzero(found.sum(axis=1) <= 0)
  if len(empty):
    box = np.asarray(boxes)[empty[0]].tolist()
    raise ValueError(f"the box {box} covers nothing of the image; leave it out")
  return found


def _edges(boxes) -> np.ndarray:
  """[n, 4] left, top, right, bottom within [0, 1]."""
  boxes = np.asarray(boxes, np.float64)
  if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
    raise ValueError(f"boxes have shape {boxes.shape}; expected [n, 4] (cx, cy, w, h)")
  middle, half = boxes[:, :2], boxes[:, 2:] / 2
  return np.clip(np.concatenate([middle - half, middle + half], axis=1), 0, 1)


def _overlap(low: np.ndarray, high: np.ndarray, count: int) -> np.ndarray:
  """[n, count]: the share of each cell of one side that lies in [low, high]."""
  edges = np.arange(count + 1) / count
  length = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
  return np.maximum(length, 0) * count


def measure(maps, boxes, grid: tuple[int, int]) -> dict[str, np.ndarray]:
  """name of `SCORES` -> float64 [n], of each map and its box.

  Args:
    maps: [n, N], as `shares` takes them. boxes: [n, 4], as `coverage`.

  Raises:
    ValueError: as these, or shapes that do not fit.
  """
  maps, covered = shares(maps), coverage(boxes, grid)
  if maps.shape != covered.shape:
    raise ValueError(
      f"maps have shape {maps.shape}; expected {covered.shape} of {len(covered)} boxes"
      f" over {grid[0]} x {grid[1]} cells"
    )
  highest = maps == maps.max(axis=1, keepdims=True)
  pointing = lambda inside: (highest & inside).sum(axis=1) / highest.sum(axis=1)
  energy = (maps * covered).sum(axis=1)
  ious = np.array([_ious(*pair) for pair in zip(maps, covered, strict=True)])
  best, area = ious.reshape(-1, 2).T
  return dict(
    pointing=pointing(covered > _TOUCH),
    centre=pointing(_centres(boxes, grid)),
    energy=energy,
    ratio=energy / covered.mean(axis=1),
    iou_best=best,
    iou_area=area,
  )


def chance(boxes, grid: tuple[int, int]) -> dict[str, np.ndarray]:
  """As `measure`, of maps that are the same everywhere."""
  return measure(np.ones((len(boxes), grid[0] * grid[1])), boxes, grid)


def limit(boxes, grid: tuple[int, int]) -> dict[str, np.ndarray]:
  """As `measure`, of maps that are the boxes themselves, as well as cells can say."""
  return measure(coverage(boxes, grid), boxes, grid)


def average(
  values: Mapping[str, np.ndarray], chosen: np.ndarray | slice = slice(None)
) -> dict[str, float]:
  """Means over the chosen pairs: percentages, but for `ratio`."""
  unit = lambda name: 1.0 if name == "ratio" else 100.0
  return {name: unit(name) * float(values[name][chosen].mean()) for name in SCORES}


def _centres(boxes, grid: tuple[int, int]) -> np.ndarray:
  """bool [n, N]: cells whose centre is in the box."""
  left, top, right, bottom = _edges(boxes).T[:, :, None]
  y, x = ((np.arange(count) + 0.5) / count for count in grid)
  down, across = (top <= y) & (y <= bottom), (left <= x) & (x <= right)
  return (down[:, :, None] & across[:, None, :]).reshape(len(down), -1)


def _ious(one: np.ndarray, covered: np.ndarray) -> tuple[float, float]:
  """(iou_best, iou_area) of one map [N]."""
  order = np.argsort(-one, kind="stable")
  last = np.append(one[order][1:] < one[order][:-1], True)  # before a lower value
  cells = (1 + np.arange(len(one)))[last]
  both, area = np.cumsum(covered[order])[last], covered.sum()
  ious = both / (cells + area - both)
  return ious.max(), ious[np.argmin(np.abs(cells - area))]
