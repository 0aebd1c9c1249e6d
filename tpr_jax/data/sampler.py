"""Which example stands at which position of training: pure in (seed, position).

Training is one endless row of positions 0, 1, 2, ...; batch s of size B is positions
s B .. (s + 1) B - 1, whatever the number of processes. Nothing is remembered between
positions but a cache, so any worker, or a resumed run, can answer any position.

random: epoch e is a permutation of all examples; epochs follow each other without
  dropping, so each example is seen once an epoch and a batch may straddle two. For
  streams it is one that takes no memory (`ComputedOrder`).
identity: every batch holds P identities x K instances (P = B / K), identities drawn
  without repetition. A pass is a permutation of the identities cut into batches; the
  fewer than P identities left over wait for the next pass. Within an identity the
  instances go round in shuffled order, from different pictures where there are K.
buckets: random, with every batch from one bucket of captions of similar length, so
  that its texts need no more padding than the bucket's length (`BucketOrder`).
"""

import abc
import collections
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tpr_jax.data.permutation import ROUNDS, Permutation

KINDS = ("random", "identity")
# Streams of random numbers, apart by constant.
_EPOCH, _IDENTITY, _BUCKET, _SCHEDULE = 0x0E70C4, 0x1DE471, 0xB0C4E7, 0x5C4ED1
_SUBSTITUTE, _COMPUTED = 0x5B571, 0xC0397E
# Tries with other pictures of the same person, and then with those of each substitute.
_OWN, _AWAY = 4, 3
_KEEP = 4  # permutations of epochs or passes held at once; prefetch looks one ahead


class Order(abc.ABC):
  """Position -> index of an example; `epoch` is the number of positions in an epoch."""

  def __init__(self, seed: int, epoch: int):
    self._seed, self.epoch = seed, epoch
    self._lock, self._cache = threading.Lock(), collections.OrderedDict()

  @abc.abstractmethod
  def __call__(self, position: int) -> int: ...

  def text_length(self, position: int) -> int | None:
    """Tokens that every text of this position's batch is cut to; None: all of them."""
    return None

  def stand_in(
    self, position: int, rng: np.random.Generator, tried: Sequence[int]
  ) -> int:
    """An example that may take this position where its own cannot be read.

    rng: of this position, for all its calls; tried: the examples that failed, its own
    first.
    """
    del tried  # a second try of one costs little, and is seldom drawn
    return int(rng.integers(self.epoch))

  def _permutation(self, size: int, *stream: int) -> np.ndarray:
    """The permutation of `size` things that (seed, stream) names, cached."""
    return self._cached(stream, lambda rng: rng.permutation(size))

  def _cached(self, stream: tuple, make: Callable[[np.random.Generator], Any]) -> Any:
    """What `make` draws from the numbers that (seed, stream) names, made once."""
    with self._lock:
      found = self._cache.get(stream)
    if found is None:
      found = make(np.random.default_rng([self._seed, *stream]))
      with self._lock:
        self._cache[stream] = found
        while len(self._cache) > _KEEP:
          self._cache.popitem(last=False)
    return found

  def __getstate__(self):  # a worker process starts with an empty cache
    return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_cache")}

  def __setstate__(self, state):
    self.__dict__.update(state)
    self._lock, self._cache = threading.Lock(), collections.OrderedDict()


class RandomOrder(Order):
  """Every epoch a permutation of the examples; `stream` names the permutations."""

  def __init__(self, seed: int, epoch: int, *stream: int):
    super().__init__(seed, epoch)
    self._stream = stream or (_EPOCH,)

  def __call__(self, position):
    epoch, place = divmod(position, self.epoch)
    return int(self._permutation(self.epoch, *self._stream, epoch)[place])


class ComputedOrder(Order):
  """Every epoch a permutation that is computed place by place, not stored.

  For streams: of 10 million captions each stored permutation would take 80 MB. A place
  takes some 10 microseconds; what runs have been promised keeps `RandomOrder`.
  """

  def __call__(self, position):
    epoch, place = divmod(position, self.epoch)
    return self._cached((_COMPUTED, epoch), self._make)(place)

  def _make(self, rng: np.random.Generator) -> Permutation:
    # Of the seed sequence: its numbers stay the same in every version of numpy.
    keys = rng.bit_generator.seed_seq.generate_state(ROUNDS, np.uint64)
    return Permutation(self.epoch, keys.tolist())


class BucketOrder(Order):
  """Every batch from one bucket: the examples whose texts fit in its length.

  An example is in the smallest bucket that holds its tokens; one that not even the
  last bucket holds is in the last. Bucket b, of n_b examples in n, is used in exactly
  n_b of every n steps: step t of such a block takes the bucket that holds number
  (offset + t m) mod n when the examples are counted bucket by bucket. With m near
  n (sqrt(5) - 1) / 2 and prime to n, a lattice with the golden ratio as its rotation,
  every stretch of steps is close to proportional too, so an epoch's worth of steps
  shows nearly every example once; the random offset of a block makes the share of
  any one step exactly n_b / n over seeds. Since blocks are full, the number of earlier
  uses of a bucket needs no replay. Successive uses of a bucket walk its examples as
  `RandomOrder` does; a bucket smaller than a batch repeats examples within it.

  Attributes:
    lengths: text lengths of the buckets that hold examples, ascending.
    sizes: number of examples in each of them.
  """

  def __init__(self, seed, counts, lengths, batch, short_first=0):
    """counts: int [n], tokens of every example; lengths: ascending, see
    `bucket_lengths`; batch: size of the GLOBAL batch; short_first: so many first
    steps use the shortest bucket alone (SortaGrad, arXiv:1512.02595)."""
    super().__init__(seed, len(counts))
    self._batch, self._short_first = batch, short_first
    bucket = np.searchsorted(lengths, np.minimum(counts, lengths[-1]))
    used = np.unique(bucket)
    self._groups = [np.flatnonzero(bucket == b) for b in used]
    self.lengths = tuple(int(lengths[b]) for b in used)
    self.sizes = tuple(len(group) for group in self._groups)
    self._walks = [
      RandomOrder(seed, size, _BUCKET, length)
      for size, length in zip(self.sizes, self.lengths, strict=True)
    ]
    self._stride = _golden_stride(self.epoch)

  def __call__(self, position):
    step, row = divmod(position, self._batch)
    bucket, use = self._use(step)
    place = self._walks[bucket](use * self._batch + row)
    return int(self._groups[bucket][place])

  def text_length(self, position):
    return self.lengths[self._use(position // self._batch)[0]]

  def stand_in(self, position, rng, tried):
    group = self._groups[self._use(position // self._batch)[0]]
    return int(group[rng.integers(len(group))])

  def _use(self, step: int) -> tuple[int, int]:
    """(bucket of the step, number of its uses in earlier steps)."""
    if step < self._short_first:
      return 0, step
    block, place = divmod(step - self._short_first, self.epoch)
    buckets, earlier = self._cached((_SCHEDULE, block), self._schedule)
    bucket = int(buckets[place])
    use = int(earlier[place]) + block * self.sizes[bucket]
    return bucket, use + (self._short_first if bucket == 0 else 0)

  def _schedule(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One block: (bucket of every step, its uses in earlier steps of the block)."""
    steps = np.arange(self.epoch, dtype=np.int64)
    number = (int(rng.integers(self.epoch)) + steps * self._stride) % self.epoch
    buckets = np.searchsorted(np.cumsum(self.sizes), number, side="right")
    earlier = np.zeros(self.epoch, np.int64)
    for bucket, size in enumerate(self.sizes):
      earlier[buckets == bucket] = np.arange(size)
    return buckets, earlier


def _golden_stride(size: int) -> int:
  """A number prime to `size` near its golden section: of those nearby, the one whose
  ratio has the smallest terms as a continued fraction, and so the most even steps."""
  near = max(1, round(size * (math.sqrt(5) - 1) / 2))
  tries = range(max(1, near - 64), near + 65)
  return min(
    (n for n in tries if math.gcd(n, size) == 1),
    key=lambda n: (_largest_term(n, size), abs(n - near)),
  )


def _largest_term(a: int, b: int) -> int:
  """The largest term of the continued fraction of a / b, a and b >= 1."""
  largest = 0
  while a:
    largest, a, b = max(largest, b // a), b % a, a
  return largest


def bucket_lengths(buckets: Sequence[int], length: int) -> tuple[int, ...]:
  """The buckets with `length` as the last; ValueError where they are no such row."""
  whole = all(isinstance(b, (int, np.integer)) for b in buckets)
  if not whole or list(buckets) != sorted({b for b in buckets if 3 <= b <= length}):
    raise ValueError(
      f"text.buckets is {tuple(buckets)}: expected ascending text lengths from 3 (a "
      f"start, a word, an end) to text.length={length}, for example "
      f"{(max(3, length // 2),)}, or () for one length"
    )
  return tuple(sorted({*map(int, buckets), length}))


class IdentityOrder(Order):
  """P identities x K instances in every batch."""

  def __init__(self, seed, labels, images, batch, instances):
    super().__init__(seed, len(labels))
    self._batch, self._instances = batch, instances
    by_label = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[by_label], prepend=labels[by_label[0]] - 1))
    self._groups = np.split(by_label, starts[1:])
    self._images = np.arange(len(labels)) if images is None else images
    people = batch // instances
    if people > len(self._groups):
      raise ValueError(
        f"a batch of {batch} with {instances} instances each needs {people} "
        f"identities, found {len(self._groups)}: use a smaller batch, more instances, "
        "or the random sampler"
      )
    self._batches_a_pass = len(self._groups) // people

  def __call__(self, position):
    batch, place = divmod(position, self._batch)
    person, instance = divmod(place, self._instances)
    passage = batch // self._batches_a_pass
    return self._instance(int(self._people(batch)[person]), passage, instance)

  def stand_in(self, position, rng, tried):
    """Another picture of the same person; when there is none, of a person who is not
    in the batch, the same for all instances of this one: P x K stays P x K."""
    batch, place = divmod(position, self._batch)
    person, instance = divmod(place, self._instances)
    here = self._people(batch)
    own = self._groups[here[person]]
    seen = self._images[list(tried)]
    if len(tried) <= _OWN:
      fresh = own[~np.isin(self._images[own], seen)]
      if len(fresh):
        return int(rng.choice(fresh))
    away = np.setdiff1d(np.arange(len(self._groups)), here)
    if not len(away):  # everybody is in the batch
      return int(rng.integers(self.epoch))
    # Each person of the batch begins at another one of those away, so that two seldom
    # get the same, and goes round all of them.
    away = np.random.default_rng([self._seed, _SUBSTITUTE, batch]).permutation(away)
    failed = int((~np.isin(tried, own)).sum())
    begin = person * max(1, len(away) // len(here))
    label = int(away[(begin + failed // _AWAY) % len(away)])
    fresh = self._groups[label][~np.isin(self._images[self._groups[label]], seen)]
    if failed % _AWAY and len(fresh):
      return int(rng.choice(fresh))
    return self._instance(label, batch // self._batches_a_pass, instance)

  def _people(self, batch: int) -> np.ndarray:
    """The identities of one batch: positions in `_groups`."""
    passage, turn = divmod(batch, self._batches_a_pass)
    people = self._permutation(len(self._groups), _EPOCH, passage)
    count = self._batch // self._instances
    return people[turn * count : (turn + 1) * count]

  def _instance(self, label: int, passage: int, instance: int) -> int:
    """Number `instance` of the K that this identity shows in this pass."""
    group = self._groups[label]
    rounds = max(1, len(group) // self._instances)  # passes before a new shuffle
    cycle, chunk = divmod(passage, rounds)
    rng = np.random.default_rng([self._seed, _IDENTITY, label, cycle])
    shuffled = group[rng.permutation(len(group))]
    shuffled = _pictures_apart(shuffled, self._images)
    return int(shuffled[(chunk * self._instances + instance) % len(shuffled)])


def _pictures_apart(examples: np.ndarray, images: np.ndarray) -> np.ndarray:
  """Deals examples out by rounds: one of every picture, then the second ones, ..."""
  seen = collections.Counter()
  rank = []
  for image in images[examples]:
    rank.append(seen[image])
    seen[image] += 1
  return examples[np.argsort(rank, kind="stable")]


def order(
  kind: str,
  labels,
  seed: int,
  batch: int,
  *,
  instances: int = 4,
  images=None,
  stored: bool = True,
) -> Order:
  """The order that `kind` names.

  Args:
    kind: "random" or "identity".
    labels: int [n], the identity of every example.
    seed: any number >= 0.
    batch: size of the GLOBAL batch.
    instances: K of the identity sampler; divides batch.
    images: int [n], the picture of every example, so that the identity sampler takes
      different pictures of a person first; None: captions count as pictures.
    stored: whether the random order may hold permutations of all examples.

  Raises:
    ValueError: if the numbers do not fit each other, with the ones that would.
  """
  labels = np.asarray(labels)
  if kind not in KINDS:
    raise ValueError(f"unknown sampler {kind!r}; known: {', '.join(KINDS)}")
  if labels.ndim != 1 or not len(labels):
    raise ValueError("there are no examples to draw from")
  if batch < 1 or seed < 0:
    raise ValueError(f"batch is {batch} and seed {seed}: need batch >= 1, seed >= 0")
  if kind == "random":
    return (RandomOrder if stored else ComputedOrder)(seed, len(labels))
  if instances < 1 or batch % instances:
    raise ValueError(
      f"the identity sampler needs a batch that {instances} instances divide, found "
      f"{batch}"
    )
  images = None if images is None else np.asarray(images)
  return IdentityOrder(seed, labels, images, batch, instances)
