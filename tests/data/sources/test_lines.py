"""A JSON Lines file that is read a line at a time gives the records of `folder`."""

import concurrent.futures
import dataclasses
import json
import pickle

import pytest

from tests.data import layouts
from tpr_jax.data import build
from tpr_jax.data.record import DatasetError, SplitError
from tpr_jax.data.shards.write import Recipe, write_shards
from tpr_jax.data.sources import folder, lines


def rows(count=12):
  return [
    dict(
      image=f"images/{i}.png",
      captions=layouts.captions(i, 1 + i % 2) + (["Ü \u2028 ü"] if i == 3 else []),
      identity=100 - i // 2,
      split="val" if i % 5 == 4 else "train",
      camera=i % 3,
    )
    for i in range(count)
  ]


def write(root, entries, name="a.jsonl", pictures=True):
  root.mkdir(parents=True, exist_ok=True)
  text = "\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
  (root / name).write_text("\ufeff" + text + "\n\n", "utf-8")
  for i, entry in enumerate(entries if pictures else ()):
    layouts.picture(root / entry["image"], i)
  (root / "images").mkdir(exist_ok=True)


def plain(records):
  return [dataclasses.replace(r, source="", split="") for r in records]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("identity", ["numbers", "texts", "none"])
def test_records_are_those_of_the_folder(tmp_path, split, identity):
  entries = rows()
  for entry in entries:
    if identity == "none":
      del entry["identity"]
    elif identity == "texts":
      entry["identity"] = str(entry["identity"])
  write(tmp_path, entries)
  one, other = lines.load(tmp_path, split), folder.load(tmp_path, split)
  assert plain(one.records) == plain(other.records)
  assert {record.source for record in one.records} == {"lines"}
  assert one.identities == other.identities
  assert one.caption_count == other.caption_count
  again = pickle.loads(pickle.dumps(one))
  assert list(again.records) == list(one.records)
  assert again.records[-1] == one.records[len(one.records) - 1]
  record = one.records[0]
  assert (one.load_image(record) == other.load_image(record)).all()
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    places = [i % len(one.records) for i in range(400)]
    found = list(pool.map(one.records.__getitem__, places))
  assert found == [one.records[i] for i in places]


def test_a_single_caption_and_the_split_of_lines_without_one(tmp_path):
  entries = [dict(image=f"images/{i}.png", caption=f"Number {i}.") for i in range(3)]
  write(tmp_path, entries)
  data = build.dataset("lines", tmp_path, "train")
  assert [r.captions for r in data.records] == [(f"Number {i}.",) for i in range(3)]
  with pytest.raises(SplitError, match=r"no split 'val': .* has train \(3 images\)"):
    lines.load(tmp_path, "val")
  assert len(lines.load(tmp_path, "test", default_split="test").records) == 3
  with pytest.raises(DatasetError, match="default_split is 'all'"):
    lines.load(tmp_path, "train", default_split="all")


def test_it_becomes_shards(tmp_path):
  entries = rows()
  entries[2]["captions"] = ["", 5]
  entries[7]["captions"] = []
  write(tmp_path, entries)
  data = lines.load(tmp_path, "train")
  write_shards(data, tmp_path / "out", Recipe(shard_bytes=5_000))
  found = build.dataset("shards", tmp_path / "out", "train")
  assert list(found.records) == list(data.records)
  assert set(found.stream.bad["caption"]) == {"images/2.png", "images/7.png"}


def changed(number, **fields):
  entries = rows()
  entries[number].update(fields)
  return entries


@pytest.mark.parametrize(
  ("entries", "message"),
  [
    (changed(2, identity="Anna"), r"line 3: identity 'Anna': expected a whole number"),
    (changed(2, identity=None), r"line 3: key 'identity': found .*null"),
    (changed(2, image="/a.png"), r"line 3: key 'image': found '/a\.png'"),
    (changed(2, split="all"), r"line 3: key 'split'"),
    ([*rows(), dict(image="b.png", captions=["A."])], "line 13: expected an identity"),
    ([dict(image="a", caption="A."), dict(image="a", caption="B.")], "before, too"),
    ([dict(image="a", captions=[])], "line 1: key 'captions': found a list that is em"),
    ([3], "line 1: found the number 3, expected an object"),
    ([], "found no lines"),
  ],
)
def test_wrong_lines_are_named(tmp_path, entries, message):
  write(tmp_path, entries, pictures=False)
  with pytest.raises(DatasetError, match=message):
    lines.load(tmp_path, "train")


def test_broken_lines_are_named(tmp_path):
  write(tmp_path, rows())
  with (tmp_path / "a.jsonl").open("ab") as file:
    file.write(b'{"image": \n{"image": "\xff"}\n')
  with pytest.raises(DatasetError) as caught:
    lines.load(tmp_path, "train")
  assert "line 14: broken JSON, column" in str(caught.value)
  assert "line 15: not UTF-8 text (byte 11)" in str(caught.value)


def test_another_format_is_not_read_to_its_end(tmp_path):
  (tmp_path / "a.jsonl").write_text("image,caption\n" * 5_000)
  with pytest.raises(DatasetError, match=r"1,000 records of this file have such"):
    lines.load(tmp_path, "train")


def test_a_file_that_changes_is_told(tmp_path):
  write(tmp_path, rows())
  data = lines.load(tmp_path, "train")
  path = tmp_path / "a.jsonl"
  path.write_bytes(path.read_bytes()[20:])
  with pytest.raises(DatasetError, match=r"line 2 is another one since the file"):
    data.records[1]


def test_files_are_found_or_named(tmp_path):
  with pytest.raises(DatasetError, match="no folder was given; say where"):
    lines.load(None, "train")
  with pytest.raises(DatasetError, match=r"holds no \*\.jsonl, expected one"):
    lines.load(tmp_path, "train")
  write(tmp_path, rows())
  write(tmp_path, rows(4), "b.jsonl")
  with pytest.raises(DatasetError, match=r"holds a\.jsonl, b\.jsonl, expected one"):
    lines.load(tmp_path, "train")
  with pytest.raises(DatasetError, match=r"holds no c\.jsonl"):
    lines.load(tmp_path, "train", annotations="c.jsonl")
  assert len(lines.load(tmp_path, "train", annotations="b.jsonl").records) == 4
  with pytest.raises(DatasetError, match=r"no folder .*pictures \(asked for by images"):
    lines.load(tmp_path, "train", annotations="a.jsonl", images="pictures")
