"""Length buckets: one text length a batch, no token lost, pure in (seed, step, row)."""

import collections
import dataclasses
import json
import pickle

import numpy as np
import pytest

from tests.data.noise import dataset
from tpr_jax.data import captions, examples, pipeline, sampler, tokenizer, transforms
from tpr_jax.data.damage import Damage
from tpr_jax.data.record import DatasetError

PIPE = "resize(12,6)|flip(0.5)"
LENGTH = 40


@pytest.fixture(scope="module")
def people():
  return tokenizer.build("people")


def people_of(count=20, broken=()):
  """The noise dataset with captions of 3 to 25 words."""
  data = dataset(count, broken)
  words = (*"abcdefgh", "man", "jeans", "blue", "shoes", "left", "bag", "arm")
  rng = np.random.default_rng(7)
  said = lambda i: " ".join(rng.choice(words, size=int(rng.integers(3, 25)))) + f" {i}"
  records = tuple(
    dataclasses.replace(r, captions=tuple(said(i) for _ in r.captions))
    for i, r in enumerate(data.records)
  )
  return dataclasses.replace(data, records=records)


def counts_of(people, data):
  texts = [c for r in data.records for c in r.captions]
  return people.encode(texts, LENGTH)[1]


def iterate(people, data=None, **kwargs):
  given = dict(pipe=PIPE, length=LENGTH, batch=8, seed=3, threads=2, prefetch=2)
  given |= dict(buckets=(12, 20))
  data = people_of() if data is None else data
  return pipeline.train_iterator(data, people, **{**given, **kwargs})


def take(iterator, count):
  return [next(iterator) for _ in range(count)]


def assert_same(a, b):
  assert len(a) == len(b)
  for one, other in zip(a, b, strict=True):
    assert set(one) == set(other)
    for key in one:
      assert one[key].shape == other[key].shape
      assert np.array_equal(one[key], other[key]), key


def steps_of(order, batch, count):
  """Text length of every step."""
  return np.array([order.text_length(step * batch) for step in range(count)])


def uneven(n=1000, seed=0):
  return np.random.default_rng(seed).integers(5, 60, n)


# ---- the order


def test_every_example_has_the_smallest_bucket_that_holds_it():
  counts = np.array([3, 10, 11, 20, 21, 30, 31, 99])
  order = sampler.BucketOrder(0, counts, (10, 20, 30), batch=2)
  assert (order.lengths, order.sizes) == ((10, 20, 30), (2, 2, 4))
  for position in range(200):
    length, count = order.text_length(position), counts[order(position)]
    if count > 20:  # what no bucket holds is cut in the last, as without buckets
      assert length == 30
    else:
      assert count <= length < count + 10


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_each_example_once_in_an_epoch_of_its_bucket(batch):
  counts, lengths = uneven(), (16, 24, 40, 60)
  order = sampler.BucketOrder(5, counts, lengths, batch)
  met = collections.defaultdict(list)
  for position in range(-(-3 * 1000 // batch) * batch):
    met[order.text_length(position)].append(order(position))
  bucket = np.array(lengths)[np.searchsorted(lengths, counts)]
  for length, size in zip(order.lengths, order.sizes, strict=True):
    members = np.flatnonzero(bucket == length).tolist()
    walk = met[length]
    epochs = [walk[i : i + size] for i in range(0, len(walk) - size + 1, size)]
    assert epochs and size == len(members)
    assert all(sorted(epoch) == members for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    rest = walk[size * len(epochs) :]
    assert len(set(rest)) == len(rest)


@pytest.mark.parametrize("n", [1, 2, 7, 97, 1000, 4096])
def test_steps_are_proportional_in_a_block_and_nearly_in_any_stretch(n):
  counts = uneven(n)
  order = sampler.BucketOrder(1, counts, (16, 24, 40, 60), batch=4)
  steps = steps_of(order, 4, 3 * n)
  for length, size in zip(order.lengths, order.sizes, strict=True):
    used = steps == length
    assert used.reshape(3, n).sum(1).tolist() == [size] * 3
    drift = np.cumsum(used) - np.arange(1, 3 * n + 1) * size / n
    # A random draw strays by about sqrt(n) / 2: 55 for the longest row here.
    assert drift.max() - drift.min() < 6


def test_share_of_one_step_is_that_of_the_bucket():
  counts = np.array([5] * 7 + [15] * 3)
  short = np.array(
    [
      [order.text_length(step) == 10 for step in (0, 1, 13)]
      for order in (sampler.BucketOrder(s, counts, (10, 20), 1) for s in range(1500))
    ]
  )
  assert np.abs(short.mean(0) - 0.7).max() < 0.05


def test_order_is_pure_and_far_steps_are_fast(monkeypatch):
  make = lambda seed: sampler.BucketOrder(seed, uneven(), (16, 24, 60), 8, 5)
  both = lambda order, ps: [(order(p), order.text_length(p)) for p in ps]
  straight = both(make(1), range(4000))
  order, jumps = make(1), np.random.default_rng(0).permutation(4000)
  jumped = {int(p): both(order, [int(p)])[0] for p in jumps}
  assert [jumped[p] for p in range(4000)] == straight
  assert both(pickle.loads(pickle.dumps(order)), range(100)) == straight[:100]
  assert both(make(2), range(4000)) != straight
  far, drawn, real = 8 * 10**11, [], np.random.default_rng
  expected = both(order, range(far, far + 8))
  monkeypatch.setattr(np.random, "default_rng", lambda s: drawn.append(s) or real(s))
  assert both(make(1), range(far, far + 8)) == expected
  assert len(drawn) <= 3  # one block, at most two epochs: nothing is replayed


def test_uses_follow_each_other_over_blocks_and_short_steps():
  # Positions of a walk without a gap: every use of a bucket comes right after the last.
  order = sampler.BucketOrder(2, uneven(50), (16, 24, 60), batch=4, short_first=6)
  following = collections.Counter()
  for step in range(400):
    bucket, use = order._use(step)
    assert use == following[bucket]
    following[bucket] += 1
    assert step >= 6 or bucket == 0


def test_empty_buckets_are_skipped():
  order = sampler.BucketOrder(0, np.array([15] * 4 + [35] * 6), (10, 20, 30, 40), 2, 3)
  assert (order.lengths, order.sizes) == ((20, 40), (4, 6))
  assert set(steps_of(order, 2, 3)) == {20}  # the shortest that holds something
  assert set(steps_of(order, 2, 30)) == {20, 40}


# ---- batches


def test_no_token_is_lost(people):
  data = people_of()
  counts, records = counts_of(people, data), data.records
  assert counts.max() <= LENGTH
  met, shapes = collections.Counter(), collections.Counter()
  for batch in take(iterate(people, data), 60):
    length = batch["text"].shape[1]
    shapes[length] += 1
    assert batch["text"].shape == (8, length) and batch["text"].dtype == np.int32
    smaller = max(s for s in (0, 12, 20, LENGTH) if s < length)
    for text, at in zip(batch["text"], batch["image_id"], strict=True):
      whole, sizes = people.encode(records[at].captions, LENGTH)
      full = np.pad(text, (0, LENGTH - length)).tolist()
      which = whole.tolist().index(full)
      assert smaller < sizes[which] <= length
      met[(int(at), which)] += 1
  assert set(shapes) == {12, 20, LENGTH} and len(met) == len(counts)
  for length, lower in ((12, 0), (20, 12), (LENGTH, 20)):
    share = ((counts > lower) & (counts <= length)).mean()
    assert abs(shapes[length] - 60 * share) < 3


def test_captions_that_the_pipe_lengthens_are_in_the_bucket_that_holds_both(
  people, monkeypatch
):
  # Left and right have one token each; exchange left for something longer.
  monkeypatch.setattr(transforms, "_swap_side", lambda match: "the other other side")
  data = people_of(24)
  said = tuple("left " * (i % 4) + "a man" for i in range(24))
  records = tuple(
    dataclasses.replace(r, captions=(c,))
    for r, c in zip(data.records, said, strict=True)
  )
  data = dataclasses.replace(data, records=records)
  pipe = transforms.build("resize(12,6)|flip(0.5, words='swap')")
  before = people.encode(said, LENGTH)[1]
  given = captions.usable(data, people, LENGTH, Damage("noise/train", 24))
  after = examples.longest_counts(data, people, pipe, given)
  swapped = [c.replace("left", "the other other side") for c in said]
  assert np.array_equal(after, people.encode(swapped, LENGTH)[1])
  assert (after > before).any() and (after == before).any()
  iterator = iterate(people, data, pipe=pipe, buckets=tuple(sorted({*before.tolist()})))
  met = set()
  for batch in take(iterator, 40):
    for text, at in zip(batch["text"], batch["image_id"], strict=True):
      forms = people.encode([said[at], swapped[at]], LENGTH)[0].tolist()
      whole = np.pad(text, (0, LENGTH - len(text))).tolist()
      met.add((len(text), forms.index(whole)))
      assert len(text) >= after[at]
  assert len({length for length, _ in met}) > 1 and {form for _, form in met} == {0, 1}


def test_an_op_that_hides_what_it_makes_of_captions_is_found(people, monkeypatch):
  monkeypatch.setattr(transforms.Flip, "captions", lambda self, caption: {caption})
  swap = lambda m: "left and then the other left and more"
  monkeypatch.setattr(transforms, "_swap_side", swap)
  data = dataset()
  iterator = iterate(
    people, data, pipe="resize(12,6)|flip(1, words='swap')", buckets=(16,), threads=0
  )
  with pytest.raises(ValueError, match=r"more tokens than its bucket.*Op\.captions"):
    take(iterator, 20)


@pytest.mark.parametrize(
  "kwargs", [dict(threads=0), dict(threads=5, prefetch=16), dict(cache_mb=4)]
)
def test_threads_and_cache_change_nothing(people, kwargs):
  data = people_of(broken=(4, 11))
  golden = take(iterate(people, data, short_first=3), 12)
  assert_same(take(iterate(people, data, short_first=3, **kwargs), 12), golden)


def test_worker_processes_change_nothing(people):
  data = people_of(broken=(4,))
  golden = take(iterate(people, data, short_first=2), 6)
  iterator = iterate(people, data, short_first=2, workers=2, threads=1)
  assert_same(take(iterator, 6), golden)
  iterator.close()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_processes_have_the_same_bucket_and_share_the_batch(people, count):
  data = people_of(broken=(4, 11))
  golden = take(iterate(people, data), 12)
  parts = [
    take(iterate(people, data, process_index=p, process_count=count), 12)
    for p in range(count)
  ]
  joined = []
  for step in range(12):
    assert len({part[step]["text"].shape for part in parts}) == 1
    joined.append(
      {key: np.concatenate([part[step][key] for part in parts]) for key in golden[0]}
    )
  assert_same(joined, golden)
  assert len({b["text"].shape for b in golden}) == 3


def test_short_first(people):
  data = people_of()
  size = int((counts_of(people, data) <= 12).sum())
  widths = [b["text"].shape[1] for b in take(iterate(people, data, short_first=9), 40)]
  assert size and widths[:9] == [12] * 9
  assert set(widths[9:]) == {12, 20, LENGTH}
  plain = [b["text"].shape[1] for b in take(iterate(people, data), 31)]
  assert widths[9:] == plain  # then the schedule begins


def test_stand_ins_come_from_the_same_bucket(people):
  data = people_of(broken=(4, 11))
  counts, stood = counts_of(people, data), 0
  record, _ = captions.index(data)
  for batch in take(iterate(people, data), 60):
    length = batch["text"].shape[1]
    smaller = max(s for s in (0, 12, 20, LENGTH) if s < length)
    for row in np.flatnonzero(batch["replaced"] >= 0):
      tokens = int(np.flatnonzero(batch["text"][row])[-1]) + 1
      assert smaller < tokens <= length
      assert tokens in counts[record == batch["image_id"][row]]
      stood += 1
  assert stood > 10


def test_a_bucket_of_broken_pictures_is_named(people):
  data = people_of()
  counts = counts_of(people, data)
  record, _ = captions.index(data)
  broken = set(record[counts <= 12].tolist())
  iterator = iterate(people, people_of(broken=broken), short_first=1, threads=0)
  with pytest.raises(DatasetError, match="in the bucket of 12 tokens"):
    next(iterator)


# ---- restarts


def test_resume_is_exact_also_far_away(people):
  data = people_of(broken=(4,))
  golden = take(iterate(people, data, short_first=2), 10)
  first = iterate(people, data, short_first=2)
  take(first, 4)
  state = json.loads(json.dumps(first.get_state()))
  resumed = iterate(people, data, threads=0, short_first=2)
  resumed.set_state(state)
  assert_same(take(resumed, 6), golden[4:])
  far = [iterate(people, data, short_first=2, threads=t) for t in (0, 3)]
  for iterator, start in zip(far, (100_000, 100_003), strict=True):
    iterator.set_state({**state, "step": start})
  assert_same(take(far[0], 8)[3:], take(far[1], 5))


@pytest.mark.parametrize(
  "kwargs",
  [
    dict(buckets=()),
    dict(buckets=(12,)),
    dict(buckets=(12, 21)),
    dict(length=LENGTH + 1),
    dict(short_first=7),
  ],
)
def test_a_state_of_other_buckets_is_refused_both_ways(people, kwargs):
  here, other = iterate(people), iterate(people, **kwargs)
  for one, state in ((here, other.get_state()), (other, here.get_state())):
    with pytest.raises(ValueError, match=r"(buckets|short_first)=.*text buckets"):
      one.set_state(json.loads(json.dumps(state)))
  here.set_state(json.loads(json.dumps(here.get_state())))


def test_without_buckets_the_state_is_as_before(people):
  state = iterate(people, buckets=()).get_state()
  assert set(state) == {"step", "seed", "batch", "sampler", "examples"}


# ---- arguments


@pytest.mark.parametrize(
  ("kwargs", "message"),
  [
    (dict(buckets=(20, 12)), r"text\.buckets is \(20, 12\): expected ascending"),
    (dict(buckets=(12, 12)), r"text\.buckets is \(12, 12\)"),
    (dict(buckets=(2, 12)), "from 3"),
    (dict(buckets=(12, 41)), r"text\.length=40"),
    (dict(buckets=(12.5,)), r"text\.buckets is \(12\.5,\)"),
    (dict(buckets=("12",)), r"text\.buckets is \('12',\)"),
    (dict(short_first=-1), r"text\.short_first is -1"),
    (dict(buckets=(), short_first=3), r"text\.short_first is 3, but text\.buckets"),
    (dict(sampler="identity"), "do not go with the identity sampler: .*seldom"),
  ],
)
def test_arguments_that_do_not_fit(people, kwargs, message):
  with pytest.raises(ValueError, match=message):
    iterate(people, **kwargs)
