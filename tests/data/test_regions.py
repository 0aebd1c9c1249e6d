"""Regions of records: which is drawn, which patches it has, which number its phrase."""

import collections
import itertools
import json
import math

import numpy as np
import pytest

from tests.data.noise import dataset
from tests.data.test_shards import written
from tpr_jax.data import boxes, build, regions
from tpr_jax.data.record import Dataset, DatasetError, ImageError, Record

MRA = ((224, 224), (7, 7))  # picture and patches of its pre-training


def record(*listed, key=regions.KEY):
  return Record("a.jpg", 7, ("a man",), "train", truth={key: list(listed)})


def region(box=(0.5, 0.5, 0.5, 0.5), phrase="a shirt", **more):
  return {"box": list(box), "phrase": phrase, **more}


# ---- from records


def test_regions_are_those_of_the_truth():
  feet = region((0, 1, 0.25, 2), "red shoes", region="shoes")
  found = regions.of(record(region(logit=0.4), feet, region(region=3)))
  assert found == (
    ((0.5, 0.5, 0.5, 0.5), "a shirt", ""),
    ((0, 1, 0.25, 2), "red shoes", "shoes"),
    ((0.5, 0.5, 0.5, 0.5), "a shirt", ""),
  )
  assert regions.of(record()) == regions.of(record(region(), key="other")) == ()


@pytest.mark.parametrize(
  "listed",
  [region(box=(0, 0, 1)), region(box=(0, 0, 1, math.nan)), region(box=(0, 0, 1, "1")),
   region(box=(0, 0, 1, True)), {"box": [0, 0, 1, 1]}, region(phrase=None), "shirt", 4],
)  # fmt: skip
def test_regions_of_another_form_are_explained(listed):
  with pytest.raises(
    DatasetError, match=r"a\.jpg: truth\['regions'\] holds .*expected"
  ):
    regions.of(record(region(), listed))
  for whole in ("text", 4, {"a": 1}):
    wrong = Record("a.jpg", 7, ("a man",), "train", truth={"regions": whole})
    with pytest.raises(DatasetError, match="expected a list of"):
      regions.of(wrong)


def test_each_region_is_as_likely_as_another():
  listed = [region((0.5, 0.5, 0.1 * i, 1), f"part {i}") for i in range(1, 4)]
  rng, met = np.random.default_rng(0), collections.Counter()
  for _ in range(3_000):
    box, phrase = regions.choose(record(*listed), rng, 200, 100)
    number = int(phrase[-1])
    assert box == boxes.in_pixels(listed[number - 1]["box"], 200, 100)
    met[number] += 1
  assert all(abs(met[i] / 3_000 - 1 / 3) < 0.03 for i in (1, 2, 3))


def test_without_regions_it_is_the_whole_picture_and_nothing_is_drawn():
  rng = np.random.default_rng(0)
  assert regions.choose(record(), rng, 200, 100) == ((0, 0, 100, 200), None)
  assert rng.random() == np.random.default_rng(0).random()


def test_ones_own_records_may_have_regions(tmp_path):
  rows = [
    {"image": f"{i}.jpg", "captions": ["a man"], "regions": [region()] * i}
    for i in range(3)
  ]
  text = "".join(json.dumps(row) + "\n" for row in rows)
  (tmp_path / "any.jsonl").write_text(text, "utf-8")
  for name in ("lines", "folder"):
    options = {"default_split": "train"}
    data = build.dataset(name, tmp_path, "train", options)
    assert [len(regions.of(record)) for record in data.records] == [0, 1, 2]
    regions.check(data)


# ---- patches


def cells(box, size=MRA[0], grid=MRA[1]):
  return regions.cells(box, size, grid).reshape(grid)


def slowly(box, size, grid):
  """A patch is in the region where some of the box's inside lies in it."""
  found = np.zeros(grid, bool)
  x, y, w, h = box
  for row, column in itertools.product(*map(range, grid)):
    top, left = row * size[0] / grid[0], column * size[1] / grid[1]
    bottom, right = top + size[0] / grid[0], left + size[1] / grid[1]
    found[row, column] = x < right and x + w > left and y < bottom and y + h > top
  return found


def test_the_whole_picture_has_all_patches_and_a_point_has_one():
  assert cells((0, 0, 224, 224)).sum() == cells(None).sum() == 49
  centre = cells((112, 112, 1, 1))
  assert centre.sum() == 1 and centre[3, 3]
  assert cells((112, 112, 0, 0)).sum() == 1
  assert cells((224, 224, 0, 0))[6, 6] and cells((224, 224, 0, 0)).sum() == 1
  assert regions.cells(None, *MRA).dtype == bool


def test_patches_by_the_rule_of_the_reference():
  found = cells((32, 40, 64, 24.5))  # columns 1 and 2; rows 1 and 2, of 40 to 64.5
  assert np.argwhere(found).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
  assert np.argwhere(cells((33, 40, 64, 24))).tolist() == [[1, 1], [1, 2], [1, 3]]


@pytest.mark.parametrize("size, grid", [MRA, ((384, 128), (24, 8)), ((96, 40), (5, 3))])
def test_patches_are_those_that_the_box_meets(size, grid):
  rng = np.random.default_rng(0)
  for _ in range(300):
    x, y = rng.uniform(0, size[1] - 2), rng.uniform(0, size[0] - 2)
    w, h = rng.uniform(1, size[1] - x), rng.uniform(1, size[0] - y)
    box = (x, y, w, h)
    assert np.array_equal(cells(box, size, grid), slowly(box, size, grid))
    mirrored = cells(boxes.flipped(box, size[1]), size, grid)
    assert np.array_equal(mirrored, cells(box, size, grid)[:, ::-1])


def test_an_edge_moved_by_rounding_touches_no_other_patch():
  third = 224 / 3
  box = (third, third, third, third)  # scaled and mirrored, its edges are not exact
  for grid in ((3, 3), (6, 6)):
    step = grid[0] // 3
    for moved in (box, boxes.flipped(boxes.flipped(box, 224), 224)):
      rows = np.flatnonzero(cells(moved, (224, 224), grid).any(axis=1))
      assert rows.tolist() == list(range(step, 2 * step))


# ---- numbers of phrases


def test_equal_phrases_have_one_number_and_no_picture_has_it():
  phrases = [
    f"a {colour} shirt {i}" for colour in ("red", "Red") for i in range(20_000)
  ]
  found = [regions.phrase_id(phrase, 1_217_750) for phrase in phrases]
  assert min(found) >= 1_217_750 and max(found) < 2**31
  assert len(set(found)) >= 40_000 - 2  # 0.4 pairs are expected to share one
  assert found[:100] == [regions.phrase_id(p, 1_217_750) for p in phrases[:100]]
  assert np.mean(found) > 0.9 * 2**30  # all of the range is used
  assert {regions.phrase_id(p, 2**31 - 1) for p in phrases[:9]} == {2**31 - 1}
  assert regions.phrase_id("人 \ud83d", 4) != regions.phrase_id("人", 4)


# ---- data without any


def with_regions(data, at, truth=None):
  truth = {regions.KEY: [region()]} if truth is None else truth
  records = list(data.records)
  old = records[at]
  records[at] = Record(old.image, old.identity, old.captions, "train", truth=truth)
  return Dataset(data.name, "train", tuple(records), data.load_image)


def test_a_dataset_without_any_region_is_refused(tmp_path, monkeypatch):
  plain = dataset(20)
  message = r"regions of noise/train are asked for.*none of the 20 records"
  with pytest.raises(DatasetError, match=message):
    regions.check(plain)
  with pytest.raises(DatasetError, match=message):
    regions.check(written(tmp_path / "plain", plain))
  last = with_regions(plain, 19)
  regions.check(last)
  stream = written(tmp_path / "last", last)
  regions.check(stream)
  monkeypatch.setattr(regions, "_LOOKED_AT", 19)  # a stream is not read to its end
  with pytest.raises(DatasetError, match="none of the 19 records"):
    regions.check(stream)
  with pytest.raises(DatasetError, match="expected a list"):
    regions.check(with_regions(plain, 0, {regions.KEY: 3}))


def test_records_that_cannot_be_read_are_no_reason_to_stop(tmp_path):
  stream = written(tmp_path, with_regions(dataset(20), 7)).records

  class Broken(type(stream)):
    def __getitem__(self, index):
      if index < 5:
        raise ImageError("a damaged chunk")
      return super().__getitem__(index)

  broken = Broken(stream._folder, stream._manifest)
  regions.check(Dataset("noise", "train", broken, None))
