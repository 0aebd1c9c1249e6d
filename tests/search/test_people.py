"""Indexes of people in frames: rows, incremental runs, refusals, what is shown."""

import collections
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests import command
from tests.search import figures, place
from tpr_jax.detect import boxes
from tpr_jax.search import done as done_file
from tpr_jax.search import frames, indexing, settings, showing
from tpr_jax.search.problems import SearchError
from tpr_jax.search.store import Store

UNTOUCHED = dict(new=0, changed=0, renamed=0, deleted=0, encoded=0, frames=0)


def counts(done, *names):
  return {name: getattr(done, name) for name in names or UNTOUCHED}


def people(folder):
  """path -> number of people in the index, of each row once; broken files are None."""
  found = collections.Counter()
  for batch in Store(folder).read(["path", "person", "kind"]):
    for row in batch.to_pylist():
      found[row["path"]] += row["person"] > 0
  return dict(found)


@pytest.fixture
def scenes(tmp_path):
  return figures.folder(tmp_path / "frames")


@pytest.fixture
def detector():
  return figures.Figures()


def test_everybody_has_a_row_with_a_box(scenes, tmp_path, detector):
  (scenes / "bad.png").write_bytes(b"nothing")
  done, said = place.index(scenes, tmp_path / "index", detector=detector)
  assert counts(done, "new", "frames", "people", "empty", "encoded", "broken") == dict(
    new=5, frames=4, people=6, empty=1, encoded=6, broken=1
  )
  assert "People in the frames looked at: 6 in 4" in said
  assert "No person found in frames: 1 of all; not looked at again" in said
  listed = json.loads((tmp_path / "index" / done_file.BROKEN).read_text())
  assert [*listed["found"]] == ["damaged"]  # a frame without people is not broken
  index = place.opened(tmp_path / "index")
  assert len(index) == 6
  answer = index.search("green", top=2)
  assert {hit.path for hit in answer.hits} == {"two.png", "more/three.png"}
  for hit in answer.hits:
    assert hit.box == boxes.Box(*figures.GREEN[1:]) and hit.score > 0.99
    assert (hit.values["width"], hit.values["height"]) == (90, 60)
    assert hit.values["detection_score"] == pytest.approx(0.9, abs=0.01)
    with Image.open(io.BytesIO(hit.thumbnail)) as small:
      assert small.size == (8, 24)
  assert len({hit.key for hit in index.search("red", top=9).hits}) == 6


def test_a_second_run_looks_at_nothing(scenes, tmp_path, trusted, detector):
  place.index(scenes, tmp_path / "index", detector=detector)
  again, model = figures.Figures(), place.Model()
  done, said = place.index(scenes, tmp_path / "index", model, detector=again)
  assert counts(done) == UNTOUCHED and done.unchanged == 4 and done.empty == 1
  assert again.loads == model.loads == 0
  assert not any("Loading" in line for line in said)


def test_only_what_differs_is_looked_at(scenes, tmp_path, trusted, detector):
  place.index(scenes, tmp_path / "index", detector=detector)
  before = {hit.key for hit in place.opened(tmp_path / "index").search("red").hits}
  other = ("blue", 50, 9, 8, 24)
  figures.write(scenes / "two.png", other)  # two people become another
  figures.write(scenes / "none.png", figures.RED, figures.BLUE)  # nobody becomes two
  (scenes / "one.png").rename(scenes / "moved.png")
  (scenes / "copy.png").write_bytes((scenes / "more" / "three.png").read_bytes())
  figures.write(scenes / "empty.png", ("red", 1, 1, 3, 3))  # too low
  again = figures.Figures()
  done, said = place.index(scenes, tmp_path / "index", detector=again)
  assert counts(done) == dict(
    new=2, changed=2, renamed=1, deleted=0, encoded=3, frames=3
  )
  assert again.seen == 3 and done.left_out == {boxes.LOW: 1}
  assert "People in the frames looked at: 3 in 3; boxes left out: 1 too low" in said
  assert people(tmp_path / "index") == {
    **{"two.png": 1, "none.png": 2, "moved.png": 1, "copy.png": 3, "empty.png": 0},
    "more/three.png": 3,
  }
  found = place.opened(tmp_path / "index").search("red", top=50).hits
  assert len(found) == 10
  # A copy's people are the same people.
  kept = {hit.key for hit in found if hit.path in ("copy.png", "moved.png")}
  assert len(kept) == 4 and kept <= before
  # Everybody leaves, a frame breaks, another goes.
  figures.write(scenes / "none.png")
  (scenes / "more" / "three.png").write_bytes(b"broken")
  (scenes / "copy.png").unlink()
  done, _ = place.index(scenes, tmp_path / "index", detector=again)
  assert counts(done, "changed", "deleted", "broken", "empty") == dict(
    changed=2, deleted=1, broken=1, empty=2
  )
  assert people(tmp_path / "index") == {
    **{"two.png": 1, "none.png": 0, "moved.png": 1, "empty.png": 0},
    "more/three.png": 0,
  }
  assert len(place.opened(tmp_path / "index")) == 2


def test_times_of_a_frame_are_those_of_everybody_in_it(
  scenes, tmp_path, trusted, detector
):
  place.index(scenes, tmp_path / "index", detector=detector)
  place.old(scenes / "two.png", 86_400)
  again = figures.Figures()
  done, _ = place.index(scenes, tmp_path / "index", detector=again)
  assert counts(done) == UNTOUCHED and again.loads == 0
  index = place.opened(tmp_path / "index")
  found = index.search("red", where="time < '1971-01-01'").hits
  assert [hit.path for hit in found] == ["two.png"] * 2 and len(index) == 6
  assert len(index.search("red", where="time > '1971-01-01'").hits) == 4


def test_an_empty_frame_that_moves_is_not_looked_at(
  scenes, tmp_path, trusted, detector
):
  place.index(scenes, tmp_path / "index", detector=detector)
  (scenes / "none.png").rename(scenes / "still.png")
  again = figures.Figures()
  done, _ = place.index(scenes, tmp_path / "index", detector=again)
  assert counts(done, "renamed", "empty", "frames") == dict(
    renamed=1, empty=1, frames=0
  )
  assert again.loads == 0 and people(tmp_path / "index")["still.png"] == 0


@pytest.mark.parametrize("commit", [1, 5, 1024])
def test_all_people_of_a_frame_are_written_at_once(
  tmp_path, trusted, monkeypatch, detector, commit
):
  monkeypatch.setattr(indexing, "COMMIT", commit)
  monkeypatch.setattr(indexing, "BATCH", 4)
  root, sizes = tmp_path / "frames", (3, 0, 7, 1, 4, 9)
  for at, size in enumerate(sizes):
    one = [("red", 9 * n, 2 * at, 5, 30) for n in range(size)]
    figures.write(root / f"{at}.png", *one)
  versions, put = [], Store.put

  def looked(store, rows, replaces):
    put(store, rows, replaces)
    versions.append(people(tmp_path / "index"))

  monkeypatch.setattr(Store, "put", looked)
  place.index(root, tmp_path / "index", detector=detector)
  whole = {f"{at}.png": size for at, size in enumerate(sizes)}
  assert versions[-1] == whole and (len(versions) > 1 or commit == 1024)
  for version in versions:
    assert version.items() <= whole.items()


def test_hundreds_of_people(tmp_path, detector):
  crowd = [("blue", 3 * (n % 30), 6 * (n // 30), 2, 5) for n in range(300)]
  made = figures.frame(*crowd, size=(60, 90))
  (tmp_path / "frames").mkdir()
  Image.fromarray(made).save(tmp_path / "frames" / "crowd.png")
  done, _ = place.index(tmp_path / "frames", tmp_path / "index", detector=detector)
  assert counts(done, "new", "frames", "people", "encoded") == dict(
    new=1, frames=1, people=300, encoded=300
  )
  found = place.opened(tmp_path / "index").search("blue", top=400).hits
  assert len({(hit.box.x, hit.box.y) for hit in found}) == 300


def test_answers_of_a_detector_that_make_no_sense(scenes, tmp_path):
  nan = float("nan")
  wrong = [
    *((nan, 0, 9, 30, 0.9), (0, 0, 9, 30, nan), (200, 0, 220, 30, 0.9)),
    *((5, 5, 5, 40, 0.8), (9, 40, 2, 50, 0.8), (0, 0, 9, 2, 0.7)),
  ]
  done, said = place.index(
    scenes, tmp_path / "index", detector=figures.Figures(extra=wrong)
  )
  assert (done.people, done.empty) == (6, 1)
  assert done.left_out == {
    **{boxes.NOT_FINITE: 8, boxes.OUTSIDE: 4, boxes.EMPTY: 8, boxes.LOW: 4}
  }
  assert any("8 not finite, 4 outside of the frame, 4 too low" in line for line in said)


def test_frames_are_upright(tmp_path, detector):
  exif = Image.Exif()
  exif[0x0112] = 6  # to be turned by 90 degrees
  figures.write(tmp_path / "frames" / "turned.png", figures.RED, exif=exif)
  place.index(tmp_path / "frames", tmp_path / "index", detector=detector)
  index = place.opened(tmp_path / "index")
  (hit,) = index.search("red").hits
  _, left, top, width, height = figures.RED
  assert (hit.values["width"], hit.values["height"]) == (60, 90)
  assert hit.box == boxes.Box(60 - top - height, left, height, width)
  pixels = frames.read(tmp_path / "frames", hit.path, hit.content)
  assert (hit.box.cut(pixels) == place.COLOURS["red"]).all()


def test_a_margin_is_cut_out_too(scenes, tmp_path):
  detector = figures.Figures(margin=0.5)
  place.index(scenes, tmp_path / "index", detector=detector)
  index = place.opened(tmp_path / "index")
  hit = index.search("green", where="path = 'two.png'", top=1).hits[0]
  assert hit.box == boxes.Box(*figures.GREEN[1:])
  stored = index.stored(hit.key)
  assert stored.box == hit.box and stored.paths == ("two.png",)
  assert stored.cut == boxes.Box(26, 0, 16, 46)  # cut at the upper edge
  with Image.open(io.BytesIO(hit.thumbnail)) as small:
    assert small.size == (16, 46)


def test_conditions_and_a_side_car(scenes, tmp_path, trusted, detector):
  table = tmp_path / "table.csv"
  table.write_text("path,camera\ntwo.png,gate\nmore/three.png,yard\nnone.png,gate\n")
  place.index(scenes, tmp_path / "index", metadata=table, detector=detector)
  index = place.opened(tmp_path / "index")
  search = lambda where: index.search("red", where=where, top=50)
  assert len(search("camera = 'gate'").hits) == 2
  assert len(search("camera = 'yard' and box_x > 5").hits) == 2
  assert search("detection_score >= 0.9").searched == 3
  assert search("box_height = 24 and box_width < 9 and person = 3").searched == 1
  with pytest.raises(SearchError, match=r"no column 'box_heigth'.*'box_height'"):
    search("box_heigth > 3")
  # Another table renews everybody of a frame, and looks at none.
  table.write_text("path,camera\ntwo.png,door\nnone.png,door\n")
  again = figures.Figures()
  done, _ = place.index(scenes, tmp_path / "index", metadata=table, detector=again)
  assert done.described == 3 and again.loads == 0
  index.refresh()
  assert len(search("camera = 'door'").hits) == 2
  assert len(search("camera is null").hits) == 4
  # Without it, what it said of a frame stays with whoever is in it now.
  figures.write(scenes / "two.png", figures.RED, figures.GREEN, figures.BLUE)
  place.index(scenes, tmp_path / "index", detector=again)
  index.refresh()
  assert len(search("camera = 'door'").hits) == 3
  table.write_text("path,box_x\ntwo.png,7\n")
  with pytest.raises(SearchError, match="a column 'box_x' of its own"):
    place.index(scenes, tmp_path / "index", metadata=table, detector=again)


def test_a_side_car_of_whole_pictures_may_have_such_columns(images, tmp_path):
  table = tmp_path / "table.csv"
  names = ("person", "file_hash", *("box_x", "box_y"), "detection_score")
  table.write_text(f"path,{','.join(names)}\ncam0/000.png,7,a,1,2,0.5\n")
  place.index(images, tmp_path / "index", metadata=table)
  place.write(images / "cam0" / "000.png", "blue", 91)
  place.index(images, tmp_path / "index", metadata=table)
  index = place.opened(tmp_path / "index")
  (hit,) = index.search("red", where="person = 7 and box_x = 1").hits
  assert hit.box is None and hit.values["detection_score"] == 0.5


def test_people_are_ordered_again_by_a_second_stage(tmp_path, trusted, detector):
  root, model = tmp_path / "frames", place.Model(by="steps")
  (root / "day").mkdir(parents=True)
  made = figures.frame(*(("red", 10 * at, 5, 6, 30) for at in range(1, 7)))
  for at in range(1, 7):
    made[5:35, 10 * at : 10 * at + 6, 2] = at  # what the second stage looks at
  Image.fromarray(made).save(root / "six.png")
  place.old(root / "six.png")
  place.index(root, tmp_path / "index", model, detector=detector)
  (root / "six.png").rename(root / "day" / "six.png")
  done, _ = place.index(root, tmp_path / "index", model, detector=detector)
  assert (done.renamed, done.encoded) == (1, 0)
  index = place.opened(tmp_path / "index", model)
  hits = index.search("red red red red", top=6, rerank=6).hits
  assert hits[0].box.x == 40  # four words
  assert [hit.second for hit in hits] == sorted((h.second for h in hits), reverse=True)
  assert {hit.path for hit in hits} == {"day/six.png"}


def test_an_index_is_of_one_detector(scenes, tmp_path, detector):
  at = tmp_path / "index"
  place.index(scenes, at, detector=detector)
  before = place.opened(at).version
  for other, part in (
    (figures.Figures("others"), "others.*other weights"),
    (figures.narrowed(detector, score=0.7), "score: 0.5 -> 0.7"),
    (figures.narrowed(detector, margin=0.1, person="1"), "class: 'person' -> '1'; mar"),
    (None, "give it again, --detect=/w/figures"),
  ):
    with pytest.raises(SearchError, match=part):
      place.index(scenes, at, detector=other)
  assert place.opened(at).version == before
  assert json.loads((at / "index.json").read_text())["format"] == 2


def test_an_index_of_whole_pictures_takes_no_detector(images, tmp_path, detector):
  place.index(images, tmp_path / "index")
  about = json.loads((tmp_path / "index" / "index.json").read_text())
  assert about["format"] == 1 and "detector" not in about
  with pytest.raises(SearchError, match="of whole pictures, made without --detect"):
    place.index(images, tmp_path / "index", detector=detector)
  index = place.opened(tmp_path / "index")
  (hit, *_), stored = (answer := index.search("red")).hits, None
  stored = index.stored(hit.key)
  assert hit.box is None and stored.box is None and stored.content == hit.key
  assert not answer.people and "box_x" not in index.columns


def test_a_detector_that_cannot_be_loaded_leaves_no_index(scenes, tmp_path):
  class Broken(figures.Figures):
    def load(self):
      raise ValueError("no weights")

  with pytest.raises(ValueError, match="no weights"):
    place.index(scenes, tmp_path / "index", detector=Broken())
  assert not (tmp_path / "index" / "index.json").exists()


def test_tables_json_and_sheets_tell_where(scenes, tmp_path, detector):
  place.index(scenes, tmp_path / "index", detector=detector)
  index = place.opened(tmp_path / "index")
  answer = index.search("blue", top=3, where="path != 'none.png'")
  lines = showing.table(answer).splitlines()
  assert lines[0].split()[:3] == ["path", "score", "box"]
  assert "8x24 at 60,10" in lines[2]
  assert showing.counted(answer) == "6 people"
  asked = settings.Searching(tmp_path / "index", "blue", top=3)
  plain = showing.plain(asked, index.about, answer)["hits"]
  assert json.loads(json.dumps(plain))[0]["box"] == [60, 10, 8, 24]
  for name in ("a.html", "a.png"):
    (tmp_path / name).unlink(missing_ok=True)
    where = settings.Searching(tmp_path / "index", "blue", sheet=tmp_path / name)
    showing.write(where, index.about, answer)
  page = (tmp_path / "a.html").read_text()
  assert page.count("in its frame") == 3 and page.count("data:image/jpeg") == 6
  with Image.open(tmp_path / "a.png") as sheet:
    assert sheet.size[0] > 700
  # A frame that has changed is not shown, a page without frames has none.
  figures.write(scenes / "one.png", figures.RED)
  folder = scenes.resolve()
  page = showing.page(asked, index.about, answer, None, folder)
  assert page.count("in its frame") == 2 and "has gone or has changed" in page
  assert "<details>" not in showing.page(asked, index.about, answer, None)


def test_the_box_is_drawn_around_the_person(scenes, tmp_path, detector):
  pixels = np.asarray(figures.frame(figures.RED, size=(300, 400)))
  _, x, y, width, height = figures.RED
  drawn = frames.drawn(pixels, boxes.Box(x, y, width, height), 200)
  with Image.open(io.BytesIO(drawn)) as picture:
    assert picture.size == (200, 150)
    seen = np.asarray(picture.convert("RGB")).astype(int)
  inside = seen[(y + height // 2) // 2, (x + width // 2) // 2]
  assert inside[0] > 200 and inside[1] < 80  # the person is not drawn over
  beside = seen[(y + height // 2) // 2, (x + width) // 2 + 1]
  assert beside[0] > 150 and 90 < beside[1] < 200  # orange
  assert np.abs(seen[100:, 100:] - figures.GRAY).max() < 8


def killed(scenes, at, seconds):
  """One run of another process, ended as by SIGKILL unless it is done before."""
  given = (scenes, at, seconds, "--detect")
  done = subprocess.run(
    [sys.executable, "-m", "tests.search.child", *map(str, given)],
    cwd=command.ROOT,
    env={**os.environ, "PYTHONPATH": str(command.ROOT)},
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode in (0, -9), done.stderr


def test_a_kill_never_leaves_half_of_a_frames_people(tmp_path, trusted):
  root, at, whole = tmp_path / "frames", tmp_path / "index", {}
  for n in range(24):
    several = [("green", 12 * i, n, 6, 20 + n % 7) for i in range(n % 6)]
    figures.write(root / f"{n:02}.png", *several)
    whole[f"{n:02}.png"] = len(several)
  for seconds in (0.05, 0.15):
    killed(root, at, seconds)
    if any((at / "lance" / "pictures.lance" / "_versions").glob("*.manifest")):
      assert people(at).items() <= whole.items()
  place.index(root, at, detector=figures.Figures())
  assert people(at) == whole
  done, _ = place.index(root, at, detector=figures.Figures())
  assert counts(done) == UNTOUCHED and done.unchanged == 24
