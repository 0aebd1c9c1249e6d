"""Words and their scores on the page."""

import dataclasses
import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.report.test_report import QUICK, Page
from tpr_jax import word_files
from tpr_jax.metrics.roc import Area
from tpr_jax.report import files, report, sheet, word_sheet, words
from tpr_jax.word_files import Caption, WordScores

NAN = float("nan")
AREAS = dict(
  gass=Area(0.8125, 0.75, 0.875, 0.9, 20, 120, 1400),
  cosine=Area(0.5625, NAN, NAN, 0.55, 20, 120, 1400),
)
TITLE = "Captions shaded by the scores of their words"


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
  """Drawing them takes seconds; test_spread.py looks at them."""
  monkeypatch.setattr(report.spread, "draw", lambda ranking: [])


def caption(data, record, wrong=(3, 4)):
  rng = np.random.default_rng(record)
  told = tuple(data.records[record].captions[0].split())
  return Caption(
    record=record,
    number=0,
    image=data.records[record].image,
    words=told,
    wrong=np.isin(np.arange(len(told)), wrong),
    scores=rng.random((2, len(told))).astype(np.float32),
  )


def scores(*captions, step=120, areas=AREAS, data="blocks/test"):
  return WordScores(step, data, areas, captions)


def log(folder, *steps, **more):
  lines = [
    dict(dict(step=step, kind="words", auc_gass=0.5 + step / 1000, auc_cosine=0.51),
         **more)
    for step in steps
  ]  # fmt: skip
  with (folder / "metrics.jsonl").open("a") as file:
    file.writelines(json.dumps(line) + "\n" for line in lines)


def write(run, **options):
  path = report.write(*run, **dict(QUICK, **options))
  return path.read_text(encoding="utf-8")


def pngs(folder):
  return {path.name for path in (folder / "report").glob("word*.png")}


def test_a_run_without_words_shows_nothing_of_them(run):
  page = Page(write(run))
  assert "Words and their scores" not in page.words and "#words" not in page.links
  assert not pngs(run[0])


def test_all_of_it_is_on_the_page(run):
  folder, datasets = run
  data = datasets["fine"]
  every = [caption(data, i) for i in range(12)]
  word_files.write(folder, scores(*every))
  log(folder, 60, 120, low_gass=0.45, high_gass=0.7)
  text = write(run)
  page = Page(text)
  assert "#words" in page.links and page.words.count("Words and their scores") == 2
  for part in (
    "How well a low score finds wrong words (AUC)", TITLE, "0.812", "0.750–0.875",
    "95 % interval", "0.900", "0.562", "120 wrong and 1,400 right tokens of",
    "blocks/test at step 120", "4 of 12 captions with a wrong word", "seed 0",
    "told wrongly on purpose",
  ):  # fmt: skip
    assert part in page.words, part
  assert text.count('<article class="told">') == 4
  assert text.count('<div class="kind">gass</div>') == 4
  assert pngs(folder) == {"words.png", "word_auc.png"}
  with Image.open(folder / "report" / "words.png") as picture:
    picture.load()
    assert picture.width == 1000 and picture.height > 500
  assert write(run) == text  # the same page again


def test_words_are_shaded_underlined_and_escaped(run):
  folder, datasets = run
  bad = '<b>bold</b> & "quoted" <script>x</script> coat'
  told = tuple(bad.split())
  rows = [[0.2, 0.4, 0.3, 0.6, 0.5], [1, 1, 1, 1, 1]]
  one = dataclasses.replace(
    caption(datasets["fine"], 3),
    words=told,
    scores=np.array(rows, np.float32),
    wrong=np.array([False, True, False, False, True]),
  )
  areas = {"<i>gass</i>": AREAS["gass"], "same": AREAS["cosine"]}
  word_files.write(folder, scores(one, areas=areas))
  text = write(run)
  assert not {"b", "i", "script"} & set(Page(text).tags)
  assert '<div class="kind">&lt;i&gt;gass&lt;/i&gt;</div>' in text
  part = text[text.index('<article class="told">') :]
  found = re.findall(
    r'<span( class="bad")?\s+style="--a: ([\d.]+)"\s+title="([^"]*)">([^<]*)</span>',
    part[: part.index("</article>")],
  )
  shades = [float(shade) for _, shade, _, _ in found]
  assert shades == [0, 0.5, 0.25, 1, 0.75] + [0.5] * 5
  assert [bool(mark) for mark, *_ in found] == [False, True, False, False, True] * 2
  assert found[1][2] == "0.400, wrong" and found[0][2] == "0.200"
  assert found[0][3] == "&lt;b&gt;bold&lt;/b&gt;"


def test_captions_are_drawn_by_seed_of_those_with_a_wrong_word(run):
  data = run[1]["fine"]
  every = [caption(data, i, wrong=(2,) if i % 2 else ()) for i in range(40)]
  found = scores(*every)
  first = words.gather(found, [data], 0, 5)
  assert len(first.shown) == 5 and first.total == 20 and first.noisy
  assert all(any(word.wrong for word in one.rows[0].words) for one in first.shown)
  names = lambda drawn: [one.name for one in drawn.shown]
  assert names(words.gather(found, [data], 0, 5)) == names(first)
  assert names(words.gather(found, [data], 1, 5)) != names(first)
  clean = words.gather(scores(*every[::2]), [data], 0, 50)
  assert not clean.noisy and len(clean.shown) == clean.total == 20
  none = words.gather(scores(), [data], 0)
  assert none.shown == () and none.missing == ()


def test_pictures_come_from_the_data_that_was_scored(run):
  data = run[1]["fine"]
  other = dataclasses.replace(data, name="others")
  one = caption(data, 3)
  (shown,) = words.gather(scores(one), [other, data], 0).shown
  assert shown.picture.name == one.image == shown.name
  drawn = words.gather(scores(one), [other], 0)
  assert drawn.shown[0].picture is None
  assert drawn.missing == (
    "Words: the data 'blocks/test' is not at hand: no pictures of it.",
  )
  for change in (dict(image="test/9/9"), dict(record=48), dict(record=-1)):
    stale = words.gather(scores(dataclasses.replace(one, **change)), [data], 0)
    assert stale.shown[0].picture is None
    assert "were taken from other data" in stale.missing[0]


def test_data_of_their_own_can_be_given(run):
  folder, datasets = run
  data = dataclasses.replace(datasets["fine"], name="noisy", split="val")
  word_files.write(folder, scores(caption(data, 3), data="noisy/val"))
  page = Page(write(run))
  assert "'noisy/val' is not at hand" in page.words and "no picture" in page.words
  text = write(run, word_data=data)
  assert "not at hand" not in text and "no picture" not in Page(text).words
  part = text[text.index('<article class="told">') :]
  assert part.index("data:image/jpeg") < part.index("</article>")


def test_a_broken_picture_is_said(run):
  folder, datasets = run
  one = caption(datasets["fine"], 3)
  loader = type(datasets["fine"].load_image)([one.image])
  datasets["fine"] = dataclasses.replace(datasets["fine"], load_image=loader)
  del datasets["coarse"]  # of the same name, and whole
  word_files.write(folder, scores(one))
  assert f"Words: cannot be shown: {one.image}" in Page(write(run)).words


def test_curves_alone_and_files_alone(run):
  folder, datasets = run
  log(folder, 60, 120)
  page = Page(write(run))
  assert "AUC" in page.words and TITLE not in page.words
  assert pngs(folder) == {"word_auc.png"}
  (folder / "metrics.jsonl").unlink()
  word_files.write(folder, scores(caption(datasets["fine"], 3)))
  page = Page(write(run))
  assert TITLE in page.words and "How well a low score" not in page.words
  assert pngs(folder) == {"words.png"}


def test_what_is_undefined_is_said(run):
  folder, datasets = run
  why = "no wrong token among 900: the area is undefined"
  areas = dict(gass=Area(NAN, NAN, NAN, NAN, 0, 0, 900, why))
  one = caption(datasets["fine"], 3, wrong=())
  one = dataclasses.replace(one, scores=one.scores[:1])
  word_files.write(folder, scores(one, areas=areas))
  page = Page(write(run))
  assert "No wrong token among 900: the area is undefined." in page.words
  assert "1 of 1 captions that were kept" in page.words
  assert words.curve([dict(step=3, kind="words", wrong_tokens=0)]) is None


def test_the_file_is_the_last_that_the_log_knows(run):
  folder, datasets = run
  one = caption(datasets["fine"], 3)
  for step in (60, 120, 1000):
    word_files.write(folder, scores(one, step=step))
  assert files.read(folder).word_scores.step == 1000  # no log
  log(folder, 60, 120)  # the run was resumed: it has not come to 1000 again
  found = files.read(folder)
  assert found.word_scores.step == 120
  assert [line["step"] for line in found.words] == [60, 120]
  (folder / "words" / "120.npz").write_text("no zip")
  with pytest.raises(report.ReportError, match=r"words/120\.npz cannot be used"):
    report.write(folder, datasets, **QUICK)
  for step in (60, 120):
    (folder / "words" / f"{step}.npz").unlink()
  assert files.read(folder).word_scores is None


def test_the_curve_shows_the_numbers():
  line = lambda step, **more: dict(step=step, kind="words", **more)
  one = words.curve([line(1, auc_gass=0.6), line(2, auc_gass=0.7)])
  assert one.name == "word_auc" and one.light != one.dark
  other = words.curve([line(1, auc_gass=0.6), line(2, auc_gass=0.3)])
  assert other.light != one.light
  band = words.curve([line(i, auc_gass=0.6 + i / 10, low_gass=0.5 + i / 10,
                           high_gass=0.7 + i / 10) for i in (0, 1)])  # fmt: skip
  plain = words.curve([line(i, auc_gass=0.6 + i / 10) for i in (0, 1)])
  assert band.light != plain.light


def shown(*texts, kinds=("gass",), wrong=(), picture=None):
  told = tuple(
    words.Word(text, i / max(len(texts) - 1, 1), float(i), i in wrong)
    for i, text in enumerate(texts)
  )
  rows = tuple(words.Row(kind, told, 0.0, 1.0) for kind in kinds)
  return words.Shown("name", picture, rows)


def test_the_sheet_shades_from_paper_to_the_hue():
  assert word_sheet.colour(0) == (255, 255, 255)
  opacity = word_sheet.STRONGEST
  for got, hue in zip(word_sheet.colour(1), word_sheet.HUE, strict=True):
    assert got == pytest.approx(255 * (1 - opacity) + hue * opacity, abs=0.5)
  page = np.asarray(word_sheet.draw([shown("low", "high")], ""))[:150]
  assert (page == word_sheet.colour(1)).all(axis=-1).sum() > 200
  marked = np.asarray(word_sheet.draw([shown("low", "high", wrong=(1,))], ""))[:150]
  ink = tuple(bytes.fromhex("1d2129"))
  dark = lambda each: (each == ink).all(axis=-1).sum()
  assert dark(marked) > dark(page) + 20


def test_lines_of_words_fit_and_lose_none():
  font = sheet.typeface(13)
  texts = ["word"] * 40 + ["W" * 200] + ["end"]
  told = shown(*texts).rows[0].words
  lines = word_sheet._lines(told, font, 300)
  assert [word.text for line in lines for _, word in line] == texts
  for line in lines:
    ends = [x + min(font.getlength(word.text), 294) + 6 for x, word in line]
    assert max(ends) <= 301 and [x for x, _ in line] == sorted({x for x, _ in line})
  assert word_sheet._lines((), font, 300) == []


def test_the_sheet_takes_captions_without_words_and_long_kinds():
  odd = shown(kinds=("gass", "a very long name of a score"))
  small = word_sheet.draw([odd], "a footer")
  tall = word_sheet.draw([odd, shown(*["word"] * 300, kinds=("a", "b"))], "a footer")
  assert tall.width == small.width and tall.height > small.height + 300
