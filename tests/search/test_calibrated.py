"""What a calibration says of a search: how likely each hit is, and whether any is."""

import json

import numpy as np
import pytest

from tests.metrics.test_calibration import world
from tests.search import place
from tpr_jax import calibration_files
from tpr_jax.metrics import calibration
from tpr_jax.search import indexing, settings, showing
from tpr_jax.search.index import Index
from tpr_jax.search.problems import SearchError


@pytest.fixture(scope="module")
def fitted():
  return calibration.fit(*world(0))


@pytest.fixture
def model(tmp_path, fitted):
  """A model whose folder has a calibration."""

  class Placed(place.Model):
    def identity(self):
      return super().identity() | dict(place=str(tmp_path / "run"))

  (tmp_path / "run").mkdir()
  calibration_files.write(tmp_path / "run", fitted)
  return Placed()


@pytest.fixture
def index(tmp_path, model):
  place.index(place.folder(tmp_path / "pictures", 30), tmp_path / "index", model)
  return place.opened(tmp_path / "index", model)


def test_hits_have_the_probabilities_of_their_cosines(index, fitted):
  answer = index.search("a red coat", top=30)
  cosines = np.array([hit.cosines["text"] for hit in answer.hits], np.float32)
  expected = fitted.probabilities(calibration.background(cosines), cosines)
  assert [hit.probability for hit in answer.hits] == pytest.approx(list(expected))
  second = index.search("a red coat", top=5)
  assert [hit.probability for hit in second.hits] == pytest.approx(list(expected[:5]))


def test_somebody_matches_above_the_threshold(index, fitted):
  answer = index.search("a red coat", top=30)
  cosines = np.array([hit.cosines["text"] for hit in answer.hits], np.float32)
  presence = fitted.presence(calibration.background(cosines))
  asked = [1e-6, 0.05, 0.5, 1 - 1e-6]
  found = [index.search("a red coat", false_alarms=share).matches for share in asked]
  assert found == [presence >= fitted.threshold(share) for share in asked]
  assert found == sorted(found) and len(set(found)) == 2


def test_it_is_said_of_what_was_searched(index, fitted):
  answer = index.search("red", top=40, where="path < 'cam1/025.png'")
  assert answer.searched == 27  # the last of the other camera are left out
  cosines = np.array([hit.cosines["text"] for hit in answer.hits], np.float32)
  expected = fitted.probabilities(calibration.background(cosines), cosines)
  assert [hit.probability for hit in answer.hits] == pytest.approx(list(expected))


def test_nothing_is_said_of_pictures_and_of_few(index, tmp_path):
  picture = tmp_path / "pictures" / "cam0" / "000.png"
  few = "path like 'cam0/%'"
  for found in (
    index.search(image=picture),
    index.search("red", image=picture),
    index.search("red", where=few),
  ):
    assert found.matches is None and found.hits
    assert {hit.probability for hit in found.hits} == {None}
    assert showing.verdict(found, 0.05) == ""
    assert "match" not in showing.table(found).split("\n")[0]


def test_an_index_of_a_model_without_one(images, tmp_path):
  place.index(images, tmp_path / "index")
  assert not (tmp_path / "index" / calibration_files.FILE).exists()
  assert place.opened(tmp_path / "index").search("red").matches is None


def test_the_index_keeps_its_own_copy_and_takes_a_newer_one(index, model, tmp_path):
  source = tmp_path / "run" / calibration_files.FILE
  newer = calibration.fit(*world(1))
  calibration_files.write(tmp_path / "run", newer)
  place.index(tmp_path / "pictures", tmp_path / "index", model)
  assert calibration_files.read(tmp_path / "index") == newer
  source.unlink()
  place.index(tmp_path / "pictures", tmp_path / "index", model)
  assert calibration_files.read(tmp_path / "index") == newer


def test_one_that_cannot_be_read(index, model, tmp_path):
  (tmp_path / "run" / calibration_files.FILE).write_text("{")
  _, said = place.index(tmp_path / "pictures", tmp_path / "index", model)
  assert any("WARNING, no probabilities of hits" in line for line in said)
  (tmp_path / "index" / calibration_files.FILE).write_text("{}")
  with pytest.raises(SearchError, match=r"no calibration.*writes it again"):
    place.opened(tmp_path / "index", model)


def test_towers_that_are_loaded_otherwise_have_none(tmp_path, model):
  class Otherwise(type(model)):
    def identity(self):
      return super().identity() | dict(load=dict(activation="gelu"))

  images = place.folder(tmp_path / "pictures", 30)
  asked = settings.Indexing("a model", images, tmp_path / "index", None)
  indexing.Indexer(asked, Otherwise(), lambda line: None)()
  assert not (tmp_path / "index" / calibration_files.FILE).exists()


def test_it_is_shown(index, tmp_path):
  asked = settings.Searching(tmp_path / "index", "a red coat", top=3)
  for share, words in ((1e-6, "Nobody here seems to match"), (1 - 1e-6, "may match")):
    answer = index.search("a red coat", top=3, false_alarms=share)
    assert words in showing.verdict(answer, share)
    plain = json.loads(json.dumps(showing.plain(asked, index.about, answer)))
    assert plain["matches"] is answer.matches
    assert plain["hits"][0]["probability"] == answer.hits[0].probability
    said = showing.percent(answer.hits[0].probability)
    assert said in showing.table(answer)
    page = showing.page(asked, index.about, answer, None)
    assert words in page and said.replace("<", "&lt;").replace(">", "&gt;") in page
    assert showing.draw(asked, answer, None).size[0] > 100


@pytest.mark.parametrize(
  ("share", "text"), [(0.0, "<1 %"), (0.25, "25 %"), (0.996, ">99 %"), (0.99, "99 %")]
)
def test_percent(share, text):
  assert showing.percent(share) == text


def test_refreshed_indexes_keep_it(index, model, tmp_path):
  place.write(tmp_path / "pictures" / "new.png", "red", 77)
  place.index(tmp_path / "pictures", tmp_path / "index", model)
  newer = index.latest()
  assert isinstance(newer, Index) and len(newer) == 31
  before, after = (each.search("red").hits[0].probability for each in (index, newer))
  assert before is not None and after is not None
  # A calibration that came with a newer version goes with it.
  calibration_files.write(tmp_path / "run", calibration.fit(*world(1, strength=0.0)))
  place.write(tmp_path / "pictures" / "newer.png", "red", 78)
  place.index(tmp_path / "pictures", tmp_path / "index", model)
  assert newer.latest().search("red").hits[0].probability < after
  assert newer.search("red").hits[0].probability == after
