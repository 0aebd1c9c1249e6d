"""The page in a real browser: by keyboard alone, on a phone, with a filter, a picture.

Skipped where no Chromium is installed. To look at it oneself: TPR_JAX_SHOTS=FOLDER
keeps the pictures that the last test takes.
"""

import os
import pathlib

import pytest

from tests.search import place as searching
from tests.serve import browser, place
from tpr_jax.serve import tokens

pytestmark = pytest.mark.skipif(
  browser.found() is None, reason=f"no browser: none of {', '.join(browser.NAMES)}"
)
COUNT = 120
# A name of a file that would be a tag if anybody took it for HTML.
TAG = "<img src=x onerror=hacked=1>.png"
READY = "document.documentElement.dataset.ready === 'yes'"
SHOWN = "document.querySelectorAll('#grid li').length"
DONE = "document.querySelector('#results').getAttribute('aria-busy') === 'false'"
FOCUS = "document.activeElement"
STATUS = "document.querySelector('#status').innerText"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
  root = tmp_path_factory.mktemp("gallery")
  images = searching.folder(root / "images", COUNT)
  searching.write(images / TAG, "red", 5_000)
  lines = [
    f"cam{i % 2}/{i:03}.png,{'gate' if i < 30 else 'yard'}" for i in range(COUNT)
  ]
  lines.append(f'"{TAG}","<script>hacked=2</script>"')
  (root / "table.csv").write_text("\n".join(["path,camera", *lines]))
  searching.index(images, root / "index", metadata=root / "table.csv")
  return root


@pytest.fixture(scope="module")
def address(gallery):
  with place.served(gallery / "index") as port:
    yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
  with browser.browser(tmp_path_factory.mktemp("profile")) as found:
    yield found


@pytest.fixture
def page(chromium, address):
  """The start page, in a window of a desk."""
  chromium.size(1280, 800)
  chromium.said.clear()
  chromium.requested.clear()
  chromium.open("about:blank")
  chromium.open(address)
  chromium.until(READY)
  yield chromium
  assert not chromium.said, "errors in the console"
  own = (address, "blob:", "about:")
  others = [url for url in chromium.requested if not url.startswith(own)]
  assert not others, "it asked others"


def ask(page, words):
  """Types words into the box that has the focus, and waits for the answer."""
  page.value("document.querySelector('#query').select()")
  page.type(words)
  page.key("Enter")
  page.until(f"{SHOWN} > 0 && {DONE}")


def tab_to(page, selector, most=40):
  for _ in range(most):
    if page.value(f"{FOCUS}.matches({selector!r})"):
      return
    page.key("Tab")
  raise AssertionError(f"{selector} is not reached by Tab")


def test_by_the_keyboard_alone(page):
  assert page.value(f"{FOCUS}.id") == "query"
  ask(page, "a red coat")
  assert page.value(SHOWN) == 48
  assert page.text("#status") == "The 48 nearest of 121 pictures, best first"
  assert "whether or not any of them fits" in page.text("#note")
  tab_to(page, "#grid li:first-child .shot")
  page.key("ArrowRight")
  page.key("ArrowDown")
  row = page.value(
    "getComputedStyle(document.querySelector('#grid')).gridTemplateColumns"
  )
  place_of = f"[...document.querySelectorAll('.shot')].indexOf({FOCUS})"
  assert page.value(place_of) == 1 + len(row.split())
  page.key("Enter")
  page.until("document.querySelector('#viewer-image').naturalWidth > 0")
  second = page.text("#viewer-path")
  page.key("ArrowRight")
  assert page.text("#viewer-path") != second
  page.key("ArrowLeft")
  assert page.text("#viewer-path") == second
  page.key("Escape")
  page.until("!document.querySelector('#viewer').open")
  assert page.value(place_of) == 1 + len(row.split())  # where it was
  page.key("s")  # like this one, beside the words
  page.until(f"!document.querySelector('#by').hidden && {DONE}")
  assert page.text("#by-name") == second
  page.until(f"{FOCUS}.id === 'query'")
  assert page.value("document.querySelector('#weighing').offsetWidth") > 0
  page.value("document.activeElement.blur()")
  page.key("/")
  assert page.value(f"{FOCUS}.id") == "query"


def test_more_comes_when_asked_and_pictures_when_seen(page):
  ask(page, "a green coat")
  page.until("document.querySelector('#grid img').complete")
  thumbnails = {url for url in page.requested if url.endswith("/thumbnail")}
  assert 0 < len(thumbnails) <= 48
  tab_to(page, "#more", most=120)
  page.key("Enter")
  page.until(f"{SHOWN} === 96")
  page.until(f"{FOCUS}.matches('#grid li:nth-child(49) .shot')")
  page.until("!document.querySelector('#more').disabled")
  page.click("#more")
  page.until(f"{SHOWN} === 121 && document.querySelector('#more').hidden")
  ranks = page.value(
    "[...document.querySelectorAll('#grid b')].map(e => Number(e.textContent))"
  )
  assert ranks == list(range(1, 122))


def test_a_filter_and_what_is_wrong_with_it(page):
  ask(page, "red")
  page.click("#filter")
  page.until(f"{FOCUS}.id === 'column'")
  page.value("document.querySelector('#where').focus()")
  page.type("camrea = 'gate'")
  page.key("Enter")
  page.until("!document.querySelector('#wrong').hidden")
  assert "Did you mean 'camera'" in page.text("#wrong")
  selected = "document.querySelector('#where').value.slice(...['selectionStart',"
  selected += "'selectionEnd'].map(e => document.querySelector('#where')[e]))"
  assert page.value(selected) == "camrea"
  page.said.clear()  # the browser tells of 422
  page.value("document.querySelector('#where').select()")
  page.type(" ")
  page.value("document.querySelector('#where').value = ''")
  page.value("document.querySelector('#column').value = 'camera'")
  page.value("document.querySelector('#value').focus()")
  page.type("gate")
  page.key("Enter")
  assert page.value("document.querySelector('#where').value") == "camera = 'gate'"
  page.key("Enter")
  page.until(f"{STATUS}.includes('30 pictures that')")
  assert page.value("document.querySelector('#filters').hidden")
  assert "(on)" in page.text("#filter")
  page.click("#filter")
  page.value("document.querySelector('#where').select()")
  page.type("camera = 'roof'")
  page.key("Enter")
  page.until("!document.querySelector('#none').hidden")
  assert page.value(SHOWN) == 0
  page.click("#none-clear")
  page.until(f"{SHOWN} === 48")


def test_a_picture_of_ones_own_and_back(page, gallery):
  ask(page, "green")
  page.choose("#file", gallery / "images" / "cam0" / "002.png")
  page.until("!document.querySelector('#by').hidden")
  page.until(
    f"{DONE} && document.querySelector('#status').innerText.includes('nearest')"
  )
  page.value("document.querySelector('#query').value = ''")
  page.value("document.querySelector('#query').focus()")
  page.key("Enter")
  page.until("document.querySelector('#grid .path').innerText === 'cam0/002.png'")
  page.choose("#file", gallery / "table.csv")
  page.until("!document.querySelector('#wrong').hidden")
  assert "not a picture" in page.text("#wrong")
  page.said.clear()  # 422
  page.click("#by-remove")
  page.until("!document.querySelector('#start').hidden")
  page.value("history.back()")
  page.value("history.back()")
  page.until(f"document.querySelector('#query').value === 'green' && {SHOWN} === 48")


def test_names_of_files_are_no_html(page):
  ask(page, "red")
  page.value("document.querySelector('#filter').click()")
  page.value("document.querySelector('#where').focus()")
  page.type("camera like '<%'")
  page.key("Enter")
  page.until(f"{SHOWN} === 1")
  assert page.text("#grid .path") == TAG
  page.click("#grid .shot")
  page.until("document.querySelector('#viewer').open")
  assert page.text("#viewer-path") == TAG
  assert "<script>hacked=2</script>" in page.text("#viewer-facts")
  assert page.value("typeof hacked") == "undefined"


def test_where_the_words_fit(page):
  ask(page, "a red coat")
  page.value("document.querySelector('#grid .shot').focus()")
  page.key("Enter")
  page.until("document.querySelector('#viewer-image').naturalWidth > 0")
  tab_to(page, "#viewer-explain")
  page.key("Enter")
  page.until("!document.querySelector('#viewer-heat').hidden")
  assert page.text("#viewer-words").startswith("a red coat")
  assert "not that it is right" in page.text("#viewer-words")
  box = "document.querySelector('#viewer-heat').getBoundingClientRect()"
  width, height = page.value(f"(r => [r.width, r.height])({box})")
  assert abs(height / width - 2) < 0.05  # over the picture itself, 12 x 6
  page.key("ArrowRight")  # another picture has its own
  page.until("document.querySelector('#viewer-heat').hidden")
  page.key("Escape")


def test_a_sheet_is_saved(page, tmp_path):
  page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
  ask(page, "blue")
  page.click("#save")
  page.until(f"{STATUS}.includes('saved')")
  place.until(lambda: (tmp_path / "found.html").exists())
  sheet = (tmp_path / "found.html").read_text()
  assert sheet.count("data:image/jpeg") == 48 and "cam0/002.png" in sheet


def test_everything_has_a_name(page):
  ask(page, "red")
  page.click("#filter")
  page.call("Accessibility.enable")
  tree = page.call("Accessibility.getFullAXTree")["nodes"]
  roles = ("button", "textbox", "searchbox", "combobox", "slider", "link")
  found = [n for n in tree if n.get("role", {}).get("value") in roles]
  nameless = [n for n in found if not n["name"].get("value")]
  assert len(found) > 100 and not nameless
  levels = page.value("document.querySelectorAll('main, header, footer').length")
  assert levels == 3 and page.value("document.documentElement.lang") == "en"


def test_it_fits_a_phone(page):
  page.size(360, 740, scale=2, mobile=True)
  wide = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
  assert page.value(wide) <= 360
  ask(page, "red")
  assert page.value(wide) <= 360
  page.click("#filter")
  assert page.value(wide) <= 360
  page.click("#grid li:nth-child(2) .like")
  page.until(f"!document.querySelector('#by').hidden && {DONE}")
  assert page.value(wide) <= 360
  page.click("#grid .shot")
  page.until("document.querySelector('#viewer').open")
  assert page.value("document.querySelector('#viewer').scrollWidth") <= 360
  small = page.value(
    "[...document.querySelectorAll('button')].filter(e => e.offsetWidth &&"
    " Math.min(e.offsetWidth, e.offsetHeight) < 24).length"
  )
  assert small == 0  # WCAG 2.2, 2.5.8: targets of 24 pixels


def test_logging_in(chromium, gallery):
  known = (tokens.named("anna", place.TOKEN),)
  with place.served(gallery / "index", tokens=known) as port:
    chromium.open(f"http://127.0.0.1:{port}/")
    token = f"document.readyState === 'complete' && {FOCUS}.id === 'token'"
    chromium.until(token)
    chromium.type("wrong")
    chromium.key("Enter")
    chromium.until("document.querySelector('#said').innerText.includes('not a token')")
    chromium.until(token)
    chromium.type(place.TOKEN)
    chromium.key("Enter")
    chromium.until(READY)
    assert chromium.value("document.cookie") == ""  # no script sees it
    ask(chromium, "red")
    chromium.click("#logout")
    chromium.until(f"location.pathname === '/login' && {FOCUS}.id === 'token'")
    chromium.open("about:blank")


def test_it_can_be_looked_at(page, tmp_path):
  shots = pathlib.Path(os.environ.get("TPR_JAX_SHOTS", tmp_path))
  page.shot(shots / "start.png")
  ask(page, "a red coat")
  page.until("[...document.images].slice(0, 9).every(e => e.complete)")
  page.shot(shots / "found.png")
  page.size(390, 844, scale=2, mobile=True, dark=True)
  page.shot(shots / "phone.png")
  sizes = {path.stem: path.stat().st_size for path in shots.glob("*.png")}
  assert {"start", "found", "phone"} <= set(sizes) and min(sizes.values()) > 5_000
