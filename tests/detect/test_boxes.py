"""Boxes: which count, what is cut at the frame, and non-maximum suppression."""

import numpy as np
import pytest

from tests.detect import scenes
from tpr_jax.detect import boxes
from tpr_jax.detect.boxes import Box


def clean(corners, scores, score=0.5, lowest=10):
  return boxes.clean(
    np.array(corners, float).reshape(-1, 4),
    np.array(scores, float),
    *(100, 80),
    score=score,
    lowest=lowest,
  )


def test_the_best_come_first_and_weak_ones_are_not_counted():
  found, left_out = clean(
    [[1, 2, 11, 32], [50, 0, 70, 60], [0, 0, 9, 50]], [0.6, 0.9, 0.4]
  )
  assert [each.box for each in found] == [Box(50, 0, 20, 60), Box(1, 2, 10, 30)]
  assert [each.score for each in found] == [0.9, 0.6] and not left_out


def test_what_reaches_out_is_cut():
  found, _ = clean([[-20, -5, 30, 200], [90.4, 60.6, 130, 90]], [0.8, 0.7])
  assert [each.box for each in found] == [Box(0, 0, 30, 80), Box(90, 61, 10, 19)]


@pytest.mark.parametrize(
  ("corners", "score", "why"),
  [
    ([np.nan, 0, 10, 40], 0.9, boxes.NOT_FINITE),
    ([0, 0, np.inf, 40], 0.9, boxes.NOT_FINITE),
    ([0, 0, 10, 40], np.nan, boxes.NOT_FINITE),
    ([100, 0, 120, 40], 0.9, boxes.OUTSIDE),
    ([0, -40, 20, 0], 0.9, boxes.OUTSIDE),
    ([10, 10, 10, 60], 0.9, boxes.EMPTY),
    ([30, 60, 10, 10], 0.9, boxes.EMPTY),
    ([0, 0, 5, 9.4], 0.9, boxes.LOW),
    ([0, 75, 5, 95], 0.9, boxes.LOW),  # of it, 5 pixels lie in the frame
  ],
)
def test_what_shows_nobody_is_left_out_and_counted(corners, score, why):
  found, left_out = clean([corners, [1, 1, 20, 60]], [score, 0.8])
  assert [each.box for each in found] == [Box(1, 1, 19, 59)]
  assert left_out == {why: 1}


def test_boxes_of_no_detector_are_none():
  assert clean([], []) == ([], {})


@pytest.mark.parametrize("seed", range(20))
def test_all_that_count_lie_in_the_frame(seed):
  rng = np.random.default_rng(seed)
  corners = rng.uniform(-200, 300, (50, 4))
  corners[rng.random((50, 4)) < 0.05] = np.nan
  found, left_out = clean(corners, rng.uniform(0, 1.2, 50), lowest=1)
  frame = np.zeros((80, 100, 3), np.uint8)
  for each in found:
    assert each.box.cut(frame).shape == (each.box.height, each.box.width, 3)
    assert min(each.box.x, each.box.y) >= 0 and 0 < each.score <= 1
    wide = each.box.widened(0.5, 100, 80)
    assert wide.cut(frame).shape == (wide.height, wide.width, 3)
  assert len(found) + sum(left_out.values()) <= 50


def test_a_margin_is_added_on_each_side_within_the_frame():
  assert Box(40, 20, 20, 40).widened(0.1, 100, 80) == Box(38, 16, 24, 48)
  assert Box(0, 20, 20, 60).widened(0.1, 100, 80) == Box(0, 14, 22, 66)
  assert Box(3, 4, 5, 6).widened(0, 100, 80) == Box(3, 4, 5, 6)


@pytest.mark.parametrize("seed", range(20))
def test_suppression_is_that_of_a_slow_loop(seed):
  rng = np.random.default_rng(seed)
  low = rng.uniform(0, 50, (60, 2))
  corners = np.concatenate([low, low + rng.uniform(5, 40, (60, 2))], axis=1)
  scores = rng.permutation(60) / 60
  stay = []
  for at in np.argsort(-scores):
    if all(scenes.overlap(corners[at], corners[each]) <= 0.4 for each in stay):
      stay.append(at)
  assert boxes.suppressed(corners, scores, 0.4).tolist() == stay
