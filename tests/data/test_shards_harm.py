"""What is wrong with a set of shards is told: when it is opened, or for one record."""

import dataclasses
import json
import os
import pickle

import pytest

from tests.data.noise import dataset
from tests.data.test_shards import SMALL, Stop, load, stop_at, written
from tpr_jax.data.record import DatasetError, ImageError, SplitError
from tpr_jax.data.shards import format as files
from tpr_jax.data.shards import pieces
from tpr_jax.data.shards.write import write_shards


def harmed(tmp_path, harm):
  """The error of a set after `harm(folder)`."""
  written(tmp_path)
  harm(tmp_path / "noise" / "train")
  with pytest.raises(DatasetError) as caught:
    load(tmp_path)
  return str(caught.value)


def shard(folder, number=1):
  return sorted(folder.glob("*.array_record"))[number]


def edit(change):
  def harm(folder):
    manifest = json.loads((folder / files.MANIFEST).read_text())
    change(manifest)
    (folder / files.MANIFEST).write_text(json.dumps(manifest))

  return harm


@pytest.mark.parametrize(
  ("harm", "parts"),
  [
    (
      lambda f: os.truncate(shard(f), 100_000),
      [
        "noise-00001-of-0000",
        "has 100,000 bytes, and 131,072 were",
        "Copy these again",
      ],
    ),
    (lambda f: shard(f).unlink(), ["noise-00001-of-0000", "is missing"]),
    (lambda f: (f / files.CAPTIONS).write_bytes(b"x"), ["captions.npy has not the di"]),
    (lambda f: (f / files.NAMES).unlink(), ["names.npy is missing"]),
    (lambda f: (f / files.MANIFEST).write_text("{"), ["no manifest of --mode=shards"]),
    (lambda f: (f / files.MANIFEST).write_text("[]"), ["no manifest of --mode=shards"]),
    (edit(lambda m: m.pop("shards")), ["no manifest", "KeyError: 'shards'"]),
    (edit(lambda m: m.update(format="other 9")), ["format 'other 9', expected 'tpr_"]),
  ],
  ids=["cut", "gone", "index", "index gone", "json", "list", "key", "format"],
)
def test_harm_is_told_when_the_set_is_opened(tmp_path, harm, parts):
  message = harmed(tmp_path, harm)
  for part in parts:
    assert part in message, message


def test_a_record_that_is_damaged_is_one_broken_picture(tmp_path):
  data = written(tmp_path)
  path = shard(tmp_path / "noise" / "train")
  first = data.records._manifest.shards[0].records
  good = path.read_bytes()
  at = good.index(b"9.png") + 40  # in the head of record 9
  path.write_bytes(good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :])
  fresh, broken = load(tmp_path), []
  for place in [*range(40), *range(40)]:
    try:
      assert fresh.records[place] == data.records[place]
    except ImageError as error:
      broken.append((place, error.picture, error.kind))
      assert f"record {9 - first} of {path.name} cannot be read: " in str(error)
  # All others of the shard can still be read, before and after it.
  assert broken == [(9, f"record {9 - first} of {path.name}", "damaged")] * 2
  assert fresh.find(["9.png"]) == [9] == fresh.find([broken[0][1]])


def test_a_shard_that_is_lost_while_it_is_read(tmp_path):
  data, folder = written(tmp_path), tmp_path / "noise" / "train"
  path = shard(folder)
  first = data.records._manifest.shards[0].records
  assert data.records[first].image == f"{first}.png"
  good = path.read_bytes()
  os.truncate(path, 0)
  with pytest.raises(ImageError, match=r"record 1 of noise-00001.*cannot be read: ."):
    data.records[first + 1]
  path.write_bytes(good)
  assert data.records[first + 1].image == f"{first + 1}.png"  # it has come back
  fresh = load(tmp_path)
  path.write_bytes(bytes(len(good)))
  with pytest.raises(ImageError, match=r"cannot be read: .*mismatch"):
    fresh.records[first]
  path.write_bytes(shard(folder, 2).read_bytes())  # another shard in its place
  other = data.records._manifest.shards[2].records
  if other != data.records._manifest.shards[1].records:
    with pytest.raises(ImageError, match=f"it holds {other} records, not"):
      load(tmp_path).records[first]
  path.unlink()
  with pytest.raises(ImageError, match=r"No such file or directory"):
    pickle.loads(pickle.dumps(data)).records[first]


def test_sets_are_found_by_name(tmp_path):
  with pytest.raises(DatasetError, match="shards are not there: no folder was given"):
    load(None)
  with pytest.raises(DatasetError, match=r"no folder .*nowhere"):
    load(tmp_path / "nowhere")
  with pytest.raises(DatasetError, match=r"(?s)no set in .*--mode=shards writes them"):
    load(tmp_path)
  written(tmp_path)
  with pytest.raises(SplitError, match="has no split 'val'; it has train"):
    load(tmp_path, "val")
  with pytest.raises(DatasetError, match=r"no set 'other' in .*\(it holds noise\)"):
    load(tmp_path, name="other")
  write_shards(dataclasses.replace(dataset(5), name="more"), tmp_path)
  with pytest.raises(DatasetError, match=r"holds more, noise\. Choose one with the"):
    load(tmp_path)
  assert len(load(tmp_path, name="more").records) == 5


def test_names_are_found_again(tmp_path):
  records = written(tmp_path).records
  assert records.find(["7.png", "39.png", "none.png"]) == [7, 39]
  nowhere = ["record 99 of noise-00000-of-00006.array_record", "record 0 of x"]
  assert records.find(nowhere) == [] == records.find([])


def test_pieces_that_lost_their_shard_are_told(tmp_path):
  with pytest.raises(Stop):
    write_shards(dataset(40), tmp_path, SMALL, progress=stop_at(30))
  partial = files.partial(tmp_path / "noise" / "train")
  (partial / f"{pieces.PREFIX}00000.array_record").unlink()
  with pytest.raises(DatasetError, match="is gone, though it was written: remove"):
    write_shards(dataset(40), tmp_path, SMALL)
