"""Searching: by words, picture and both, conditions, versions; shown in four forms."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.search import place
from tpr_jax.search import run, settings
from tpr_jax.search.index import Index
from tpr_jax.search.problems import SearchError


@pytest.fixture
def index(images, tmp_path):
  table = tmp_path / "table.csv"
  lines = [f"cam{i % 2}/{i:03}.png,{'gate' if i < 3 else 'yard'}" for i in range(6)]
  table.write_text("\n".join(["path,camera", *lines]))
  place.index(images, tmp_path / "index", metadata=table)
  return place.opened(tmp_path / "index")


def test_words_find_what_they_name(index):
  answer = index.search("a red coat")
  assert place.paths(answer)[:2] == ["cam0/000.png", "cam1/003.png"]
  scores = [hit.score for hit in answer.hits]
  assert scores == sorted(scores, reverse=True) and [h.rank for h in answer.hits] == [
    *range(1, 7)
  ]
  assert (answer.searched, answer.total, len(index)) == (6, 6, 6)
  first = answer.hits[0]
  assert first.values["camera"] == "gate" and first.values["width"] == 6
  assert first.cosines == {"text": first.score}
  assert first.thumbnail[:2] == b"\xff\xd8"


def test_a_picture_finds_its_like(index, images):
  answer = index.search(image=images / "cam0" / "002.png", top=2)
  assert place.paths(answer) == ["cam0/002.png", "cam1/005.png"]
  data = (images / "cam0" / "002.png").read_bytes()
  assert place.paths(index.search(image=data, top=2)) == place.paths(answer)
  with pytest.raises(SearchError, match=r"picture to search by.*not a picture"):
    index.search(image=b"nonsense")
  with pytest.raises(SearchError, match="needs a query"):
    index.search(" ")


def test_a_picture_and_words_together(images, tmp_path):
  array = np.zeros((12, 6, 3), np.uint8)
  array[:6], array[6:] = place.COLOURS["red"], place.COLOURS["blue"]
  Image.fromarray(array).save(images / "both.png")
  place.index(images, tmp_path / "index")
  index = place.opened(tmp_path / "index")
  red = images / "cam0" / "000.png"
  answer = index.search("blue", image=red, top=3)
  assert place.paths(answer)[0] == "both.png"
  assert set(answer.hits[0].cosines) == {"text", "image"}
  nearly = index.search("blue", image=red, top=2, image_weight=0.99)
  assert place.paths(nearly) == ["cam0/000.png", "cam1/003.png"]
  nearly = index.search("blue", image=red, top=2, image_weight=0.01)
  assert place.paths(nearly) == ["cam0/002.png", "cam1/005.png"]


def test_a_condition_loses_no_result(index):
  # Of the three pictures of the yard none is among the first of all.
  answer = index.search("green", top=1, where="camera='yard' and path like 'cam1/%'")
  assert len(answer.hits) == 1 and answer.searched == 2 and answer.total == 6
  answer = index.search("red", top=100, where="camera='yard'")
  assert len(answer.hits) == answer.searched == 3
  assert index.search("red", where="camera='roof'").hits == ()
  assert len(index.search("red", top=1000).hits) == 6
  with pytest.raises(SearchError, match=r"no column 'camrea'.*'camera'"):
    index.search("red", where="camrea='yard'")


def test_equal_scores_are_in_the_order_of_paths(tmp_path):
  images = tmp_path / "images"
  for name in ("c", "a", "d", "b"):
    place.write(images / f"{name}.png", "red", 1)  # the same bytes
    place.index(images, tmp_path / "index")
  answer = place.opened(tmp_path / "index").search("red", top=3)
  assert place.paths(answer) == ["a.png", "b.png", "c.png"]


def test_a_reader_sees_the_version_that_it_opened(index, images, tmp_path):
  place.write(images / "new.png", "red", 90)
  (images / "cam0" / "000.png").unlink()
  place.index(images, tmp_path / "index")
  place.write(images / "newer.png", "red", 91)
  place.index(images, tmp_path / "index")
  found = place.paths(index.search("red", where="size > 0"))
  assert "cam0/000.png" in found and len(found) == 6
  assert index.refresh()
  found = place.paths(index.search("red"))
  assert set(found[:3]) == {"cam1/003.png", "new.png", "newer.png"}
  assert len(found) == 7


def test_what_is_no_index(tmp_path):
  with pytest.raises(SearchError, match="holds no index"):
    Index.open(tmp_path / "nothing")
  (tmp_path / "index.json").write_text('{"format": 0, "version": "9"}')
  with pytest.raises(SearchError, match=r"format 0, expected 1.*tpr_jax 9"):
    Index.open(tmp_path)
  (tmp_path / "index.json").write_text("{")
  with pytest.raises(SearchError, match="not valid JSON"):
    Index.open(tmp_path)


@pytest.fixture
def shown(index, monkeypatch, capsys, tmp_path):
  """search(**options) -> what was printed."""
  monkeypatch.setattr(run.Index, "open", lambda place, **_: index)

  def search(**options):
    given = dict(index=str(tmp_path / "index"), query=None, image=None, top=20)
    given |= dict(where=None, image_weight=None, model=None, sheet=None, json=False)
    assert run.search(settings.searching(**given | options)) == 0
    return capsys.readouterr().out

  return search


def test_a_table_and_json(shown, images):
  lines = shown(query="red", top=2, where="camera='gate'").splitlines()
  assert lines[0].split() == ["path", "score", "time", "camera"]
  assert lines[2].split()[:2] == ["1", "cam0/000.png"] and len(lines) == 5
  assert lines[-1] == "3 of 6 pictures meet the condition"
  assert "No picture." in shown(query="red", where="camera='x'")
  found = json.loads(shown(query="red", image=str(images / "cam0/002.png"), json=True))
  assert found["total"] == 6 and found["image_weight"] == 0.5 and found["where"] is None
  hit = found["hits"][0]
  names = "rank score probability second path box cosines values"
  assert set(hit) == set(names.split())
  assert hit["values"]["time"] == "2023-11-14T22:13:20"


def test_sheets(shown, images, tmp_path):
  page, picture = tmp_path / "a <b>.html", tmp_path / "sheet.png"
  shown(query="red <i>", image=str(images / "cam0/002.png"), sheet=str(page))
  said = page.read_text()
  assert said.count('src="data:image/jpeg;base64,') == 7
  assert "red &lt;i&gt;" in said and "<i>" not in said and "http" not in said
  out = shown(query="red", sheet=str(picture), where="camera = 'yard'")
  assert f"Sheet: {picture}" in out
  with Image.open(picture) as found:
    found.load()
    assert found.size[0] > 700 and len(set(found.resize((64, 64)).getdata())) > 3
  assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
  ("given", "part"),
  [
    (dict(index=None), "--index=DIR"),
    (dict(query=" "), "--query="),
    (dict(image_weight=0.3), "together"),
    (dict(image_weight=1.0, image=__file__), "between 0 and 1"),
    (dict(top=0), "--top=0"),
    (dict(where=" "), "--where is empty"),
    (dict(image="/nowhere.png"), "no such file"),
    (dict(sheet="a.pdf"), ".html or .png"),
    (dict(sheet="/nowhere/a.png"), "no folder /nowhere"),
    (dict(query="x" * 3000), "3,000 characters"),
  ],
)
def test_what_cannot_be_searched_is_told_before(given, part):
  whole = dict(index="x", query="red", image=None, top=20, where=None, model=None)
  whole |= dict(image_weight=None, sheet=None, json=False)
  with pytest.raises(SearchError) as told:
    settings.searching(**whole | given)
  assert part in str(told.value)
