"""Approximate searches of large indexes: against exact ones, and the other half of
what an index does."""

import dataclasses
import json

import numpy as np
import pytest

from tests.search import place
from tpr_jax.metrics import calibration
from tpr_jax.search import about, gallery, near, nearest, run, settings, showing
from tpr_jax.search.answer import Answer, Question
from tpr_jax.search.choosing import Chooser
from tpr_jax.search.index import Index
from tpr_jax.search.store import Store

COUNT, DIM = 3_000, 16


def unit(rows):
  return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def add(store, vectors, start=0, **more):
  rows = [
    dict(path=f"{i:06}.jpg", hash=f"{i:032x}", size=i, vector=v, **more)
    for i, v in enumerate(vectors, start)
  ]
  store.put(rows, replaces=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
  """(store, vectors [N, D], queries [Q, D]): rows in clusters, and broken ones."""
  rng = np.random.default_rng(0)
  centers = rng.normal(size=(60, DIM))
  vectors = centers[rng.integers(60, size=COUNT)] + 0.6 * rng.normal(size=(COUNT, DIM))
  vectors = unit(vectors).astype(np.float32)
  queries = unit(centers[:20] + 0.8 * rng.normal(size=(20, DIM))).astype(np.float32)
  store = Store(tmp_path_factory.mktemp("near"), DIM)
  for start in range(0, COUNT, 1_000):
    add(store, vectors[start : start + 1_000], start)
  broken = dict(kind="unreadable", problem="no picture")
  store.put([dict(path="bad.jpg", hash="", size=0, **broken)], replaces=False)
  store.make_near()
  return store, vectors, queries


@pytest.fixture(scope="module")
def measured(world):
  store, _, queries = world
  return near.measured(store, queries, COUNT)


def true(vectors, row, k=10):
  return set(np.argsort(-(vectors @ row), kind="stable")[:k].tolist())


def test_enough_of_the_nearest_are_found(world, measured):
  store, vectors, queries = world
  assert measured.recall >= near.RECALL and measured.pictures == COUNT
  assert measured.probes in (8, 16, 32, 64)
  known = gallery.Gallery(store, whole=False)
  shares = []
  for row in queries:
    found = nearest.approximate(store, known, measured, dict(text=row), {}, 10)
    names = store.of_rows(known.ids[found.rows], ["size"])
    shares.append(len({n["size"] for n in names} & true(vectors, row)) / 10)
  assert np.mean(shares) == pytest.approx(measured.recall, abs=1e-9)


def test_what_is_found_is_as_of_all(world, measured):
  """Where the same rows are found, all that is told of them is the same."""
  store, _, queries = world
  part, whole = gallery.Gallery(store, whole=False), gallery.Gallery(store)
  assert part.vectors is None and len(part) == len(whole) == COUNT
  np.testing.assert_array_equal(part.sample, whole.vectors[part.sampled])
  every = dataclasses.replace(measured, probes=10_000)
  shares = dict(text=0.3, image=0.7)
  for i, row in enumerate(queries):
    for asked in (dict(text=row), dict(text=row, image=queries[i - 1])):
      found = nearest.approximate(store, part, every, asked, shares, 25)
      truth = nearest.exact(whole.vectors, whole.order, asked, shares, 25)
      assert found.searched == truth.searched == COUNT
      np.testing.assert_allclose(found.scores, truth.scores, atol=1e-5)
      assert (np.sort(found.rows) == np.sort(truth.rows)).mean() > 0.95
      for side in asked:
        np.testing.assert_allclose(
          found.cosines[side].sum(), truth.cosines[side].sum(), atol=1e-3
        )
      if len(asked) == 1:
        np.testing.assert_allclose(found.seen, truth.seen, rtol=1e-4)


def test_a_condition_that_few_meet_is_exact(world, measured):
  store, _, queries = world
  known, whole = gallery.Gallery(store, whole=False), gallery.Gallery(store)
  allowed = np.zeros(COUNT, bool)
  allowed[known.order <= 40] = True
  for row in queries[:3]:
    condition = "size < 40"
    found = nearest.approximate(
      store, known, measured, dict(text=row), {}, 10, allowed, condition
    )
    truth = nearest.exact(whole.vectors, whole.order, dict(text=row), {}, 10, allowed)
    np.testing.assert_array_equal(found.rows, truth.rows)
    assert found.searched == 40 and found.seen == truth.seen
    # Of words with a picture, standard scores are over all pictures, not these alone.
    both, shares = dict(text=row, image=queries[5]), dict(text=0.5, image=0.5)
    found = nearest.approximate(
      store, known, measured, both, shares, 10, allowed, condition
    )
    truth = nearest.exact(whole.vectors, whole.order, both, shares, 10, allowed)
    np.testing.assert_array_equal(found.rows, truth.rows)
    np.testing.assert_allclose(found.scores, truth.scores, atol=1e-5)


def test_a_condition_that_many_meet(world, measured, monkeypatch):
  monkeypatch.setattr(nearest, "FEW", 10)
  store, vectors, queries = world
  known = gallery.Gallery(store, whole=False)
  allowed = known.order <= 1_500
  every = dataclasses.replace(measured, probes=10_000)
  for row in queries[:3]:
    found = nearest.approximate(
      store, known, every, dict(text=row), {}, 10, allowed, "size < 1500"
    )
    names = store.of_rows(known.ids[found.rows], ["size"])
    assert {n["size"] for n in names} == true(vectors[:1_500], row)
    assert found.searched == found.seen.count == 1_500


def test_rows_that_came_later_are_found_and_taken_in(tmp_path):
  rng = np.random.default_rng(1)
  store = Store(tmp_path, DIM)
  add(store, unit(rng.normal(size=(600, DIM))).astype(np.float32))
  said = []
  encoder = lambda: Sentences()
  first = near.renewed(store, None, encoder, said.append)
  assert store.near_rows() == 600 and "making an index" in said[0]
  assert "nearest of 64 sentences" in said[1] and first.pictures == 600
  new = unit(rng.normal(size=(30, DIM))).astype(np.float32)
  add(store, new, start=600)
  for row in new[:5]:  # not in the index, and found
    vectors = store.nearest(row, 1, 1)[1]
    np.testing.assert_allclose(vectors[0], row, atol=1e-6)
  assert near.renewed(store, first, encoder, said.append) is first and len(said) == 2
  add(store, unit(rng.normal(size=(200, DIM))).astype(np.float32), start=630)
  again = near.renewed(store, first, encoder, said.append)
  assert again.pictures == 830 and store.near_rows() == 830


class Sentences:
  def encode_texts(self, texts):
    assert len(set(texts)) == near.QUERIES
    rng = np.random.default_rng(2)
    return unit(rng.normal(size=(len(texts), DIM))).astype(np.float32)


def test_a_large_index_from_the_command(tmp_path, monkeypatch, trusted):
  monkeypatch.setattr(nearest, "EXACT", 200)
  images = place.folder(tmp_path / "images", 300)
  # Sentences name colours that the model of this test has no word for: red stands in.
  monkeypatch.setattr(near, "sentences", lambda: ["red", "green coat", "blue"] * 8)
  _, said = place.index(images, tmp_path / "index")
  assert any("Searches are approximate" in line for line in said)
  told = json.loads((tmp_path / "index" / about.FILE).read_text())["near"]
  assert told["pictures"] == 300 and told["recall"] > 0.9
  index = place.opened(tmp_path / "index")
  plain = type(index)(tmp_path / "index", place.Model(), exact=True)
  for words in ("red", "a green coat"):
    found, truth = index.search(words, top=30), plain.search(words, top=30)
    assert found.recall == told["recall"] and truth.recall is None
    assert (found.searched, found.total) == (300, 300)
    scores = [[hit.score for hit in answer.hits] for answer in (found, truth)]
    np.testing.assert_allclose(*scores, atol=1e-3)  # a hundred pictures of each colour
  hit = found.hits[0]
  assert index.stored(hit.key).paths == (hit.path,)
  np.testing.assert_allclose(index.stored(hit.key).row, plain.stored(hit.key).row)
  # A second run has nothing to do, and says nothing of it.
  _, said = place.index(images, tmp_path / "index")
  assert not any("approximate" in line for line in said)


def test_it_says_so():
  answer = Answer((), 5, 10, recall=0.985)
  assert showing.counted(answer) == (
    "5 of 10 pictures meet the condition, approximately: 98.5% of the nearest were"
    " found when measured"
  )


def test_the_calibration_of_an_approximate_search(world, measured):
  store, _, queries = world
  made = calibration.Calibration(
    center=(0,) * 4,
    scale=(1,) * 4,
    hit=(1, 0.5, 0.2, 0.1, -2),
    query=(1, 0.5, 0.2, 0.1, -2),
    absent=tuple(np.linspace(-3, 3, 401)),
  )
  every = dataclasses.replace(measured, probes=10_000)
  question = Question(dict(text=queries[0]), top=5)
  answers = []
  for neighbours in (every, None):
    known = gallery.Gallery(store, whole=neighbours is None)
    choose = Chooser(store, known, neighbours, made, None, lambda: None)
    answers.append(choose(question, None, ""))
  found, truth = answers
  assert found.judged.matches == truth.judged.matches
  np.testing.assert_allclose(
    found.judged.probabilities, truth.judged.probabilities, rtol=1e-3
  )


def test_the_flag_opens_it_so(tmp_path, monkeypatch):
  opened = []
  monkeypatch.setattr(Index, "open", lambda *_, **how: opened.append(how) or 1 / 0)
  for exact in (True, False):
    with pytest.raises(ZeroDivisionError):
      run.search(settings.Searching(tmp_path, query="a", exact=exact))
  assert [how["exact"] for how in opened] == [True, False]
