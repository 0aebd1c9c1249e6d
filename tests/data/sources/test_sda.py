"""SDA: its boxes, whatever is wrong with them, and whose an image is."""

import math

import pytest

from tests.data import pretraining_sets as sets
from tests.data.pretraining_sets import rewrite
from tpr_jax.data import check, regions
from tpr_jax.data.record import DatasetError
from tpr_jax.data.sources import sda

FULL = [0.5, 0.5, 1, 1]


def load(root, **options):
  return sda.load(root, "train", **options)


def with_boxes(tmp_path, boxes, phrases=None, logits=None):
  """The set with these on the first image of its last file -> (record, notes)."""
  phrases = ["a hat"] * len(boxes) if phrases is None else phrases

  def change(entries):
    entries[0].update(boxes=boxes, phrases=phrases)
    if logits is not None:
      entries[0].update(logits=logits)

  rewrite(sets.sda(tmp_path), change)
  data = load(tmp_path)
  return data.records[2], [note.text for note in data.notes]


def test_boxes_become_regions(tmp_path):
  sets.sda(tmp_path)
  records = load(tmp_path).records
  man = {"box": [0.5, 0.5, 0.4, 0.6], "phrase": "a man", "logit": 0.75}
  shirt = {"box": [0.5, 0.3, 0.25, 0.2], "phrase": "a shirt", "logit": 0.5}
  assert records[2].truth == {"image_id": 2, "regions": [man]}
  assert records[3].truth == {"image_id": 3, "regions": [man, shirt]}
  assert records[3].captions == ("a man of part 5000_10000 wearing shirt 1",)
  assert [r.phrase for r in regions.of(records[3])] == ["a man", "a shirt"]
  said = [region["phrase"] for r in records for region in r.truth["regions"]]
  assert len({id(phrase) for phrase in said}) == 2  # of millions, each is kept once


@pytest.mark.parametrize(
  "box, reason",
  [
    ([0.5, 0.5, 0.2], "are no four numbers"),
    ([0.5, 0.5, 0.2, "0.2"], "are no four numbers"),
    ([0.5, 0.5, 0.2, math.nan], "are no four numbers"),
    ([0.5, 0.5, 0.2, math.inf], "are no four numbers"),
    (None, "are no four numbers"),
    ([0.5, 0.5, 0, 0.2], "are empty"),
    ([0.5, 0.5, 0.2, -0.2], "are empty"),
    ([1.2, 0.5, 0.4, 0.2], "lie outside of their pictures"),
    ([0.5, -0.2, 0.4, 0.2], "lie outside of their pictures"),
    ([112, 50, 20, 60], "lie outside of their pictures"),  # pixels
  ],
)
def test_boxes_that_are_none_are_left_out_and_counted(box, reason, tmp_path):
  record, told = with_boxes(tmp_path, [box, FULL])
  assert [r["box"] for r in record.truth["regions"]] == [FULL]
  assert told == [f"1 boxes are left out: 1 {reason}"]


def test_boxes_that_reach_out_are_cut_and_counted(tmp_path):
  boxes = [[0.9, 0.5, 0.4, 0.5], [0.1, 0.1, 0.4, 0.4], [0.5, 0.5, 1.0008, 1.0002], FULL]
  record, told = with_boxes(tmp_path, boxes)
  found = [r["box"] for r in record.truth["regions"]]
  assert found[0] == pytest.approx([0.85, 0.5, 0.3, 0.5])
  assert found[1] == pytest.approx([0.15, 0.15, 0.3, 0.3])
  assert found[2:] == boxes[2:]  # four digits reach out so far
  assert told == ["2 boxes reach out of their pictures and are cut to them"]


@pytest.mark.parametrize("phrase", [None, "", " \t", "...", 3, ["a hat"]])
def test_boxes_without_a_phrase_are_left_out_and_counted(phrase, tmp_path):
  record, told = with_boxes(tmp_path, [FULL, FULL], ["a hat", phrase])
  assert len(record.truth["regions"]) == 1
  assert told == ["1 boxes are left out: 1 have no phrase"]


def test_lists_of_unlike_lengths(tmp_path):
  record, told = with_boxes(tmp_path, [FULL] * 3, ["a hat"], [0.5, "?", True, 0.25])
  assert record.truth["regions"] == [{"box": FULL, "phrase": "a hat", "logit": 0.5}]
  assert told == ["2 boxes are left out: 2 have no phrase"]
  record, told = with_boxes(tmp_path, [FULL], ["a hat", "shoes", "a bag"], ["?"])
  assert record.truth["regions"] == [{"box": FULL, "phrase": "a hat"}]
  assert told == ["2 phrases have no box and are left out"]


@pytest.mark.parametrize("boxes", [[], None, [[0.5, 0.5, 0, 0]]])
def test_an_image_without_a_box_has_no_region(boxes, tmp_path):
  path = sets.sda(tmp_path)
  rewrite(path, lambda entries: entries[0].update(boxes=boxes, phrases=[]))
  data = load(tmp_path)
  assert data.records[2].truth == {"image_id": 2} and not regions.of(data.records[2])
  assert data.notes[-1] == (
    1,
    "1 listings have no box: their region is the whole picture",
  )
  (finding,) = check.check([data], decode=False).of("reading")[-1:]
  assert finding.severity == "info" and finding.message == data.notes[-1].text


def test_a_file_of_which_no_box_can_be_used_is_of_another_format(tmp_path):
  path = sets.sda(tmp_path)
  for wrong in ([112, 50, 150, 90], [0.1, 0.1]):
    rewrite(path, lambda all_, wrong=wrong: [e.update(boxes=[wrong] * 9) for e in all_])
    with pytest.raises(DatasetError, match="none of its boxes can be used") as caught:
      load(tmp_path)
    lines = str(caught.value).splitlines()
    assert str(path) in lines[0] and "(cx, cy, w, h)" in lines[0] and len(lines) == 4
    assert f"c_5000_10000/0_0.jpg: {wrong}, 'a man'" in lines[1]


def test_identities_are_images_or_the_authors(tmp_path):
  path = sets.sda(tmp_path)
  rewrite(path, lambda entries: [e.update(image_id=0) for e in entries])
  data = load(tmp_path)
  assert [r.identity for r in data.records] == [0, 1, 2, 3]
  assert data.notes == (
    (3, "3 listings share their image_id with others and are an identity each"),
  )
  data = load(tmp_path, identity="image_id")
  assert [r.identity for r in data.records] == [0, 1, 0, 0]
  assert data.notes[0].text.endswith(
    "share their image_id with others and are one identity"
  )
  rewrite(path, lambda entries: entries[1].update(image_id="0_0"))
  assert [r.identity for r in load(tmp_path, identity="image_id").records] == [
    0,
    1,
    0,
    2,
  ]
  rewrite(path, lambda entries: entries[1].pop("image_id"))
  assert load(tmp_path).records[3].identity == 3
  with pytest.raises(DatasetError, match=r"record 1: key 'image_id': found NoneType"):
    load(tmp_path, identity="image_id")
  with pytest.raises(
    DatasetError, match="identity is 'id', expected image or image_id"
  ):
    load(tmp_path, identity="id")


def test_an_image_listed_twice_is_one_record(tmp_path):
  path = sets.sda(tmp_path)
  rewrite(path, lambda entries: entries.append({**entries[1], "caption": "a woman"}))
  data = load(tmp_path)
  assert len(data.records) == 4 and len(data.records[3].captions) == 2
  assert [note.count for note in data.notes] == [1, 2]
