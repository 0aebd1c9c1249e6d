"""The second look: pages of it, what it needs, and its box on the page."""

import pytest

from tests.search import place as searching
from tests.serve import browser, place

WORDS = "red x x x"  # four words: the second stage of place.Encoder wants a blue of 4


@pytest.fixture(scope="module")
def port(tmp_path_factory):
  root = tmp_path_factory.mktemp("again")
  model = place.Model(by="blue")
  searching.index(searching.reds(root / "images", 6), root / "index", model)
  with place.served(root / "index", model) as found:
    yield found


@pytest.fixture(scope="module")
def again(port):
  return place.Client(port)


def test_pages_are_one_answer(again):
  assert again.get("/api/index").json()["second_stage"] == "blue"
  whole = again.search(WORDS, rerank=6)
  assert [hit["second"] for hit in whole["hits"]] == [0, -3, -3, -6, -9, -12]
  pages = [again.search(WORDS, rerank=6, top=2, skip=n) for n in (0, 2, 4)]
  assert [hit for page in pages for hit in page["hits"]] == whole["hits"]
  plain = again.search(WORDS)
  assert {hit["second"] for hit in plain["hits"]} == {None}


def test_a_picture_cannot_be_asked_by(again):
  like = dict(like=again.search(WORDS)["hits"][0]["key"], rerank=6)
  refused = again.post("/api/search", like)
  assert refused.status == 422 and "by words alone" in refused.json()["detail"]


def test_an_index_that_cannot_look_twice(client):
  assert client.get("/api/index").json()["second_stage"] == ""
  refused = client.post("/api/search", dict(query="red", rerank=10))
  assert refused.status == 422 and "--second_stage" in refused.json()["detail"]


@pytest.mark.skipif(browser.found() is None, reason="no Chromium is installed")
def test_the_page_looks_twice_where_it_is_asked_to(port, client, tmp_path):
  first = "document.querySelector('#grid .path')?.innerText"
  done = "document.querySelector('#results').getAttribute('aria-busy') === 'false'"
  hidden = "document.querySelector('#twice').hidden"
  with browser.browser(tmp_path / "profile") as page:
    page.open(f"http://127.0.0.1:{port}/")
    page.until("document.documentElement.dataset.ready === 'yes'")
    assert not page.value(hidden)
    page.type(WORDS)
    page.key("Enter")
    page.until(f"{first} === '5.png' && {done}")
    page.click("#twice-on")
    page.until(f"{first} === '4.png' && {done}")
    page.value("document.querySelector('#grid .shot').click()")
    assert "second look" in page.text("#viewer-facts").lower()
    page.key("Escape")
    page.value("history.back()")
    page.until(f"{first} === '5.png' && {done}")
    assert not page.value("document.querySelector('#twice-on').checked")
    # Beside a picture there is no second look.
    page.value("document.querySelector('#grid .like').click()")
    page.until(f"{hidden} && {done}")
    # Nor where the index keeps nothing for it.
    page.open(f"http://127.0.0.1:{client.port}/")
    page.until("document.documentElement.dataset.ready === 'yes'")
    assert page.value(hidden)
    assert not page.said
