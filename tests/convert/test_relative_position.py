import numpy as np
import pytest

from tpr_jax.convert import relative_position
from tpr_jax.convert.source import ConvertError


def table(window, heads=2, seed=0):
  """Smooth, as learnt ones are, with something of its own in every head."""
  size = 2 * window - 1
  y, x = np.mgrid[:size, :size] - window + 1.0
  rng = np.random.default_rng(seed)
  parts = [
    np.exp(-(y**2 + x**2) / 20) + 0.1 * rng.normal() * y + 0.05 * np.sin(x + h)
    for h in range(heads)
  ]
  return np.stack(parts, axis=-1).reshape(-1, heads).astype(np.float32)


def test_the_constants_of_windows_7_to_8():
  assert relative_position.ratio(13, 15) == pytest.approx(1.061402, abs=2e-6)
  places = relative_position.coordinates(13, 15)
  q = relative_position.ratio(13, 15)
  np.testing.assert_allclose(places[6:9], [0.0, 1.0, 1.0 + q])
  np.testing.assert_allclose(places, -places[::-1])
  assert places[-1] == pytest.approx(7.0, abs=1e-4)


def test_the_constants_of_windows_7_to_4():
  assert relative_position.ratio(13, 7) == pytest.approx(1.01, abs=2e-6)
  assert relative_position.coordinates(13, 7)[-1] == pytest.approx(6.15, abs=5e-3)


def test_a_larger_window_keeps_the_middle_and_the_corners():
  old = table(7)
  new = relative_position.resize(old, 8)
  assert new.shape == (225, 2) and new.dtype == np.float32
  old, new = old.reshape(13, 13, 2), new.reshape(15, 15, 2)
  # The positions 0 and +-1 are both's, as are (to 1e-5) the outermost ones.
  np.testing.assert_allclose(new[6:9, 6:9], old[5:8, 5:8], atol=1e-5)
  np.testing.assert_allclose(new[::14, ::14], old[::12, ::12], atol=1e-4)


def test_a_smaller_window_is_practically_the_central_part():
  old = table(7)
  new = relative_position.resize(old, 4).reshape(7, 7, 2)
  crop = old.reshape(13, 13, 2)[3:10, 3:10]
  difference = np.abs(new - crop).max()
  assert 1e-5 < difference < 0.02 * np.abs(crop).max()


def test_rows_stay_rows():
  """dy runs over the rows of the table: a ramp along it stays one."""
  y = np.repeat(np.arange(-6.0, 7.0), 13)
  new = relative_position.resize(y[:, None], 8).reshape(15, 15)
  np.testing.assert_allclose(new, np.repeat(new[:, :1], 15, axis=1), atol=1e-5)
  assert (np.diff(new[:, 0]) > 0.5).all()


def test_a_spline_by_hand():
  """One axis after the other by scipy's cubic spline with not-a-knot ends, which is
  what an interpolating cubic spline on a grid is."""
  from scipy.interpolate import CubicSpline

  for old_window, window in ((7, 8), (7, 4), (3, 5)):
    old = table(old_window, heads=1)
    size = 2 * old_window - 1
    places = relative_position.coordinates(size, 2 * window - 1)
    at = np.clip(np.arange(2 * window - 1) - window + 1.0, places[0], places[-1])
    rows = CubicSpline(places, old.reshape(size, size), axis=0)(at)
    expected = CubicSpline(places, rows, axis=1)(at)
    found = relative_position.resize(old, window)
    np.testing.assert_allclose(found[:, 0], expected.reshape(-1), atol=1e-5)


def test_beyond_the_largest_ratio_the_border_is_repeated():
  old = table(3, heads=1)
  new = relative_position.resize(old, 8).reshape(15, 15)  # reaches 1 + 1.5 of 7
  np.testing.assert_allclose(new[:4, 7], old.reshape(5, 5)[0, 2], atol=1e-5)


def test_the_same_window_is_left_alone():
  np.testing.assert_array_equal(relative_position.resize(table(7), 7), table(7))


@pytest.mark.parametrize(
  "rows, message", [(170, "170 rows is of no square window"), (144, "144 rows")]
)
def test_what_is_no_table_is_refused(rows, message):
  with pytest.raises(ConvertError, match=message):
    relative_position.resize(np.zeros((rows, 2)), 8)


def test_too_small_a_table_is_refused():
  with pytest.raises(ConvertError, match="windows of 3 x 3 at least"):
    relative_position.resize(np.zeros((9, 2)), 4)
