"""Indexing: new, changed, moved and deleted files, broken ones, side-cars, refusals."""

import datetime
import json
import os
import shutil

import numpy as np
import pytest

from tests.search import place
from tpr_jax.core import lock
from tpr_jax.search import done as done_file
from tpr_jax.search import indexing
from tpr_jax.search.problems import SearchError
from tpr_jax.search.store import Store

UNTOUCHED = dict(new=0, changed=0, renamed=0, deleted=0, encoded=0)


def counts(done, *names):
  return {name: getattr(done, name) for name in names or UNTOUCHED}


def rows(folder, columns=("hash", "problem", "time", "width", "height")):
  """path -> values, read anew."""
  batches = Store(folder).read(["path", *columns])
  listed = [row for batch in batches for row in batch.to_pylist()]
  found = {row.pop("path"): row for row in listed}
  assert len(found) == len(listed)
  return found


def test_a_second_run_does_nothing_and_loads_nothing(images, tmp_path, trusted):
  done, said = place.index(images, tmp_path / "index")
  assert counts(done, "new", "encoded", "broken") == dict(new=6, encoded=6, broken=0)
  assert f"{images}: 6 pictures" in said
  model = place.Model()
  again, _ = place.index(images, tmp_path / "index", model)
  assert counts(again) == UNTOUCHED and again.unchanged == 6 and model.loads == 0
  found = rows(tmp_path / "index")
  assert sorted(found) == [f"cam{i % 2}/{i:03}.png" for i in (0, 2, 4, 1, 3, 5)]
  past = datetime.datetime.fromtimestamp(place.PAST, datetime.UTC).replace(tzinfo=None)
  assert {row["time"] for row in found.values()} == {past}
  assert {(row["width"], row["height"]) for row in found.values()} == {(6, 12)}


def test_times_too_young_to_be_trusted_are_looked_at_again(images, tmp_path):
  path = place.write(images / "plain.ppm", "red", 70)
  size = path.stat().st_size
  place.index(images, tmp_path / "index")  # the files are of a moment ago
  model = place.Model()
  done, _ = place.index(images, tmp_path / "index", model)
  assert counts(done) == UNTOUCHED and done.unchanged == 7 and model.loads == 0
  place.write(path, "red", 71)  # as large, and of the same time
  assert path.stat().st_size == size
  done, _ = place.index(images, tmp_path / "index", model)
  assert counts(done) == {**UNTOUCHED, "changed": 1, "encoded": 1}


def test_only_what_differs_is_encoded(images, tmp_path, trusted):
  place.index(images, tmp_path / "index")
  place.write(images / "new" / "ü 人's.png", "blue", 77)
  place.write(images / "cam0" / "000.png", "green", 78)
  (images / "cam1" / "001.png").rename(images / "moved.png")
  shutil.copy(images / "cam0" / "002.png", images / "copied.png")
  (images / "cam1" / "003.png").unlink()
  os.utime(images / "cam0" / "004.png", (5, 5))
  before = rows(tmp_path / "index", ("hash",))
  done, _ = place.index(images, tmp_path / "index")
  assert counts(done) == dict(new=2, changed=1, renamed=1, deleted=1, encoded=2)
  assert done.unchanged == 3
  found = rows(tmp_path / "index")
  assert "cam1/003.png" not in found and "cam1/001.png" not in found and len(found) == 7
  assert found["moved.png"]["hash"] == before["cam1/001.png"]["hash"]
  assert found["cam0/004.png"]["time"] == datetime.datetime(1970, 1, 1, 0, 0, 5)
  index = place.opened(tmp_path / "index")
  best = index.search("blue", top=3)
  names = ["cam0/002.png", "cam1/005.png", "copied.png", "new/ü 人's.png"]
  assert set(place.paths(best)) <= set(names)
  assert set(place.paths(index.search("green", top=3))) == {
    *("moved.png", "cam0/000.png", "cam0/004.png")
  }
  model = place.Model()
  again, _ = place.index(images, tmp_path / "index", model)
  assert counts(again) == UNTOUCHED and model.loads == 0


@pytest.mark.parametrize("commit", [1, 1024])
def test_names_that_move_on_by_one(tmp_path, trusted, monkeypatch, commit):
  monkeypatch.setattr(indexing, "COMMIT", commit)
  images = place.folder(tmp_path / "images", 3)
  place.index(images, tmp_path / "index")
  before = rows(tmp_path / "index", ("hash",))
  # 0 -> 1 -> 2 -> 0: every content is known, each under another name.
  names = ["cam0/000.png", "cam1/001.png", "cam0/002.png"]
  data = [(images / name).read_bytes() for name in names]
  for at, name in enumerate(names):
    (images / name).write_bytes(data[at - 1])
  done, _ = place.index(images, tmp_path / "index")
  assert done.changed == 3 and done.encoded == (1 if commit == 1 else 0)
  found = rows(tmp_path / "index", ("hash",))
  for at, name in enumerate(names):
    assert found[name] == before[names[at - 1]]
  index = place.opened(tmp_path / "index")
  assert place.paths(index.search("red", top=1)) == ["cam1/001.png"]
  assert place.paths(index.search("green", top=1)) == ["cam0/002.png"]


def test_broken_pictures_are_listed_and_cost_nothing_later(images, tmp_path, trusted):
  bad = images / "cam0" / "bad.jpg"
  bad.write_bytes(b"no picture at all")
  (images / "empty.png").write_bytes(b"")
  (images / "lost.png").symlink_to(tmp_path / "nowhere.png")
  whole = place.write(tmp_path / "whole.png").read_bytes()
  (images / "cut.png").write_bytes(whole[: len(whole) // 2])
  done, said = place.index(images, tmp_path / "index")
  assert counts(done, "new", "encoded", "broken") == dict(new=9, encoded=6, broken=4)
  assert any("4 broken" in line for line in said)
  listed = json.loads((tmp_path / "index" / done_file.BROKEN).read_text())
  names = {name: why for kind in listed["found"].values() for name, why in kind.items()}
  assert set(names) == {"cam0/bad.jpg", "empty.png", "lost.png", "cut.png"}
  assert "not a picture" in names["cam0/bad.jpg"] and "link" in names["lost.png"]
  model = place.Model()
  again, _ = place.index(images, tmp_path / "index", model)
  assert again.broken == 4 and model.loads == 0
  index = place.opened(tmp_path / "index")
  assert len(index) == 6 and len(index.search("red", top=100).hits) == 6
  for name in ("cam0/bad.jpg", "empty.png", "cut.png"):
    (images / name).unlink()
  place.write(images / "empty.png", "red", 9)
  (images / "lost.png").unlink()
  done, _ = place.index(images, tmp_path / "index")
  assert counts(done, "changed", "deleted", "broken") == dict(
    changed=1, deleted=2, broken=0
  )
  assert not (tmp_path / "index" / done_file.BROKEN).exists()


def test_a_picture_that_breaks_leaves_the_results(images, tmp_path, trusted):
  place.index(images, tmp_path / "index")
  (images / "cam0" / "000.png").write_bytes(b"broken")
  place.write(images / "cam1" / "001.png", "blue", 60)  # in the same batch
  done, _ = place.index(images, tmp_path / "index")
  assert counts(done, "changed", "broken", "encoded") == dict(
    changed=2, broken=1, encoded=1
  )
  found = place.paths(place.opened(tmp_path / "index").search("red", top=9))
  assert len(found) == 5 and "cam0/000.png" not in found


def test_what_cannot_be_opened_is_tried_again(images, tmp_path, trusted):
  os.mkfifo(images / "pipe.png")
  done, _ = place.index(images, tmp_path / "index")
  assert (done.new, done.broken) == (7, 1)
  done, _ = place.index(images, tmp_path / "index")
  assert counts(done) == UNTOUCHED and (done.unchanged, done.broken) == (7, 1)
  (images / "pipe.png").unlink()
  place.write(images / "pipe.png", "red", 80)
  done, _ = place.index(images, tmp_path / "index")
  assert (done.changed, done.encoded, done.broken) == (1, 1, 0)


def test_exif_says_when(images, tmp_path):
  from PIL import Image

  exif = Image.Exif()
  exif[0x0132] = "2024:05:06 07:08:09"
  exif.get_ifd(0x8769)[0x9003] = "2025:05:06 07:08:09"
  place.write(images / "dated.jpg", "red", 50, exif=exif)
  zeros = Image.Exif()
  zeros[0x0132] = "0000:00:00 00:00:00"
  place.write(images / "undated.jpg", "red", 51, exif=zeros)
  place.index(images, tmp_path / "index")
  found = rows(tmp_path / "index")
  assert found["dated.jpg"]["time"] == datetime.datetime(2025, 5, 6, 7, 8, 9)
  assert found["undated.jpg"]["time"].year == 2023  # of the file


def test_a_side_car_joins_and_may_change(images, tmp_path, trusted):
  table = tmp_path / "table.csv"
  table.write_text(
    "path,camera,floor,time\ncam0/000.png,gate,1,2026-03-01\ncam1/001.png,yard,2,\n"
    "other.png,x,3,\n"
  )
  _, said = place.index(images, tmp_path / "index", metadata=table)
  assert any("1 of 3 rows name no picture" in line for line in said)
  index = place.opened(tmp_path / "index")
  assert index.columns["floor"] == "whole number"
  search = lambda where: sorted(place.paths(index.search("red", where=where)))
  assert search("camera = 'gate' and floor < 2") == ["cam0/000.png"]
  assert search("camera is null") == [f"cam{i % 2}/{i:03}.png" for i in (2, 4, 3, 5)]
  assert search("time > '2026-01-01'") == ["cam0/000.png"]
  assert search("file_time < '2026-01-01' and Floor is not null") == [
    *("cam0/000.png", "cam1/001.png")
  ]
  # Another table: another kind of column, a column less, one more; nothing is encoded.
  table.write_text("path,camera,staff\ncam0/000.png,3,true\ncam1/005.png,4,false\n")
  model = place.Model()
  done, _ = place.index(images, tmp_path / "index", model, metadata=table)
  assert model.loads == 0 and done.described == 2 and done.unchanged == 6
  assert search("floor = 1") == ["cam0/000.png"]  # the version that it opened
  assert index.refresh() and not index.refresh()
  assert search("staff = true or camera = 4") == ["cam0/000.png", "cam1/005.png"]
  assert search("time > '2026-01-01'") == []
  with pytest.raises(SearchError, match="no column 'floor'"):
    search("floor = 1")
  # Without it, what it said stays; the changed picture keeps its own.
  place.write(images / "cam0" / "000.png", "blue", 99)
  place.write(images / "new.png", "blue", 98)
  _, said = place.index(images, tmp_path / "index")
  assert any("have no camera, staff:" in line for line in said)
  index.refresh()
  assert search("camera = 3") == ["cam0/000.png"]
  again, _ = place.index(images, tmp_path / "index", model, metadata=table)
  assert model.loads == 0 and again.described == 0


def test_another_model_is_refused(images, tmp_path):
  place.index(images, tmp_path / "index")
  with pytest.raises(SearchError, match=r"made by runs/weights .*runs/other.*--index"):
    place.index(images, tmp_path / "index", place.Model("other"))
  with pytest.raises(SearchError, match=r"made by runs/weights .*runs/other"):
    place.opened(tmp_path / "index", place.Model("other")).search("red")
  place.write(images / "new.png", "red", 60)
  for act in (
    lambda model: place.index(images, tmp_path / "index", model),
    lambda model: place.opened(tmp_path / "index", model).search("red"),
  ):
    with pytest.raises(SearchError, match=r"image_size: \[4, 2\] -> \[9, 9\]"):
      act(place.Model(size=(9, 9)))
  assert len(place.opened(tmp_path / "index")) == 6


def test_rows_that_are_not_finite_are_refused(images, tmp_path):
  with pytest.raises(SearchError, match=r"cam0/000.png is not finite"):
    place.index(images, tmp_path / "index", place.Model(broken=True))


def test_folders_that_cannot_be_meant(images, tmp_path):
  (tmp_path / "empty").mkdir()
  with pytest.raises(SearchError, match="nothing to index"):
    place.index(tmp_path / "empty", tmp_path / "none")
  place.index(images, tmp_path / "index")
  with pytest.raises(SearchError, match="an index is of one folder"):
    place.index(tmp_path / "empty", tmp_path / "index")
  (tmp_path / "full").mkdir()
  (tmp_path / "full" / "config.json").write_text("{}")
  with pytest.raises(SearchError, match=r"holds config.json and no index.json"):
    place.index(images, tmp_path / "full")
  assert os.listdir(tmp_path / "full") == ["config.json"]
  busy = pytest.raises(SearchError, match="another --mode=index")
  with lock.alone(tmp_path / "index" / ".index.lock", "test"), busy:
    place.index(images, tmp_path / "index")
  # An unmounted folder would take the whole index with it.
  kept = images.rename(tmp_path / "kept")
  images.mkdir()
  with pytest.raises(SearchError, match="not mounted"):
    place.index(images, tmp_path / "index")
  images.rmdir()
  done, said = place.index(kept, tmp_path / "index")  # the folder has moved
  assert counts(done) == UNTOUCHED and any("not there any more" in s for s in said)
  assert len(place.opened(tmp_path / "index")) == 6


def test_an_index_of_broken_pictures_alone(tmp_path):
  images = tmp_path / "images"
  images.mkdir()
  (images / "a.png").write_bytes(b"x")
  done, _ = place.index(images, tmp_path / "index")
  assert done.broken == 1
  index = place.opened(tmp_path / "index")
  assert len(index) == 0 and index.search("red").hits == ()
  assert index.search("red", where="size > 0").searched == 0


def test_stopped_in_the_middle_and_gone_on(tmp_path, monkeypatch):
  images = place.folder(tmp_path / "images", 30)
  monkeypatch.setattr(indexing, "BATCH", 4)
  monkeypatch.setattr(indexing, "COMMIT", 4)
  with pytest.raises(KeyboardInterrupt):
    place.index(images, tmp_path / "index", place.Model(stop_at=18))
  assert len(place.opened(tmp_path / "index")) == 16
  model = place.Model()
  done, _ = place.index(images, tmp_path / "index", model)
  assert done.new == model.seen == 14
  place.index(images, tmp_path / "straight")
  found, straight = (rows(tmp_path / n, ("hash",)) for n in ("index", "straight"))
  assert found == straight
  answers = [place.opened(tmp_path / n).search("red") for n in ("index", "straight")]
  assert place.paths(answers[0]) == place.paths(answers[1])
  scores = [[hit.score for hit in answer.hits] for answer in answers]
  np.testing.assert_allclose(*scores, rtol=1e-6)


def test_progress_is_told_where_there_is_no_terminal(images, tmp_path, monkeypatch):
  monkeypatch.setattr(indexing, "COMMIT", 2)
  monkeypatch.setattr(indexing, "BATCH", 1)
  _, said = place.index(images, tmp_path / "index")
  told = [line.partition(" pictures, ")[0] for line in said if "images/s" in line]
  assert told[:3] == ["2 of 6", "4 of 6", "6 of 6"]
