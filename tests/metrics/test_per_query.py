"""The scores of a ranking, and of one that lacks a score."""

import numpy as np

from tpr_jax.metrics import per_query, streaming

RANK = np.array([1, 0, 7])
NONE = np.full(3, np.nan)
AP = np.array([0.5, np.nan, 0.25])


def test_a_score_that_no_query_has_is_left_out():
  found = per_query.values(RANK, AP, AP, NONE)
  assert list(found) == ["R1", "R5", "R10", "mAP", "mINP"]
  np.testing.assert_array_equal(found["R10"], [1.0, 0.0, 1.0])


def test_a_score_that_one_query_lacks_stays_to_be_seen():
  broken = np.array([0.5, np.nan, np.nan])
  assert list(per_query.values(RANK, AP, AP, broken)) == list(per_query.SCORES)


def test_without_any_match_every_score_is_still_there():
  assert list(per_query.values(np.zeros(3), NONE, NONE, NONE)) == list(per_query.SCORES)


def test_the_summary_has_no_made_up_mean():
  result = streaming.Result(
    matches=np.array([2, 0, 1], np.int32),
    first_rank=RANK.astype(np.int32),
    ap=AP,
    inp=AP,
    sd=NONE,
    top=np.zeros((3, 1), np.int32),
    top_score=np.zeros((3, 1), np.float32),
    gallery=9,
  )
  summary = result.summary()
  assert "mSD" not in summary and summary["mAP"] == 37.5
  assert "mSD" not in result.subset(np.array([True, True, False])).summary()
