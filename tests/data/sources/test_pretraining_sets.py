"""The six sets to pre-train on: what all of them do, from tiny copies."""

import importlib
import inspect
import pickle

import numpy as np
import pytest

from configs import common
from tests.data import pretraining_sets as sets
from tests.data.pretraining_sets import rewrite
from tpr_jax.data import build, check, pipeline, published, tokenizer
from tpr_jax.data.record import DatasetError, SplitError
from tpr_jax.data.tfds_builders import write_archive

JSON_SETS = ("webperson", "luperson_mllm", "mals", "synth_pedes", "sda")


def load(name, root, **options):
  return build.dataset(name, root, "train", {**sets.OPTIONS.get(name, {}), **options})


@pytest.mark.parametrize("name", sets.WRITERS)
def test_every_image_is_a_record_and_an_identity(name, tmp_path):
  sets.WRITERS[name](tmp_path)
  dataset = load(name, tmp_path)
  assert (dataset.name, dataset.split, dataset.notes) == (name, "train", ())
  assert [r.image for r in dataset.records] == sets.IMAGES[name]
  assert [r.identity for r in dataset.records] == list(range(len(dataset.records)))
  assert {(r.split, r.source, r.unusable) for r in dataset.records} == {
    ("train", name, ())
  }
  assert all(r.captions for r in dataset.records)
  load_image = pickle.loads(pickle.dumps(dataset.load_image))
  for record in dataset.records:
    assert load_image(record, (384, 128)).shape == (30, 14, 3)
    assert load_image.read_bytes(record)[:2] == b"\xff\xd8"


@pytest.mark.parametrize("name", sets.WRITERS)
@pytest.mark.parametrize("split", ["val", "test"])
def test_all_of_a_set_is_train(name, split, tmp_path):
  sets.WRITERS[name](tmp_path)
  with pytest.raises(SplitError, match=f"{name} has no split '{split}'.*hold_out"):
    build.dataset(name, tmp_path, split)
  (whole,) = build.all_splits(name, tmp_path, sets.OPTIONS.get(name))
  assert whole.split == "train"


@pytest.mark.parametrize("name", sets.WRITERS)
def test_a_missing_set_is_one_complete_message(name, tmp_path):
  (tmp_path / "something-else").mkdir()
  with pytest.raises(DatasetError) as caught:
    load(name, tmp_path)
  text = str(caught.value)
  path = sets.WRITERS[name](tmp_path)
  folder = tmp_path / path.relative_to(tmp_path).parts[0]
  assert f"no folder {folder}" in text.splitlines()[0]
  assert "something-else" in text and "arXiv:" in text
  assert "https://github.com/" in text and "signed" not in text
  assert "python -m tpr_jax.main --config=configs/cfam.py" in text
  for file in path.parent.glob("*.*"):
    file.unlink()
  with pytest.raises(DatasetError, match=f"no file {folder}/"):
    load(name, tmp_path)
  with pytest.raises(DatasetError, match=f"ABOVE {folder.name}/"):
    load(name, folder)
  with pytest.raises(DatasetError, match=r"no file .*/no\.x .asked for by annot"):
    load(name, tmp_path, annotations="no.x")
  with pytest.raises(DatasetError, match=r"no file /no\.x .asked for by annot"):
    load(name, tmp_path, annotations="/no.x")


@pytest.mark.parametrize("name", sets.WRITERS)
def test_a_missing_folder_of_pictures_is_told_at_once(name, tmp_path):
  sets.WRITERS[name](tmp_path)
  with pytest.raises(DatasetError, match=r"no folder .*nowhere .option images=nowhere"):
    load(name, tmp_path, images="nowhere")


@pytest.mark.parametrize("name", sets.WRITERS)
def test_pictures_may_lie_elsewhere(name, tmp_path):
  sets.WRITERS[name](tmp_path)
  folder = load(name, tmp_path).load_image.folder
  dataset = load(name, tmp_path, images=folder)  # a whole path
  assert dataset.load_image(dataset.records[0], None).shape == (30, 14, 3)
  assert [r.image for r in dataset.records] == sets.IMAGES[name]


@pytest.mark.parametrize("name", sets.WRITERS)
def test_the_options_of_configs_are_those_of_the_loader(name):
  found = common.loader_options(name).to_dict()
  load = importlib.import_module(f"tpr_jax.data.sources.{name}").load
  options = list(inspect.signature(load).parameters.values())[2:]
  assert found == {option.name: option.default for option in options}
  assert set(found) == set(build.options_of(name))
  assert all(f"    {option}: " in load.__doc__ for option in found)


@pytest.mark.parametrize("name", sets.WRITERS)
def test_something_is_published_about_each(name):
  assert list(published.COUNTS[name]) == ["train"]
  assert name == "sda" or published.WORDS[name].unique  # nobody printed SDA's


@pytest.mark.parametrize("name", JSON_SETS)
def test_broken_json_is_told_with_its_place(name, tmp_path):
  path = sets.WRITERS[name](tmp_path)
  text = path.read_text("utf-8")
  path.write_text(text[: len(text) // 2], "utf-8")
  with pytest.raises(DatasetError, match=r"broken JSON at line 1, .*cut off") as caught:
    load(name, tmp_path)
  assert str(path) in str(caught.value)
  path.write_bytes(b'{"\xe9": 1}')
  with pytest.raises(DatasetError, match="not UTF-8 text"):
    load(name, tmp_path)
  empty, other = ("{}", "[1]") if name == "luperson_mllm" else ("[]", '{"a": 1}')
  path.write_text(empty)
  with pytest.raises(DatasetError, match="is empty"):
    load(name, tmp_path)
  path.write_text(other)
  with pytest.raises(
    DatasetError, match=r"found an? (list|object) of 1 at the top, ex"
  ):
    load(name, tmp_path)


@pytest.mark.parametrize(
  "name, value, message",
  [
    ("webperson", 5, "record 1: found the number 5, expected an object {image: "),
    ("webperson", {}, "record 1: found an object that is empty, expected an object"),
    ("webperson", {"a.jpg": "x"}, "record 1: image 'a.jpg': found the text \"x\", exp"),
    ("webperson", {"../a.jpg": {}}, "key '../a.jpg': found '../a.jpg', expected a"),
    ("webperson", {"/a.jpg": {}}, "expected a path below the dataset's folder"),
    ("webperson", {"": {}}, "found the text \"\", expected a relative image path"),
    ("sda", "x", "record 1: found the text \"x\", expected an object"),
    ("sda", {"image": "a", "boxes": 3}, "'boxes': found the number 3, expected a list"),
    ("mals", "x", "record 1: found the text \"x\", expected an object"),
    ("mals", {"file": "a.jpg"}, "record 1: no key 'image'; found the keys file"),
    ("mals", {"image": 3}, "record 1: key 'image': found the number 3, expected a rel"),
    ("synth_pedes", [1], "record 1: found a list of 1, expected an object"),
    ("synth_pedes", {"file_paths": "a"}, "no key 'file_path'.*did you mean 'file_path"),
  ],
)  # fmt: skip
def test_wrong_records_name_file_number_found_and_expected(
  name, value, message, tmp_path
):
  path = sets.WRITERS[name](tmp_path)
  rewrite(path, lambda entries: entries.__setitem__(1, value))
  with pytest.raises(DatasetError, match=message) as caught:
    load(name, tmp_path)
  assert f"{path}: record 1: " in str(caught.value)


def test_many_wrong_records_are_counted_and_a_few_are_shown(tmp_path, monkeypatch):
  monkeypatch.setattr("tpr_jax.data.sources.pretraining._KEPT", 4)
  path = sets.mals(tmp_path)
  rewrite(path, lambda entries: entries.extend([{"image": i} for i in range(5_000)]))
  with pytest.raises(DatasetError, match="5,000 records of this file") as caught:
    load("mals", tmp_path)
  assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize(
  "name, entry, kept, reason",
  [
    ("webperson", {"a.jpg": {"caption1": "One.", "caption2": None}}, ("One.",),
     "key 'caption2': found NoneType null, expected a sentence"),
    ("webperson", {"a.jpg": {"caption1": "One."}}, ("One.",), "no key 'caption2'"),
    ("webperson", {"a.jpg": {"caption1": ["One."], "caption2": 2}}, (),
     "key 'caption1': found a list of 1, expected a sentence"),
    ("mals", {"image": "a.jpg", "caption": 4}, (), "key 'caption': found the number 4"),
    ("mals", {"image": "a.jpg", "captions": "A"}, (), "did you mean 'captions'"),
    ("synth_pedes", {"file_path": "a.jpg", "captions": ["One.", 3]}, ("One.",),
     "key 'captions', caption 1: found the number 3, expected a sentence"),
    ("synth_pedes", {"file_path": "a.jpg", "captions": "One"}, (),
     'found the text "One", expected a list of sentences'),
  ],
)  # fmt: skip
def test_captions_that_are_no_text_are_listed_as_unusable(
  name, entry, kept, reason, tmp_path
):
  path = sets.WRITERS[name](tmp_path)
  rewrite(path, lambda entries: entries.__setitem__(0, entry))
  record = next(r for r in load(name, tmp_path).records if r.image == "a.jpg")
  assert record.captions == kept and reason in record.unusable[0]


@pytest.mark.parametrize(
  "name, entry",
  [
    ("webperson", {"a.jpg": {"caption": "One.", "text": "Two."}}),
    ("mals", {"image": "a.jpg", "text": "One."}),
    ("sda", {"image": "a.jpg", "text": "One."}),
    ("synth_pedes", {"file_path": "a.jpg", "caption": ["One."]}),
  ],
)
def test_a_file_without_one_caption_is_of_another_format(name, entry, tmp_path):
  path = sets.WRITERS[name](tmp_path)
  sets.dump(path, [entry] * 4)
  with pytest.raises(DatasetError, match=r"record 0: no key 'caption.*found the keys"):
    load(name, tmp_path)


def test_one_word_is_a_caption(tmp_path):
  path = sets.mals(tmp_path)
  rewrite(path, lambda entries: entries[0].update(caption="Man"))
  rewrite(path, lambda entries: entries[1].update(caption=""))
  texts = [r.captions for r in load("mals", tmp_path).records[2:]]
  assert texts == [("Man",), ("",)]  # training counts the empty one, and leaves it out


@pytest.mark.parametrize("name", ["webperson", "mals", "luperson_t", "sda"])
def test_training_reads_them(name, tmp_path):
  sets.WRITERS[name](tmp_path)
  dataset = load(name, tmp_path)
  options = dict(pipe="resize(32,16)", length=24, batch=4, seed=0, steps=3, threads=1)
  batches = pipeline.train_iterator(dataset, tokenizer.build("people"), **options)
  assert batches.examples == sum(len(r.captions) for r in dataset.records)
  found = list(batches)
  batches.close()
  assert [batch["image"].shape for batch in found] == [(4, 32, 16, 3)] * 3
  assert all((batch["replaced"] == -1).all() for batch in found)
  ids = np.concatenate([batch["ids"] for batch in found])
  assert set(ids.tolist()) <= set(range(len(dataset.records)))


def test_what_a_source_did_is_told_by_training_and_by_check(tmp_path):
  sets.luperson_t(tmp_path)
  dataset = load("luperson_t", tmp_path, drop_last=2)
  options = dict(pipe="resize(32,16)", length=24, batch=2, seed=0, steps=1)
  batches = pipeline.train_iterator(dataset, tokenizer.build("people"), **options)
  assert batches.captions.endswith("; the last 2 of 5 rows are left out (drop_last)")
  batches.close()
  (finding,) = check.check([dataset]).of("reading")
  assert (finding.severity, finding.count) == ("info", 2)
  assert finding.message == "the last 2 of 5 rows are left out (drop_last)"
  train, val = build.hold_out(dataset, 0.4, seed=0)
  assert train.notes == val.notes == dataset.notes


@pytest.mark.parametrize("name", sets.WRITERS)
def test_check_compares_with_what_is_published(name, tmp_path):
  sets.WRITERS[name](tmp_path)
  found = check.check([load(name, tmp_path)])
  assert found.worst == "warning" and {f.kind for f in found.findings} == {"counts"}
  (finding,) = found.findings
  images = published.COUNTS[name]["train"].images
  assert f"{' or '.join(f'{n:,}' for n in images)})" in finding.message
  rows = [row for row in found.statistics if row.get("published")]
  assert rows[0]["images"] == images[0]
  words = published.WORDS.get(name)
  assert rows[0]["words"] == (words and words._asdict())
  assert "(published)" in found.render()


def test_check_lists_missing_pictures_and_captions(tmp_path):
  path = sets.webperson(tmp_path)
  rewrite(path, lambda entries: entries[1]["b/1.jpg"].update(caption1=None))
  (tmp_path / "WebPerson/images/a/9.jpg").unlink()
  found = check.check(build.all_splits("webperson", tmp_path))
  assert found.of("missing-images")[0].examples == ("a/9.jpg",)
  (missing,) = found.of("missing-captions")
  assert missing.examples[0].startswith("b/1.jpg: key 'caption1': found NoneType null")


@pytest.mark.parametrize("name", sets.WRITERS)
def test_an_archive_gives_the_same_records(name, tmp_path):
  sets.WRITERS[name](tmp_path)
  original = load(name, tmp_path)
  write_archive([original], tmp_path / "out", name)
  archived = build.dataset("archive", tmp_path / "out", "train")
  assert archived.records == original.records
  record = original.records[-1]
  assert archived.load_image.read_bytes(record) == original.load_image.read_bytes(
    record
  )
