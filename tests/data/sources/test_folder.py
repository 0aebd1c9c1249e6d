import json

import pytest

from tests.data import layouts
from tpr_jax.data import build
from tpr_jax.data.record import DatasetError, SplitError
from tpr_jax.data.sources import folder

ROWS = [
  ("images/a 1.jpg", "A woman, in red; she walks.", "7", "train"),
  ("images/b.jpg", 'He says "hi".', "9", "test"),
  ("images/a 1.jpg", "A lady in a red coat.", "7", "train"),
]


def table(path, mark, rows=ROWS, header=("image", "caption", "identity", "split")):
  quoted = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in rows]
  lines = [mark.join(row) for row in [header, *quoted]]
  path.write_text("\r\n".join(lines) + "\r\n", "utf-8")
  for seed, row in enumerate(rows):
    layouts.picture(path.parent / row[0], seed)


@pytest.mark.parametrize(
  "name, mark", [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")]
)
def test_tables_join_the_captions_of_an_image(name, mark, tmp_path):
  table(tmp_path / name, mark)
  (train,) = folder.load(tmp_path, "train").records
  assert train.image == "images/a 1.jpg" and train.identity == 7
  assert train.captions == ("A woman, in red; she walks.", "A lady in a red coat.")
  assert train.source == "folder" and train.truth == {}
  dataset = build.dataset("folder", tmp_path, "test", {})
  assert dataset.records[0].captions == ('He says "hi".',)
  assert dataset.load_image(dataset.records[0], None).shape == (30, 14, 3)


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_json_and_json_lines(suffix, tmp_path):
  entries = [
    {"file_path": "1.jpg", "captions": ["One.", "Two\u2028lines."], "id": 3, "cam": 1},
    {"file_path": "2.jpg", "captions": ["Three."], "id": 5, "split": "train"},
  ]
  text = json.dumps(entries, ensure_ascii=False)
  if suffix == "jsonl":
    text = "\n".join(json.dumps(e, ensure_ascii=False) for e in entries) + "\n\n"
  (tmp_path / f"notes.{suffix}").write_text(text, "utf-8")
  (record,) = folder.load(tmp_path, "test").records
  assert record.captions == ("One.", "Two\u2028lines.") and record.identity == 3
  assert record.truth == {"cam": 1}
  assert folder.load(tmp_path, "train").records[0].image == "2.jpg"
  both = folder.load(tmp_path, "train", default_split="train")
  assert len(both.records) == 2


def test_identities_may_be_names_or_absent(tmp_path):
  rows = [(f"{name}.jpg", "Text.", name) for name in ("zoe", "amy", "zoe2")]
  table(tmp_path / "a.csv", ",", rows, ("image", "caption", "identity"))
  records = folder.load(tmp_path, "test").records
  assert [r.identity for r in records] == [1, 0, 2]
  assert records[0].truth == {"identity_name": "zoe"}
  table(tmp_path / "a.csv", ",", [r[:2] for r in rows], ("image", "caption"))
  records = folder.load(tmp_path, "test").records
  assert [r.identity for r in records] == [0, 1, 2]
  assert records[1].truth == {"identity_name": "amy.jpg"}
  rows[1] = ("amy.jpg", "Text.", "")
  table(tmp_path / "a.csv", ",", rows, ("image", "caption", "identity"))
  with pytest.raises(DatasetError, match=r"amy\.jpg has no identity while other"):
    folder.load(tmp_path, "test")


def test_a_file_for_each_split(tmp_path):
  table(tmp_path / "one.csv", ",", [ROWS[0][:3]], ("image", "caption", "identity"))
  table(tmp_path / "two.csv", ",", [ROWS[1]])
  with pytest.raises(
    DatasetError, match=r"several annotation files: one\.csv, two\.csv"
  ):
    folder.load(tmp_path, "train")
  files = {"train": "one.csv", "test": "two.csv"}
  assert folder.load(tmp_path, "train", annotations=files).records[0].identity == 7
  assert folder.load(tmp_path, "test", annotations=files).records[0].identity == 9
  with pytest.raises(SplitError, match=r"has train \(1 images\), test \(1 images\)"):
    folder.load(tmp_path, "val", annotations=files)
  with pytest.raises(DatasetError, match=r"says split 'test', but .* for 'train'"):
    folder.load(tmp_path, "train", annotations={"train": "two.csv"})
  with pytest.raises(DatasetError, match="names the split 'dev'"):
    folder.load(tmp_path, "train", annotations={"dev": "two.csv"})


def test_columns_of_ones_own(tmp_path):
  header = ("img_path", "short", "caption", "camera")
  rows = [
    ("p/1.jpg", "Red coat.", "Long one.", "4"),
    ("p/1.jpg", "Coat.", "Other.", "5"),
  ]
  table(tmp_path / "a.csv", ",", rows, header)
  (record,) = folder.load(tmp_path, "test", captions="short").records
  assert record.captions == ("Red coat.", "Coat.")
  assert record.truth["camera"] == ["4", "5"]  # rows differ: one value a caption
  assert record.truth["caption"] == ["Long one.", "Other."]
  dataset = folder.load(tmp_path, "test", images="p")
  assert dataset.load_image.path(record) == tmp_path / "p/p/1.jpg"
  with pytest.raises(DatasetError, match=r"no folder .*asked for by images="):
    folder.load(tmp_path, "test", images="q")


def test_captions_of_a_table_may_be_a_json_list(tmp_path):
  header = ("image", "captions")
  table(tmp_path / "a.csv", ",", [("1.jpg", '["One, two.", "Three."]')], header)
  assert folder.load(tmp_path, "test").records[0].captions == ("One, two.", "Three.")
  table(tmp_path / "a.csv", ",", [("1.jpg", "[not json")], header)
  with pytest.raises(
    DatasetError, match=r"line 2: key 'captions': .*list of sentences"
  ):
    folder.load(tmp_path, "test")


@pytest.mark.parametrize(
  "name, text, message",
  [
    ("a.csv", "picture,caption\n1.jpg,Text.\n", "header 'picture,caption', expected"),
    ("a.csv", "", "found the header ''"),
    ("a.csv", "image,caption\n", "found no rows"),
    ("a.csv", "image,caption\n1.jpg\n", "line 2: found 1, expected 2 columns"),
    ("a.csv", "image,caption\n1.jpg,a,b\n", "line 2: found 3, expected 2 columns"),
    ("a.csv", "image,text\n1.jpg,a\n", "line 2: no key 'caption'"),
    ("a.csv", "image,caption,split\n1.jpg,a,dev\n", "line 2: key 'split': .*dev"),
    (
      "a.csv",
      "image,caption,id\n1.jpg,a,1\n1.jpg,b,2\n",
      "line 3: image '1.jpg' is identity 2, split None here and identity 1",
    ),
    ("a.jsonl", '{"image": "1.jpg"\n', "broken JSON on line 1"),
    ("a.jsonl", '{"image": "1.jpg", "caption": "a", "id": 1.5}', "whole number or a n"),
    ("a.jsonl", "[1]", r"line 1: found a list of 1, expected an object"),
  ],
)
def test_rows_that_cannot_be_used(name, text, message, tmp_path):
  (tmp_path / name).write_text(text)
  with pytest.raises(DatasetError, match=message) as caught:
    folder.load(tmp_path, "test")
  assert str(tmp_path / name) in str(caught.value)


def test_nothing_there_shows_the_layout(tmp_path):
  for root, message in ((tmp_path, r"no \*\.json, "), (tmp_path / "x", "no folder")):
    with pytest.raises(DatasetError, match=message) as caught:
      folder.load(root, "test")
    assert "image,caption,identity,split" in str(caught.value)
  with pytest.raises(DatasetError, match="no folder was given"):
    folder.load("", "test")
  with pytest.raises(DatasetError, match="default_split is 'dev'"):
    folder.load(tmp_path, "test", default_split="dev")


def test_rows_without_a_caption_join_the_others_of_their_image(tmp_path):
  rows = [
    {"image": "1.jpg", "caption": "One.", "id": 1},
    {"image": "1.jpg", "caption": None, "id": 1},
    {"image": "2.jpg", "id": 2},
    {"image": "3.jpg", "caption": " ", "id": 3},
  ]
  text = "\n".join(map(json.dumps, rows))
  (tmp_path / "a.jsonl").write_text(text, "utf-8")
  one, two, three = folder.load(tmp_path, "test").records
  assert one.captions == ("One.",) and "found NoneType null" in one.unusable[0]
  assert two.captions == () and two.unusable[0].startswith("no key 'caption'")
  assert three.captions == (" ",) and three.unusable == ()  # words: data/captions.py
