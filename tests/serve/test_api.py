"""The API: searches by words, pictures and both, pages, pictures, sheets, versions."""

import io
import json

import pytest
from PIL import Image

from tests.search import place as searching
from tests.serve import place


def picture(colour="blue"):
  out = io.BytesIO()
  Image.fromarray(searching.pixels(colour, 999)).save(out, "PNG")
  return out.getvalue()


def test_what_can_be_searched(client):
  found = client.get("/api/index").json()
  assert found["images"] == "images" and found["total"] == 6
  assert found["columns"]["camera"] == "text" and found["who"] == "local"
  assert found["model"] == "weights"
  assert client.get("/health").json() == dict(status="ok")


def test_words_find_what_they_name(client):
  answer = client.search("a red coat")
  assert place.paths(answer)[:2] == ["cam0/000.png", "cam1/003.png"]
  assert (answer["searched"], answer["total"], answer["more"]) == (6, 6, False)
  first = answer["hits"][0]
  assert first["values"]["camera"] == "gate" and first["rank"] == 1
  assert first["values"]["time"] == "2023-11-14T22:13:20"


def test_pages_are_one_answer(client):
  whole = client.search("a green coat")
  parts, skip = [], 0
  while True:
    page = client.search("a green coat", top=4, skip=skip, version=whole["version"])
    parts += page["hits"]
    if not page["more"]:
      break
    skip += 4
  assert parts == whole["hits"]
  assert client.search("red", top=2, skip=50)["hits"] == []


def test_a_condition(client):
  answer = client.search("green", where="camera = 'yard' and size > 0", top=1)
  assert answer["searched"] == 3 and answer["more"]
  refused = client.post("/api/search", dict(query="red", where="camrea = 'yard'"))
  assert refused.status == 422
  told = refused.json()
  assert "'camera'" in told["detail"] and told["at"] == 1
  assert "--where" not in told["detail"]


def test_a_picture_of_the_index_finds_its_like(client):
  hit = client.search("blue")["hits"][0]
  answer = client.search(like=hit["key"])
  assert place.paths(answer)[:2] == ["cam0/002.png", "cam1/005.png"]
  assert abs(answer["hits"][0]["score"] - 1) < 1e-5
  assert client.post("/api/search", dict(like="0" * 32)).status == 404


def test_a_picture_that_is_given(client):
  given = client.give(picture())
  assert given.status == 201
  upload = given.json()["upload"]
  answer = client.search(upload=upload)
  assert set(place.paths(answer)[:2]) == {"cam0/002.png", "cam1/005.png"}
  both = client.search("red", upload=upload, image_weight=0.01)
  assert set(both["hits"][0]["cosines"]) == {"text", "image"}
  assert both["hits"][0]["path"] == "cam0/000.png"
  assert client.post("/api/search", dict(upload="A" * 22)).status == 404


@pytest.mark.parametrize("data", [b"", b"no picture", picture()[:60]])
def test_what_is_no_picture(client, data):
  refused = client.give(data, "application/octet-stream")
  assert refused.status == 422 and "picture" in refused.json()["detail"]


def test_small_and_large_copies(client, folder):
  hit = client.search("blue")["hits"][0]
  for name in ("thumbnail", "view"):
    path = f"/api/pictures/{hit['key']}/{name}"
    answer = client.get(path)
    with Image.open(io.BytesIO(answer.body)) as found:
      assert found.format == "JPEG" and found.size == (6, 12)
    assert "immutable" in answer.headers["Cache-Control"]
    again = client.get(path, If_None_Match=f"W/{answer.headers['ETag']}")
    assert again.status == 304 and again.body == b""
    assert client.ask("HEAD", path).headers["Content-Length"] == str(len(answer.body))
  assert client.get(f"/api/pictures/{'0' * 32}/thumbnail").status == 404


def test_a_sheet(client):
  asked = dict(query="red <i>", like=client.search("blue")["hits"][0]["key"], top=3)
  sheet = client.post("/api/sheet", asked)
  assert sheet.status == 200 and sheet.kind == "text/html"
  assert "attachment" in sheet.headers["Content-Disposition"]
  page = sheet.body.decode()
  assert page.count("data:image/jpeg") == 4 and "red &lt;i&gt;" in page
  assert "http" not in page


def test_a_new_version_is_taken_and_pages_of_the_old_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr("tpr_jax.serve.limits.REFRESH_SECONDS", 0.05)
  images = searching.folder(tmp_path / "images")
  searching.index(images, tmp_path / "index")
  with place.served(tmp_path / "index") as port:
    client = place.Client(port)
    old = client.search("red", top=2)
    searching.write(images / "new.png", "red", 90)
    searching.index(images, tmp_path / "index")
    place.until(lambda: client.get("/api/index").json()["total"] == 7)
    next_page = dict(query="red", top=2, skip=2, version=old["version"])
    assert client.post("/api/search", next_page).status == 409
    assert "new.png" in place.paths(client.search("red", top=3))
    # Another model's index is not taken; the old one goes on.
    about = tmp_path / "index" / "index.json"
    found = json.loads(about.read_text())
    found["model"]["digest"] = "other"
    partial = tmp_path / "partial.json"
    partial.write_text(json.dumps(found))
    partial.replace(about)
    place.until(lambda: client.get("/api/index").json()["problem"])
    assert len(client.search("red")["hits"]) == 7


def test_a_bug_is_told_without_its_traceback(folder):
  with place.served(folder / "index") as port:
    client = place.Client(port, described=False)
    answer = client.post("/api/search", dict(query="unheard"))
    assert answer.status == 500 and answer.kind == "application/problem+json"
    assert "log" in answer.json()["detail"] and b"breaks" not in answer.body
    assert "Content-Security-Policy" in answer.headers
    assert client.post("/api/search", dict(query="red")).status == 200
