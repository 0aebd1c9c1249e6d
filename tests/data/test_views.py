"""Views of a row: what the batch says of them is what a slow look at the data says."""

import dataclasses
import pickle
import re

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.data.noise import Files, dataset
from tests.data.test_shards import written
from tpr_jax.data import (
  build,
  eda,
  examples,
  pipeline,
  regions,
  span_masking,
  synonyms,
  tokenizer,
  transforms,
  views,
)
from tpr_jax.data.boxes import in_pixels
from tpr_jax.data.record import DatasetError

LENGTH, GRID = 24, (6, 3)
PIPE = "box_crop(3)|flip(0.5, words='swap')|resize(48,24,'bicubic')|erase(0.5)"
MASK = dict(rule="words", share=0.25, most=10)
EDA = dict(synonyms="people", replace=0.1, insert=0.1, swap=0.1, delete=0.1)
ALL = views.Views(region=GRID, eda=EDA, mask=MASK)
WORDS = ("a red bag in his left hand", "blue jeans", "white sneakers, 人")


def people():
  """With a vocabulary of words that continue others: odd ids, so that it matters."""
  made = tokenizer.build("people")
  made.continues = np.arange(made.vocab_size) % 2 == 1
  return made


def with_regions(data):
  """Two regions for each record, none for each fourth; phrases occur many times."""

  def truth(i):
    listed = [
      {
        "box": [0.5, 0.3 * (1 + j), 0.2 * (1 + i % 3), 0.25],
        "phrase": WORDS[(i + j) % 3],
      }
      for j in range(2)
    ]
    return {} if i % 4 == 3 else {"regions": listed, "view": i}

  records = (dataclasses.replace(r, truth=truth(i)) for i, r in enumerate(data.records))
  return dataclasses.replace(data, records=tuple(records))


def iterate(data, chosen=ALL, **kwargs):
  given = dict(pipe=PIPE, length=LENGTH, batch=8, seed=3, threads=2, prefetch=2)
  return pipeline.train_iterator(data, people(), views=chosen, **{**given, **kwargs})


def take(iterator, count=6):
  found = [next(iterator) for _ in range(count)]
  iterator.close()
  return found


def assert_same(a, b):
  for one, other in zip(a, b, strict=True):
    assert set(one) == set(other)
    for key in one:
      assert one[key].dtype == other[key].dtype
      assert np.array_equal(one[key], other[key]), key


# ---- what a batch holds


def slowly(data, batch, position, row):
  """The views of one row, from the records alone."""
  tokens, record = people(), data.records[batch["image_id"][row]]
  image = data.load_image(record, None)
  drawn = np.random.default_rng([3, position, views._REGION])
  listed, phrase = record.truth.get("regions"), None
  box = (0.0, 0.0, image.shape[1], image.shape[0])
  if listed:
    each = listed[int(drawn.integers(2))]
    box, phrase = in_pixels(each["box"], *image.shape[:2]), each["phrase"]
  captions = [tokens.encode([c], LENGTH)[0][0].tolist() for c in record.captions]
  told = dict(zip(map(tuple, captions), record.captions, strict=True))
  swapped = {
    tuple(tokens.encode([_swap(c)], LENGTH)[0][0]): _swap(c) for c in told.values()
  }
  caption = {**told, **swapped}[tuple(batch["text"][row].tolist())]
  example = dict(image=image, caption=caption, record=record, box=box, phrase=phrase)
  tail = transforms.build(PIPE)
  out = tail(example, np.random.default_rng([3, position, examples._AUGMENT]))
  cells = regions.cells(out["box"], (48, 24), GRID)
  changed = eda.one(
    caption,
    np.random.default_rng([3, position, views._EDA]),
    synonyms=synonyms.build("people"),
  )
  mask_rng = np.random.default_rng([3, position, views._MASK])
  masked, labels = span_masking.mask(batch["text"][row], mask_rng, tokens, **MASK)
  number = batch["ids"][row]
  if phrase:
    number = regions.phrase_id(out["phrase"], len(data.identities))
  return dict(
    region=cells,
    phrase=tokens.encode([out["phrase"] or caption], LENGTH)[0][0],
    phrase_id=number,
    eda=tokens.encode([changed], LENGTH)[0][0],
    masked=masked,
    labels=labels,
  )


def _swap(text):
  other = {"left": "right", "right": "left"}
  return re.sub("left|right", lambda m: other[m[0]], text)


def test_views_are_those_of_a_slow_look_at_the_records():
  data = with_regions(dataset(20))
  whole = 0
  for step, batch in enumerate(take(iterate(data))):
    for row in range(8):
      want = slowly(data, batch, 8 * step + row, row)
      for key, value in want.items():
        assert np.array_equal(batch[key][row], value), key
      whole += batch["phrase_id"][row] == batch["ids"][row]
    assert (batch["region"].sum(axis=1) > 0).all() and not batch["region"].all()
    assert (batch["labels"] >= 0).any(axis=1).all()
    assert (batch["masked"] != batch["text"]).any()
    assert (batch["eda"] != batch["text"]).any(axis=1).mean() > 0.5
  assert 3 < whole < 24  # a fourth of 48 rows has no regions


@pytest.mark.parametrize(
  "chosen",
  [ALL, views.Views(), views.Views(region=GRID), views.Views(eda=EDA),
   views.Views(mask=MASK), views.Views(mask=dict(rule="released"))],
)  # fmt: skip
@pytest.mark.parametrize("buckets", [(), (17,)])
def test_shapes_are_told_before_there_is_a_batch(chosen, buckets):
  data = with_regions(dataset(20))
  known = {"image", "text", "ids", "image_id", "example", "replaced"}
  for batch in take(iterate(data, chosen, buckets=buckets), 4):
    shapes = chosen.shapes(batch["text"].shape[1], LENGTH)
    assert set(batch) == known | set(shapes)
    for key, (shape, dtype) in shapes.items():
      assert (batch[key].shape, batch[key].dtype) == ((8, *shape), dtype), key


def test_views_change_nothing_else_and_not_each_other():
  data = with_regions(dataset(20))
  pipe = "resize(48,24)|flip|pad_crop(3)|erase(0.5)"  # draws what a box does not change
  full = take(iterate(data, pipe=pipe))
  for chosen in (views.Views(), views.Views(eda=EDA), views.Views(region=GRID)):
    part = take(iterate(data, chosen, pipe=pipe))
    for one, other in zip(part, full, strict=True):
      for key in one:
        assert np.array_equal(one[key], other[key]), key


def test_equal_phrases_have_equal_numbers_and_a_caption_its_own():
  data = with_regions(dataset(20))
  by_phrase, labels = {}, set()
  for batch in take(iterate(data), 20):
    for phrase, number, label in zip(
      batch["phrase"].tolist(), batch["phrase_id"], batch["ids"], strict=True
    ):
      if number >= len(data.identities):
        by_phrase.setdefault(tuple(phrase), set()).add(int(number))
      else:
        assert number == label
        labels.add(int(number))
  # "left" and "right", for the pipe swaps them where it mirrors.
  assert len(by_phrase) == 4 and all(len(found) == 1 for found in by_phrase.values())
  assert len(set.union(*by_phrase.values())) == 4 and len(labels) > 1


def test_a_box_that_is_cropped_away_leaves_the_whole_picture_and_the_caption():
  data = dataset(20)
  corner = {"regions": [{"box": [0, 0, 0.02, 0.02], "phrase": "a corner"}]}
  records = (dataclasses.replace(r, truth=corner) for r in data.records)
  data = dataclasses.replace(data, records=tuple(records))
  chosen, pipe = views.Views(region=GRID), "resize(48,24)|pad_crop(9)"
  told = people().encode(["a corner"], LENGTH)[0][0]
  met = set()
  for batch in take(iterate(data, chosen, pipe=pipe), 10):
    for row in range(8):
      kept = batch["phrase_id"][row] >= len(data.identities)
      met.add(bool(kept))
      assert np.array_equal(batch["phrase"][row], told if kept else batch["text"][row])
      assert batch["region"][row].sum() == (1 if kept else 18)
      assert kept or batch["phrase_id"][row] == batch["ids"][row]
  assert met == {True, False}


def test_a_phrase_of_no_words_is_as_none():
  data = dataset(20)
  said = {"regions": [{"box": [0.5, 0.5, 0.1, 0.1], "phrase": " \t"}]}
  records = (dataclasses.replace(r, truth=said) for r in data.records)
  data = dataclasses.replace(data, records=tuple(records))
  (batch,) = take(iterate(data, views.Views(region=GRID)), 1)
  assert batch["region"].all() and np.array_equal(batch["phrase_id"], batch["ids"])


# ---- what a batch must not depend on


@pytest.mark.parametrize(
  "kwargs",
  [dict(threads=0), dict(threads=4, prefetch=8), dict(cache_mb=4), dict(steps=6)],
)
def test_threads_and_cache_change_nothing(kwargs):
  data = with_regions(dataset(20, broken=(4, 11)))
  golden = take(iterate(data))
  assert any((batch["replaced"] >= 0).any() for batch in golden)
  assert_same(take(iterate(data, **kwargs)), golden)


def test_processes_share_the_batch_and_a_resumed_run_goes_on():
  data = with_regions(dataset(20))
  golden = take(iterate(data))
  parts = [take(iterate(data, process_index=p, process_count=2)) for p in range(2)]
  joined = [
    {key: np.concatenate([part[s][key] for part in parts]) for key in golden[s]}
    for s in range(6)
  ]
  assert_same(joined, golden)
  again = iterate(data)
  again.set_state({**again.get_state(), "step": 4})
  assert_same(take(again, 2), golden[4:])


def test_shards_give_the_batches_of_the_dataset_in_memory(tmp_path, monkeypatch):
  data = with_regions(dataset(20, load=Files()))
  stream = written(tmp_path, data)
  assert [r.truth for r in stream.records] == [r.truth for r in data.records]
  computed = pipeline.samplers.order
  monkeypatch.setattr(
    pipeline.samplers,
    "order",
    lambda *args, **kwargs: computed(*args, **{**kwargs, "stored": False}),
  )
  assert_same(take(iterate(stream)), take(iterate(data)))


def test_what_worker_processes_get_shows_the_same():
  chosen = views.Views(region=GRID, eda=EDA)  # `continues` of `people` stays behind
  here = iterate(with_regions(dataset(20)), chosen)._read.examples
  there = pickle.loads(pickle.dumps(here))
  for position in range(12):
    one, other = here(position), there(position)
    for key in one:
      assert np.array_equal(one[key], other[key]), key


# ---- rendered people


def test_regions_of_rendered_people_are_shown():
  options = dict(identities=4, views=1, granularity="coarse", regions=True)
  data = build.dataset("rendered", None, "train", options)
  pipe = "box_crop(4)|flip(0.5)|resize(96,48,'bicubic')"
  batches = take(iterate(data, views.Views(region=(12, 6)), pipe=pipe, batch=4), 8)
  told = np.concatenate([b["phrase_id"] >= len(data.identities) for b in batches])
  share = np.concatenate([b["region"].mean(axis=1) for b in batches])
  assert told.all() and share.min() < 0.3 and share.max() < 1
  phrases = {r["phrase"] for record in data.records for r in record.truth["regions"]}
  known = {tuple(people().encode([p], LENGTH)[0][0].tolist()) for p in phrases}
  assert {tuple(p) for b in batches for p in b["phrase"].tolist()} <= known
  without = build.dataset("rendered", None, "train", {**options, "regions": False})
  with pytest.raises(DatasetError, match="option regions=True"):
    iterate(without, views.Views(region=(12, 6)), pipe=pipe)


# ---- configs


def test_views_of_a_config():
  fields = ConfigDict(
    dict(region=(), eda=dict(EDA, synonyms=""), mask=dict(MASK, rule=""))
  )
  assert views.build(fields) == views.build(None) == views.Views()
  fields.region, fields.eda.synonyms, fields.mask.rule = (6, 3), "people", "words"
  assert views.build(fields) == ALL
  fields.unlock()
  fields.regoin = ()
  with pytest.raises(
    ValueError, match=r"data\.views\.regoin is unknown; known: region, e"
  ):
    views.build(fields)


def test_an_unknown_field_of_masks_is_named():
  with pytest.raises(
    ValueError, match=r"data\.views\.mask\.shade is unknown; known: ru"
  ):
    views.build(dict(mask=dict(rule="words", shade=1)))


@pytest.mark.parametrize("region", [(7,), (7, 0), (7, 7, 7), (7.0, 7), "7x7"])
def test_a_grid_is_two_numbers(region):
  with pytest.raises(ValueError, match=r"expected \(rows, columns\)"):
    views.Views(region=region)


@pytest.mark.parametrize(
  "chosen, error, message",
  [
    (dict(eda=dict(synonyms="wrodnet")), synonyms.SynonymsError, "unknown synonyms"),
    (dict(eda=dict(synonyms="people", shuffle=1)), ValueError, "operation 'shuffle'"),
    (dict(mask=dict(rule="word")), ValueError, "rule='word'"),
    (dict(mask=dict(rule="words", share=2)), ValueError, "share=2"),
  ],
)
def test_wrong_values_come_to_light_before_the_first_batch(chosen, error, message):
  with pytest.raises(error, match=message):
    iterate(dataset(20), views.Views(**chosen))


def test_masks_need_a_tokenizer_that_knows_words():
  plain = tokenizer.build("people")
  given = dict(pipe="resize(9,9)", length=LENGTH, batch=4, seed=0)
  with pytest.raises(ValueError, match="which tokens continue a word"):
    pipeline.train_iterator(dataset(20), plain, views=views.Views(mask=MASK), **given)


def test_the_log_says_which_synonyms_there_are():
  line = iterate(with_regions(dataset(20))).captions
  assert line.endswith(f"; {synonyms.build('people').describe()}")
