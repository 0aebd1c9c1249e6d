"""The five published sets, each from a tiny copy of its real layout."""

import json
import pickle
import unicodedata

import numpy as np
import pytest

from tests.data import layouts
from tpr_jax.data import build, images
from tpr_jax.data.record import DatasetError, Record, SplitError
from tpr_jax.data.sources import cuhk_pedes, icfg_pedes, rstpreid, ufine3c, ufine6926


def rewrite(path, change):
  """Applies `change` to the list of records of a JSON file."""
  entries = json.loads(path.read_text("utf-8"))
  change(entries)
  path.write_text(json.dumps(entries, ensure_ascii=False), "utf-8")


@pytest.mark.parametrize("name", layouts.WRITERS)
def test_every_record_and_picture_arrives(name, tmp_path):
  path = layouts.WRITERS[name](tmp_path)
  entries = json.loads(path.read_text("utf-8"))
  found = build.all_splits(name, tmp_path)
  assert tuple(d.split for d in found) == layouts.SPLITS[name]
  records = [record for dataset in found for record in dataset.records]
  assert [r.captions for r in records] == [tuple(e["captions"]) for e in entries]
  assert [r.identity for r in records] == [e["id"] for e in entries]
  assert [r.split for r in records] == [e["split"] for e in entries]
  assert {r.source for r in records} == {name}
  for dataset in found:
    assert dataset.name == name
    load_image = pickle.loads(pickle.dumps(dataset.load_image))
    for record in dataset.records:
      image = load_image(record, (384, 128))
      assert image.shape == (30, 14, 3) and image.dtype == np.uint8
      assert (path.parent / record.image).exists()  # relative to the set's folder
      assert load_image.read_bytes(record) == (path.parent / record.image).read_bytes()


def test_a_whole_record_of_each_kind(tmp_path):
  layouts.cuhk_pedes(tmp_path)
  layouts.rstpreid(tmp_path)
  layouts.ufine3c(tmp_path)
  text = tuple(layouts.captions(2, 3))
  want = Record("imgs/Market/0002_c1.jpg", 11003, text, "train", "cuhk_pedes", {})
  assert cuhk_pedes.load(tmp_path, "train").records[2] == want
  text = tuple(layouts.captions(2))
  truth = {"camera": "5"}
  want = Record("imgs/0002_c5_0022.jpg", 2, text, "val", "rstpreid", truth)
  assert rstpreid.load(tmp_path, "val").records == (want,)
  text = tuple(layouts.captions(1, 4))
  truth = {"source": "ICFG-PEDES"}
  want = Record("images/1.jpg", 1, text, "test", "ufine3c", truth)
  assert ufine3c.load(tmp_path, "test").records[1] == want


def test_extra_keys_go_to_truth_and_captions_can_come_from_one(tmp_path):
  layouts.ufine6926(tmp_path)
  record = ufine6926.load(tmp_path, "test").records[0]
  assert record.truth == {"coarse": "Person 2, briefly.", "source": {"video": 2}}
  record = ufine6926.load(tmp_path, "test", captions="coarse").records[0]
  assert record.captions == ("Person 2, briefly.",)
  assert record.truth == {"captions": layouts.captions(2), "source": {"video": 2}}


def test_captions_are_cleaned_where_that_is_asked_for(tmp_path):
  path = layouts.icfg_pedes(tmp_path)
  said = ["The man's T-shirt: RED!", "人"]
  rewrite(path, lambda entries: entries[0].update(captions=said))
  load = icfg_pedes.load
  assert load(tmp_path, "train").records[0].captions == tuple(said)
  record = load(tmp_path, "train", rule="icfg_rstp").records[0]
  assert record.captions == ("the man s t shirt red",)
  assert "has no letter a-z and no digit" in record.unusable[0]
  rewrite(path, lambda entries: [e.update(captions=said[1:]) for e in entries])
  with pytest.raises(DatasetError, match="record 0: the caption '人' has no letter"):
    load(tmp_path, "train", rule="icfg_rstp")
  with pytest.raises(
    DatasetError, match="icfg_pedes: the option rule is 'icfg', expec"
  ):
    load(tmp_path, "train", rule="icfg")


def test_names_tell_the_camera_and_the_time_unless_they_are_of_another_form(tmp_path):
  path = layouts.icfg_pedes(tmp_path)

  def change(entries):
    names = dict(train="0009/0009_000_01_0303morning_0008_0.jpg", test="other.jpg")
    for entry in entries:
      entry["file_path"] = names[entry["split"]]

  rewrite(path, change)
  told = icfg_pedes.load(tmp_path, "train").records[0].truth
  assert told == {"camera": "01", "time": "morning"}
  assert icfg_pedes.load(tmp_path, "test").records[0].truth == {}


def test_backslashes_and_dots_become_plain_paths(tmp_path):
  layouts.ufine6926(tmp_path)
  assert ufine6926.load(tmp_path, "train").records[1].image == "images/2.jpg"
  assert ufine6926.load(tmp_path, "test").records[1].image == "images/é.jpg"


def test_names_are_found_in_either_unicode_form(tmp_path):
  layouts.ufine6926(tmp_path)
  dataset = ufine6926.load(tmp_path, "test")
  folder = tmp_path / "UFine6926/images"
  composed = folder / unicodedata.normalize("NFC", "é.jpg")
  composed.rename(folder / unicodedata.normalize("NFD", "é.jpg"))
  assert dataset.load_image(dataset.records[1], None).shape == (30, 14, 3)


@pytest.mark.parametrize("name", ["ICFG-PEDES.json", "ICFG_PEDES.json"])
def test_both_names_of_the_icfg_file(name, tmp_path):
  layouts.icfg_pedes(tmp_path, name)
  assert len(icfg_pedes.load(tmp_path, "train").records) == 2


def test_files_that_macos_leaves_beside_are_not_annotations(tmp_path):
  layouts.ufine6926(tmp_path)
  (tmp_path / "UFine6926/._annotations.json").write_bytes(b"\x00\x05\x16\x07")
  assert len(ufine6926.load(tmp_path, "train").records) == 2


def test_any_single_json_and_a_choice_among_several(tmp_path):
  layouts.ufine6926(tmp_path, "whatever it is called.json")
  assert len(ufine6926.load(tmp_path, "train").records) == 2
  other = layouts.ufine6926(tmp_path, "b.json")
  rewrite(other, lambda entries: entries.pop(0))
  with pytest.raises(DatasetError, match=r"2 annotation files: b\.json, whatever"):
    ufine6926.load(tmp_path, "train")
  chosen = ufine6926.load(tmp_path, "train", annotations="b.json")
  assert len(chosen.records) == 1
  with pytest.raises(DatasetError, match=r"no file .*c\.json"):
    ufine6926.load(tmp_path, "train", annotations="c.json")


@pytest.mark.parametrize("name", layouts.WRITERS)
def test_a_missing_set_is_one_complete_message(name, tmp_path):
  (tmp_path / "something-else").mkdir()
  with pytest.raises(DatasetError) as caught:
    build.dataset(name, tmp_path, "test", {})
  text = str(caught.value)
  path = layouts.WRITERS[name](tmp_path)
  assert str(path.parent) in text.splitlines()[0]  # what was looked for, in one line
  assert "something-else" in text  # what is there instead
  assert "signed" in text and "https://" in text
  assert "python -m tpr_jax.main --config=configs/cfam.py" in text
  assert "--config.data.root=" in text
  path.unlink()
  with pytest.raises(DatasetError, match="no file"):
    build.dataset(name, tmp_path, "test", {})


def test_a_root_that_is_empty_or_one_level_too_deep(tmp_path):
  layouts.ufine6926(tmp_path)
  for nothing in (None, ""):
    with pytest.raises(DatasetError, match="no data root was given"):
      ufine6926.load(nothing, "train")
  with pytest.raises(DatasetError, match="ABOVE UFine6926") as caught:
    ufine6926.load(tmp_path / "UFine6926", "train")
  assert f"try {tmp_path}/" in str(caught.value)


def test_an_unknown_split_says_which_exist(tmp_path):
  layouts.icfg_pedes(tmp_path)
  with pytest.raises(SplitError) as caught:
    icfg_pedes.load(tmp_path, "val")
  text = str(caught.value)
  assert "train (2 images)" in text and "test (1 images)" in text
  assert "hold_out" in text
  layouts.ufine3c(tmp_path)
  with pytest.raises(SplitError, match=r"has test \(3 images\)$"):
    ufine3c.load(tmp_path, "train")


@pytest.mark.parametrize(
  "key, value, message",
  [
    ("id", "12", "record 1: key 'id': found the text \"12\", expected a whole number"),
    ("id", True, "found the truth value true, expected a whole number"),
    ("id", 1.5, "found float 1.5"),
    ("split", "tset", 'found the text "tset", expected train, val, test'),
    ("split", ["train"], "found a list of 1"),
    ("file_path", "", "expected a relative image path"),
    ("file_path", 7, "found the number 7, expected a relative image path"),
    ("file_path", "../../etc/passwd", "below the dataset's folder"),
    ("file_path", "C:\\images\\1.jpg", "below the dataset's folder"),
    ("file_path", "/images/1.jpg", "below the dataset's folder"),
  ],
)
def test_wrong_values_name_file_record_key_found_and_expected(
  key, value, message, tmp_path
):
  path = layouts.ufine6926(tmp_path)
  rewrite(path, lambda entries: entries[1].update({key: value}))
  with pytest.raises(DatasetError, match=message) as caught:
    ufine6926.load(tmp_path, "train")
  assert f"{path}: record 1: " in str(caught.value)


@pytest.mark.parametrize(
  "value, kept, reason",
  [
    ("one text", (), 'found the text "one text", expected a list of sentences'),
    ([], (), "found a list that is empty, expected a list"),
    (None, (), "found NoneType null, expected a list"),
    (["fine", 3], ("fine",), "caption 1: found the number 3, expected a sentence"),
  ],
)
@pytest.mark.parametrize("name", ["ufine6926", "icfg_pedes", "folder"])
def test_a_record_without_captions_stays_and_says_why(
  name, value, kept, reason, tmp_path
):
  path = layouts.WRITERS.get(name, layouts.ufine6926)(tmp_path)
  root = path.parent if name == "folder" else tmp_path
  rewrite(path, lambda entries: entries[0].update(captions=value))
  first, other = build.dataset(name, root, "train", {}).records
  assert len(first.unusable) == 1 and "key 'captions'" in first.unusable[0]
  assert first.captions == kept and reason in first.unusable[0]
  assert other.captions and other.unusable == ()
  rewrite(path, lambda entries: [e.update(captions=[]) for e in entries])
  with pytest.raises(DatasetError, match=r"found a list that is empty"):
    build.dataset(name, root, "train", {})


def test_missing_keys_name_the_nearest(tmp_path):
  path = layouts.ufine6926(tmp_path)
  rewrite(path, lambda es: [e.update(caption=e.pop("captions")) for e in es])
  with pytest.raises(DatasetError) as caught:
    ufine6926.load(tmp_path, "train")
  text = str(caught.value)
  assert "no key 'captions'" in text and "did you mean 'caption'?" in text
  assert text.count("did you mean") == 1 and "4 records" in text  # said once
  rewrite(path, lambda es: es.__setitem__(0, "text"))
  with pytest.raises(DatasetError, match=r"record 0: found the text .* an object"):
    ufine6926.load(tmp_path, "train")


@pytest.mark.parametrize(
  "data, message",
  [
    (b'[{"split": "train",\n "id": 1', r"broken JSON at line 2, column 9.*cut off"),
    (b'{"split": "train"}', "found an object of 1 at the top, expected a list"),
    (b"[]", "the list of records is empty"),
    (b'[{"split": "caf\xe9"}]', "not UTF-8 text .byte 0xe9 at position 15"),
  ],
)
def test_broken_files(data, message, tmp_path):
  path = layouts.ufine6926(tmp_path)
  path.write_bytes(data)
  with pytest.raises(DatasetError, match=message) as caught:
    ufine6926.load(tmp_path, "train")
  assert str(path) in str(caught.value)


def test_a_byte_order_mark_is_no_obstacle(tmp_path):
  path = layouts.ufine6926(tmp_path)
  path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
  assert len(ufine6926.load(tmp_path, "train").records) == 2


def test_a_missing_picture_is_found_when_it_is_asked_for(tmp_path):
  layouts.rstpreid(tmp_path, pictures=False)
  dataset = rstpreid.load(tmp_path, "train")
  with pytest.raises(images.MissingImage, match=r"0000_c5_0022\.jpg: no such"):
    dataset.load_image(dataset.records[0], None)
