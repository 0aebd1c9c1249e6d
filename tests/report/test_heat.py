"""Words and patches on the page."""

import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

from tests.report.test_report import QUICK, Page
from tpr_jax import saliency_files
from tpr_jax.report import files, heat, queries, report
from tpr_jax.saliency_files import Explained, Saliency

GRID = (12, 5)


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
  """Drawing them takes seconds; test_spread.py looks at them."""
  monkeypatch.setattr(report.spread, "draw", lambda ranking: [])


def explained(ranking, data, query, seed=0, **changes):
  rng = np.random.default_rng(seed)
  record = int(ranking.query_record[query])
  words = tuple(data.records[record].captions[0].split())
  made = Explained(
    query=query,
    record=record,
    caption=0,
    image=int(ranking.top[query, 0]),
    cosine=float(ranking.score[query, 0]),
    words=words,
    word=rng.normal(size=len(words)).astype(np.float32),
    patch=rng.normal(size=60).astype(np.float32),
    pairs=rng.normal(size=(len(words), 60)).astype(np.float32),
  )
  return dataclasses.replace(made, **changes)


def saliency(*found):
  return Saliency((96, 40), GRID, np.zeros((60, 4), np.int32), tuple(found))


@pytest.fixture
def fine(finished):
  ranking = files.read(finished[0]).rankings["fine"]
  return ranking, finished[1]["fine"]


def gather(fine, *found):
  ranking, data = fine
  return heat.gather(saliency(*found), ranking, data, queries.Pictures(data))


def test_words_are_scaled_and_the_top_words_have_maps(fine):
  one = explained(*fine, 7)
  (shown,), said = gather(fine, one)
  assert not said
  assert " ".join(word.text for word in shown.words) == " ".join(one.words)
  largest = np.abs(one.word).max()
  np.testing.assert_allclose([word.share for word in shown.words], one.word / largest)
  assert abs(shown.largest) == pytest.approx(largest)
  top = [one.words[i] for i in np.argsort(-one.word)[:3]]
  assert [m.label for m in shown.maps] == ["the whole text", *top]
  best = one.pairs[np.argmax(one.word)]
  assert shown.maps[1].largest == pytest.approx(best[np.argmax(np.abs(best))])
  assert len({m.uri for m in shown.maps}) == 4
  data = fine[1]
  same = data.records[one.image].identity == data.records[one.record].identity
  assert shown.right == same


def test_words_that_lower_have_no_map(fine):
  one = explained(*fine, 7)
  word = np.full(len(one.words), -0.1, np.float32)
  word[4] = 0.02
  (shown,), _ = gather(fine, dataclasses.replace(one, word=word))
  assert [m.label for m in shown.maps] == ["the whole text", one.words[4]]
  assert shown.words[0].share == -1 and shown.largest == pytest.approx(-0.1)


def test_no_words_and_no_weights_are_shown_as_such(fine, finished):
  ranking, data = fine
  records = tuple(dataclasses.replace(r, captions=(" \n",)) for r in data.records)
  data = dataclasses.replace(data, records=records)
  one = explained(ranking, data, 3, patch=np.zeros(60, np.float32))
  assert one.words == ()
  (shown,), _ = gather((ranking, data), one)
  assert shown.words == () and shown.largest == 0 and len(shown.maps) == 1
  still = explained(*fine, 3, word=np.zeros(len(explained(*fine, 3).words), np.float32))
  (shown,), _ = gather(fine, still)
  assert {word.share for word in shown.words} == {0.0} and len(shown.maps) == 1


@pytest.mark.parametrize(
  "change",
  [dict(query=48), dict(query=-1), dict(record=9), dict(cosine=9.0), dict(caption=1),
   dict(image=0), dict(words=("other", "words"))],
  ids=str,
)  # fmt: skip
def test_weights_of_another_evaluation_are_left_out(fine, change):
  first = explained(*fine, 7)
  assert first.image != 0
  shown, said = gather(fine, dataclasses.replace(first, **change))
  assert shown == [] and "of 1 queries were weighed in another evaluation" in said[0]


def test_the_heat_lies_where_the_weight_is():
  grey = Image.new("RGB", (48, 115), (128, 128, 128))
  weights = np.zeros(GRID)
  weights[1, 0], weights[10, 4] = 0.2, -0.1
  found = np.asarray(heat.overlay(grey, weights)).astype(int)
  height, width = found.shape[:2]
  assert width == pytest.approx(48 * height / 115, abs=1)
  at = lambda row, column: found[
    round((row + 0.5) * height / 12) - 1, round((column + 0.5) * width / 5) - 1
  ]
  red, _, blue = at(1, 0)
  assert red > blue + 80  # orange: raises
  red, _, blue = at(10, 4)
  assert blue > red + 30  # blue, half as strong: lowers
  assert np.abs(at(6, 2) - 128).max() <= 2
  plain = np.asarray(heat.overlay(grey, np.zeros(GRID)))
  assert np.abs(plain.astype(int) - 128).max() <= 1


def test_on_the_page_words_are_escaped_and_shaded(run):
  folder, datasets = run
  text = '<i>slanted</i> & "quoted" <script>x</script> jacket'
  data = datasets["fine"]
  records = tuple(dataclasses.replace(r, captions=(text,)) for r in data.records)
  datasets["fine"] = data = dataclasses.replace(data, records=records)
  ranking = files.read(folder).rankings["fine"]
  word = np.array([0.1, -0.05, 0.0, 0.02, 0.012], np.float32)
  one = explained(ranking, data, 5, word=word, pairs=np.ones((5, 60), np.float32))
  saliency_files.write(folder / "saliency" / "fine.npz", saliency(one))
  page = Page(found := report.write(folder, datasets, **QUICK).read_text("utf-8"))
  assert not {"i", "script"} & set(page.tags)
  assert page.words.count("Words and patches that matter") == 1
  shaded = re.findall(r'<span class="(up|down)"\s+style="--a: ([\d.]+)"', found)
  assert [kind for kind, _ in shaded[2:]] == ["up", "down", "down", "up", "up"]
  assert [float(a) for _, a in shaded[2:]] == [0.85, 0.42, 0.0, 0.17, 0.1]
  assert "&lt;i&gt;slanted&lt;/i&gt;</span>" in found and 'title="-0.050"' in found


def test_a_run_without_weights_has_no_section_and_an_odd_file_is_named(run):
  folder, datasets = run
  page = report.write(folder, datasets, **QUICK).read_text("utf-8")
  assert "Words and patches that matter" not in page
  (folder / "saliency").mkdir()
  (folder / "saliency" / "fine.npz").write_text("no zip")
  with pytest.raises(report.ReportError, match=r"saliency/fine\.npz cannot be used"):
    report.write(folder, datasets, **QUICK)


def test_a_broken_picture_is_left_out_and_said(run):
  folder, datasets = run
  ranking = files.read(folder).rankings["fine"]
  one = explained(ranking, datasets["fine"], 5)
  saliency_files.write(folder / "saliency" / "fine.npz", saliency(one))
  name = datasets["fine"].records[one.image].image
  loader = type(datasets["fine"].load_image)([name])
  datasets["fine"] = dataclasses.replace(datasets["fine"], load_image=loader)
  page = Page(report.write(folder, datasets, **QUICK).read_text("utf-8"))
  assert f"fine: cannot be shown: {name}" in page.words
  assert "Words and patches that matter" not in page.words
