"""Phrases asked of their pictures: which, what comes of them, and what is refused."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests import tiny_cross
from tests.models import weights
from tpr_jax import localise, localise_files
from tpr_jax.core import sharding
from tpr_jax.data import tokenizer, transforms
from tpr_jax.data.record import Dataset, DatasetError, ImageError, Record
from tpr_jax.data.rendered import sets
from tpr_jax.localise_files import LocaliseError
from tpr_jax.metrics import localisation, uncertainty
from tpr_jax.models import build, cross_maps

LENGTH = tiny_cross.LENGTH
PIPE = transforms.build("resize(32,16)")
GRID = (4, 2)


@functools.cache
def words():
  return tokenizer.build("people_wordpiece")


@functools.cache
def people():
  return sets.load("test", identities=6, views=1, granularity="coarse", regions=True)


@functools.cache
def model():
  heads = ("itm", "mlm")
  made = build.build(tiny_cross.FIELDS, vocab_size=words().vocab_size, heads=heads)
  inputs = np.zeros((2, 32, 16, 3), np.uint8), np.full((2, LENGTH), words().end_id)
  return made, weights.drawn(made, *inputs)["params"]


@functools.cache
def looker():
  return localise.Looker(model()[0], sharding.make_mesh(dict(data=-1)), "words")


@functools.cache
def asked(count=11):
  pairs = localise.choose(people(), count, words(), LENGTH)
  return pairs, looker()(model()[1], people(), pairs, pipe=PIPE, batch=8)


def told(looks, how=None):
  return localise.summary(looks, people(), how)


def by_name(found):
  return {row["name"]: row for row in found["rows"]}


def test_phrases_are_drawn_with_another_of_the_same_picture():
  pairs, data = asked()[0], people()
  assert len(pairs.record) == 11 and (np.diff(pairs.record) >= 0).all()
  assert len({*zip(pairs.record, pairs.region, strict=True)}) == 11
  for row in range(11):
    listed = data.records[pairs.record[row]].truth["regions"]
    own, other = listed[pairs.region[row]], listed[pairs.other[row]]
    assert pairs.other[row] >= 0 and own["phrase"] != other["phrase"]
    assert (pairs.phrase[row], pairs.kind[row]) == (own["phrase"], own["region"])
    np.testing.assert_array_equal(pairs.box[row], own["box"])
    for text, phrase in ((pairs.text, own), (pairs.other_text, other)):
      encoded = words().encode([phrase["phrase"]], LENGTH)[0][0]
      np.testing.assert_array_equal(text[row], encoded)
  again = localise.choose(data, 11, words(), LENGTH)
  np.testing.assert_array_equal(again.box, pairs.box)
  other = localise.choose(data, 11, words(), LENGTH, seed=1)
  assert (other.record != pairs.record).any() or (other.region != pairs.region).any()
  total = sum(len(record.truth["regions"]) for record in data.records)
  assert len(localise.choose(data, 999, words(), LENGTH).record) == total


def test_a_phrase_sees_its_own_picture_and_a_short_batch_is_filled():
  """11 phrases by eights over all devices, against each pair alone."""
  pairs, looks = asked()
  module, params = model()
  assert looks.maps.shape == (11, 1, 8) and looks.grid == GRID
  assert looks.layers.tolist() == [1] and looks.size == (32, 16)
  run = jax.jit(lambda image, text: cross_maps.maps(module, params, image, text))
  for row in (0, 5, 10):
    record = people().records[pairs.record[row]]
    picture = people().load_image(record, (32, 16))[None]
    for text, found in ((pairs.text, looks.maps[row]),
                        (pairs.other_text, looks.other_map[row][None])):  # fmt: skip
      expected = np.asarray(run(picture, text[row][None]))[0]
      np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_rows_of_a_summary():
  _, looks = asked()
  found = told(looks, uncertainty.Bootstrap(resamples=50))
  rows = by_name(found)
  kinds = sorted(set(looks.kind.tolist()))
  assert list(rows) == [
    "all", *kinds, "layer 1", "another phrase's map", "same everywhere",
    "the box itself",
  ]  # fmt: skip
  expected = localisation.measure(looks.mean, looks.box, GRID)
  chance = localisation.chance(looks.box, GRID)
  for name, chosen in [("all", slice(None)), *((k, looks.kind == k) for k in kinds)]:
    for score in localisation.SCORES:
      mean = expected[score][chosen].mean() * (1 if score == "ratio" else 100)
      assert rows[name][score] == pytest.approx(mean)
    assert rows[name]["chance"] == pytest.approx(
      100 * chance["pointing"][chosen].mean()
    )
  # One fusion layer: its map is the mean of all.
  assert rows["layer 1"]["energy"] == pytest.approx(rows["all"]["energy"])
  assert rows["same everywhere"]["pointing"] == pytest.approx(rows["all"]["chance"])
  assert rows["same everywhere"]["ratio"] == pytest.approx(1)
  assert rows["the box itself"]["pointing"] == 100
  other = localisation.measure(looks.other_map, looks.box, GRID)["energy"].mean()
  assert rows["another phrase's map"]["energy"] == pytest.approx(100 * other)
  assert rows["another phrase's map"]["energy"] != pytest.approx(rows["all"]["energy"])
  low, high = rows["all"]["ci"]["energy"]
  assert low < rows["all"]["energy"] < high
  ids = [people().records[at].identity for at in looks.record]
  ends = uncertainty.interval(
    expected["ratio"][:, None], ids, uncertainty.Bootstrap(resamples=50)
  )
  np.testing.assert_allclose(rows["all"]["ci"]["ratio"], ends[:, 0])
  assert found["phrases"] == 11 and found["by"] == "words" and found["grid"] == [4, 2]
  one = looks.kind == looks.kind[0]
  assert rows[looks.kind[0]]["phrases"] == one.sum()
  assert not any("ci" in row for row in told(looks)["rows"])


def test_a_model_that_knows_the_boxes_is_seen_to():
  """Maps that are the boxes reach the limit; those of the other box do not."""
  _, looks = asked()
  maps = localisation.coverage(looks.box, GRID)
  boxes = [
    people().records[at].truth["regions"][k]["box"]
    for at, k in zip(looks.record, looks.other, strict=True)
  ]
  knowing = dataclasses.replace(
    looks, maps=maps[:, None], other_map=localisation.coverage(boxes, GRID)
  )
  rows = by_name(told(knowing))
  for score in localisation.SCORES:
    assert rows["all"][score] == pytest.approx(rows["the box itself"][score])
  assert rows["another phrase's map"]["energy"] < rows["all"]["energy"] - 5


def record(*regions, image="a", identity=1):
  return Record(image, identity, ("a man",), "test", truth=dict(regions=list(regions)))


def region(box=(0.5, 0.5, 0.5, 0.5), phrase="a red coat"):
  return dict(box=list(box), phrase=phrase)


class Draw:
  def __call__(self, one, size):
    if one.image == "broken":
      raise ImageError("broken: no picture")
    return np.full((*size, 3), one.identity, np.uint8)


def data(*records):
  return Dataset("own", "test", records, Draw())


def test_what_cannot_be_asked_is_left_out():
  kept = region(phrase="a green bag")
  away = (
    region(phrase=" "),
    region(box=(1.5, 0.5, 0.5, 0.5)),
    region(box=(0, 0, 0, 1)),
  )
  pairs = localise.choose(data(record(), record(*away, kept)), 9, words(), LENGTH)
  assert pairs.phrase.tolist() == ["a green bag"] and pairs.region.tolist() == [3]
  assert pairs.other.tolist() == [-1] and pairs.kind.tolist() == [""]
  twice = localise.choose(data(record(kept, kept)), 9, words(), LENGTH)
  assert twice.other.tolist() == [-1, -1]  # the same phrase is no other one
  with pytest.raises(DatasetError, match=r"own/test: none of its 3 regions has a box"):
    localise.choose(data(record(*away)), 9, words(), LENGTH)
  assert localise.has_regions(data(record(), record(kept)))
  assert not localise.has_regions(data(record()))


def test_pictures_that_cannot_be_read_are_counted():
  bad = record(region(), region(phrase="shoes"), image="broken")
  good = [record(region(), image=f"{i}", identity=i) for i in range(5)]
  mixed = data(good[0], bad, *good[1:], bad)
  pairs = localise.choose(mixed, 99, words(), LENGTH)
  looks = looker()(model()[1], mixed, pairs, pipe=PIPE, batch=8)
  assert looks.broken == 4 and looks.record.tolist() == [0, 2, 3, 4, 5]
  rows = by_name(localise.summary(looks, mixed))
  assert "another phrase's map" not in rows and rows["all"]["phrases"] == 5
  only = data(bad)
  pairs = localise.choose(only, 9, words(), LENGTH)
  with pytest.raises(DatasetError, match="no picture with regions can be read"):
    looker()(model()[1], only, pairs, pipe=PIPE, batch=8)


@pytest.mark.parametrize(
  ("how", "message"),
  [
    (dict(localise=-1), "eval.localise=-1: expected a number of phrases"),
    (dict(localise=True), "expected a number of phrases"),
    (dict(localise=4, localise_by="word"), "localise_by: unknown map 'word'"),
  ],
)
def test_settings_that_cannot_be_are_refused(how, message):
  with pytest.raises(ValueError, match=message):
    localise.settings(how, model()[0])


def test_settings():
  assert localise.settings({}, object()) is None  # runs older than the field, CLIP
  assert localise.settings(dict(localise=0), object()) is None
  assert localise.settings(dict(localise=7), model()[0]) == (7, "cls*gradient")
  bare = build.build(tiny_cross.FIELDS, vocab_size=40, heads=())
  for lacking in (object(), bare):
    with pytest.raises(ValueError, match=r"eval\.localise=7.*no fusion layers"):
      localise.settings(dict(localise=7), lacking)


# ---- the file


def test_a_file_is_read_as_it_was_written(tmp_path):
  _, looks = asked()
  localise.keep(tmp_path, "test", looks)
  again = localise_files.read(tmp_path / "localise" / "test.npz")
  for field in dataclasses.fields(looks):
    expected, found = (getattr(one, field.name) for one in (looks, again))
    np.testing.assert_array_equal(found, expected, err_msg=field.name)
  localise.keep(None, "test", looks)
  localise.keep(tmp_path, "test", None)
  assert not (tmp_path / "localise" / "test.npz").exists()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(phrase=np.array(["a"])), "'phrase' has shape"),
    (dict(maps=np.ones((11, 1, 9), np.float32)), "'maps' has shape"),
    (dict(box=np.ones((11, 4), int)), "'box' has shape"),
    (dict(maps=np.full((11, 1, 8), np.nan, np.float32)), "finite numbers"),
    (dict(box=np.zeros((11, 4))), "covers nothing"),
  ],
)
def test_a_file_that_does_not_fit_is_named(change, message, tmp_path):
  path = tmp_path / "test.npz"
  localise_files.write(path, dataclasses.replace(asked()[1], **change))
  with pytest.raises(LocaliseError, match=rf"test\.npz cannot be used .*{message}"):
    localise_files.read(path)
  path.write_text("no zip")
  with pytest.raises(LocaliseError, match=r"test\.npz cannot be used"):
    localise_files.read(path)
