"""ArrayRecord archives hold the same records and the same bytes as the source."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tests.data import layouts
from tpr_jax.data import build, images, tfds_builders
from tpr_jax.data.record import Dataset, DatasetError, ImageError, Record, SplitError


def same(archived, original):
  assert archived.split == original.split
  assert archived.records == original.records
  load_image = pickle.loads(pickle.dumps(archived.load_image))
  for record in original.records:
    assert load_image.read_bytes(record) == original.load_image.read_bytes(record)
    np.testing.assert_array_equal(
      load_image(record, None), original.load_image(record, None)
    )


@pytest.mark.parametrize("name", layouts.WRITERS)
def test_an_archive_gives_the_same_records(name, tmp_path):
  layouts.WRITERS[name](tmp_path)
  originals = build.all_splits(name, tmp_path)
  steps = []
  path = tfds_builders.write_archive(
    originals, tmp_path / "out", name, progress=lambda *done: steps.append(done)
  )
  total = sum(len(d.records) for d in originals)
  assert steps == [(i + 1, total) for i in range(total)]
  assert path == tmp_path / "out" / name / "1.0.0"
  assert list((tmp_path / "out").iterdir()) == [path.parent]  # nothing else is left
  archived = build.all_splits("archive", tmp_path / "out")
  assert len(archived) == len(originals)
  for one, other in zip(archived, originals, strict=True):
    same(one, other)


# In a process of its own: what is imported there is what a user's process imports.
_BUILD_AND_READ = """
import sys
import tensorflow_datasets as tfds
from tpr_jax.data import build, tfds_builders
root, out, name = sys.argv[1:]
classes = {c.name: c for c in tfds_builders.PUBLISHED}
builder = classes[name](data_dir=out, file_format="array_record")
builder.download_and_prepare(
  download_config=tfds.download.DownloadConfig(manual_dir=root)
)
source = tfds.data_source(name, split="test", data_dir=out)
record = build.dataset(name, root, "test", {}).records[0]
assert source[0]["name"].decode() == record.image
assert source[0]["identity"] == record.identity
assert source[0]["image"].shape == (30, 14, 3), source[0]["image"].shape
for dataset in build.all_splits("archive", out, {"name": name}):
  original = build.dataset(name, root, dataset.split, {})
  assert dataset.records == original.records
  dataset.load_image(dataset.records[0], None)
loaded = [m for m in sys.modules if m.split(".")[0] == "tensorflow"]
assert not loaded, loaded
print("fine")
"""


def test_builders_read_the_users_copy_and_never_load_tensorflow(tmp_path):
  layouts.cuhk_pedes(tmp_path / "root")
  arguments = [str(tmp_path / "root"), str(tmp_path / "out"), "cuhk_pedes"]
  done = subprocess.run(
    [sys.executable, "-c", _BUILD_AND_READ, *arguments], capture_output=True, text=True
  )
  assert done.stdout.strip().endswith("fine"), done.stdout + done.stderr


def test_builders_are_named_like_their_sources():
  assert {c.name for c in tfds_builders.PUBLISHED} == set(layouts.WRITERS)
  assert all(c.name == c.SOURCE for c in tfds_builders.PUBLISHED)


def test_captions_can_come_from_truth_as_from_the_source(tmp_path):
  layouts.ufine6926(tmp_path)
  tfds_builders.write_archive(
    build.all_splits("ufine6926", tmp_path), tmp_path / "out", "ufine6926"
  )
  coarse = {"captions": "coarse"}
  original = build.dataset("ufine6926", tmp_path, "test", coarse)
  archived = build.dataset("archive", tmp_path / "out", "test", coarse)
  assert archived.records == original.records
  with pytest.raises(DatasetError, match=r"no key 'coarsest'.*did you mean 'coarse'"):
    build.dataset("archive", tmp_path / "out", "test", {"captions": "coarsest"})


class Drawn:
  """Pictures that exist as no file, like rendered people."""

  def __call__(self, record, size=None):
    rows, cols = np.mgrid[0:40, 0:16].astype(np.uint8)
    return np.stack([rows, cols, rows + np.uint8(record.identity)], axis=2)


def test_drawn_pictures_become_jpegs(tmp_path):
  truth = {"view": 2, "boxes": [[0.5, 0.5, 0.25, 1.0]], "twin_group": None}
  record = Record("train/000007/1", 7, ("Text é.", "人"), "train", "rendered", truth)
  dataset = Dataset("rendered", "train", (record,), Drawn())
  tfds_builders.write_archive([dataset], tmp_path, "rendered", quality=90)
  archived = build.dataset("archive", tmp_path, "train", {})
  assert archived.records == (record,)
  want = Drawn()(record).astype(int)
  assert archived.load_image.read_bytes(record)[:2] == b"\xff\xd8"
  assert np.abs(archived.load_image(record, None) - want).mean() < 4


def test_rendered_people_come_back_with_their_truth(tmp_path):
  options = {"identities": 3, "views": 2, "twins": 2, "word_noise": 0.3}
  originals = [
    build.dataset("rendered", None, split, {**options, "regions": True})
    for split in ("train", "test")
  ]
  tfds_builders.write_archive(originals, tmp_path, "rendered", size=(96, 40))
  for original in originals:
    archived = build.dataset("archive", tmp_path, original.split, {})
    assert archived.records == original.records
    drawn = original.load_image(original.records[0], (96, 40)).astype(int)
    assert np.abs(archived.load_image(archived.records[0], None) - drawn).mean() < 6


def test_broken_pictures_travel_as_they_are_and_missing_ones_stop_it(tmp_path):
  path = layouts.rstpreid(tmp_path)
  picture = path.parent / "imgs/0003_c5_0022.jpg"
  picture.write_bytes(b"not a picture")
  originals = build.all_splits("rstpreid", tmp_path)
  tfds_builders.write_archive(originals, tmp_path / "out", "rstpreid")
  archived = build.dataset("archive", tmp_path / "out", "test", {})
  with pytest.raises(ImageError, match=r"0003_c5_0022\.jpg: not a picture"):
    archived.load_image(archived.records[0], None)
  picture.unlink()
  with pytest.raises(images.MissingImage, match=r"0003_c5_0022\.jpg"):
    tfds_builders.write_archive(originals, tmp_path / "out", "other")
  with pytest.raises(DatasetError, match="no archive 'other'"):  # no half of it is left
    build.dataset("archive", tmp_path / "out", "test", {"name": "other"})


def test_bad_requests_are_refused(tmp_path):
  layouts.rstpreid(tmp_path)
  originals = build.all_splits("rstpreid", tmp_path)
  out = tmp_path / "out"
  with pytest.raises(DatasetError, match="archive name 'My-Set'"):
    tfds_builders.write_archive(originals, out, "My-Set")
  with pytest.raises(DatasetError, match=r"found the splits \['test', 'test'\]"):
    tfds_builders.write_archive(originals[-1:] * 2, out, "a")
  with pytest.raises(DatasetError, match="quality is 101"):
    tfds_builders.write_archive(originals, out, "a", quality=101)
  tfds_builders.write_archive(originals[:1], out, "a")
  with pytest.raises(DatasetError, match="is there already"):
    tfds_builders.write_archive(originals, out, "a")
  with pytest.raises(SplitError, match="no split 'test'; it has train"):
    build.dataset("archive", out, "test", {})
  tfds_builders.write_archive(originals, out, "b")
  with pytest.raises(
    DatasetError, match=r"holds a, b\. Choose one with the option name="
  ):
    build.dataset("archive", out, "test", {})
  with pytest.raises(DatasetError, match=r"no archive 'c' in .*\(it holds a, b\)"):
    build.dataset("archive", out, "test", {"name": "c"})
  with pytest.raises(DatasetError, match="archive is not there: no folder"):
    build.dataset("archive", tmp_path / "nowhere", "test", {})


def test_an_archive_of_something_else_is_refused(tmp_path):
  layouts.rstpreid(tmp_path)
  originals = build.all_splits("rstpreid", tmp_path)
  path = tfds_builders.write_archive(originals, tmp_path / "out", "a")
  features = json.loads((path / "features.json").read_text())
  del features["featuresDict"]["features"]["truth"]
  (path / "features.json").write_text(json.dumps(features))
  with pytest.raises(DatasetError, match="not written by --mode=archive"):
    build.dataset("archive", tmp_path / "out", "test", {})


def test_a_damaged_archive_gives_errors_of_pictures_and_of_the_dataset(tmp_path):
  layouts.ufine6926(tmp_path)
  originals = build.all_splits("ufine6926", tmp_path)
  path = tfds_builders.write_archive(originals, tmp_path / "out", "a")
  data = build.dataset("archive", tmp_path / "out", "train", {})
  (file,) = path.glob("*train.array_record*")
  good = file.read_bytes()
  # A loader that has yet to open the file, as in a worker process.
  fresh = pickle.loads(pickle.dumps(data.load_image))
  for harm in (lambda: file.write_bytes(bytes(len(good))), file.unlink):
    harm()
    with pytest.raises(ImageError, match=r"images/1\.jpg: its record in .* cannot be"):
      fresh(data.records[0], None)
  at = 100  # in the first record, after the head of its chunk
  file.write_bytes(good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :])
  with pytest.raises(DatasetError, match=r"record 0 of train cannot be read: .*again"):
    build.dataset("archive", tmp_path / "out", "train", {})


def test_a_record_without_captions_is_archived(tmp_path):
  path = layouts.ufine6926(tmp_path)
  entries = json.loads(path.read_text("utf-8"))
  entries[0]["captions"], entries[1]["captions"] = [], ["", "Fine."]
  path.write_text(json.dumps(entries), "utf-8")
  originals = build.all_splits("ufine6926", tmp_path)
  tfds_builders.write_archive(originals, tmp_path / "out", "a")
  first, second = build.dataset("archive", tmp_path / "out", "train", {}).records
  assert first.captions == () and second.captions == ("", "Fine.")
  entries[1].pop("coarse")
  path.write_text(json.dumps(entries), "utf-8")
  originals = build.all_splits("ufine6926", tmp_path)
  tfds_builders.write_archive(originals, tmp_path / "out", "b")
  options = {"name": "b", "captions": "coarse"}
  first, second = build.dataset("archive", tmp_path / "out", "train", options).records
  assert first.captions == ("Person 0, briefly.",) and second.captions == ()
  assert second.unusable[0].startswith("no key 'coarse'; found the keys ")
