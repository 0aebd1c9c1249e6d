"""Orders: pure in (seed, position), complete, balanced, and fast to ask."""

import collections
import pickle
import threading

import numpy as np
import pytest

from tpr_jax.data import sampler


def uneven(identities=13, seed=0):
  """Labels and pictures of examples: 1 to 6 pictures a person, two captions each."""
  rng = np.random.default_rng(seed)
  pictures = [
    (person, picture)
    for person in range(identities)
    for picture in range(rng.integers(1, 7))
  ]
  rows = [(person, at) for at, (person, _) in enumerate(pictures) for _ in range(2)]
  rng.shuffle(rows)
  labels, images = np.array(rows).T
  return labels, images


def take(order, start, stop):
  return [order(position) for position in range(start, stop)]


def test_random_epochs_are_permutations_without_dropping():
  order = sampler.order("random", np.zeros(23, int), seed=5, batch=8)
  assert order.epoch == 23
  epochs = [take(order, 23 * e, 23 * e + 23) for e in range(5)]
  for epoch in epochs:
    assert sorted(epoch) == list(range(23))
  assert len({tuple(epoch) for epoch in epochs}) == 5
  assert epochs[0] != list(range(23))


def test_random_order_is_uniform():
  first = [sampler.order("random", np.zeros(4, int), s, 4)(0) for s in range(2000)]
  assert np.abs(np.bincount(first, minlength=4) / 2000 - 0.25).max() < 0.05


def test_an_order_that_stores_nothing_has_permutations_too():
  make = lambda seed: sampler.order("random", np.zeros(23, int), seed, 8, stored=False)
  order = make(5)
  assert isinstance(order, sampler.ComputedOrder) and order.epoch == 23
  epochs = [take(order, 23 * e, 23 * e + 23) for e in range(5)]
  for epoch in epochs:
    assert sorted(epoch) == list(range(23))
  assert len({tuple(epoch) for epoch in epochs}) == 5
  assert take(make(6), 0, 23) != epochs[0]
  # What is kept, and what travels to worker processes, does not grow with the examples.
  large = sampler.order("random", np.broadcast_to(0, 10**9), 0, 8, stored=False)
  assert len({large(10**10 + i) for i in range(100)}) == 100
  assert len(pickle.dumps(large)) < 200


def test_the_order_of_existing_runs_is_the_stored_one():
  order = sampler.order("random", np.zeros(12, int), seed=3, batch=4)
  assert type(order) is sampler.RandomOrder
  assert take(order, 0, 24) == [
    7,
    11,
    1,
    5,
    4,
    8,
    9,
    3,
    6,
    0,
    2,
    10,
    7,
    3,
    0,
    4,
    6,
    9,
    1,
    10,
    2,
    8,
    11,
    5,
  ]


@pytest.mark.parametrize("kind", [*sampler.KINDS, "computed"])
def test_orders_are_pure(kind):
  labels, images = uneven()
  kind, stored = ("random", False) if kind == "computed" else (kind, True)
  given = dict(instances=3, images=images, stored=stored)
  make = lambda seed: sampler.order(kind, labels, seed, 12, **given)
  straight = take(make(1), 0, 600)
  order, jumps = make(1), np.random.default_rng(0).permutation(600)
  jumped = {int(p): order(int(p)) for p in jumps}  # any order, with cache evictions
  assert [jumped[p] for p in range(600)] == straight
  copy = pickle.loads(pickle.dumps(order))
  assert take(copy, 300, 400) == straight[300:400]
  assert take(make(2), 0, 600) != straight
  assert all(isinstance(index, int) for index in straight)
  far = 10**12
  assert take(make(1), far, far + 30) == take(order, far, far + 30)


def test_identity_batches_are_p_by_k():
  labels, images = uneven()
  order = sampler.order("identity", labels, 3, 12, instances=3, images=images)
  captions = collections.Counter(labels)
  pictures = {person: len(set(images[labels == person])) for person in captions}
  for step in range(60):
    rows = take(order, 12 * step, 12 * step + 12)
    people = labels[rows].reshape(4, 3)
    assert (people == people[:, :1]).all()
    assert len(set(people[:, 0])) == 4
    for group in np.array(rows).reshape(4, 3):
      person = labels[group[0]]
      # No caption twice unless there are too few; no picture twice where there are
      # pictures for every round of the shuffle.
      assert len(set(group)) == min(3, captions[person])
      if pictures[person] % 3 == 0:
        assert len(set(images[group])) == 3


def test_identity_sampler_shows_everyone_equally_and_everything():
  labels, images = uneven()
  order = sampler.order("identity", labels, 0, 12, instances=3, images=images)
  passes = 400
  rows = take(order, 0, 12 * 3 * passes)  # 13 identities: 3 batches of 4 in a pass
  people = np.bincount(labels[rows]) / 3
  assert np.abs(people / (passes * 12 / 13) - 1).max() < 0.08
  for one_pass in np.array(rows[: 36 * 50]).reshape(50, 12, 3):
    assert len(set(labels[one_pass[:, 0]])) == 12  # nobody twice in a pass
  assert set(rows) == set(range(len(labels)))
  for person in range(13):
    seen = np.bincount(rows, minlength=len(labels))[labels == person]
    assert seen.min() > 0.6 * seen.mean()


def test_first_instances_come_from_different_pictures():
  labels = np.repeat([0, 1], 8)
  images = np.repeat(np.arange(8), 2)  # four pictures a person, two captions each
  order = sampler.order("identity", labels, 0, 8, instances=4, images=images)
  blind = sampler.order("identity", labels, 0, 8, instances=4)
  apart = lambda o: [
    len(set(images[take(o, 4 * i, 4 * i + 4)])) == 4 for i in range(100)
  ]
  assert all(apart(order)) and not all(apart(blind))


def test_one_picture_person_is_repeated():
  order = sampler.order("identity", [0, 1, 1, 1], 0, 8, instances=4)
  for step in range(10):
    rows = take(order, 8 * step, 8 * step + 8)
    assert rows.count(0) == 4
    assert set(rows) == {0, 1, 2, 3}


def test_labels_need_not_be_ordered_or_dense():
  labels = np.array([70, 5, 70, 5, 900, 900])
  order = sampler.order("identity", labels, 0, 4, instances=2)
  for step in range(20):
    people = labels[take(order, 4 * step, 4 * step + 4)].reshape(2, 2)
    assert (people[:, 0] == people[:, 1]).all() and people[0, 0] != people[1, 0]


def test_threads_agree():
  labels = np.repeat(np.arange(50), 4)
  for kind in sampler.KINDS:
    order = sampler.order(kind, labels, 0, 8)
    golden = take(sampler.order(kind, labels, 0, 8), 0, 2000)
    found = {}

    def work(offset, order=order, found=found):
      for position in range(offset, 2000, 4):
        found[position] = order(position)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    assert [found[p] for p in range(2000)] == golden


def test_epoch_is_shuffled_once(monkeypatch):
  order = sampler.order("random", np.zeros(1000, int), 0, 10)
  made, real = [], np.random.default_rng
  monkeypatch.setattr(np.random, "default_rng", lambda s: made.append(s) or real(s))
  take(order, 0, 3000)
  assert len(made) == 3
  assert len(order._cache) <= 4


@pytest.mark.parametrize(
  ("kwargs", "message"),
  [
    (dict(kind="rando"), "unknown sampler 'rando'; known: random, identity"),
    (dict(labels=[]), "no examples"),
    (dict(batch=0), "batch is 0"),
    (dict(seed=-1), "seed -1"),
    (dict(batch=10), "4 instances divide, found 10"),
    (dict(batch=16), "needs 4 identities, found 3"),
    (dict(instances=0), "instances divide"),
  ],
)
def test_numbers_that_do_not_fit(kwargs, message):
  good = dict(kind="identity", labels=[0, 1, 2], seed=0, batch=8, instances=4)
  sampler.order(**good)
  with pytest.raises(ValueError, match=message):
    sampler.order(**{**good, **kwargs})


# ---- stand-ins


def rng(position):
  return np.random.default_rng([7, position])


@pytest.mark.parametrize("kind", sampler.KINDS)
def test_stand_ins_are_pure(kind):
  labels, images = uneven()
  make = lambda: sampler.order(kind, labels, 1, 12, instances=3, images=images)
  one, other = make(), pickle.loads(pickle.dumps(make()))
  for position in (0, 5, 77, 400, 10**9):
    tried = [one(position)]
    stood = one.stand_in(position, rng(position), tried)
    assert isinstance(stood, int) and 0 <= stood < len(labels)
    assert other.stand_in(position, rng(position), tried) == stood


def test_identity_stand_ins_try_the_persons_other_pictures_first():
  labels, images = uneven()
  order = sampler.order("identity", labels, 1, 12, instances=3, images=images)
  pictures = {p: set(images[labels == p]) for p in set(labels)}
  for position in range(0, 600, 7):
    draw, tried = rng(position), [order(position)]
    person = labels[tried[0]]
    here = {
      labels[order(p)] for p in range(position // 12 * 12, position // 12 * 12 + 12)
    }
    for _ in range(8):
      stood = order.stand_in(position, draw, tried)
      seen = {images[example] for example in tried}
      if len(tried) < 5 and pictures[person] - seen:
        assert labels[stood] == person and images[stood] not in seen
      else:
        assert labels[stood] not in here
      tried.append(stood)


def test_a_person_without_pictures_is_replaced_by_one_other_person():
  # All instances of one get the same substitute, two people of a batch different ones.
  labels = np.repeat(np.arange(40), 3)
  order = sampler.order("identity", labels, 2, 12, instances=3)
  for batch in range(30):
    substitutes = []
    for person in range(4):
      found = set()
      for instance in range(3):
        position = 12 * batch + 3 * person + instance
        own = labels[order(position)]
        tried = np.flatnonzero(labels == own).tolist()
        found.add(labels[order.stand_in(position, rng(position), tried)])
      assert len(found) == 1
      substitutes += found
    assert len(set(substitutes)) == 4
    assert not set(substitutes) & {labels[order(12 * batch + i)] for i in range(12)}
