"""Rendered sets: purity, splits, near twins, noise, regions, files on disk."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from tpr_jax.data import build
from tpr_jax.data.record import DatasetError, ImageError, SplitError
from tpr_jax.data.rendered import attributes, grammar, sets, write
from tpr_jax.report import people_sheet

SMALL = (48, 16)


def test_records_depend_on_nothing_that_is_asked_for_beside_them():
  few = sets.load("test", identities=7, views=2).records
  many = sets.load("test", identities=25, views=3).records
  kept = [r for r in many if int(r.image.split("/")[1]) < 7 and r.image[-1] < "2"]
  assert list(few) == kept
  other = sets.load("test", identities=7, views=2, seed=1).records
  assert all(a.captions != b.captions for a, b in zip(few, other, strict=True))


def test_captions_of_a_granularity_do_not_depend_on_the_others():
  both = sets.load("val", identities=6, granularity=("fine", "coarse", "fine")).records
  coarse = sets.load("val", identities=6, granularity="coarse").records
  for a, b in zip(both, coarse, strict=True):
    assert b.captions == (a.captions[1],)
    assert b.truth["caption_truth"] == [a.truth["caption_truth"][1]]
    assert a.captions[0] != a.captions[2]
    for caption, truth in zip(a.captions, a.truth["caption_truth"], strict=True):
      low, high = grammar.LENGTHS[truth["granularity"]]
      assert low <= len(caption.split()) <= high


def test_splits_share_no_identity_and_no_person():
  datasets = [sets.load(s, identities=12, views=1) for s in sets.SPLITS]
  identities = [set(d.identities) for d in datasets]
  assert sum(map(len, identities)) == len(set.union(*identities)) == 36
  people = [
    sets.People("rendered", s, 0, 0).person(i) for s in sets.SPLITS for i in range(12)
  ]
  assert len(set(people)) == 36
  names = [r.image for d in datasets for r in d.records]
  assert len(set(names)) == 36


def test_sizes_and_views():
  train = sets.load("train", granularity="coarse")
  assert len(train.identities) == 600 and len(train.records) == 2400
  assert [
    len(sets.load(s, granularity="coarse").identities) for s in ("val", "test")
  ] == [100, 200]
  assert sets.IDENTITIES["standard"]["train"] >= 2000


def test_named_sets_differ_in_domains_and_people():
  seen = {}
  for name in sets.SETS:
    records = sets.load("test", name=name, identities=30).records
    seen[name] = {r.truth["domain"] for r in records}
    assert all(r.source == name for r in records)
  assert len(seen["rendered_cross"]) == 3
  assert not seen["rendered_synthetic"] & seen["rendered_target"]
  people = {sets.People(n, "test", 0, 0).person(3) for n in sets.SETS}
  assert len(people) == len(sets.SETS)


def test_cross_mixes_granularities_and_styles():
  records = sets.load("test", name="rendered_cross", identities=30).records
  truths = [t for r in records for t in r.truth["caption_truth"]]
  assert {t["granularity"] for t in truths} == set(grammar.GRANULARITIES)
  assert {t["style"] for t in truths} == set(grammar.STYLES)
  with pytest.raises(SplitError, match="rendered_cross has no split 'train'"):
    sets.load("train", name="rendered_cross")


@pytest.mark.parametrize(
  ("twins", "sizes"), [(2, [2]), (3, [3]), (4, [2, 2]), (5, [3, 2]), (10, [3, 3, 2, 2])]
)
def test_near_twins_differ_in_fine_attributes_only(twins, sizes):
  people = sets.People("rendered", "test", 4, twins)
  groups = {}
  for index in range(40):
    group = people.twin_group(index)
    if group is not None:
      groups.setdefault(group, []).append(people.person(index))
  assert [len(members) for members in groups.values()] == sizes * 4
  for first, *others in groups.values():
    for other in others:
      differ = {
        f.name
        for f in dataclasses.fields(first)
        if getattr(first, f.name) != getattr(other, f.name)
      }
      assert 2 <= len(differ) <= 3 and differ <= set(attributes.FINE)


def test_share_of_twins_and_their_truth():
  records = sets.load("test", identities=50, views=1).records
  groups = [r.truth["twin_group"] for r in records]
  assert sum(g is not None for g in groups) == 15
  assert groups[10] == groups[12] == records[10].identity and groups[13] is None
  train = sets.load("train", identities=20, views=1).records
  assert all(r.truth["twin_group"] is None for r in train)


def test_style_fixed_or_chosen_from():
  only = sets.load("val", identities=10, style="witness").records
  some = sets.load("val", identities=10, style=["list", "paraphrase"]).records
  assert {t["style"] for r in only for t in r.truth["caption_truth"]} == {"witness"}
  assert {t["style"] for r in some for t in r.truth["caption_truth"]} == {
    "list",
    "paraphrase",
  }


def test_word_noise_is_recorded():
  clean = sets.load("test", identities=20).records
  noisy = sets.load("test", identities=20, word_noise=0.3).records
  spans = 0
  for a, b in zip(clean, noisy, strict=True):
    for old, new, truth in zip(
      a.captions, b.captions, b.truth["caption_truth"], strict=True
    ):
      spans += len(truth["wrong_spans"])
      assert bool(truth["wrong_spans"]) is (old != new)
      assert all(0 <= s < e <= len(new) for s, e in truth["wrong_spans"])
      assert [new[s:e] for s, e in truth["wrong_spans"] if new[s:e] == ""] == []
  assert spans > 200


def test_pair_noise_swaps_captions_within_a_split_and_flags_them():
  clean = {r.image: r for r in sets.load("test", identities=60).records}
  noisy = sets.load("test", identities=60, pair_noise=0.4).records
  flagged = [r for r in noisy if r.truth["pair_noise"]]
  assert len(flagged) / len(noisy) == pytest.approx(0.4, abs=0.12)
  for record in noisy:
    told = record.truth["caption_identity"]
    assert (told != record.identity) is record.truth["pair_noise"]
    _, _, view = record.image.split("/")
    donor = clean[f"test/{told - sets.FIRST['test']:06d}/{view}"]
    assert record.captions == donor.captions
    if record.truth["pair_noise"] and record.truth["twin_group"] is not None:
      assert donor.truth["twin_group"] != record.truth["twin_group"]
  fewer = sets.load("test", identities=3, pair_noise=0.4).records
  assert fewer == noisy[:6]


def test_pictures_come_from_the_record_alone():
  dataset = sets.load("test", identities=3, views=2)
  again = pickle.loads(pickle.dumps(dataset.load_image))
  record = dataset.records[4]
  picture = dataset.load_image(record, SMALL)
  assert picture.shape == (*SMALL, 3) and picture.dtype == np.uint8
  sets._cached_person.cache_clear()
  np.testing.assert_array_equal(picture, again(record, SMALL))
  assert dataset.load_image(record, None).shape == (384, 128, 3)
  other = sets.load("test", identities=3, views=2, granularity="coarse")
  np.testing.assert_array_equal(picture, other.load_image(other.records[4], SMALL))
  assert (picture != dataset.load_image(dataset.records[5], SMALL)).any()
  for wrong in ("train/000001/0", "test/000001", "test/x/0"):
    with pytest.raises(ImageError, match="no rendered picture"):
      dataset.load_image(dataclasses.replace(record, image=wrong), SMALL)


def test_regions_have_boxes_and_phrases():
  records = sets.load("test", identities=4, views=2, regions=True).records
  for record in records:
    regions = {r["region"]: r for r in record.truth["regions"]}
    assert {"head", "upper"} <= set(regions) <= set(attributes.REGIONS)
    for region in regions.values():
      cx, cy, w, h = region["box"]
      assert 0 < w <= 1 and 0 < h <= 1
      assert cx - w / 2 >= -1e-3 and cx + w / 2 <= 1 + 1e-3
      assert cy - h / 2 >= -1e-3 and cy + h / 2 <= 1 + 1e-3
      assert region["phrase"]
    assert regions["head"]["box"][1] < regions["upper"]["box"][1]
  json.dumps([dict(r.truth) for r in records])


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"name": "renderd"}, "no rendered set 'renderd'; sets: rendered, "),
    ({"size": "huge"}, "no size 'huge'; sizes: quick, standard"),
    ({"granularity": "rough"}, "granularity is 'rough', expected one or more of"),
    ({"granularity": ["fine", "x"]}, "granularity is "),
    ({"style": "poem"}, "style is 'poem'"),
    ({"word_noise": 1.2}, "word_noise is 1.2, expected a share"),
    ({"pair_noise": -0.1}, "pair_noise is -0.1"),
    ({"identities": 0}, "identities is 0, expected a number from 1"),
    ({"identities": 2.5}, "identities is 2.5"),
    ({"views": 0}, "views is 0"),
    ({"twins": 1}, "near twins come in groups"),
    ({"twins": 11}, "twins is 11"),
    ({"seed": -1}, "seed is -1"),
  ],
)
def test_wrong_options_are_refused(options, message):
  with pytest.raises(DatasetError) as error:
    sets.load("test", **options)
  assert message in str(error.value)


def test_source_by_name():
  dataset = build.dataset("rendered", None, "val", {"identities": 3, "views": 1})
  assert dataset.records == sets.load("val", identities=3, views=1).records
  target = build.dataset("rendered_target", None, "val", {"identities": 2})
  assert target.name == "rendered_target"
  with pytest.raises(DatasetError, match="did you mean 'identities'"):
    build.dataset("rendered", None, "val", {"identitys": 3})


# Files on disk.


def _splits(identities=3, **options):
  return [sets.load(s, identities=identities, views=2, **options) for s in sets.SPLITS]


def test_written_folder_reads_back_the_same_records(tmp_path):
  datasets = _splits(word_noise=0.2, regions=True)
  calls = []
  path = write.write(
    datasets, tmp_path, size=SMALL, progress=lambda *numbers: calls.append(numbers)
  )
  assert path == tmp_path / "UFine6926" / "annotations.json"
  assert calls == [(n, 18) for n in range(1, 19)]
  for dataset in datasets:
    back = build.dataset("ufine6926", tmp_path, dataset.split)
    for a, b in zip(dataset.records, back.records, strict=True):
      assert (a.identity, a.captions, a.split) == (b.identity, b.captions, b.split)
      assert dict(a.truth) == dict(b.truth)
      assert b.image == f"images/{a.image}.jpg"
    picture = back.load_image(back.records[0], None)
    drawn = dataset.load_image(dataset.records[0], SMALL)
    assert picture.shape == drawn.shape
    assert np.abs(picture.astype(int) - drawn).mean() < 8


def test_writing_goes_on_where_it_stopped(tmp_path, monkeypatch):
  datasets = _splits(identities=2)

  def stop(done, total):
    if done == 5:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    write.write(datasets, tmp_path, size=SMALL, progress=stop)
  home = tmp_path / "UFine6926"
  assert not (home / "annotations.json").exists()
  pictures = sorted(home.rglob("*.jpg"))
  assert len(pictures) == 5
  pictures[0].write_bytes(pictures[0].read_bytes()[:-40])  # a disk that was full
  drawn, load_image = [], sets.People.load_image

  def counting(people, record, size):
    drawn.append(record.image)
    return load_image(people, record, size)

  monkeypatch.setattr(sets.People, "load_image", counting)
  write.write(_splits(identities=2), tmp_path, size=SMALL)
  assert len(drawn) == len(set(drawn)) == 12 - 4
  assert drawn[0] in pictures[0].as_posix()
  files = [p for p in home.rglob("*") if p.is_file()]
  assert len(files) == 12 + 2 and not [p for p in files if p.name.startswith(".")]
  for path in home.rglob("*.jpg"):
    Image.open(path).load()


def test_other_recipe_or_foreign_folder_is_refused(tmp_path):
  write.write(_splits(identities=1), tmp_path, size=SMALL)
  for options, arguments in (
    ({}, {"size": (96, 32)}),
    ({}, {"size": SMALL, "quality": 50}),
    ({"seed": 1}, {"size": SMALL}),
  ):
    with pytest.raises(DatasetError, match="pictures of another recipe"):
      write.write(_splits(identities=1, **options), tmp_path, **arguments)
  # Other captions of the same pictures are only a new JSON file.
  write.write(_splits(identities=1, granularity="medium"), tmp_path, size=SMALL)
  back = build.dataset("ufine6926", tmp_path, "test")
  assert back.records[0].truth["caption_truth"][0]["granularity"] == "medium"
  home = tmp_path / "real" / "UFine6926"
  home.mkdir(parents=True)
  (home / "mine.json").write_text("[]")
  with pytest.raises(DatasetError, match=r"not written from rendered.*mine\.json"):
    write.write(_splits(identities=1), tmp_path / "real", size=SMALL)
  with pytest.raises(DatasetError, match="JPEG quality is 0"):
    write.write(_splits(identities=1), tmp_path, quality=0)
  with pytest.raises(DatasetError, match="no records"):
    write.write([], tmp_path)


def test_contact_sheet(tmp_path):
  dataset = sets.load("test", identities=12)
  twins = people_sheet.twins(dataset, 2)
  groups = [r.truth["twin_group"] for r in twins]
  assert groups == [groups[0]] * 3 + [groups[3]] * 2  # the second group was cut short
  assert len({r.identity for r in twins}) == 5
  page = people_sheet.sheet(dataset, twins[:3], columns=3, height=120)
  cell = np.asarray(page)[8 : 8 + 120, 8 : 8 + 40]
  np.testing.assert_array_equal(cell, dataset.load_image(twins[0], (120, 40)))
  beside = np.asarray(page)[8 : 8 + 120, 8 + 48 : 330]
  assert (beside < 128).any()  # text
  people_sheet.save(page, tmp_path / "sheet.png")
  assert (tmp_path / "sheet.png").stat().st_size < 300_000
  with pytest.raises(ValueError, match="no records"):
    people_sheet.sheet(dataset, [])
