"""Shards hold the records of their source, and are written on after a stop."""

import concurrent.futures
import dataclasses
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tests.data import bad_folder, layouts
from tests.data.noise import Pictures, dataset
from tpr_jax.data import build, images
from tpr_jax.data.record import Dataset, DatasetError, ImageError, Record, SplitError
from tpr_jax.data.shards import format as files
from tpr_jax.data.shards import read
from tpr_jax.data.shards.write import Recipe, finished, write_shards

SMALL = Recipe(shard_bytes=12_000)  # some 8 pictures of noise


def load(folder, split="train", **options):
  return build.dataset("shards", folder, split, options)


def written(folder, data=None, recipe=SMALL, **options):
  data = dataset(40) if data is None else data
  write_shards(data, folder, recipe, **options)
  return load(folder, data.split)


def contents(folder):
  return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


# ---- what is written is what is read


@pytest.mark.parametrize("name", layouts.WRITERS)
def test_shards_give_the_same_records(name, tmp_path):
  layouts.WRITERS[name](tmp_path)
  for original in build.all_splits(name, tmp_path):
    write_shards(original, tmp_path / "out")
  found = build.all_splits("shards", tmp_path / "out")
  originals = build.all_splits(name, tmp_path)
  for one, other in zip(found, originals, strict=True):
    assert (one.name, one.split) == (other.name, other.split)
    assert list(one.records) == list(other.records)
    assert tuple(one.identities) == other.identities
    assert one.caption_count == other.caption_count
    again = pickle.loads(pickle.dumps(one))
    for place, record in enumerate(other.records):
      want = other.load_image.read_bytes(record)
      assert one.load_image.read_bytes(one.records[place]) == want
      picture = again.load_image(again.records[place], None)
      assert np.array_equal(picture, other.load_image(record, None))


def test_a_set_is_shards_an_index_and_a_manifest(tmp_path):
  steps = []
  data = written(tmp_path, progress=lambda *done: steps.append(done))
  assert steps == [(i + 1, 40) for i in range(40)]
  manifest = files.read_manifest(tmp_path / "noise" / "train")
  count = len(manifest.shards)
  names = [f"noise-{i:05}-of-{count:05}.array_record" for i in range(count)]
  assert 4 < count < 10 and [shard.file for shard in manifest.shards] == names
  there = {path.name for path in (tmp_path / "noise" / "train").iterdir()}
  assert there == {*names, *files.INDEX, files.DAMAGE, files.MANIFEST}
  assert [path.name for path in (tmp_path / "noise").iterdir()] == ["train"]
  facts = (manifest.records, manifest.captions, manifest.identities)
  assert facts == (40, 60, 14) and manifest.left_out == 0
  # Every caption of the records, in their order, with the labels that training has.
  rows = [(i, j) for i, r in enumerate(data.records) for j in range(len(r.captions))]
  stream = data.stream
  assert list(zip(stream.record, stream.number, strict=True)) == rows
  people = data.identities.tolist()
  assert people == sorted({record.identity for record in data.records})
  labels = [people.index(data.records[i].identity) for i, _ in rows]
  assert stream.labels.tolist() == labels and stream.labels.dtype == np.int32


def test_records_are_a_sequence(tmp_path):
  records = written(tmp_path).records
  assert records[-1] == records[39] and records[39].image == "39.png"
  assert [record.place for record in records] == list(range(40))
  for wrong in (40, -41):
    with pytest.raises(IndexError):
      records[wrong]
  with pytest.raises(TypeError):
    records[1:3]


def test_drawn_pictures_become_jpegs_and_texts_stay_as_they_are(tmp_path):
  truth = {"view": 2, "boxes": [[0.5, 1.0]], "group": None, "é": "人"}
  said = ("Text é.", "人", "half \ud83d of a pair", "")
  record = Record("train/ü/1", 7, said, "train", "drawn", truth, ("caption 9: no",))
  data = Dataset("drawn", "train", (record,), lambda r, size: np.zeros((9, 5, 3), "u1"))
  found = written(tmp_path, data)
  assert list(found.records) == [record]
  assert found.load_image.read_bytes(found.records[0])[:2] == b"\xff\xd8"
  assert found.load_image(found.records[0], None).shape == (9, 5, 3)
  with pytest.raises(DatasetError, match="no record of this set"):
    found.load_image(record, None)


def test_pictures_are_resized_as_training_does(tmp_path):
  data = dataset(6)
  found = written(tmp_path, data, Recipe(resize=(24, 12), quality=90))
  assert files.read_manifest(tmp_path / "noise/train").resize == (24, 12)
  from tpr_jax.data import transforms

  for record in found.records:
    want = transforms.Resize(24, 12)(dict(image=data.load_image(record, None)), None)
    want = images.decode(images.encode_jpeg(want["image"], 90))
    assert np.array_equal(found.load_image(record, None), want)
  drawn = []
  sized = dataset(
    2, load=lambda r, size: drawn.append(size) or np.zeros((4, 4, 3), "u1")
  )
  write_shards(sized, tmp_path / "b", Recipe(size=(8, 6)))
  write_shards(sized, tmp_path / "c", Recipe(size=(8, 6), resize=(5, 4)))
  assert drawn == [(8, 6)] * 2 + [(5, 4)] * 2  # drawn at once at the size that is kept


def test_threads_read_any_record_at_any_time(tmp_path, monkeypatch):
  monkeypatch.setattr(read, "MOST_OPEN", 2)
  data = written(tmp_path, dataset(60))

  def look(place):
    record = data.records[place]
    picture = Pictures()(record, None)
    return record.image == f"{place}.png" and picture.shape == (
      data.load_image(record, None).shape
    )

  places = np.random.default_rng(0).integers(0, 60, 2_000).tolist()
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    assert all(pool.map(look, places))


def test_a_set_can_be_written_from_shards(tmp_path):
  first = written(tmp_path / "a")
  again = written(tmp_path / "b", first, Recipe(shard_bytes=30_000))
  assert list(again.records) == list(first.records)
  assert len(again.records._manifest.shards) < len(first.records._manifest.shards)
  assert again.stream.digest == first.stream.digest  # training has the same rows


# ---- bad data


def test_what_is_bad_travels_with_its_reason(tmp_path):
  bad_folder.write(tmp_path / "set")
  original = bad_folder.load(tmp_path / "set")
  found = written(tmp_path / "out", original)
  assert list(found.records) == list(original.records)
  for record, other in zip(found.records, original.records, strict=True):
    try:
      want = original.load_image(other, None)
    except ImageError as error:
      with pytest.raises(type(error)) as caught:
        found.load_image(record, None)
      assert (str(caught.value), caught.value.kind) == (str(error), error.kind)
    else:
      assert np.array_equal(found.load_image(record, None), want)
  # Known from the start is what the writing has met: files that it could not read.
  kinds = {kind: sorted(names) for kind, names in found.stream.bad.items()}
  name = bad_folder.name
  assert kinds == {
    "missing": [name(n) for n in (2, 36, 37, 38, 39)],
    "unopened": [name(17), name(22)],
    "caption": [name(43), name(46)],
  }
  assert found.stream.left_out == 2
  resized = written(tmp_path / "small", original, Recipe(resize=(24, 12)))
  assert set(resized.stream.bad) == set(bad_folder.HARM.values())  # all were decoded
  with pytest.raises(ImageError, match=r"images/09\.png: damaged or truncated"):
    resized.load_image(resized.records[9], None)


def test_captions_that_are_no_text_are_left_out_and_listed(tmp_path):
  said = ("A man.", None, 3.5, "In red.")
  records = (Record("a.png", 0, said, "train"), Record("b.png", 1, (b"x",), "train"))
  data = Dataset("d", "train", records, lambda *_: np.zeros((9, 5, 3), "u1"))
  found = written(tmp_path, data)
  assert [r.captions for r in found.records] == [("A man.", "In red."), ()]
  assert found.stream.record.tolist() == [0, 0] and found.stream.left_out == 3
  assert found.stream.number.tolist() == [0, 1]
  reasons = found.stream.bad["caption"]
  assert "caption 1 is no text but NoneType None" in reasons["a.png"]
  assert "caption 0 is no text but bytes b'x'" in reasons["b.png"]
  assert tuple(found.identities) == (0, 1)  # as it is without shards


def test_too_many_bad_pictures_stop_it(tmp_path):
  data = dataset(40, broken=(3, 7, 30))
  with pytest.raises(DatasetError) as caught:
    write_shards(data, tmp_path, SMALL, max_broken=0.05)
  message = str(caught.value)
  assert message.startswith("3 of the 40 pictures of noise/train are bad so far, more")
  for part in ("allows (2)", "3.png: cut short", "remove", "max_broken=SHARE"):
    assert part in message
  with pytest.raises(SplitError, match="was not written to its end"):
    load_one(tmp_path)


def load_one(folder):
  """The split of a set of which no other split is whole."""
  written(folder, dataclasses.replace(dataset(4), split="test"))
  return load(folder)


# ---- stopped, and going on


class Stop(Exception):
  """What ends a call somewhere."""


def stop_at(number):
  def progress(done, total):
    if done == number:
      raise Stop

  return progress


def test_it_goes_on_after_any_record(tmp_path):
  data = dataset(40, broken=(5, 33))
  straight = tmp_path / "straight"
  write_shards(data, straight, SMALL)
  for number in (1, 8, 9, 25, 40):
    place = tmp_path / str(number)
    with pytest.raises(Stop):
      write_shards(data, place, SMALL, progress=stop_at(number))
    with pytest.raises(DatasetError):
      load(place)
    steps = []
    write_shards(data, place, SMALL, progress=lambda d, _: steps.append(d))  # noqa: B023
    assert number < 10 or len(steps) < 40  # whole shards are not written again
    assert contents(place / "noise/train") == contents(straight / "noise/train")
    assert finished(data, place, SMALL).records == 40


def test_it_goes_on_wherever_the_end_was_cut_off(tmp_path, monkeypatch):
  data, straight = dataset(20), tmp_path / "straight"
  write_shards(data, straight, SMALL)
  real, calls = os.replace, 0

  def replace(*args):
    nonlocal calls
    calls += 1
    if calls == limit:
      raise Stop
    return real(*args)

  for limit in range(1, 100):
    calls, place = 0, tmp_path / str(limit)
    monkeypatch.setattr(os, "replace", replace)
    try:
      write_shards(data, place, SMALL)
      break  # it was not stopped any more
    except Stop:
      pass
    monkeypatch.setattr(os, "replace", real)
    write_shards(data, place, SMALL)
    assert contents(place / "noise/train") == contents(straight / "noise/train")
  assert limit > 10


def test_other_records_and_another_recipe_are_refused(tmp_path):
  with pytest.raises(Stop):
    write_shards(dataset(40), tmp_path, SMALL, progress=stop_at(30))
  with pytest.raises(DatasetError, match=r"was begun with .*\"quality\": 95.*remove"):
    write_shards(dataset(40), tmp_path, dataclasses.replace(SMALL, quality=80))
  with pytest.raises(DatasetError, match=r"was begun with .*\"records\": 40"):
    write_shards(dataset(41), tmp_path, SMALL)
  records = dataset(40).records
  turned = dataclasses.replace(dataset(40), records=records[1:] + records[:1])
  with pytest.raises(DatasetError, match=r"other records: number 0 was not 1\.png"):
    write_shards(turned, tmp_path, SMALL)
  write_shards(dataset(40), tmp_path, SMALL)
  with pytest.raises(DatasetError, match="is there already"):
    write_shards(dataset(40), tmp_path, SMALL)
  with pytest.raises(DatasetError, match=r"there already, with .*'records': 40"):
    finished(dataset(41), tmp_path, SMALL)
  assert finished(dataset(4), tmp_path / "none", SMALL) is None


def test_bad_requests_are_refused(tmp_path):
  for recipe, message in (
    (dict(quality=101), "quality is 101"),
    (dict(shard_bytes=0), "holds nothing"),
    (dict(resize=(0, 5)), r"resize is \(0, 5\)"),
  ):
    with pytest.raises(DatasetError, match=message):
      Recipe(**recipe)
  with pytest.raises(DatasetError, match="no records to write"):
    write_shards(dataset(0), tmp_path)
  with pytest.raises(DatasetError, match=r"'a/b' cannot be the name of files"):
    write_shards(dataclasses.replace(dataset(1), name="a/b"), tmp_path)
  mute = tuple(dataclasses.replace(r, captions=()) for r in dataset(3).records)
  with pytest.raises(DatasetError, match=r"no caption in 3 records\n.*0\.png"):
    write_shards(dataclasses.replace(dataset(3), records=mute), tmp_path)


_FULL = """
import resource, signal, sys
from tests.data.noise import dataset
from tpr_jax.data.record import DatasetError
from tpr_jax.data.shards.write import Recipe, write_shards
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
  write_shards(dataset(1_000), sys.argv[1], Recipe(shard_bytes=400_000))
except DatasetError as error:
  print(error)
"""


def test_a_full_disk_is_told_and_the_call_goes_on(tmp_path):
  done = subprocess.run(
    [sys.executable, "-c", _FULL, str(tmp_path)], capture_output=True, text=True
  )
  assert "cannot be written: write() failed: File too large" in done.stdout, done.stderr
  assert "is there room left?" in done.stdout
  recipe = Recipe(shard_bytes=400_000)
  assert len(written(tmp_path, dataset(1_000), recipe).records) == 1_000
