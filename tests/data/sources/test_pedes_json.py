"""The benchmarks in the JSON of APTM and MRA, from tiny copies of it."""

import importlib
import inspect
import json
import pickle

import pytest

from configs import common
from tests.data import layouts
from tpr_jax.data import build, captions, check, pipeline, tokenizer
from tpr_jax.data.damage import Damage
from tpr_jax.data.record import DatasetError, SplitError

PLACES = {
  "cuhk": "images/CUHK-PEDES/imgs",
  "icfg": "images/ICFG-PEDES",
  "rstp": "images/RSTPReid",
}


def one(image, text, person):
  return {"image": image, "caption": text, "image_id": person}


def entries(split):
  """Two people in train, one of them in two pictures with two captions each."""
  if split == "train":
    images = [("a/1.jpg", 17), ("a/2.jpg", 17), ("b/1.jpg", 4)]
    return [
      one(image, f"The {n} text's of {image}, A-B!", person)
      for image, person in images
      for n in ("first", "second")
    ]
  first = 100 if split == "val" else 200
  return [
    one(
      f"{split}/{i}.jpg",
      [f"Text {j} of {i}." for j in range(1 + i % 2)],
      first + i // 2,
    )
    for i in range(4)
  ]


def write(root, name="cuhk", splits=("train", "val", "test"), folder="", images=None):
  images = PLACES[name] if images is None else images
  for number, split in enumerate(splits):
    path = root / folder / f"{name}_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries(split)), "utf-8")
    for seed, image in enumerate(dict.fromkeys(e["image"] for e in entries(split))):
      layouts.picture(root / images / image, 10 * number + seed)
  return root


def rewrite(root, change, split="train", name="cuhk"):
  path = root / f"{name}_{split}.json"
  rows = json.loads(path.read_text("utf-8"))
  change(rows)
  path.write_text(json.dumps(rows), "utf-8")


def load(root, split="train", **options):
  return build.dataset("pedes_json", root, split, options)


def test_captions_of_an_image_are_put_together(tmp_path):
  data = load(write(tmp_path))
  assert (data.name, data.split) == ("cuhk_pedes", "train")
  assert [(r.image, r.identity, len(r.captions)) for r in data.records] == [
    ("a/1.jpg", 17, 2),
    ("a/2.jpg", 17, 2),
    ("b/1.jpg", 4, 2),
  ]
  assert data.records[2].captions[1] == "The second text's of b/1.jpg, A-B!"
  assert {(r.split, r.source, tuple(r.truth)) for r in data.records} == {
    ("train", "cuhk_pedes", ())
  }
  load_image = pickle.loads(pickle.dumps(data.load_image))
  assert load_image(data.records[2], None).shape == (30, 14, 3)


def test_val_and_test_keep_a_record_for_each_image_in_their_order(tmp_path):
  for split, data in zip(
    ("train", "val", "test"),
    build.all_splits("pedes_json", write(tmp_path)),
    strict=True,
  ):
    assert data.split == split
    if split != "train":
      assert [r.image for r in data.records] == [f"{split}/{i}.jpg" for i in range(4)]
      assert [len(r.captions) for r in data.records] == [1, 2, 1, 2]
  where = load(tmp_path, "test")
  assert captions.index(where)[0].tolist() == [0, 1, 1, 2, 3, 3]
  found = check.check(build.all_splits("pedes_json", tmp_path))
  assert found.worst == "warning" and {f.kind for f in found.findings} == {"counts"}


@pytest.mark.parametrize("name", ["icfg", "rstp"])
def test_captions_of_two_sets_are_cleaned(name, tmp_path):
  root = write(tmp_path, name)
  text = "the first text s of a 1 jpg a b"
  assert load(root, name=name).records[0].captions[0] == text
  assert load(root, "test", name=name).records[1].captions == (
    "text 0 of 1",
    "text 1 of 1",
  )
  as_written = load(root, name=name, rule="none").records[0].captions[0]
  assert as_written == "The first text's of a/1.jpg, A-B!"
  assert load(write(tmp_path), rule="icfg_rstp").records[0].captions[0] == text


def test_a_caption_of_which_cleaning_leaves_nothing_is_counted(tmp_path):
  root = write(tmp_path, "icfg")
  rewrite(root, lambda rows: rows[0].update(caption="?! 人"), name="icfg")
  data = load(root, name="icfg")
  assert len(data.records[0].captions) == 1
  assert "no letter a-z and no digit" in data.records[0].unusable[0]
  damage = Damage("icfg_pedes/train", 3)
  usable = captions.usable(data, tokenizer.build("people"), 24, damage)
  assert usable.left_out == 1 and list(damage.found["caption"]) == ["a/1.jpg"]


def test_training_reads_them(tmp_path):
  data = load(write(tmp_path))
  given = dict(pipe="resize(32,16)", length=24, batch=3, seed=0, steps=2, threads=1)
  batches = pipeline.train_iterator(data, tokenizer.build("people"), **given)
  assert batches.examples == 6
  labels = [label for batch in batches for label in batch["ids"].tolist()]
  batches.close()
  assert sorted(labels) == [0, 0, 1, 1, 1, 1]  # people 4 and 17


def test_names_are_people_too(tmp_path):
  root = write(tmp_path)
  rewrite(root, lambda rows: [r.update(image_id=f"p{r['image_id']}") for r in rows])
  data = load(root)
  assert [r.identity for r in data.records] == [0, 0, 1]
  assert [r.truth["identity_name"] for r in data.records] == ["p17", "p17", "p4"]


@pytest.mark.parametrize(
  "change, message",
  [
    (
      lambda rows: rows[1].update(image_id=5),
      "'a/1.jpg' is identity 5.* and identity 17",
    ),
    (lambda rows: rows[1].pop("image_id"), "record 1: no key 'image_id'"),
    (
      lambda rows: rows[1].update(image_id=None),
      "record 1: key 'image_id': found NoneTy",
    ),
    (lambda rows: rows[1].update(image_id=True), "found the truth value true"),
    (lambda rows: rows[1].pop("image"), "record 1: no key 'image'"),
    (lambda rows: rows[1].update(image="/a.jpg"), "expected a path below"),
    (lambda rows: rows.__setitem__(1, "x"), 'record 1: found the text "x", expected'),
    (lambda rows: [r.pop("caption") for r in rows], "record 0: no key 'caption'"),
  ],
)
def test_wrong_records_are_explained(change, message, tmp_path):
  root = write(tmp_path)
  rewrite(root, change)
  with pytest.raises(DatasetError, match=message) as caught:
    load(root)
  assert "cuhk_train.json" in str(caught.value)


def test_a_caption_that_is_no_text_is_listed_as_unusable(tmp_path):
  root = write(tmp_path)
  rewrite(root, lambda rows: rows[1].update(caption=3))
  record = load(root).records[0]
  assert len(record.captions) == 1 and "found the number 3" in record.unusable[0]


@pytest.mark.parametrize(
  "place",
  ["images/CUHK-PEDES/imgs", "images/CUHK-PEDES", "CUHK-PEDES/imgs", "CUHK-PEDES"],
)
def test_pictures_are_found_where_they_usually_are(place, tmp_path):
  (tmp_path / "images/CUHK-PEDES/imgs").mkdir(parents=True)
  data = load(write(tmp_path, images=place))
  assert data.load_image.folder == str(tmp_path / place)


def test_pictures_elsewhere(tmp_path):
  root = write(tmp_path, images="elsewhere")
  with pytest.raises(
    DatasetError, match=r"such as a/1.jpg, is in images/CUHK.*images="
  ):
    load(root)
  with pytest.raises(DatasetError, match=r"is in nowhere of"):
    load(root, images="nowhere")
  assert load(root, images="elsewhere").load_image.folder == str(root / "elsewhere")


def test_json_files_in_a_folder(tmp_path):
  root = write(tmp_path, folder="finetune")
  assert len(load(root).records) == 3
  write(tmp_path, splits=["train"])
  with pytest.raises(DatasetError, match=r"more than one cuhk_train\.json"):
    load(root)
  assert len(load(root, annotations="finetune").records) == 3
  with pytest.raises(DatasetError, match=r"no cuhk_train.json in other"):
    load(root, annotations="other")


def test_what_is_not_there(tmp_path):
  for root in (None, tmp_path / "no", tmp_path):
    with pytest.raises(DatasetError, match="pedes_json is not there: no") as caught:
      load(root, name="icfg")
    assert "icfg_train.json" in str(caught.value)
  write(tmp_path, "icfg", splits=("train", "test"))
  with pytest.raises(SplitError, match=r"icfg has no split 'val': .* has train, test"):
    load(tmp_path, "val", name="icfg")
  assert [
    d.split for d in build.all_splits("pedes_json", tmp_path, {"name": "icfg"})
  ] == [
    "train",
    "test",
  ]
  with pytest.raises(
    DatasetError, match="name is 'cuhk_pedes', expected cuhk, icfg, rs"
  ):
    load(tmp_path, name="cuhk_pedes")
  with pytest.raises(DatasetError, match="rule is 'icfg', expected none, icfg_rstp"):
    load(tmp_path, rule="icfg")


def test_the_options_of_configs_are_those_of_the_loader():
  found = common.loader_options("pedes_json").to_dict()
  load = importlib.import_module("tpr_jax.data.sources.pedes_json").load
  options = list(inspect.signature(load).parameters.values())[2:]
  assert found == {option.name: option.default for option in options}
  assert all(f"    {option}: " in load.__doc__ for option in found)
