"""Words and patches of a model whose similarity is a known function of both."""

import dataclasses

import numpy as np
import pytest

from tpr_jax import rankings, saliency, saliency_files
from tpr_jax.data.record import Dataset, Record

WORDS = ("red", "blue", "coat", "hat")
RNG = np.random.default_rng(0)
EMBEDDED = {word: RNG.standard_normal(4) for word in WORDS}
PLACES = RNG.standard_normal((6, 4))  # what each of 3 x 2 patches stands for
GRID, SIZE = (3, 2), (6, 4)
TEXTS = ("red coat blue hat red", "hat", "", "coat  \n coat")


def load(record, size):
  rng = np.random.default_rng(record.identity)
  return rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)


DATA = Dataset(
  "made",
  "test",
  tuple(Record(f"{i}.png", i, (text,), "test") for i, text in enumerate(TEXTS)),
  load,
)
RANKING = dict(
  query_record=np.arange(4, dtype=np.int32),
  query_caption=np.zeros(4, np.int32),
  top=np.array([[1, 0], [3, 1], [2, 0], [0, 3]], np.int32),
)


def unit(x):
  return x / np.linalg.norm(x)


def text_feature(text):
  """Bag of words; a constant keeps the empty text away from 0."""
  return unit(np.ones(4) + sum((EMBEDDED[w] for w in text.split()), np.zeros(4)))


def means_of(image):
  """[6]: the mean of each patch, 0 to 1."""
  rows = image.astype(float).mean(axis=-1).reshape(3, 2, 2, 2)
  return rows.mean(axis=(1, 3)).reshape(6) / 255


def image_feature(image):
  return unit(0.3 + means_of(image) @ PLACES)


CALLS = []


def towers():
  def images(batch):
    CALLS.append(len(batch))
    return np.stack([image_feature(image) for image in batch])

  return saliency.Towers(
    picture=lambda record: load(DATA.records[record], None),
    images=images,
    texts=lambda texts: np.stack([text_feature(text) for text in texts]),
  )


def explained(reach=0.0):
  return saliency.of_queries(
    [0, 1, 2, 3], RANKING, DATA, towers(), cells=3, reach=reach
  )


def test_weights_are_the_analytic_ones():
  found = explained()
  assert (found.size, found.grid) == (SIZE, GRID)
  for i, one in enumerate(found.queries):
    image = load(DATA.records[RANKING["top"][i, 0]], None)
    words = TEXTS[i].split()
    assert one.words == tuple(words)
    assert (one.query, one.record, one.caption) == (i, i, 0)
    assert one.image == RANKING["top"][i, 0]
    t, v = text_feature(TEXTS[i]), image_feature(image)
    assert one.cosine == pytest.approx(t @ v, abs=1e-6)
    # A covered patch has the image's mean colour, rounded as pixels are.
    mean = np.round(image.mean(axis=(0, 1))).mean() / 255
    covered = []
    for p in range(6):
      changed = means_of(image)
      changed[p] = mean
      covered.append(unit(0.3 + changed @ PLACES))
    less = [
      text_feature(" ".join(words[:k] + words[k + 1 :])) for k in range(len(words))
    ]
    np.testing.assert_allclose(one.patch, [t @ v - t @ c for c in covered], atol=1e-6)
    assert one.word.shape == (len(words),) and one.pairs.shape == (len(words), 6)
    for k, short in enumerate(less):
      assert one.word[k] == pytest.approx(t @ v - short @ v, abs=1e-6)
      expected = [(t - short) @ (v - c) for c in covered]
      np.testing.assert_allclose(one.pairs[k], expected, atol=1e-6)


def test_a_linear_model_gives_the_word_its_own_patches():
  """Without unit rows, the interaction of a word is its own product with the patch."""
  bag = lambda text: sum((EMBEDDED[w] for w in text.split()), np.zeros(4))
  linear = saliency.Towers(
    picture=lambda record: load(DATA.records[record], None),
    images=lambda batch: np.stack([means_of(image) @ PLACES for image in batch]),
    texts=lambda texts: np.stack([bag(text) for text in texts]),
  )
  found = saliency.of_queries([0], RANKING, DATA, linear, cells=3, reach=0.0)
  image = load(DATA.records[1], None)
  lost = means_of(image) - np.round(image.mean(axis=(0, 1))).mean() / 255
  for k, word in enumerate(TEXTS[0].split()):
    expected = lost * (PLACES @ EMBEDDED[word])
    np.testing.assert_allclose(found.queries[0].pairs[k], expected, atol=1e-5)
  # All words together say what the whole text says.
  np.testing.assert_allclose(
    found.queries[0].pairs.sum(axis=0), found.queries[0].patch, atol=1e-5
  )


def test_towers_are_called_once_for_all_queries():
  CALLS.clear()
  explained()
  assert CALLS == [4 * 7]  # each image, and it with each of 6 patches covered


@pytest.mark.parametrize(
  ("size", "grid"),
  [((96, 40), (12, 5)), ((384, 128), (12, 4)), ((40, 96), (5, 12)), ((5, 3), (5, 3)),
   ((224, 224), (12, 12)), ((100, 2), (12, 1))],
)  # fmt: skip
def test_the_grid_has_about_square_cells(size, grid):
  assert saliency.grid_of(*size) == grid


@pytest.mark.parametrize("size", [(96, 40), (97, 41), (30, 50)])
def test_windows_cover_the_image_and_overlap_by_their_reach(size):
  grid = saliency.grid_of(*size)
  apart, wide = (saliency.windows(*size, grid, reach) for reach in (0.0, 0.5))
  times = np.zeros(size, int)
  for top, left, bottom, right in apart:
    times[top:bottom, left:right] += 1
  assert (times == 1).all()  # cells divide the image
  assert (wide[:, :2] <= apart[:, :2]).all() and (wide[:, 2:] >= apart[:, 2:]).all()
  assert (wide[:, :2] >= 0).all() and (wide[:, 2:] <= size).all()
  inner = (np.array(grid) // 2) @ (grid[1], 1)
  height, width = wide[inner, 2:] - wide[inner, :2]
  assert height == pytest.approx(2 * size[0] / grid[0], abs=1.5)
  assert width == pytest.approx(2 * size[1] / grid[1], abs=1.5)


def test_covering_leaves_the_image_alone_and_keeps_its_type():
  image = load(DATA.records[0], None)
  before = image.copy()
  boxes = saliency.windows(*SIZE, GRID, 0.0)
  found = saliency.covered(image, boxes)
  np.testing.assert_array_equal(image, before)
  assert found.dtype == np.uint8 and found.shape == (6, *SIZE, 3)
  for picture, (top, left, bottom, right) in zip(found, boxes, strict=True):
    inside = np.zeros(SIZE, bool)
    inside[top:bottom, left:right] = True
    np.testing.assert_array_equal(picture[~inside], image[~inside])
    assert (picture[inside] == np.round(image.mean(axis=(0, 1)))).all()
  normalised = image.astype(np.float32) / 128 - 1
  covered = saliency.covered(normalised, boxes)
  assert covered.dtype == np.float32
  np.testing.assert_allclose(covered[0, 0, 0], normalised.mean(axis=(0, 1)), rtol=1e-5)


def test_chosen_queries_are_among_those_that_the_report_draws():
  drawn = rankings.draw(400, rankings.SHOWN, 0).tolist()
  chosen = saliency.choose(400, 4)
  assert len(set(chosen)) == 4 and set(chosen) <= set(drawn)
  assert (chosen[0], chosen[-1]) == (drawn[0], drawn[-1])
  assert saliency.choose(400, 4) == chosen != saliency.choose(400, 4, seed=1)
  assert len(saliency.choose(400, 30)) == 30
  assert saliency.choose(2, 4) == [0, 1] and saliency.choose(400, 0) == []
  assert saliency.choose(1, 1) == [0]
  for wrong in (-1, 2.5):
    with pytest.raises(ValueError, match=r"eval\.saliency="):
      saliency.choose(10, wrong)


# ---- the file


def test_what_is_written_is_read_again(tmp_path):
  found = explained(reach=0.5)
  path = tmp_path / "saliency" / "test.npz"
  saliency_files.write(path, found)
  again = saliency_files.read(path)
  assert (again.size, again.grid) == (found.size, found.grid)
  np.testing.assert_array_equal(again.windows, found.windows)
  for one, other in zip(found.queries, again.queries, strict=True):
    for field in dataclasses.fields(one):
      a, b = getattr(one, field.name), getattr(other, field.name)
      if isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a.astype(np.float32), b)
        assert b.dtype == np.float32
      else:
        assert a == pytest.approx(b) if field.name == "cosine" else a == b


def test_only_queries_without_words(tmp_path):
  found = saliency.of_queries([2], RANKING, DATA, towers(), cells=3)
  assert found.queries[0].words == () and found.queries[0].pairs.shape == (0, 6)
  saliency_files.write(tmp_path / "a.npz", found)
  again = saliency_files.read(tmp_path / "a.npz").queries[0]
  assert again.words == () and again.pairs.shape == (0, 6)
  np.testing.assert_array_equal(again.patch, found.queries[0].patch)


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    ("word", None, "no array 'word'"),
    ("patch", np.zeros((4, 5)), r"'patch' has shape \(4, 5\), expected \(4, 6\)"),
    ("first_word", np.array([0, 9, 2, 3, 8]), "does not divide 8 words"),
    ("words", np.array([["a"]], object), "cannot be used"),
  ],
)
def test_a_file_that_makes_no_sense_is_named(tmp_path, name, value, message):
  path = tmp_path / "test.npz"
  saliency_files.write(path, explained())
  arrays = {**dict(np.load(path)), name: value}
  np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
  with pytest.raises(saliency_files.SaliencyError, match=f"test.npz .*{message}"):
    saliency_files.read(path)
  path.write_text("no zip")
  with pytest.raises(saliency_files.SaliencyError, match=r"test\.npz"):
    saliency_files.read(path)
