"""Serving people in frames: boxes in answers, what was cut out, and the frames."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.search import figures
from tests.search import place as searching
from tests.serve import place
from tests.serve.browser import browser, found
from tpr_jax.serve import limits


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """frames/: those of `figures.folder` and wide.png; index/: theirs."""
  made = tmp_path_factory.mktemp("people")
  frames = figures.folder(made / "frames")
  wide = figures.frame(("red", 900, 300, 200, 600), size=(1000, 2000))
  Image.fromarray(wide).save(frames / "wide.png")
  detector = figures.Figures(margin=0.25)
  searching.index(frames, made / "index", detector=detector)
  return made


@pytest.fixture(scope="module")
def client(root):
  with place.served(root / "index") as port:
    yield place.Client(port)


def picture(answer):
  assert answer.status == 200 and answer.kind == "image/jpeg", answer
  return Image.open(io.BytesIO(answer.body))


def test_answers_have_boxes(client):
  about = client.get("/api/index").json()
  assert about["people"] is True and about["total"] == 7
  assert about["columns"]["box_height"] == "whole number"
  answer = client.search("green", where="detection_score > 0.5", top=2)
  assert {hit["path"] for hit in answer["hits"]} == {"two.png", "more/three.png"}
  for hit in answer["hits"]:
    assert hit["box"] == [*figures.GREEN[1:]]
    assert hit["values"]["detection_score"] > 0.8


def test_what_was_cut_out_and_its_frame(client):
  hit = client.search("green", where="path = 'two.png'")["hits"][0]
  path = f"/api/pictures/{hit['key']}"
  assert picture(client.get(f"{path}/view")).size == (12, 36)  # with its margin
  assert picture(client.get(f"{path}/thumbnail")).size == (12, 36)
  answer = client.get(f"{path}/frame")
  frame = np.asarray(picture(answer)).astype(int)
  assert frame.shape == (60, 90, 3)
  x, y, width, height = hit["box"]
  inside = frame[y + height // 2, x + width // 2]
  assert inside[1] > 200 and inside[0] < 80  # green
  again = client.get(f"{path}/frame", If_None_Match=answer.headers["ETag"])
  assert again.status == 304
  assert answer.headers["ETag"] != client.get(f"{path}/view").headers["ETag"]


def test_a_large_frame_is_made_smaller_with_its_box(client):
  hit = client.search("red", where="path = 'wide.png'")["hits"][0]
  assert hit["box"] == [900, 300, 200, 600]
  frame = picture(client.get(f"/api/pictures/{hit['key']}/frame"))
  assert frame.size == (limits.VIEW, limits.VIEW // 2)
  share = limits.VIEW / 2000
  edge = np.asarray(frame)[round(600 * share), round(898 * share) - 1].astype(int)
  assert edge[0] > 180 and 90 < edge[1] < 200  # orange


def test_like_this_person(client):
  hit = client.search("blue", where="path = 'one.png'")["hits"][0]
  answer = client.search(like=hit["key"], top=2)
  assert {each["path"] for each in answer["hits"]} == {"one.png", "more/three.png"}
  assert all(each["box"] == [*figures.BLUE[1:]] for each in answer["hits"])


def test_words_are_explained_on_what_was_cut_out(client):
  hit = client.search("red", where="path = 'wide.png'")["hits"][0]
  answer = client.post("/api/explain", dict(query="a red coat", key=hit["key"]))
  assert answer.status == 200
  assert answer.json()["cosine"] == pytest.approx(hit["score"], abs=1e-3)


def test_frames_are_of_the_index_alone(client, root, tmp_path):
  assert client.get(f"/api/pictures/{'0' * 32}/frame").status == 404
  # The hash of a file is no key: people have their own.
  hashes = json.loads((root / "index" / "index.json").read_text())["detector"]["digest"]
  assert client.get(f"/api/pictures/{hashes}/frame").status == 404
  copied = tmp_path / "frames"
  shutil.copytree(root / "frames", copied)
  searching.index(copied, tmp_path / "index", detector=figures.Figures())
  with place.served(tmp_path / "index") as port:
    other = place.Client(port)
    hit = other.search("blue", where="path = 'one.png'")["hits"][0]
    path = f"/api/pictures/{hit['key']}"
    figures.write(copied / "one.png", figures.RED)  # not what was indexed
    for name in ("view", "frame"):
      answer = other.get(f"{path}/{name}")
      assert answer.status == 404 and "small copy" in answer.json()["detail"]
    assert other.get(f"{path}/thumbnail").status == 200


def test_whole_pictures_have_no_frame(folder):
  with place.served(folder / "index") as port:
    client = place.Client(port)
    assert client.get("/api/index").json()["people"] is False
    hit = client.search("red")["hits"][0]
    assert hit["box"] is None
    answer = client.get(f"/api/pictures/{hit['key']}/frame")
    assert answer.status == 404 and "whole picture" in answer.json()["detail"]


def test_frames_are_written_down(root, tmp_path):
  log = tmp_path / "audit.jsonl"
  with place.served(root / "index", audit=log) as port:
    client = place.Client(port)
    hit = client.search("red", where="path = 'wide.png'")["hits"][0]
    client.get(f"/api/pictures/{hit['key']}/frame")
  last = json.loads(log.read_text().splitlines()[-1])
  assert (last["act"], last["path"]) == ("frame", "wide.png")


def test_a_sheet_tells_boxes_and_shows_no_frames(client):
  sheet = client.post("/api/sheet", dict(query="red", top=3))
  page = sheet.body.decode()
  assert page.count("data:image/jpeg") == 3 and "box 8x24 at 5,10" in page


@pytest.mark.skipif(found() is None, reason="no Chromium is installed")
def test_the_page_opens_a_hit_in_its_frame(root, tmp_path):
  image = "document.querySelector('#viewer-image')"
  shown = lambda page, name: page.until(
    f"{image}.src.endsWith('/{name}') && {image}.complete && {image}.naturalWidth > 0"
  )
  with place.served(root / "index") as port, browser(tmp_path / "profile") as page:
    page.open(f"http://127.0.0.1:{port}/")
    page.until("document.documentElement.dataset.ready === 'yes'")
    assert "7 people in frames of" in page.text("#about")
    page.type("a green coat")
    page.key("Enter")
    page.until("document.querySelectorAll('#grid li').length === 7")
    page.value("document.querySelector('#grid .shot').click()")
    shown(page, "frame")
    assert page.value(f"{image}.naturalWidth") == 90
    assert "8 × 24 at 30, 10" in page.text("#viewer-facts")
    page.value("document.querySelector('#viewer-frame').click()")
    shown(page, "view")
    assert page.value(f"{image}.naturalWidth") == 12
    page.value("document.querySelector('#viewer-frame').click()")
    shown(page, "frame")
    # What is explained is what was cut out.
    page.value("document.querySelector('#viewer-explain').click()")
    page.until("!document.querySelector('#viewer-heat').hidden")
    shown(page, "view")
    heat = "document.querySelector('#viewer-heat').getBoundingClientRect()"
    page.until(f"Math.abs({heat}.width / {heat}.height - 1 / 3) < 0.02")
    page.key("Escape")
    assert not page.said
