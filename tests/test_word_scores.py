"""Which captions are asked about their words, and what is said of their scores."""

import dataclasses

import jax
import numpy as np
import pytest

from tests import tiny
from tpr_jax import dual_masking, word_files, word_scores
from tpr_jax.core import sharding
from tpr_jax.data import build, tokenizer, transforms
from tpr_jax.data.record import DatasetError, ImageError
from tpr_jax.metrics.uncertainty import Bootstrap
from tpr_jax.models import build as models

LENGTH, PIPE = 40, transforms.build("resize(32,16)")
WORDS = tokenizer.build("people")
KINDS = ("gass", "random")


@pytest.fixture(scope="module")
def people():
  options = dict(identities=8, views=1, granularity=("coarse",), word_noise=0.5)
  return build.dataset("rendered", None, "train", options)


def choose(dataset, count, seed=0):
  return word_scores.choose(
    dataset, count, tokenizer=WORDS, pipe=PIPE, length=LENGTH, seed=seed
  )


def test_the_choice_is_one_of_the_seed(people):
  found = choose(people, 5)
  assert found.known and found.text.shape == (5, LENGTH)
  assert found.image.shape == (5, 32, 16, 3)
  assert len({(r, n) for r, n in zip(found.record, found.number, strict=True)}) == 5
  for one, other in zip(found[:-1], choose(people, 5)[:-1], strict=True):
    np.testing.assert_array_equal(one, other)
  assert (choose(people, 5, seed=1).record != found.record).any()
  assert len(choose(people, 99).text) == 8  # all there are
  for row, (record, number) in enumerate(zip(found.record, found.number, strict=True)):
    caption = people.records[record].captions[number]
    ids, _ = WORDS.encode([caption], LENGTH)
    np.testing.assert_array_equal(found.text[row], ids[0])
  assert found.wrong.any() and not (found.wrong & ~found.word).any()


def test_captions_without_words_and_broken_pictures_are_passed_over(people):
  def load_image(record, size):
    if record.image.endswith("000003/0"):
      raise ImageError("broken")
    return people.load_image(record, size)

  records = [
    dataclasses.replace(r, captions=("  ",)) if i == 5 else r
    for i, r in enumerate(people.records)
  ]
  dataset = dataclasses.replace(people, records=tuple(records), load_image=load_image)
  assert sorted(choose(dataset, 99).record) == [0, 1, 2, 4, 6, 7]
  nothing = dataclasses.replace(people, records=tuple(records[5:6]))
  with pytest.raises(DatasetError, match=r"word_scores\.captions=0"):
    choose(nothing, 3)


def test_where_no_truth_is_known_words_are_scored_and_no_area_is_made_up(people):
  records = tuple(dataclasses.replace(r, truth={}) for r in people.records)
  found = choose(dataclasses.replace(people, records=records), 4)
  assert not found.known and not found.wrong.any()
  known = choose(people, 4)
  np.testing.assert_array_equal(found.word, known.word)


def scorer(people, captions, batch):
  model = models.build(
    dict(tiny.FIELDS, text_length=LENGTH), vocab_size=WORDS.vocab_size
  )
  rules = dict(
    mask_id=WORDS.mask_id,
    vocab_size=WORDS.vocab_size,
    special_ids=(WORDS.start_id, WORDS.end_id),
    mask=0.8,
    random=0.1,
  )
  dual = dict(
    score="none",
    score_layers=1,
    score_scales=(1, 2),
    score_norm="per_sample",
    score_rows="all",
    attn_denominator="attention",
    grad_target="attention",
    gass_heads=0,
  )
  image = np.zeros((1, *tiny.SIZE, 3), np.uint8)
  text = np.full((1, LENGTH), WORDS.end_id, np.int32)
  params = model.init(jax.random.key(0), image, text)["params"]
  made = word_scores.Scorer(
    model,
    sharding.make_mesh({"data": -1}),
    dual=dual,
    rules=rules,
    kinds=KINDS,
    captions=captions,
    dataset=people,
    tokenizer=WORDS,
    batch=batch,
    how=Bootstrap(resamples=40),
  )
  one = dual_masking.DualMasking(model, {**dual, "score": "gass"}, rules)
  return made, one, params


def test_scores_are_those_of_the_masks_on_all_devices_and_in_any_batch(people):
  captions = choose(people, 6)
  made, one, params = scorer(people, captions, batch=8)
  found = made.scores(params)
  assert set(found) == set(KINDS)
  image = one.model.apply({"params": params}, captions.image, method="encode_image")
  keys = jax.random.split(jax.random.key(0), 6)
  expected = jax.jit(one.scores)(params, image, captions.text, keys)
  np.testing.assert_allclose(found["gass"], expected, atol=1e-4)
  said = made(7, params)
  assert said.step == 7 and said.data == "rendered/train" and said.kinds == KINDS
  area = said.areas["gass"]
  assert (area.wrong, area.right) == (
    captions.wrong.sum(),
    (captions.word & ~captions.wrong).sum(),
  )
  assert 0 <= area.low <= area.auc <= area.high <= 1
  assert set(word_files.numbers(said)) >= {"auc_gass", "auc_random", "wrong_tokens"}


def test_kinds_that_there_are_not():
  for kinds, captions in ((("none",), 3), ((), 3), (("gass", "gass"), 3), (KINDS, -1)):
    with pytest.raises(ValueError, match=r"eval\.word_scores"):
      word_scores.check(kinds, captions)
  word_scores.check(KINDS, 0)
