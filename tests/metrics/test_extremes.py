"""The lowest cosine, in blocks, against the whole matrix."""

import numpy as np
import pytest

from tpr_jax.metrics import extremes


@pytest.mark.parametrize("block", [1, 90, 1 << 22])
def test_it_is_that_of_the_whole_matrix(block, monkeypatch):
  monkeypatch.setattr(extremes, "_BLOCK", block)
  rng = np.random.default_rng(0)
  query, gallery = rng.normal(size=(37, 8)), 3.0 * rng.normal(size=(30, 8))
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  expected = (unit(query) @ unit(gallery).T).min()
  assert expected < -0.8
  assert extremes.lowest(query, gallery) == pytest.approx(expected, abs=1e-6)
  # The last query, which ends a block that is filled up.
  expected = (unit(query[-1:]) @ unit(gallery).T).min()
  assert extremes.lowest(query[-1:], gallery) == pytest.approx(expected, abs=1e-6)


def test_a_feature_that_is_no_number_is_named():
  query = np.ones((3, 2))
  query[1, 0] = np.nan
  with pytest.raises(ValueError, match="query features: row 1 holds NaN"):
    extremes.lowest(query, np.ones((2, 2)))
