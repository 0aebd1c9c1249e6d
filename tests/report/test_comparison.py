"""Two models on the same queries: which are shown, and as what."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.report import run_folder
from tests.report.test_report import Page
from tests.test_compare import ROOT, change
from tpr_jax import compare, config, rankings
from tpr_jax.metrics.uncertainty import Bootstrap
from tpr_jax.report import comparison, queries, sheet
from tpr_jax.report.comparison import Sides
from tpr_jax.report.files import Ranking, ReportError

FEW = Bootstrap(resamples=50)
HEAD, LINE = ["", "score", "A"], ["fine", "R1", "61.25"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  """(folder of A, folder of B, dataset): B's features are worse."""
  data = run_folder.dataset("fine")
  folders = []
  for name, noise in (("a", 0.5), ("b", 1.3)):
    folder = tmp_path_factory.mktemp(name)
    entry = run_folder.write_ranking(folder, "fine", data, noise)
    run_folder.write_json(folder / "results.json", dict(evals=dict(fine=entry)))
    folders.append(folder)
  return *folders, data


def sides(models, data=None, why=""):
  paths = tuple(folder / "rankings" / "fine.npz" for folder in models[:2])
  return Sides("fine", paths, models[2] if data is None and not why else data, why)


def arrays(models):
  found = sides(models).paths
  return [dict(np.load(path)) for path in found], found


def write(models, out, **options):
  names = ("runs/<one>", "runs/two")
  found = options.pop("sides", None) or [sides(models)]
  options = dict(dict(shown=3, extremes=2), **options)
  return comparison.write(out, found, [HEAD, LINE], ["a note"], names, **options)


@pytest.fixture(scope="module")
def written(models, tmp_path_factory):
  out = tmp_path_factory.mktemp("out")
  paths = write(models, out)
  return paths, paths[0].read_text(encoding="utf-8")


def ranked(models):
  return comparison.aligned(*arrays(models), models[2])


# ---- the page


def test_the_page_is_whole_and_needs_nothing_from_outside(written):
  paths, text = written
  assert [path.name for path in paths] == ["compare.html", "compare_fine.png"]
  assert text.startswith("<!doctype html>")
  page = Page(text)
  assert all(re.match(r"data:image/(png|jpeg);base64,|#", link) for link in page.links)
  assert not {"script", "link", "iframe", "one"} & set(page.tags)
  anchors = set(re.findall(r'id="([^"]+)"', text))
  assert {link[1:] for link in page.links if link[0] == "#"} <= anchors
  for part in ("runs/<one>", "runs/two", "a note", "61.25", "Chosen: A most ahead of B",
               "3 of 48 queries, drawn with seed 0"):  # fmt: skip
    assert part in page.words, part


def test_frames_of_both_models_tell_right_from_wrong(written, models):
  a, b = ranked(models)
  chosen = [rankings.draw(48, 3, 0), *comparison.choose_apart(a, b, 2)]
  records, expected = models[2].records, []
  for query in np.concatenate(chosen):
    for one in (a, b):
      expected += [
        "right" if records[at].identity == records[query].identity else "wrong"
        for at in one.top[query]
      ]
  hits = Page(written[1]).hits
  assert len(hits) == 20 * sum(map(len, chosen)) and hits == expected


def test_the_sheet_has_one_row_above_the_other(written, models):
  with Image.open(written[0][1]) as picture:
    picture.load()
  found = [queries.gather(np.array([4]), r, models[2], queries.Pictures(models[2]))
           for r in ranked(models)]  # fmt: skip
  rows = [tuple(part[0] for part in found)]
  two, one = sheet.draw_rows(rows, ("A", "B"), ""), sheet.draw([rows[0][0]], "")
  assert two.height > one.height + 100 and picture.height > 3 * (two.height - 60)
  known = {tuple(bytes.fromhex(code[1:])): right
           for code, right in ((sheet.RIGHT, True), (sheet.WRONG, False))}  # fmt: skip
  for number, query in enumerate(rows[0]):
    y = 13 + number * (134 + 2 * 4 + 20)
    line = [two.getpixel((x, y)) for x in range(two.width)]
    frames = [known[p] for p, q in zip(line[1:], line, strict=False)
              if p in known and q not in known]  # fmt: skip
    assert frames == [hit.right for hit in query.hits]


def test_writing_again_gives_the_same_page(written, models, tmp_path):
  assert write(models, tmp_path)[0].read_text(encoding="utf-8") == written[1]


@pytest.mark.parametrize("why", ["the data of a are not at hand: <b>gone</b>"])
def test_without_data_there_is_a_sentence_and_no_picture(models, tmp_path, why):
  (tmp_path / "compare_fine.png").write_text("of another comparison")
  (path,) = write(models, tmp_path, sides=[sides(models, None, why)])
  page = Page(path.read_text(encoding="utf-8"))
  assert f"No pictures: {why}." in page.words and not page.hits
  assert "How far the models lie apart" in page.words
  assert not (tmp_path / "compare_fine.png").exists()


def test_broken_pictures_are_marked_and_listed(models, tmp_path):
  names = [record.image for record in models[2].records]
  data = run_folder.dataset("fine", broken=names)
  page = Page(
    write(models, tmp_path, sides=[sides(models, data)])[0].read_text("utf-8")
  )
  assert page.words.count("broken") >= 60
  assert "Cannot be shown: test/" in page.words


# ---- which queries


def made(first_rank, records=None):
  first_rank = np.array(first_rank)
  number = len(first_rank)
  blank = np.zeros((number, 1), np.int32)
  record = np.arange(number) if records is None else np.array(records)
  return Ranking(record, np.zeros(number, int), blank, blank, first_rank, first_rank)


def test_the_queries_that_lie_furthest_apart():
  a = made([1, 51, 7, 1, 0, 30, 3, 1])
  b = made([50, 100, 7, 50, 5, 2, 1, 1])
  ahead, behind = comparison.choose_apart(a, b, 3)
  assert ahead.tolist() == [0, 3, 1]  # 50 times; 50 times; twice
  assert behind.tolist() == [5, 6]  # no others: equal ranks and no match don't count
  assert [part.tolist() for part in comparison.choose_apart(b, a, 3)] == [
    [5, 6], [0, 3, 1]
  ]  # fmt: skip
  same = made([1, 1, 1], records=[4, 4, 5]), made([9, 8, 7], records=[4, 4, 5])
  assert comparison.choose_apart(*same, 3)[0].tolist() == [0, 2]


def test_differences_are_counted_once():
  a, b = np.array([1, 1, 4, 9, 100]), np.array([1, 3, 3, 9, 1])
  bins, behind, equal, ahead = comparison.difference_bins(a, b)
  assert bins[:2] == [(1, 1), (2, 5)] and bins[-1] == (51, 99)
  assert equal == 2 and ahead.tolist() == [0, 1, 0, 0, 0, 0]
  assert behind.tolist() == [1, 0, 0, 0, 0, 1]
  assert comparison.figures(np.zeros(3, int), np.ones(3, int)) == []
  assert len(comparison.figures(np.ones(1, int), np.ones(1, int))) == 2


# ---- features of any model beside a run


def as_features(found):
  """What `--mode=eval --features` keeps: no records."""
  return {k: v for k, v in found.items() if k not in ("query_record", "query_caption")}


def test_rows_of_features_are_the_records_of_the_run(models):
  (a, b), paths = arrays(models)
  expected = ranked(models)
  for pair in ((a, as_features(b)), (as_features(a), b)):
    for one, other in zip(
      comparison.aligned(pair, paths, models[2]), expected, strict=True
    ):
      np.testing.assert_array_equal(one.top, other.top)
      np.testing.assert_array_equal(one.query_record, other.query_record)
  with pytest.raises(ReportError, match="neither was made by a run"):
    comparison.aligned([as_features(a), as_features(b)], paths, models[2])


def test_unreadable_images_are_not_among_the_rows(models):
  """Gallery of the run: all images but records 0 and 5."""
  (a, b), paths = arrays(models)
  kept = np.setdiff1d(np.arange(48), [0, 5])
  for found in (a, b):
    for name in ("gallery_identity", "gallery_digest"):
      found[name] = found[name][kept]
  b = as_features(b)
  b["top"] = np.tile(np.array([0, 4, 45, -1]), (48, 1))
  b["score"] = b["score"][:, :4]
  found = comparison.aligned([a, b], paths, models[2])[1]
  assert found.top[0].tolist() == [1, 6, 47, -1]
  del a["gallery_digest"]
  with pytest.raises(ReportError, match="gallery has 46 images, blocks/test has 48"):
    comparison.aligned([a, b], paths, models[2])


def test_other_data_are_an_error(models):
  found, paths = arrays(models)
  with pytest.raises(ReportError, match="texts of blocks/test are not those"):
    comparison.aligned(found, paths, run_folder.dataset("coarse"))
  less = [found[0], {k: v for k, v in found[1].items() if k != "score"}]
  with pytest.raises(ReportError, match=r"b.*fine\.npz has no array 'score'"):
    comparison.aligned(less, paths, models[2])
  with pytest.raises(ReportError, match=r"fine\.npz names record"):
    comparison.aligned(found, paths, run_folder.dataset("fine", identities=3))


# ---- from the folders


def rendered_config():
  """Twelve drawn people; what a run's config.json says of them."""
  options = dict(identities=6, views=1, granularity=("coarse",))
  entry = dict(name="", root="", split="test", options=options, note="")
  data = dict(name="rendered", root="", options={})
  return dict(name="cfam", data=data, evals=dict(fine=entry))


def test_a_run_names_its_data_and_no_jax_is_loaded(tmp_path):
  from tpr_jax import eval_data

  setup = rendered_config()
  for name in "ab":
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.json").write_text(json.dumps(setup))
  data = eval_data.dataset(config.load(tmp_path / "a" / "config.json"), "fine")
  rng = np.random.default_rng(0)
  number = len(data.records)
  for name in "ab":
    folder = tmp_path / name
    (folder / "rankings").mkdir()
    order = rng.permuted(np.tile(np.arange(number), (number, 1)), axis=1)
    first = np.argmax(order == np.arange(number)[:, None], axis=1) + 1
    np.savez(
      folder / "rankings" / "fine.npz", query_record=np.arange(number),
      query_caption=np.zeros(number, int), top=order[:, :10],
      score=np.ones((number, min(number, 10))), first_rank=first, ap=1 / first,
      inp=1 / first, sd=1 / first, identity=np.arange(number),
      gallery_identity=np.arange(number),
      query_digest=rankings.digests(r.captions[0] for r in data.records),
    )  # fmt: skip
    run_folder.write_json(folder / "results.json", dict(evals=dict(fine={})))
  code = (
    "import sys, pathlib; from tpr_jax import compare;"
    " from tpr_jax.metrics.uncertainty import Bootstrap;"
    " p = pathlib.Path; compare.run(p('a'), p('b'), p('out'), Bootstrap(resamples=50));"
    " print('jax' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
    env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, timeout=300,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert done.stdout.split()[-1] == "False"
  page = Page((tmp_path / "out" / "compare.html").read_text(encoding="utf-8"))
  assert len(page.hits) >= 2 * number * number
  assert (tmp_path / "out" / "compare_fine.png").stat().st_size > 1000
  (tmp_path / "a" / "config.json").write_text(
    json.dumps({**setup, "data": dict(setup["data"], name="nonsense")})
  )
  (tmp_path / "b" / "config.json").unlink()
  compare.run(tmp_path / "a", tmp_path / "b", tmp_path / "out", FEW)
  page = Page((tmp_path / "out" / "compare.html").read_text(encoding="utf-8"))
  assert "are not at hand: unknown dataset 'nonsense'" in page.words and not page.hits


def test_two_folders_of_features_have_a_page_without_pictures(models, tmp_path):
  folders = []
  for name, source in zip("ab", models[:2], strict=True):
    folder = tmp_path / name
    (folder / "rankings").mkdir(parents=True)
    found = as_features(dict(np.load(source / "rankings" / "fine.npz")))
    np.savez(folder / "rankings" / "fine.npz", **found)
    run_folder.write_json(folder / "results.json", dict(evals=dict(fine={})))
    folders.append(folder)
  compare.run(*folders, folders[0], FEW)
  page = Page((folders[0] / "compare.html").read_text(encoding="utf-8"))
  assert "No pictures: neither folder is a run's" in page.words
  assert "Rank under A, rank under B" in page.words and not page.hits
  change(folders[1], "fine", top=None)
  compare.run(*folders, folders[0], FEW)  # top is only for pictures
