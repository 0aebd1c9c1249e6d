"""The second look: the first pictures of a search in the order of a second stage."""

import json

import numpy as np
import pytest

from tests.search import place
from tpr_jax.search import again, run, settings
from tpr_jax.search.answer import Question
from tpr_jax.search.index import Index
from tpr_jax.search.problems import AskedError, SearchError

# Red, to place.Encoder, and four words: its second stage wants a blue of 4.
WORDS = "red x x x"


@pytest.fixture
def reds(tmp_path):
  return place.reds(tmp_path / "images", 8)


@pytest.fixture
def model():
  return place.Model(by="blue")


@pytest.fixture
def index(reds, tmp_path, model):
  place.index(reds, tmp_path / "index", model)
  return place.opened(tmp_path / "index", model)


def numbers(answer):
  return [int(path[0]) for path in place.paths(answer)]


def test_the_first_are_ordered_again_and_the_others_are_not(index, model):
  plain = index.search(WORDS)
  assert all(hit.second is None for hit in plain.hits) and model.compared == 0
  for count in (1, 3, 8, 50):
    found = index.search(WORDS, rerank=count)
    first, rest = numbers(plain)[:count], numbers(plain)[count:]
    assert numbers(found) == sorted(first, key=lambda i: (abs(i - 4), -i)) + rest
    assert [h.rank for h in found.hits] == [*range(1, 9)]
    seconds = [hit.second for hit in found.hits]
    assert seconds[: len(first)] == [
      -3 * abs(i - 4) for i in numbers(found)[: len(first)]
    ]
    assert seconds[len(first) :] == [None] * len(rest)
    by_path = {hit.path: hit.score for hit in plain.hits}
    assert all(hit.score == by_path[hit.path] for hit in found.hits)


def test_only_the_top_are_shown_and_more_are_looked_at(index, model):
  found = index.search(WORDS, top=1, rerank=8)
  assert numbers(found) == [4] and model.compared == 8


def test_a_condition_comes_first(index):
  found = index.search(WORDS, rerank=3, where="path in ('0.png', '7.png')")
  assert numbers(found) == [7, 0]


def test_copies_and_renamed_pictures_keep_it(index, reds, tmp_path, model):
  (reds / "4.png").rename(reds / "4b.png")
  (reds / "5c.png").write_bytes((reds / "5.png").read_bytes())
  seen = model.seen
  place.index(reds, tmp_path / "index", model)
  assert model.seen == seen  # nothing was encoded
  found = place.opened(tmp_path / "index", model).search(WORDS, rerank=50)
  assert place.paths(found)[0] == "4b.png"
  by_path = {hit.path: hit.second for hit in found.hits}
  assert by_path["5.png"] == by_path["5c.png"] == -3


def test_it_must_be_there_and_be_asked_by_words(index, images, tmp_path):
  place.index(images, tmp_path / "plain")
  plain = place.opened(tmp_path / "plain")
  assert (plain.second_stage, index.second_stage) == ("", "blue")
  with pytest.raises(AskedError, match="made with --second_stage"):
    plain.search("red", rerank=10)
  picture = images / "cam0" / "000.png"
  for asked in (dict(image=picture), dict(query="red", image=picture)):
    with pytest.raises(AskedError, match="by words alone"):
      index.search(**asked, rerank=10)


def test_an_index_is_with_or_without(index, reds, tmp_path):
  with pytest.raises(SearchError, match=r"loaded otherwise.*second_stage"):
    place.index(reds, tmp_path / "index")


def test_a_score_that_is_no_number(reds, tmp_path):
  model = place.Model(by="blue")
  place.index(reds, tmp_path / "index", model)
  index = place.opened(tmp_path / "index", model)
  index.encoder()
  text = dict(words=4)
  asked = index.rows(WORDS)
  model.broken = True
  with pytest.raises(AskedError, match="not finite"):
    index.answers([Question(asked, rerank=5, kept=text)])


def test_packing_keeps_float16_and_refuses_what_it_cannot():
  look = again.Look("parts", {"b": [2, 3], "a": [1]})
  rng = np.random.default_rng(0)
  given = dict(a=rng.normal(size=1), b=rng.normal(size=(2, 3)))
  packed = look.pack(given)
  assert len(packed) == 2 * 7
  for name, value in look.unpack(packed).items():
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, given[name].astype(np.float16))
  for bad in (np.nan, np.inf, 1e6):
    with pytest.raises(SearchError, match="not finite, or above"):
      look.pack(dict(given, a=np.array([bad])))


def test_the_command_shows_both_scores(index, tmp_path, monkeypatch, capsys, model):
  monkeypatch.setattr(Index, "open", lambda *_, **__: index)
  asked = settings.Searching(tmp_path / "index", query=WORDS, rerank=8, json=True)
  assert run.search(asked) == 0
  told = json.loads(capsys.readouterr().out)
  assert told["rerank"] == 8 and told["hits"][0]["second"] == 0
  asked = settings.Searching(tmp_path / "index", query=WORDS, rerank=2)
  assert run.search(asked) == 0
  head, _, first, *_, counted = capsys.readouterr().out.strip().splitlines()
  assert head.split()[:3] == ["path", "score", "again"] and counted == "8 pictures"
  assert float(first.split()[3]) == -6  # 7 and 6 are the reddest; 6 is nearer to 4


@pytest.mark.parametrize("count", [-1, 1_001])
def test_a_number_that_cannot_be(count):
  with pytest.raises(SearchError, match=r"--rerank=.*0 \(none\) to 1,000"):
    _searching(rerank=count)


def test_a_picture_and_rerank(tmp_path):
  with pytest.raises(SearchError, match="compares words with pictures"):
    _searching(rerank=5, image=str(place.write(tmp_path / "a.png")))


def _searching(**given):
  usual = dict(index="i", query="a", image=None, top=5, where=None, image_weight=None)
  usual |= dict(model=None, sheet=None, json=False)
  return settings.searching(**{**usual, **given})
