"""Maps and boxes: against slow transcriptions, and where the answer is known."""

import numpy as np
import pytest

from tpr_jax.metrics import localisation
from tpr_jax.metrics.localisation import SCORES

GRID = (6, 3)
FINE = 240  # points a side of the slow integrals: a multiple of 6 and 3


def boxes(count, seed=0):
  """Corners at multiples of 1 / FINE, so that sums over points are exact."""
  rng = np.random.default_rng(seed)
  found = []
  while len(found) < count:
    (x, y), (w, h) = rng.integers(0, FINE - 8, 2), rng.integers(4, 150, 2)
    w, h = min(w, FINE - x), min(h, FINE - y)
    found.append([x + w / 2, y + h / 2, w, h])
  return np.array(found) / FINE


def slow(one, box, grid):
  """All scores of one map by points of a fine raster and by every threshold."""
  rows, columns = grid
  at = (np.arange(FINE) + 0.5) / FINE
  cx, cy, w, h = box
  inside = np.array([[abs(x - cx) < w / 2 and abs(y - cy) < h / 2 for x in at]
                     for y in at])  # fmt: skip
  cell = np.array([[(y * rows // FINE) * columns + x * columns // FINE
                    for x in range(FINE)] for y in range(FINE)])  # fmt: skip
  number = rows * columns
  one = one / one.sum()
  touched = [inside[cell == i].any() for i in range(number)]
  share = [inside[cell == i].mean() for i in range(number)]
  centre = [
    abs((i % columns + 0.5) / columns - cx) <= w / 2
    and abs((i // columns + 0.5) / rows - cy) <= h / 2
    for i in range(number)
  ]
  top = [i for i in range(number) if one[i] == one.max()]
  energy = sum(one[i] * share[i] for i in range(number))
  ious, sizes = [], []
  for threshold in sorted(set(one), reverse=True):
    chosen = one[cell] >= threshold
    ious.append((chosen & inside).sum() / (chosen | inside).sum())
    sizes.append(sum(v >= threshold for v in one))
  off = [abs(size - sum(share)) for size in sizes]
  return dict(
    pointing=np.mean([touched[i] for i in top]),
    centre=np.mean([centre[i] for i in top]),
    energy=energy,
    ratio=energy / inside.mean(),
    iou_best=max(ious),
    iou_area=ious[off.index(min(off))],
  )


def test_every_score_is_that_of_a_slow_transcription():
  rng, where = np.random.default_rng(1), boxes(12)
  maps = rng.random((12, 18)) ** 3
  maps[3:6] = np.round(4 * maps[3:6]) + (np.arange(18) == 2)  # with ties
  found = localisation.measure(maps, where, GRID)
  assert tuple(found) == SCORES
  for i in range(12):
    expected = slow(maps[i], where[i], GRID)
    for name in SCORES:
      assert found[name][i] == pytest.approx(expected[name], abs=1e-9), (i, name)


def test_a_box_of_whole_cells_is_found_in_full():
  """Two rows of two cells at the upper left, all the mass in them."""
  box = [[1 / 3, 1 / 6, 2 / 3, 1 / 3]]
  one = np.zeros((1, 18))
  one[0, [0, 1, 3, 4]] = 4, 3, 2, 1
  found = localisation.measure(one, box, GRID)
  expected = dict(pointing=1, centre=1, energy=1, ratio=18 / 4, iou_best=1, iou_area=1)
  assert {name: value[0] for name, value in found.items()} == pytest.approx(expected)
  away = localisation.measure(one[:, ::-1], box, GRID)
  # No threshold but the lowest, which takes all cells, meets the box.
  expected = dict.fromkeys(SCORES, 0.0) | dict(iou_best=4 / 18)
  assert {name: value[0] for name, value in away.items()} == pytest.approx(expected)
  half = one.copy()
  half[0, 17] = 10  # half of the mass, and the highest cell, far away
  found = localisation.measure(half, box, GRID)
  expected = dict(pointing=0, energy=0.5, ratio=18 / 8, iou_best=4 / 5, iou_area=3 / 5)
  assert {name: found[name][0] for name in expected} == pytest.approx(expected)


def test_chance_is_the_share_of_the_cells_and_of_the_area():
  where = boxes(40, seed=2)
  found = localisation.chance(where, GRID)
  covered = localisation.coverage(where, GRID)
  np.testing.assert_allclose(found["pointing"], (covered > 1e-6).mean(axis=1))
  area = where[:, 2] * where[:, 3]
  np.testing.assert_allclose(covered.mean(axis=1), area)
  for name in ("energy", "iou_best", "iou_area"):
    np.testing.assert_allclose(found[name], area, err_msg=name)
  np.testing.assert_allclose(found["ratio"], 1.0)
  # Cells drawn at random point into boxes as often as chance says.
  rng = np.random.default_rng(0)
  drawn = np.eye(18)[rng.integers(18, size=(200, 40))]
  each = [localisation.measure(one, where, GRID)["pointing"].mean() for one in drawn]
  assert np.mean(each) == pytest.approx(found["pointing"].mean(), abs=0.02)
  dark = localisation.measure(np.zeros((40, 18)), where, GRID)
  for name in SCORES:
    np.testing.assert_allclose(dark[name], found[name])


def test_no_map_has_a_larger_iou_than_the_limit():
  where, rng = boxes(30, seed=3), np.random.default_rng(4)
  limit = localisation.limit(where, GRID)
  assert (limit["pointing"] == 1).all() and limit["iou_best"].max() < 1 + 1e-12
  for _ in range(200):
    found = localisation.measure(rng.random((30, 18)), where, GRID)["iou_best"]
    assert (found <= limit["iou_best"] + 1e-12).all()


def test_scale_and_mirror_change_nothing():
  where, maps = boxes(20, seed=5), np.random.default_rng(6).random((20, 18))
  found = localisation.measure(maps, where, GRID)
  mirrored = where * [-1, 1, 1, 1] + [1, 0, 0, 0]
  flipped = maps.reshape(20, *GRID)[:, :, ::-1].reshape(20, 18)
  again = localisation.measure(7.5 * flipped, mirrored, GRID)
  for name in SCORES:
    np.testing.assert_allclose(again[name], found[name], rtol=1e-9, err_msg=name)


def test_boxes_are_cut_at_the_edges_and_touch_what_they_cover():
  (covered,) = localisation.coverage([[0.0, 0.0, 2 / 3, 1 / 3]], GRID)
  np.testing.assert_allclose(covered, np.arange(18) == 0)
  # An edge on the border of a cell does not touch the next one, whatever the rounding.
  (found,) = localisation.chance([[0.5, 7 / 12, 1 / 3, 1 / 6]], GRID)["pointing"]
  assert found == pytest.approx(1 / 18)
  small = [[0.5, 0.5, 0.01, 0.01]]  # across the border of two rows: two cells touched
  found = localisation.chance(small, GRID)
  assert found["pointing"] == pytest.approx(2 / 18) and found["centre"] == 0


def test_percentages_but_for_the_ratio():
  values = {name: np.array([0.25, 0.75, 0.0]) for name in SCORES}
  found = localisation.average(values, np.array([True, True, False]))
  assert found == dict.fromkeys(SCORES, 50.0) | dict(ratio=0.5)


@pytest.mark.parametrize(
  ("maps", "where", "message"),
  [
    (np.ones((2, 17)), boxes(2), r"shape \(2, 17\); expected \(2, 18\) of 2 boxes"),
    (np.ones((3, 18)), boxes(2), "of 2 boxes"),
    (-np.ones((2, 18)), boxes(2), "numbers >= 0"),
    (np.full((2, 18), np.nan), boxes(2), "numbers >= 0"),
    (np.ones(18), boxes(2), "numbers >= 0"),
    (np.ones((2, 18)), boxes(2)[:, :3], r"expected \[n, 4\]"),
    (np.ones((1, 18)), [[0.5, 0.5, 0.0, 1.0]], "covers nothing of the image"),
    (np.ones((1, 18)), [[1.5, 0.5, 0.5, 1.0]], "covers nothing of the image"),
  ],
)
def test_what_does_not_fit_is_refused(maps, where, message):
  with pytest.raises(ValueError, match=message):
    localisation.measure(maps, where, GRID)
