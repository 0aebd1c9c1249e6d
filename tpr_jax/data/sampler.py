"""Which example stands at which position of training: pure in (seed, position).

Training is one endless row of positions 0, 1, 2, ...; batch s of size B is positions
s B .. (s + 1) B - 1, whatever the number of processes. Nothing is remembered between
positions but a cache, so any worker, or a resumed run, can answer any position.

random: epoch e is a permutation of all examples; epochs follow each other without
  dropping, so each example is seen once an epoch and a batch may straddle two.
identity: every batch holds P identities x K instances (P = B / K), identities drawn
  without repetition. A pass is a permutation of the identities cut into batches; the
  fewer than P identities left over wait for the next pass. Within an identity the
  instances go round in shuffled order, from different pictures where there are K.
"""

import collections
import threading

import numpy as np

KINDS = ("random", "identity")
_EPOCH, _IDENTITY = 0x0E70C4, 0x1DE471  # streams of random numbers, apart by constant
_KEEP = 4  # permutations of epochs or passes held at once; prefetch looks one ahead


class Order:
  """Position -> index of an example; `epoch` is the number of positions in an epoch."""

  def __init__(self, seed: int, epoch: int):
    self._seed, self.epoch = seed, epoch
    self._lock, self._cache = threading.Lock(), collections.OrderedDict()

  def __call__(self, position: int) -> int:
    raise NotImplementedError

  def _permutation(self, size: int, *stream: int) -> np.ndarray:
    """The permutation of `size` things that (seed, stream) names, cached."""
    with self._lock:
      found = self._cache.get(stream)
    if found is None:
      found = np.random.default_rng([self._seed, *stream]).permutation(size)
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
  """Every epoch a permutation of the examples."""

  def __call__(self, position):
    epoch, place = divmod(position, self.epoch)
    return int(self._permutation(self.epoch, _EPOCH, epoch)[place])


class IdentityOrder(Order):
  """P identities x K instances in every batch."""

  def __init__(self, seed, labels, images, batch, instances):
    super().__init__(seed, len(labels))
    self._batch, self._instances = batch, instances
    by_label = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[by_label], prepend=labels[by_label[0]] - 1))
    self._groups = np.split(by_label, starts[1:])
    self._images = images
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
    passage, turn = divmod(batch, self._batches_a_pass)
    person, instance = divmod(place, self._instances)
    people = self._permutation(len(self._groups), _EPOCH, passage)
    slot = turn * (self._batch // self._instances) + person
    return self._instance(int(people[slot]), passage, instance)

  def _instance(self, label: int, passage: int, instance: int) -> int:
    """Number `instance` of the K that this identity shows in this pass."""
    group = self._groups[label]
    rounds = max(1, len(group) // self._instances)  # passes before a new shuffle
    cycle, chunk = divmod(passage, rounds)
    rng = np.random.default_rng([self._seed, _IDENTITY, label, cycle])
    shuffled = group[rng.permutation(len(group))]
    if self._images is not None:
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
    return RandomOrder(seed, len(labels))
  if instances < 1 or batch % instances:
    raise ValueError(
      f"the identity sampler needs a batch that {instances} instances divide, found "
      f"{batch}"
    )
  images = None if images is None else np.asarray(images)
  return IdentityOrder(seed, labels, images, batch, instances)
