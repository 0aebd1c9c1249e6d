"""Batches depend on (seed, step, row) alone, and survive broken files and restarts."""

import collections
import dataclasses
import json
import pickle
import threading
import time

import grain
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

from tests.data.noise import Pictures, dataset
from tpr_jax.data import eval_batches, examples, pipeline, tokenizer, transforms
from tpr_jax.data.captions import usable
from tpr_jax.data.damage import Damage
from tpr_jax.data.picture_cache import PictureCache
from tpr_jax.data.record import DatasetError

PIPE = "resize(24,12)|flip(0.5)|pad_crop(3)|erase(0.5)"


@pytest.fixture(scope="module")
def people():
  return tokenizer.build("people")


def iterate(people, data=None, **kwargs):
  given = dict(pipe=PIPE, length=24, batch=8, seed=3, threads=2, prefetch=2)
  data = dataset() if data is None else data
  return pipeline.train_iterator(data, people, **{**given, **kwargs})


def take(iterator, count):
  return [next(iterator) for _ in range(count)]


def assert_same(a, b):
  assert len(a) == len(b)
  for one, other in zip(a, b, strict=True):
    assert set(one) == set(other)
    for key in one:
      assert one[key].dtype == other[key].dtype
      assert np.array_equal(one[key], other[key]), key


# ---- what a batch holds


def test_batches_hold_what_the_records_say(people):
  data = dataset()
  iterator = iterate(people, data, pipe="resize(24,12)", steps=15)
  batches = list(iterator)
  assert len(batches) == 15
  met = collections.Counter()
  for batch in batches:
    assert {k: (v.dtype.name, v.shape) for k, v in batch.items()} == {
      "image": ("uint8", (8, 24, 12, 3)),
      "text": ("int32", (8, 24)),
      "ids": ("int32", (8,)),
      "image_id": ("int32", (8,)),
      "example": ("int32", (8,)),
      "replaced": ("int32", (8,)),
    }
    for image, text, label, at in zip(
      batch["image"], batch["text"], batch["ids"], batch["image_id"], strict=True
    ):
      record = data.records[at]
      source = Image.fromarray(data.load_image(record, None))
      assert np.array_equal(image, np.array(source.resize((12, 24), 2)))
      assert sorted(data.identities)[label] == record.identity
      captions = [people.encode([c], 24)[0][0].tolist() for c in record.captions]
      met[(int(at), captions.index(text.tolist()))] += 1
    assert (batch["replaced"] == -1).all()
  # 120 rows over 30 captions: four epochs, each a permutation, none dropped.
  assert iterator.examples == 30
  assert len(met) == 30 and set(met.values()) == {4}
  assert not iterator.damage and iterator.damage.replaced == 0


def test_augmentation_is_that_of_seed_and_position(people):
  data = dataset()
  plain = take(iterate(people, data, pipe="resize(24,12)"), 6)
  full = take(iterate(people, data), 6)
  tail = transforms.build(PIPE).split()[1]
  for step, (before, after) in enumerate(zip(plain, full, strict=True)):
    for row in range(8):
      rng = np.random.default_rng([3, 8 * step + row, examples._AUGMENT])
      given = dict(image=before["image"][row], caption="", record=None)
      assert np.array_equal(tail(given, rng)["image"], after["image"][row])
  assert len({b["image"].tobytes() for b in full}) == 6


def test_float_pictures_when_the_pipe_normalises(people):
  batch = next(iterate(people, pipe="resize(24,12)|flip|normalize"))
  assert batch["image"].dtype == np.float32 and abs(batch["image"].mean()) < 1


def test_seed_changes_order_and_augmentation(people):
  a, b = take(iterate(people, seed=3), 2), take(iterate(people, seed=4), 2)
  assert not np.array_equal(a[0]["image_id"], b[0]["image_id"])


# ---- what a batch must not depend on


@pytest.mark.parametrize(
  "kwargs",
  [
    dict(threads=0),
    dict(threads=1, prefetch=1),
    dict(threads=5, prefetch=16),
    dict(cache_mb=4),
    dict(cache_mb=0.003),
    dict(steps=9),
  ],
)
def test_threads_prefetch_and_cache_change_nothing(people, kwargs):
  data = dataset(broken=(4, 11))
  golden = take(iterate(people, data, threads=0), 9)
  assert_same(take(iterate(people, data, **kwargs), 9), golden)


@pytest.mark.parametrize("sampler", ["random", "identity"])
@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_global_batch(people, sampler, count):
  data = dataset(broken=(4,))
  given = dict(sampler=sampler, instances=2)
  golden = take(iterate(people, data, **given), 5)
  parts = [
    take(iterate(people, data, process_index=p, process_count=count, **given), 5)
    for p in range(count)
  ]
  for part in parts:
    assert all(len(batch["ids"]) == 8 // count for batch in part)
  joined = [
    {key: np.concatenate([part[s][key] for part in parts]) for key in golden[s]}
    for s in range(5)
  ]
  assert_same(joined, golden)


def test_worker_processes_change_nothing(people):
  data = dataset(broken=(4,))
  golden = iterate(people, data)
  expected = take(golden, 7)
  iterator = iterate(people, data, workers=2, threads=1, cache_mb=1)
  state = json.loads(json.dumps(golden.get_state()))
  iterator.set_state({**state, "step": 2})  # before any worker is started
  assert_same(take(iterator, 5), expected[2:])
  assert set(iterator.damage.unreadable()) <= set(golden.damage.unreadable())
  assert (iterator.damage.replaced > 0) == any(
    (b["replaced"] >= 0).any() for b in expected[2:]
  )
  iterator.close()


def test_identity_sampler_batches(people):
  for batch in take(iterate(people, sampler="identity", instances=2), 12):
    labels = batch["ids"].reshape(4, 2)
    assert (labels[:, 0] == labels[:, 1]).all() and len(set(labels[:, 0])) == 4


# ---- captions


@pytest.mark.parametrize(
  "kwargs",
  [dict(), dict(sampler="identity", instances=2), dict(buckets=(17,))],
  ids=["random", "identity", "buckets"],
)
def test_example_names_the_caption_that_a_row_shows(people, kwargs):
  data = dataset(broken=(4, 11))
  said = (" ", *data.records[2].captions)
  empty = dataclasses.replace(data.records[2], captions=said)
  records = (*data.records[:2], empty, *data.records[3:])
  data = dataclasses.replace(data, records=records)
  given = usable(data, people, 24, Damage("noise/train", len(records)))
  assert len(given.record) == 30 < sum(len(r.captions) for r in records)
  met, stood = set(), 0
  for batch in take(iterate(people, data, **kwargs), 40):
    at, wide = batch["example"], batch["text"].shape[1]
    assert np.array_equal(given.record[at], batch["image_id"])
    assert np.array_equal(given.tokens[at, :wide], batch["text"])
    stood += int((batch["replaced"] >= 0).sum())
    met |= set(at.tolist())
  there = np.flatnonzero(~np.isin(given.record, (4, 11)))
  assert met <= set(there.tolist()) and len(met) > 20 and stood


def test_captions_that_an_op_changes_are_encoded_anew(people):
  data = dataset()
  swap = "resize(24,12)|flip(1, words='swap')"
  for batch in take(iterate(people, data, pipe=swap), 4):
    for text, at in zip(batch["text"], batch["image_id"], strict=True):
      swapped = [c.replace("left", "right") for c in data.records[at].captions]
      assert text.tolist() in people.encode(swapped, 24)[0].tolist()


def test_captions_are_encoded_once_when_nothing_changes_them(monkeypatch):
  # One of its own: threads of other tests may still use the shared one.
  own, calls = tokenizer.build("people"), []
  real = own.encode
  spy = lambda texts, length: calls.append(len(texts)) or real(texts, length)
  monkeypatch.setattr(own, "encode", spy)
  iterator = iterate(own)
  take(iterator, 3)
  assert calls == [30]


def test_caption_report(people):
  data = dataset()
  texts = [c for r in data.records for c in r.captions]
  counts = people.encode(texts, 200)[1]
  length = int(np.median(counts))
  cut = int((counts > length).sum())
  assert 0 < cut < 30
  line = eval_batches.caption_report(data, people, length)
  assert line == iterate(people, data, length=length).captions
  assert line == (
    f"{cut} of 30 captions exceed {length} tokens "
    f"(longest {counts.max()}, mean {counts.mean():.1f})"
  )
  empty = eval_batches.caption_report(dataset(0), people, length)
  assert empty == f"0 of 0 captions exceed {length} tokens"


# ---- broken pictures


def test_broken_pictures_are_replaced_and_listed(people):
  data = dataset(broken=(4, 11))
  iterator = iterate(people, data, pipe="resize(24,12)")
  whole = take(iterate(people, pipe="resize(24,12)"), 8)
  met = set()
  for batch, unharmed in zip(take(iterator, 8), whole, strict=True):
    hit = np.isin(unharmed["image_id"], [4, 11])
    assert np.array_equal(batch["replaced"] >= 0, hit)
    assert np.array_equal(batch["replaced"][hit], unharmed["image_id"][hit])
    assert not np.isin(batch["image_id"], [4, 11]).any()
    for key in ("image", "text", "ids"):
      assert np.array_equal(batch[key][~hit], unharmed[key][~hit])
    for row in np.flatnonzero(hit):  # the stand-in is a pair of its own
      record = data.records[batch["image_id"][row]]
      assert data.identities[batch["ids"][row]] == record.identity
      rows = people.encode(record.captions, 24)[0].tolist()
      assert batch["text"][row].tolist() in rows
    met |= set(batch["replaced"][hit].tolist())
  assert met == {4, 11}
  assert iterator.damage.unreadable() == {
    f"{i}.png": f"{i}.png: cut short after {i} bytes" for i in (4, 11)
  }
  assert iterator.damage.replaced >= 2


@pytest.mark.parametrize("threads", [0, 2])
def test_a_dataset_of_broken_pictures_stops(people, threads):
  iterator = iterate(people, dataset(broken=range(20)), threads=threads)
  with pytest.raises(DatasetError, match=r"9 pictures in a row.*--mode=check"):
    next(iterator)


def test_other_errors_are_not_swallowed(people):
  def load(record, size):
    raise ZeroDivisionError("a bug of ours")

  with pytest.raises(ZeroDivisionError):
    next(iterate(people, dataset(load=load)))
  gray = lambda record, size: np.zeros((30, 14), np.uint8)
  with pytest.raises(TypeError, match=r"\(30, 14\) for .*expected a uint8 array"):
    next(iterate(people, dataset(load=gray)))


# ---- restarts


@pytest.mark.parametrize("kwargs", [dict(), dict(sampler="identity", instances=2)])
def test_resume_is_exact(people, kwargs):
  data = dataset(broken=(4,))
  golden = take(iterate(people, data, **kwargs), 10)
  first = iterate(people, data, **kwargs)
  take(first, 4)
  state = json.loads(json.dumps(first.get_state()))  # plain JSON
  resumed = iterate(people, data, threads=0, **kwargs)
  take(resumed, 2)
  resumed.set_state(state)
  assert resumed.get_state() == state
  assert_same(take(resumed, 6), golden[4:])
  first.set_state({**state, "step": 0})  # and backwards, with batches under way
  assert_same(take(first, 3), golden[:3])


def test_resume_through_orbax(people, tmp_path):
  data = dataset()
  golden = take(iterate(people, data, steps=8), 8)
  with ocp.CheckpointManager(tmp_path) as manager:
    iterator = iterate(people, data, steps=8)
    take(iterator, 5)
    save = grain.checkpoint.CheckpointSave(iterator)
    manager.save(5, args=ocp.args.Composite(data=save))
    manager.wait_until_finished()
    fresh = iterate(people, data, steps=8)
    restore = grain.checkpoint.CheckpointRestore(fresh)
    back = manager.restore(5, args=ocp.args.Composite(data=restore))["data"]
  assert_same(list(back), golden[5:])


def test_processes_share_one_state(people):
  # So a run may resume on another number of processes.
  states = []
  for p in range(2):
    iterator = iterate(people, process_index=p, process_count=2)
    take(iterator, 3)
    states.append(iterator.get_state())
  assert states[0] == states[1]
  whole = iterate(people)
  whole.set_state(states[0])
  assert_same(take(whole, 1), take(iterate(people), 4)[3:])


@pytest.mark.parametrize(
  ("kwargs", "message"),
  [
    (dict(batch=4), "it has batch=8, this run has batch=4"),
    (dict(seed=9), "it has seed=3, this run has seed=9"),
    (dict(data=dataset(21)), "examples=30"),
    (dict(sampler="identity", instances=2), "sampler='random'"),
  ],
)
def test_a_state_of_other_batches_is_refused(people, kwargs, message):
  state = iterate(people).get_state()
  with pytest.raises(ValueError, match=message):
    iterate(people, **kwargs).set_state(state)
  with pytest.raises(ValueError, match="step=-1"):
    iterate(people).set_state({**state, "step": -1})


def test_end_and_close(people):
  iterator = iterate(people, steps=2)
  assert len(list(iterator)) == 2
  with pytest.raises(StopIteration):
    next(iterator)
  iterator.close()
  iterator.close()
  with pytest.raises(ValueError, match="closed"):
    next(iterator)


# ---- the cache


def test_cache_keeps_to_its_budget_and_loads_once(people):
  loads, lock = collections.Counter(), threading.Lock()

  def load(record, size):
    with lock:
      loads[record.image] += 1
    return Pictures()(record, size)

  take(iterate(people, dataset(load=load), cache_mb=1, threads=0), 30)
  assert len(loads) == 20 and set(loads.values()) == {1}
  cache = PictureCache(3 * 300 / 2**20)  # room for three pictures
  pictures = [np.full((10, 10, 3), i, np.uint8) for i in range(5)]
  for i, picture in enumerate(pictures):
    cache.put(i, picture)
  assert len(cache) == 3 and cache.get(4) is None
  kept = cache.get(0)
  pictures[0][:] = 9
  assert (kept == 0).all() and not kept.flags.writeable
  assert len(pickle.loads(pickle.dumps(cache))) == 0


def test_cache_fills_ahead_of_training(people):
  """Before any batch is asked for, and past the few that are kept ready."""
  loads, done = collections.Counter(), threading.Event()

  def load(record, size):
    loads[record.image] += 1
    if len(loads) == 400:
      done.set()
    return Pictures(broken=(7, 350))(record, size)

  data = dataset(count=400, load=load)
  iterator = iterate(people, data, cache_mb=4, prefetch=1)
  iterator.start_prefetch()
  assert done.wait(60), f"{len(loads)} of 400 pictures loaded"
  filled = take(iterator, 80)
  iterator.close()
  plain = iterate(people, dataset(count=400, broken=(7, 350)))
  assert_same(filled, take(plain, 80))
  assert iterator.damage == plain.damage and iterator.damage


def test_closing_stops_the_filling_of_the_cache(people):
  loads = collections.Counter()

  def load(record, size):
    time.sleep(0.002)
    loads[record.image] += 1
    return Pictures()(record, size)

  iterator = iterate(people, dataset(count=5_000, load=load), cache_mb=64)
  next(iterator)
  iterator.close()
  seen = loads.total()
  time.sleep(0.5)  # room for some 200 more
  assert loads.total() <= seen + 4 * 8  # Grain's threads finish the batches they began


# ---- arguments


@pytest.mark.parametrize(
  ("kwargs", "error", "message"),
  [
    (dict(pipe="flip"), transforms.PipeError, "has no resize"),
    (dict(batch=9, process_count=2), ValueError, "cannot be shared by 2"),
    (dict(process_index=2, process_count=2), ValueError, "number 2, from 0"),
    (dict(batch=0), ValueError, "a batch of 0"),
    (dict(seed=-1), ValueError, "seed is -1"),
    (dict(threads=-1), ValueError, "threads is -1"),
    (dict(cache_mb=-1), ValueError, "cache_mb is -1"),
    (dict(sampler="identity", batch=32), ValueError, "needs 8 identities, found 7"),
    (dict(data=dataset(0)), DatasetError, "no captions to train on"),
  ],
)
def test_arguments_that_do_not_fit(people, kwargs, error, message):
  with pytest.raises(error, match=message):
    iterate(people, **kwargs)
