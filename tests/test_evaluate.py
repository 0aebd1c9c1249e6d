"""Encoding a split and scoring it: rows, groups, broken pictures, small galleries."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.data.noise import dataset
from tpr_jax.core import sharding
from tpr_jax.data import tokenizer, transforms
from tpr_jax.data.damage import Damage
from tpr_jax.data.record import Dataset, Record
from tpr_jax.encoding import Encoder, EvaluationError, Features
from tpr_jax.evaluate import SCORES, bootstrap, score
from tpr_jax.metrics.uncertainty import Bootstrap
from tpr_jax.models import build

PEOPLE = tokenizer.build("people")
PIPE = transforms.build("resize(32,16)")
MESH = sharding.make_mesh({}, jax.devices()[:1])


@pytest.fixture(scope="module")
def model():
  module = build.build(tiny.FIELDS, vocab_size=PEOPLE.vocab_size)
  image = jnp.zeros((1, *tiny.SIZE, 3), jnp.uint8)
  text = jnp.full((1, tiny.LENGTH), PEOPLE.end_id, jnp.int32)
  return module, jax.jit(module.init)(jax.random.key(0), image, text)["params"]


@pytest.fixture(scope="module")
def encoder(model):
  return Encoder(model[0], MESH)


def encode(encoder, params, data, batch=8):
  return encoder(
    params,
    data,
    tokenizer=PEOPLE,
    pipe=PIPE,
    length=tiny.LENGTH,
    batch=batch,
    threads=1,
  )


def test_every_picture_and_caption_once_in_order(model, encoder):
  data = dataset(10)
  found = encode(encoder, model[1], data)
  assert found.image.shape == (10, 16) and found.image.dtype == np.float32
  np.testing.assert_array_equal(found.image_record, np.arange(10))
  expected = [
    (i, c) for i, r in enumerate(data.records) for c in range(len(r.captions))
  ]
  assert list(zip(found.text_record, found.text_caption, strict=True)) == expected
  for rows in (found.image, found.text):
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-5)
  assert found.broken == {}
  # The towers themselves, one example at a time.
  module, params = model
  record = data.records[7]
  image = PIPE(
    dict(image=data.load_image(record, None), caption="", record=record), None
  )
  out = module.apply({"params": params}, image["image"][None], method="encode_image")
  np.testing.assert_allclose(out["image"][0], found.image[7], atol=1e-6)
  ids, _ = PEOPLE.encode([record.captions[1]], tiny.LENGTH)
  out = module.apply({"params": params}, ids, method="encode_text")
  at = expected.index((7, 1))
  np.testing.assert_allclose(out["text"][0], found.text[at], atol=1e-6)


@pytest.mark.parametrize("batch", [5, 32])
def test_padding_of_the_last_batch_changes_no_feature(model, encoder, batch):
  data = dataset(10)
  one, other = (encode(encoder, model[1], data, size) for size in (8, batch))
  np.testing.assert_allclose(one.image, other.image, atol=1e-6)
  np.testing.assert_allclose(one.text, other.text, atol=1e-6)
  np.testing.assert_array_equal(one.text_record, other.text_record)


def test_eight_devices_give_the_same_features(model, encoder):
  data = dataset(10)
  mesh = sharding.make_mesh(dict(data=4, fsdp=2))
  spread = encode(Encoder(model[0], mesh), model[1], data)
  one = encode(encoder, model[1], data)
  np.testing.assert_allclose(one.image, spread.image, atol=1e-6)
  np.testing.assert_allclose(one.text, spread.text, atol=1e-6)


@pytest.mark.parametrize("devices", [1, 8])
def test_arrays_are_encoded_like_the_dataset_with_nothing_compiled_anew(model, devices):
  mesh = MESH if devices == 1 else sharding.make_mesh(dict(data=8))
  encoder, data = Encoder(model[0], mesh), dataset(10)
  found = encode(encoder, model[1], data)
  compiled = encoder._image._cache_size(), encoder._text._cache_size()
  pictures = [
    PIPE(dict(image=data.load_image(r, None), caption="", record=r), None)["image"]
    for r in data.records
  ]
  captions = [text for record in data.records for text in record.captions]
  tokens = PEOPLE.encode(captions, tiny.LENGTH)[0]
  images = encoder.images(model[1], np.stack(pictures), 8)
  np.testing.assert_allclose(images, found.image, atol=1e-6)
  np.testing.assert_allclose(encoder.texts(model[1], tokens, 8), found.text, atol=1e-6)
  assert encoder.images(model[1], np.stack(pictures[:1]), 8).shape == (1, 16)
  assert (encoder._image._cache_size(), encoder._text._cache_size()) == compiled
  if devices == 8:
    with pytest.raises(EvaluationError, match=r"eval.batch=12 .* 8 devices"):
      encoder.texts(model[1], tokens, 12)


def test_a_broken_picture_is_left_out_and_counted(model, encoder):
  data = dataset(10, broken=(0, 7))
  found = encode(encoder, model[1], data)
  assert found.image_record.tolist() == [1, 2, 3, 4, 5, 6, 8, 9]
  whole = encode(encoder, model[1], dataset(10))
  np.testing.assert_allclose(found.image, whole.image[found.image_record], atol=1e-6)
  assert set(found.broken) == {"0.png", "7.png"}
  assert len(found.text) == len(whole.text)  # its captions are still asked for
  result = score(found, data)
  assert result.scores["broken_images"] == 2
  assert result.scores["t2i"]["gallery"] == 8
  assert not set(result.rankings["top"].ravel().tolist()) & {0, 7}


def test_a_batch_that_cannot_be_split_is_an_error(model):
  spread = Encoder(model[0], sharding.make_mesh(dict(data=8)))
  with pytest.raises(EvaluationError, match=r"eval.batch=12 .* 8 devices"):
    encode(spread, model[1], dataset(4), batch=12)


@pytest.mark.parametrize(
  "data",
  [
    dataset(4, broken=range(4)),
    dataclasses.replace(
      dataset(4),
      records=tuple(dataclasses.replace(r, captions=()) for r in dataset(4).records),
    ),
    dataclasses.replace(dataset(4), records=()),
  ],
  ids=["no picture", "no caption", "no record"],
)
def test_nothing_to_encode_is_an_error(model, encoder, data):
  with pytest.raises(EvaluationError, match="noise/train: no readable image or no cap"):
    encode(encoder, model[1], data)


# ---- scoring, on features made by hand


def load_nothing(record, size):
  raise AssertionError("scoring looks at no picture")


def people(truths, captions=1):
  """Two pictures a person, person i with truth i; features that rank by design."""
  records = tuple(
    Record(f"{i}/{v}", 50 - i, ("text",) * captions, "test", "made", truth)
    for i, truth in enumerate(truths)
    for v in range(2)
  )
  return Dataset("made", "test", records, load_nothing)


def features(data, wrong=(), broken=()):
  """Each person an axis; captions of the persons in `wrong` point at the next one."""
  ids = [record.identity for record in data.records]
  order = sorted(set(ids), reverse=True)
  axis, count = {identity: i for i, identity in enumerate(order)}, len(order)
  text = [
    (r, c) for r, one in enumerate(data.records) for c in range(len(one.captions))
  ]
  point = lambda i: (axis[i] + (axis[i] in wrong)) % count
  kept = [i for i, record in enumerate(data.records) if record.image not in broken]
  damage = Damage(f"{data.name}/{data.split}", len(data.records))
  for name in broken:
    damage.add(name, "damaged", f"{name}: cut short")
  return Features(
    image=np.eye(count, dtype=np.float32)[[axis[ids[i]] for i in kept]],
    image_record=np.array(kept, np.int32),
    text=np.eye(count, dtype=np.float32)[[point(ids[r]) for r, _ in text]],
    text_record=np.array([r for r, _ in text], np.int32),
    text_caption=np.array([c for _, c in text], np.int32),
    damage=damage,
  )


def test_scores_and_rankings_of_a_made_example():
  data = people([{}] * 8)
  result = score(features(data, wrong={2, 5}), data)
  assert set(result.scores) == {"t2i", "broken_images"}
  assert result.scores["t2i"]["R1"] == pytest.approx(100 * 12 / 16)
  top, rank = result.rankings["top"], result.rankings["first_rank"]
  assert top.shape == (16, 10) and top.dtype == np.int32
  for query in range(16):
    person = query // 2
    expected = (person + (person in (2, 5))) % 8
    assert top[query, :2].tolist() == [2 * expected, 2 * expected + 1]
    assert (rank[query] == 1) == (person not in (2, 5))
  np.testing.assert_array_equal(result.rankings["query_record"], np.arange(16))


def test_image_to_text_is_a_switch():
  data = people([{}] * 4, captions=3)
  plain, both = (score(features(data, wrong={1}), data, i2t=i) for i in (False, True))
  assert "i2t" not in plain.scores
  assert both.scores["t2i"] == plain.scores["t2i"]
  assert (both.scores["i2t"]["queries"], both.scores["i2t"]["gallery"]) == (8, 24)
  # The texts of person 1 lie on person 2: pictures of 1 find none of their own, and
  # pictures of 2 find those of 1 before their own (ties go to the first).
  assert both.scores["i2t"]["R1"] == pytest.approx(50.0)


def test_twins_are_scored_apart_against_the_whole_gallery():
  data = people([{"twin_group": 1}, {"twin_group": 1}, {"twin_group": None}, {}])
  found = score(features(data, wrong={0}), data, group_by="twin_group").scores["groups"]
  assert set(found) == {"near twins", "others"}
  assert found["near twins"]["R1"] == pytest.approx(50.0)
  assert found["others"]["R1"] == pytest.approx(100.0)
  assert [found[g]["queries"] for g in sorted(found)] == [4, 4]
  assert all(group["gallery"] == 8 for group in found.values())


def test_groups_by_a_truth_of_the_record_or_of_the_caption():
  grains = [{"granularity": "fine"}, {"granularity": "coarse"}]
  truths = [{"domain": d, "caption_truth": grains} for d in ("day", "day", "night")]
  data = people([*truths, {"caption_truth": grains}], captions=2)
  made = features(data)
  by_domain = score(made, data, group_by="domain").scores["groups"]
  # The person without a domain is in no group, and still in the gallery.
  assert {k: v["queries"] for k, v in by_domain.items()} == {
    "domain=day": 8,
    "domain=night": 4,
  }
  by_grain = score(made, data, group_by="granularity").scores["groups"]
  assert {k: v["queries"] for k, v in by_grain.items()} == {
    "granularity=fine": 8,
    "granularity=coarse": 8,
  }


def test_a_group_that_nothing_has_is_an_error():
  data = people([{"weather": "rain"}] * 3)
  with pytest.raises(EvaluationError, match=r"made/test.*group_by='wether'.*weather"):
    score(features(data), data, group_by="wether")


def test_queries_are_grouped_in_several_ways_at_once():
  data = people([{"domain": d} for d in ("day", "day", "night")], captions=2)
  found = score(features(data), data, group_by="domain,length")
  groups = found.scores["groups"]
  assert {k: v["queries"] for k, v in groups.items()} == {
    "domain=day": 8,
    "domain=night": 4,
    "length=0-10 words": 12,
  }
  assert found.rankings["group"].shape == (12, 2)
  assert found.rankings["group"][0].tolist() == ["domain=day", "length=0-10 words"]


def test_a_gallery_smaller_than_the_top_is_filled_with_minus_one():
  data = people([{}] * 3)
  found = features(data, broken=("1/0",))
  result = score(found, data)
  top, scores = result.rankings["top"], result.rankings["score"]
  assert (top[:, 5:] == -1).all() and np.isnan(scores[:, 5:]).all()
  for row in top:
    assert sorted(row[:5].tolist()) == [0, 1, 3, 4, 5]  # record numbers, without 2


def test_queries_whose_pictures_are_all_broken_are_unmatched():
  data = people([{"twin_group": 1}, {}, {}])
  found = score(features(data, broken=("0/0", "0/1")), data)
  assert found.scores["t2i"]["unmatched"] == 2
  assert found.scores["t2i"]["R1"] == pytest.approx(100.0)
  with pytest.raises(EvaluationError, match="near twins"):
    score(features(data, broken=("0/0", "0/1")), data, group_by="twin_group")


def test_features_that_are_not_numbers_are_an_error():
  data = people([{}] * 3)
  found = features(data)
  found.image[2, 0] = np.nan
  with pytest.raises(EvaluationError, match=r"made/test: .*2"):
    score(found, data)


def test_the_msd_variant_is_passed_on():
  data = people([{}] * 6)
  made = features(data, wrong={1, 3})
  one, other = (
    score(made, data, msd_variant=v).scores["t2i"] for v in ("paper", "released_script")
  )
  assert one["R1"] == other["R1"] and one["mSD"] != other["mSD"]


# ---- intervals


def test_the_fields_of_the_config_decide_the_intervals():
  how = bootstrap(dict(ci_level=0.8, ci_resamples=50))
  assert (how.level, how.resamples, how.seed) == (0.8, 50, 0)
  assert bootstrap(dict(ci_level=0.8, ci_resamples=0)) is None
  assert bootstrap({}) == Bootstrap()  # a run older than the fields
  data = people([{}] * 12)
  made = features(data, wrong={1, 4, 7})
  plain = score(made, data).scores["t2i"]
  spans = {}
  for level in (0.8, 0.99):
    found = score(made, data, i2t=True, intervals=Bootstrap(level, 300)).scores
    ci = found["t2i"].pop("ci")
    assert found["t2i"] == plain  # the scores themselves are as before
    assert (ci["level"], ci["resamples"], ci["identities"]) == (level, 300, 12)
    assert set(found["i2t"]["ci"]["scores"]) == set(SCORES)
    spans[level] = ci["scores"]["R1"]
  assert spans[0.99][0] < spans[0.8][0] < plain["R1"] < spans[0.8][1] < spans[0.99][1]


def test_intervals_leave_out_queries_without_a_match():
  data = people([{}] * 6)
  whole = features(data, wrong={2})
  broken = features(data, wrong={2}, broken=("0/0", "0/1"))
  found = score(broken, data, intervals=Bootstrap()).scores["t2i"]
  assert (found["unmatched"], found["ci"]["identities"]) == (2, 5)
  assert (
    score(whole, data, intervals=Bootstrap()).scores["t2i"]["ci"]["identities"] == 6
  )
