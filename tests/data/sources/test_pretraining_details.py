"""What each set to pre-train on has of its own: joining, replacing, drawing."""

import json

import pyarrow as pa
import pytest

from tests.data import layouts
from tests.data import pretraining_sets as sets
from tests.data.pretraining_sets import rewrite
from tpr_jax.data.record import DatasetError
from tpr_jax.data.sources import (
  luperson_mllm,
  luperson_t,
  mals,
  pretraining,
  synth_pedes,
  webperson,
)

# LUPerson-MLLM


def test_captions_of_one_name_are_joined_over_the_files(tmp_path):
  sets.luperson_mllm(tmp_path)
  record = luperson_mllm.load(tmp_path, "train").records[1]
  assert (record.image, record.truth) == ("1.jpg", {})
  assert [text.split()[3] for text in record.captions] == [
    "Td-qwen,", "Td-shikra,", "Ts-qwen,", "Ts-shikra,"
  ]  # fmt: skip
  options = dict(annotations="caption/Ts*.json", spare="")
  record = luperson_mllm.load(tmp_path, "train", **options).records[1]
  assert [text.split()[3] for text in record.captions] == ["Ts-qwen,", "Ts-shikra,"]


def marked(folder, **texts):
  """Overwrites texts of image 1, by the file."""
  for name, text in texts.items():
    path = folder / f"caption/{name.replace('_', '-')}.json"
    entries = json.loads(path.read_text("utf-8"))
    (key,) = (key for key in entries if key.endswith("/1.jpg"))
    sets.dump(path, {**entries, key: text})


BAD = {"Ts_qwen": "A [short description] of a man.", "Ts_shikra": "A man <s> here."}


def test_captions_with_marks_are_replaced_by_one_of_the_td_files(tmp_path):
  folder = sets.luperson_mllm(tmp_path).parents[1]
  marked(folder, **BAD)
  drawn = set()
  for seed in range(20):
    dataset = luperson_mllm.load(tmp_path, "train", seed=seed)
    record = dataset.records[1]
    assert record.captions[:2] == (
      "Text 1 of Td-qwen, a man in a red coat.",
      "Text 1 of Td-shikra, a man in a red coat.",
    )
    assert set(record.captions[2:]) <= set(record.captions[:2])
    assert record.truth == {"replaced": list(BAD.values())} and not record.unusable
    assert dataset == luperson_mllm.load(tmp_path, "train", seed=seed)  # drawn alike
    drawn.add(record.captions[2:])
  assert len(drawn) == 4  # each caption by itself, and the seed decides
  ((count, text),) = dataset.notes
  assert count == 2 and text == (
    "2 captions with 'description]' or '<' were replaced by another of the same image "
    "from Td*.json (seed 19)"
  )
  others = [dataset.records[0], dataset.records[2]]
  assert all(r.truth == {} and len(set(r.captions)) == 4 for r in others)


def test_only_captions_without_marks_are_drawn(tmp_path):
  folder = sets.luperson_mllm(tmp_path).parents[1]
  marked(folder, Td_qwen="A [long description]", **BAD)
  for seed in range(8):
    captions = luperson_mllm.load(tmp_path, "train", seed=seed).records[1].captions
    assert set(captions) == {"Text 1 of Td-shikra, a man in a red coat."}
  marked(folder, Td_shikra="<unk>")
  dataset = luperson_mllm.load(tmp_path, "train")
  assert dataset.records[1].captions[1::2] == ("<unk>", "A man <s> here.")
  assert dataset.records[1].truth == {}
  ((count, text),) = dataset.notes
  assert count == 4 and text.endswith("no other caption of the image is there")


def test_the_draw_does_not_depend_on_other_images(tmp_path):
  folder = sets.luperson_mllm(tmp_path).parents[1]
  marked(folder, **BAD)
  before = luperson_mllm.load(tmp_path, "train", seed=3).records[1].captions
  path = folder / "caption/Td-qwen.json"
  rewrite(path, lambda entries: entries.update({"/x/0a.jpg": "A woman <b>."}))
  found = {r.image: r for r in luperson_mllm.load(tmp_path, "train", seed=3).records}
  assert found["1.jpg"].captions == before
  assert found["0a.jpg"].captions == ("A woman <b>.",)


def test_which_files_replacements_come_from(tmp_path):
  folder = sets.luperson_mllm(tmp_path).parents[1]
  marked(folder, Td_qwen="A [description]", **BAD)
  dataset = luperson_mllm.load(tmp_path, "train", spare="")
  assert dataset.records[1].captions[0] == "A [description]"
  assert dataset.notes[0].text.endswith("as they were: spare is empty")
  marked(folder, Ts_qwen="Clean.")
  dataset = luperson_mllm.load(tmp_path, "train", spare="Ts")
  assert dataset.records[1].captions[0] == dataset.records[1].captions[3] == "Clean."
  with pytest.raises(
    DatasetError, match=r"begins with spare=Tx among Td-qwen\.json, Td"
  ):
    luperson_mllm.load(tmp_path, "train", spare="Tx")
  with pytest.raises(
    DatasetError, match=r"begins with spare=Td among Ts-qwen\.json, so"
  ):
    luperson_mllm.load(tmp_path, "train", annotations="caption/Ts-qwen.json")


def test_captions_of_a_name_that_are_no_text(tmp_path):
  folder = sets.luperson_mllm(tmp_path).parents[1]
  marked(folder, Ts_qwen=["One."], Td_qwen=None)
  record = luperson_mllm.load(tmp_path, "train").records[1]
  assert record.unusable == (
    "Td-qwen.json: found NoneType null, expected a sentence",
    "Ts-qwen.json: found a list of 1, expected a sentence",
  )
  assert len(record.captions) == 2
  path = sets.dump(folder / "caption/Ts-qwen.json", {f"{i}.jpg": i for i in range(9)})
  message = rf"{path}: image '0\.jpg': Ts-qwen.json: found the number 0, expected a sen"
  with pytest.raises(DatasetError, match=message):
    luperson_mllm.load(tmp_path, "train")
  sets.dump(path, {"part/": "A man."})
  with pytest.raises(DatasetError, match="found the image path 'part/', expected one"):
    luperson_mllm.load(tmp_path, "train")


def test_two_paths_of_one_name_are_counted(tmp_path):
  path = sets.luperson_mllm(tmp_path)
  rewrite(path, lambda entries: entries.update({"other\\1.jpg": "Another text."}))
  dataset = luperson_mllm.load(tmp_path, "train")
  assert len(dataset.records) == 3 and "Another text." in dataset.records[1].captions
  (note,) = dataset.notes
  assert note.count == 1 and note.text.startswith("1 images have the base name of anot")


# MALS


def test_attributes_are_kept(tmp_path):
  sets.mals(tmp_path)
  record = mals.load(tmp_path, "train").records[3]
  assert record.truth == {"image_id": "i_g_a_1_1", "label": sets.attributes(1)}
  assert record.captions == ("a woman of i_g_a_1 in a coat of kind 1",)


def test_an_image_listed_twice_is_one_record(tmp_path):
  path = sets.mals(tmp_path)

  def change(entries):
    entries[1] = {**entries[0], "caption": "A second text.", "image_id": "other"}
    entries += [dict(entries[0]), {"image": entries[0]["image"], "caption": None}]

  rewrite(path, change)
  dataset = mals.load(tmp_path, "train")
  assert [r.identity for r in dataset.records] == [0, 1, 2]
  record = dataset.records[2]
  assert record.captions == ("a woman of i_g_a_1 in a coat of kind 0", "A second text.")
  assert len(record.unusable) == 1
  first = {"image_id": "i_g_a_1_0", "label": sets.attributes(0)}
  again = [{**first, "image_id": "other"}, {}]
  assert record.truth == {**first, pretraining.AGAIN: again}
  ((count, text),) = dataset.notes
  assert count == 3 and "1 captions more, 1 that were there" in text
  assert text.endswith("2 had another truth, kept as truth['listed_again']")


def test_an_image_listed_in_two_files_is_one_record(tmp_path):
  path = sets.mals(tmp_path)
  other = json.loads((path.parent / "g_c_g_a_0_attrs.json").read_text())
  rewrite(path, lambda entries: entries.append(other[0]))
  dataset = mals.load(tmp_path, "train")
  assert len(dataset.records) == 4 and dataset.notes[0].count == 1
  one = mals.load(tmp_path, "train", annotations="gene_attrs/g_i_g_a_1_attrs.json")
  assert len(one.records) == 3 and one.notes == ()


def test_files_of_macos_and_files_at_the_top(tmp_path):
  path = sets.mals(tmp_path)
  (path.parent / "._g_4x_attrs.json").write_bytes(b"\x00\x05\x16\x07")
  path.rename(tmp_path / "MALS" / path.name)
  assert {r.image for r in mals.load(tmp_path, "train").records} == set(
    sets.IMAGES["mals"]
  )


def test_attributes_of_other_values_are_unknown(tmp_path):
  path = sets.mals(tmp_path)
  odd = [2, "1", None, True, 1.0, *sets.attributes(0)[5:]]

  def change(entries):
    entries[0].update(label=odd)
    entries[1].update(label=sets.attributes(1)[1:])

  rewrite(path, change)
  dataset = mals.load(tmp_path, "train")
  first, second = dataset.records[2:]
  assert first.truth["label"] == [-1] * 5 + sets.attributes(0)[5:]
  assert second.truth == {"image_id": "i_g_a_1_1"}
  wrong, unknown = dataset.notes
  assert (wrong.count, unknown.count) == (1, 1)
  assert "no list of 27 attributes (such as a list of 26)" in wrong.text
  assert "other than 0, 1 and -1" in unknown.text


def test_labels_of_another_form_are_an_error(tmp_path):
  for path in (sets.mals(tmp_path).parent).glob("*.json"):
    rewrite(path, lambda entries: [e.update(label={"hat": 1}) for e in entries])
  with pytest.raises(DatasetError, match="list of 27 attributes; found an object of 1"):
    mals.load(tmp_path, "train")


# SYNTH-PEDES


def test_identities_are_records_or_the_authors(tmp_path):
  sets.synth_pedes(tmp_path)
  record = synth_pedes.load(tmp_path, "train").records[3]
  assert (record.identity, record.truth["id"]) == (3, 8)
  assert record.truth["prompt_caption"] == ["A man with 3 hats."]
  assert record.captions == tuple(layouts.captions(3, 3))
  dataset = synth_pedes.load(tmp_path, "train", identity="id")
  assert [r.identity for r in dataset.records] == [7, 7, 8, 8]
  assert set(dataset.records[0].truth) == {"attributes", "prompt_caption"}
  with pytest.raises(
    DatasetError, match="identity is 'pid', expected 'record' or 'id'"
  ):
    synth_pedes.load(tmp_path, "train", identity="pid")


def test_identities_that_are_lacking_or_do_not_agree(tmp_path):
  path = sets.synth_pedes(tmp_path)
  rewrite(path, lambda entries: entries[2].pop("id"))
  assert "id" not in synth_pedes.load(tmp_path, "train").records[2].truth
  with pytest.raises(DatasetError, match="record 2: no key 'id'; found the keys file"):
    synth_pedes.load(tmp_path, "train", identity="id")
  rewrite(path, lambda entries: entries[2].update(id="8"))
  with pytest.raises(DatasetError, match="record 2: key 'id': found the text \"8\""):
    synth_pedes.load(tmp_path, "train", identity="id")
  rewrite(path, lambda es: es[2].update(id=8, file_path=es[0]["file_path"]))
  assert len(synth_pedes.load(tmp_path, "train").records) == 3
  message = (
    r"record 2: image 'Part1/7/0\.jpg' is identity 8 here and identity 7 in a re"
  )
  with pytest.raises(DatasetError, match=message):
    synth_pedes.load(tmp_path, "train", identity="id")


def test_a_sample_is_drawn_by_the_seed_in_the_order_of_the_file(tmp_path):
  sets.synth_pedes(tmp_path, 40)
  whole = [r.image for r in synth_pedes.load(tmp_path, "train").records]
  drawn = []
  for seed in (0, 0, 1):
    dataset = synth_pedes.load(tmp_path, "train", sample=10, seed=seed)
    found = [r.image for r in dataset.records]
    assert len(set(found)) == 10 and found == sorted(found, key=whole.index)
    assert [r.identity for r in dataset.records] == list(range(10))
    drawn.append(found)
  assert drawn[0] == drawn[1] != drawn[2]
  assert dataset.notes == ((30, "30 of 40 records were not drawn (sample=10)"),)
  everything = synth_pedes.load(tmp_path, "train", sample=40)
  assert [r.image for r in everything.records] == whole and everything.notes == ()


@pytest.mark.parametrize(
  "options, message",
  [
    ({"sample": 5}, r"sample=5, and .*\.json has 4 records; expected no more"),
    ({"sample": -1}, "option sample is -1, expected a whole number, 0 or more"),
    ({"sample": 2.0}, "option sample is 2.0, expected a whole number"),
    ({"sample": True}, "option sample is True, expected a whole number"),
    ({"seed": "1"}, "option seed is '1', expected a whole number"),
  ],
)
def test_samples_that_cannot_be_drawn(options, message, tmp_path):
  sets.synth_pedes(tmp_path)
  with pytest.raises(DatasetError, match=message):
    synth_pedes.load(tmp_path, "train", **options)


def test_one_json_file_is_asked_for(tmp_path):
  path = sets.synth_pedes(tmp_path)
  sets.dump(path.parent / "other.json", [])
  with pytest.raises(
    DatasetError, match=r"2 annotation files.*annotations=other\.json"
  ):
    synth_pedes.load(tmp_path, "train")
  dataset = synth_pedes.load(tmp_path, "train", annotations=path.name)
  assert len(dataset.records) == 4


# LUPerson-T


@pytest.mark.parametrize("form", ["file", "stream"])
def test_both_formats_of_arrow(form, tmp_path, monkeypatch):
  monkeypatch.setattr("tpr_jax.data.sources.tables._ROWS", 2)
  sets.luperson_t(tmp_path, 7, form)
  dataset = luperson_t.load(tmp_path, "train", drop_last=0)
  assert [r.image for r in dataset.records] == [f"{i}.jpg" for i in range(7)]
  assert [r.identity for r in dataset.records] == list(range(7))
  assert [list(r.captions) for r in dataset.records] == [
    layouts.captions(i, 1 + i % 2) for i in range(7)
  ]
  assert dataset.records[4].truth == {} and dataset.notes == ()


def test_the_last_rows_are_left_out(tmp_path):
  path = sets.luperson_t(tmp_path)
  dataset = luperson_t.load(tmp_path, "train", drop_last=3)
  assert [r.image for r in dataset.records] == ["0.jpg", "1.jpg"]
  assert dataset.notes == ((3, "the last 3 of 5 rows are left out (drop_last)"),)
  with pytest.raises(
    DatasetError, match=rf"{path} has 5 rows, and drop_last=100,000 le"
  ):
    luperson_t.load(tmp_path, "train")
  with pytest.raises(DatasetError, match="drop_last=5 leaves none"):
    luperson_t.load(tmp_path, "train", drop_last=5)
  with pytest.raises(DatasetError, match="drop_last is -1, expected a whole number"):
    luperson_t.load(tmp_path, "train", drop_last=-1)


def test_rows_without_captions(tmp_path):
  path = sets.luperson_t(tmp_path, 3, values=[["One."], None, ["Two.", None]])
  records = luperson_t.load(tmp_path, "train", drop_last=0).records
  assert [r.captions for r in records] == [("One.",), (), ("Two.",)]
  assert "found NoneType null, expected a list of sentences" in records[1].unusable[0]
  assert "caption 1: found NoneType null, expected a sente" in records[2].unusable[0]
  sets.write_arrow(path, pa.table({"caption": pa.nulls(4)}), "file")
  with pytest.raises(DatasetError, match="row 0: key 'captions': found NoneType null"):
    luperson_t.load(tmp_path, "train", drop_last=0)


def test_a_stream_that_may_have_been_cut_off_between_two_batches(tmp_path):
  path = sets.luperson_t(tmp_path, 5, "stream")
  assert luperson_t.load(tmp_path, "train", drop_last=0).notes == ()
  path.write_bytes(path.read_bytes()[:-8])
  dataset = luperson_t.load(tmp_path, "train", drop_last=0)
  assert len(dataset.records) == 5  # nothing in what is there tells whether that is all
  ((_, text),) = dataset.notes
  assert text.startswith("LUPerson_train.arrow has no mark at its end")


@pytest.mark.parametrize("form", ["file", "stream"])
def test_arrow_files_that_cannot_be_read(form, tmp_path):
  path = sets.luperson_t(tmp_path, 5, form)
  whole = path.read_bytes()
  message = rf"{path}: cannot be read as Arrow IPC, .*cut off.*the file's size, "
  for data in (whole[:-150], whole[:40], b"", b"not arrow at all"):
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=message):
      luperson_t.load(tmp_path, "train", drop_last=0)
  path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
  with pytest.raises(DatasetError, match="a pointer of Git LFS"):
    luperson_t.load(tmp_path, "train", drop_last=0)
  table = pa.table({"captions": [["One."]], "image_id": ["0.jpg"]})
  sets.write_arrow(path, table, form)
  with pytest.raises(
    DatasetError, match="no column caption; found the columns captions"
  ):
    luperson_t.load(tmp_path, "train", drop_last=0)
  sets.write_arrow(path, pa.table({"caption": ["One."]}), form)
  with pytest.raises(DatasetError, match="column caption is string, expected lists of"):
    luperson_t.load(tmp_path, "train", drop_last=0)


# WebPerson (its parquet: test_pretraining_parquet.py)


def test_captions_and_whatever_else_the_objects_hold(tmp_path):
  path = sets.webperson(tmp_path)
  rewrite(path, lambda entries: entries[0]["a/9.jpg"].update(score=0.5))
  record = webperson.load(tmp_path, "train").records[1]
  assert record.captions == tuple(layouts.captions(9))
  assert record.truth == {"score": 0.5}


def test_an_image_of_two_objects_is_one_record(tmp_path):
  path = sets.webperson(tmp_path)
  rewrite(path, lambda entries: entries.append({"./a/9.jpg": sets.pair(3)}))
  dataset = webperson.load(tmp_path, "train")
  record = next(r for r in dataset.records if r.image == "a/9.jpg")
  assert set(record.captions) == {*layouts.captions(9), *layouts.captions(3)}
  assert dataset.notes[0].count == 1
