import dataclasses
import html.parser
import json
import re

import numpy as np
import pytest
from PIL import Image

from tpr_jax.report import curves, files, report

VOID = {"meta", "img", "br", "source", "link", "input", "hr"}
FIGURES = ("ranks", "similarities", "calibration", "threshold")
QUICK = dict(shown=3, extremes=1)


class Page(html.parser.HTMLParser):
  """Checks that tags close in order; collects attributes, text and figures."""

  def __init__(self, text):
    super().__init__()
    self.open, self.links, self.tags, self.text, self.hits = [], [], [], "", []
    self.feed(text)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    self.tags.append(tag)
    self.links += [v for k, v in attrs.items() if k in ("src", "href", "srcset")]
    if tag == "figure" and attrs.get("class", "").startswith("hit"):
      self.hits.append(attrs["class"].split()[1])
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if "style" not in self.open:
      self.text += data

  @property
  def words(self):
    return " ".join(self.text.split())


@pytest.fixture(scope="module")
def written(finished):
  path = report.write(*finished)
  return path, path.read_text(encoding="utf-8")


def test_page_is_whole_and_needs_nothing_from_outside(written):
  path, text = written
  assert path.name == "report.html"
  page = Page(text)
  assert len(page.links) > 100
  assert all(re.match(r"data:image/(png|jpeg);base64,|#", link) for link in page.links)
  assert not {"script", "link", "iframe", "object"} & set(page.tags)
  style = text[text.index("<style>") : text.index("</style>")]
  assert "url(" not in style and "@import" not in style and "http" not in style
  anchors = set(re.findall(r'id="([^"]+)"', text))
  assert {link[1:] for link in page.links if link[0] == "#"} <= anchors


def test_page_shows_intervals_below_the_scores(run):
  folder = run[0]
  results = json.loads((folder / "results.json").read_text())
  assert 'class="ci"' not in report.write(folder, {}, **QUICK).read_text("utf-8")
  ci = dict(level=0.95, resamples=2000, seed=0, identities=24)
  results["evals"]["fine"]["t2i"]["ci"] = dict(ci, scores={"R1": [12.34, 56.78]})
  (folder / "results.json").write_text(json.dumps(results))
  text = report.write(folder, {}, **QUICK).read_text(encoding="utf-8")
  assert text.count('<div class="ci">12.3–56.8</div>') == 1
  words = Page(text).words
  assert "Intervals (95 %): identities drawn with replacement, 2,000 times" in words


def test_page_holds_what_was_asked_for(written, finished):
  words = Page(written[1]).words
  results = json.loads((finished[0] / "results.json").read_text())
  for scores in results["evals"].values():
    for numbers in (scores["t2i"], *scores["groups"].values()):
      for key in ("R1", "mAP", "mSD", "chance"):
        assert f"{numbers[key]:.2f}" in words
  for part in (
    "near twins", "others", "fine, image to text", "12 of 48 queries, drawn with seed",
    "Best queries", "Worst queries", "best validation R1 (57.50)", "jax 0.10.2",
    "python -m tpr_jax.main --config=configs/cfam.py", "2 × cpu:cpu", "1,534,210",
    "3 min 21 s", "12.2 s", "2026-11-21 08:00:00", "optim.schedule.kind = cosine",
    "resize(96,40)|pad_crop(4)|erase(0.3)", "Validation scores", "Learning rate",
  ):  # fmt: skip
    assert part in words, part


def test_frames_tell_right_from_wrong(written, finished):
  """Every shown image in the page's order, against the identities."""
  from tpr_jax.report import queries

  expected, run = [], files.read(finished[0])
  for name, found in run.rankings.items():
    data = finished[1][name]
    chosen = queries.choose_random(found, 12, 0)
    for query in np.concatenate([chosen, *queries.choose_extremes(found, 4)]):
      person = data.records[found.query_record[query]].identity
      expected += [
        "right" if data.records[at].identity == person else "wrong"
        for at in found.top[query]
      ]
  hits = Page(written[1]).hits
  assert hits == expected and {"right", "wrong"} == set(hits)
  assert re.search(r"\.right img[^}]*var\(--right\)", written[1])
  assert re.search(r"\.wrong img[^}]*var\(--wrong\)", written[1])


def test_pictures_lie_beside_the_page(written):
  names = {path.name for path in (written[0].parent / "report").glob("*")}
  assert names == {
    "loss.png", "learning_rate.png", "validation.png", "queries.png",
    "queries_fine.png", "queries_coarse.png",
    *(f"{figure}_{name}.png" for figure in FIGURES for name in ("fine", "coarse")),
  }  # fmt: skip
  for path in (written[0].parent / "report").glob("*.png"):
    with Image.open(path) as picture:
      picture.load()
      assert min(picture.size) > 200


def test_writing_again_gives_the_same_page(written, finished):
  before = written[1]
  assert report.write(*finished).read_text(encoding="utf-8") == before


def test_captions_and_names_are_text_not_html(run):
  folder, datasets = run
  bad = '<script>alert("x")</script> & <b>bold</b>'
  for name, data in datasets.items():
    records = tuple(dataclasses.replace(r, captions=(bad,)) for r in data.records)
    datasets[name] = dataclasses.replace(data, records=records)
  results = json.loads((folder / "results.json").read_text())
  results["evals"]["fine"]["note"] = "<i>note</i>"
  results["evals"]["fine"]["groups"]["<u>group</u>"] = results["evals"]["fine"]["t2i"]
  (folder / "results.json").write_text(json.dumps(results))
  (folder / "config.json").write_text(json.dumps({"name": "<em>config</em>"}))
  text = report.write(folder, datasets, **QUICK).read_text(encoding="utf-8")
  page = Page(text)
  assert not {"script", "b", "i", "u", "em"} & set(page.tags)
  assert bad in page.words and "<i>note</i>" in page.words


def test_page_without_optional_files_says_so(run):
  folder, datasets = run
  for name in ("config.json", "run.json", "rankings/coarse.npz"):
    (folder / name).unlink()
  del datasets["fine"]
  page = Page(report.write(folder, datasets).read_text(encoding="utf-8"))
  for sentence in (
    "config.json is not in the run folder", "run.json is not in the run folder",
    "there are no loss curves", "there is no validation curve",
    "rankings/coarse.npz is not in the run folder: no pictures.",
    "The data of 'fine' is not at hand",
  ):  # fmt: skip
    assert sentence in page.words
  assert "Configuration" not in page.words and "Curves" not in page.words
  assert "Results" in page.words and "Drawn at random" not in page.words
  assert {path.name for path in (folder / "report").glob("*.png")} == {
    f"{figure}_fine.png" for figure in FIGURES
  }


def test_queries_without_a_match_are_marked(run):
  folder, datasets = run
  path = folder / "rankings" / "fine.npz"
  arrays = dict(np.load(path))
  arrays["first_rank"][:], arrays["ap"][:] = 0, np.nan
  np.savez(path, **arrays)
  page = Page(report.write(folder, datasets, **QUICK).read_text(encoding="utf-8"))
  assert page.words.count("No right image in the gallery") == 3


def test_broken_pictures_are_marked_and_listed(run):
  folder, datasets = run
  broken = [record.image for record in datasets["fine"].records]
  loader = type(datasets["fine"].load_image)(broken)
  datasets["fine"] = dataclasses.replace(datasets["fine"], load_image=loader)
  page = Page(report.write(folder, datasets, **QUICK).read_text(encoding="utf-8"))
  assert "fine: cannot be shown: test/" in page.words
  assert page.words.count("broken") >= 30


def test_old_pictures_do_not_outlive_their_run(run):
  folder, datasets = run
  report.write(folder, datasets, **QUICK)
  assert (folder / "report" / "queries_fine.png").exists()
  (folder / "rankings" / "fine.npz").unlink()
  report.write(folder, datasets, **QUICK)
  assert not (folder / "report" / "queries_fine.png").exists()


def test_no_results_is_an_error_that_names_the_file(tmp_path):
  with pytest.raises(report.ReportError, match=r"results\.json does not exist"):
    report.write(tmp_path, {})


def test_curves_show_what_was_logged(finished):
  run = files.read(finished[0])
  names = [curve.name for curve in curves.draw(run)]
  assert names == ["loss", "learning_rate", "validation"]
  no_val = dataclasses.replace(run, val=[])
  assert [c.name for c in curves.draw(no_val)] == ["loss", "learning_rate"]
  assert curves.draw(dataclasses.replace(run, val=[], train=[])) == []


def test_curves_differ_between_themes_and_change_with_the_numbers(finished):
  run = files.read(finished[0])
  first = curves.draw(dataclasses.replace(run, train=[]))[0]
  assert first.light != first.dark
  halved = [{**line, "R1": line["R1"] / 2} for line in run.val]
  other = curves.draw(dataclasses.replace(run, train=[], val=halved))[0]
  assert first.light != other.light
