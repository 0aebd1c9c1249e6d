"""Training batches on Grain: deterministic, sharded, prefetched, exactly resumable.

Position p of training shows example order(p), augmented with the random numbers of
(seed, p). A batch row therefore depends on (seed, step, row) and on nothing else: not
on processes, threads, worker processes, caches or interruptions. The state of the
iterator is the number of the next step, equal on every process.

A picture that cannot be read is replaced by another example, drawn from the numbers
of the same position; the batch says so (`replaced`) and the iterator lists it
(`damage`). Captions without words are no examples, and are listed too. Evaluation has
batches of its own (`eval_batches.py`).
"""

import concurrent.futures
import dataclasses
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from tpr_jax.data import prompts, regions, transforms
from tpr_jax.data import sampler as samplers
from tpr_jax.data import tokenizer as tokenizers
from tpr_jax.data.captions import Captions, StreamedCaptions, usable
from tpr_jax.data.damage import CAPTION, Damage
from tpr_jax.data.examples import (
  PROBLEMS,
  Examples,
  collate,
  longest_counts,
  problem,
)
from tpr_jax.data.picture_cache import PictureCache
from tpr_jax.data.record import Dataset, DatasetError, ImageError
from tpr_jax.data.share import Share, share_rows
from tpr_jax.data.views import Viewer, Views

_ENDLESS = 2**40  # steps; Grain wants a length
_NO_VIEWS = Views()
_WARNED = 20  # bad pictures that the log names; all are in the run folder


@dataclasses.dataclass(frozen=True)
class _Reader:
  """Step -> Grain iterator over the batches of this process from that step on."""

  examples: Examples
  batch: int
  rows: int
  first: int
  steps: int | None
  threads: int
  prefetch: int
  workers: int

  def fill_cache(self, start: int, stop: threading.Event) -> None:
    """Loads the pictures of one epoch from a step on (Examples.fill_cache)."""
    share = Share(self.batch, self.rows, self.first, start)
    epoch = len(self.examples) * self.rows // self.batch
    self.examples.fill_cache(map(share, range(epoch)), stop)

  def __call__(self, start: int) -> grain.DatasetIterator:
    left = _ENDLESS if self.steps is None else max(0, self.steps - start)
    share = Share(self.batch, self.rows, self.first, start)
    data = grain.MapDataset.range(left * self.rows).map(share).map(self.examples)
    data = data.batch(self.rows, batch_fn=collate)
    ready = max(1, self.prefetch)
    read = grain.ReadOptions(
      num_threads=self.threads, prefetch_buffer_size=ready if self.threads else 0
    )
    data = data.to_iter_dataset(read)
    if self.workers:
      if not flags.FLAGS.is_parsed():  # Grain's workers read absl's flags, which only
        flags.FLAGS.mark_as_parsed()  # absl.app.run parses
      data = data.mp_prefetch(
        grain.MultiprocessingOptions(self.workers, per_worker_buffer_size=ready)
      )
    return iter(data)


class TrainIterator(grain.DatasetIterator):
  """Batches of this process (`core/types.py`: Batch), from any step on.

  Attributes:
    examples: captions of the dataset: the length of an epoch, whatever the sampler.
    captions: how many captions are cut or left out, and what the source replaced or
      left out, as a line (`caption_report`).
    damage: captions that are no examples, and the pictures that this process has met
      and replaced, up to the last batch it gave. It is no part of the state, which is
      the same on every process: save its JSON beside it, and see `restore_damage`.
  """

  def __init__(self, dataset, read, examples, steps, captions, damage, identity):
    super().__init__()
    self._dataset, self._read, self._steps = dataset, read, steps
    self._identity, self._step, self._inner = identity, 0, None
    self._filler, self._closing = None, threading.Event()
    self.examples, self.captions = examples, captions
    self.damage, self._at_start = damage, damage.to_json()
    self._warned = 0

  def __next__(self) -> dict[str, np.ndarray]:
    self._assert_not_closed()
    if self._steps is not None and self._step >= self._steps:
      raise StopIteration
    self.start_prefetch()
    batch = dict(next(self._inner))
    for _, name, kind, reason in batch.pop(PROBLEMS):
      if self.damage.add(name, kind, reason):
        self._warn(reason)
    self.damage.replaced += int((batch["replaced"] >= 0).sum())
    self._step += 1
    return batch

  def _warn(self, reason: str) -> None:
    self._warned += 1
    if self._warned <= _WARNED:
      more = "" if self._warned < _WARNED else " (further ones are not logged)"
      logging.getLogger(__name__).warning("broken example replaced: %s%s", reason, more)

  def restore_damage(self, plain: Mapping[str, Any] | None) -> None:
    """Takes up what was known when the state was saved: all processes' finds together.

    Args:
      plain: `damage.to_json()`, of several processes merged; None (a run from before
        there was any): what is known without reading a picture.

    Its pictures are read once more, for a run that stopped on them goes on once they
    were mended: those that can be read by now are no longer listed. The count of
    replaced rows goes to the first process alone, so that merging the processes again
    counts no row twice.

    Raises:
      ValueError: it is of another split.
    """
    damage = Damage.from_json(self._at_start)
    if plain is not None:
      known, kept = Damage.from_json(plain), {}
      if self._dataset.stream is not None:  # captions come to light as they are read
        kept = {CAPTION: known.found.get(CAPTION, {})}
      damage = damage.merge(dataclasses.replace(known, found=kept))
      self._look_again(known.unreadable(), damage)
    if self._read.first:
      damage.replaced = 0
    self.damage = damage

  def _look_again(self, names: Mapping[str, str], damage: Damage) -> None:
    """Adds those of the pictures that still cannot be read to `damage`."""
    dataset = self._dataset

    def look(at: int) -> tuple[int, str, str, str] | None:
      try:
        dataset.load_image(dataset.records[at], None)
      except ImageError as error:
        return problem(dataset, at, error)
      return None

    with concurrent.futures.ThreadPoolExecutor(max(1, self._read.threads)) as pool:
      for found in filter(None, pool.map(look, dataset.find(names))):
        damage.add(*found[1:])

  def get_state(self) -> dict:
    """The next step, and what the steps mean: a plain dict of numbers and strings."""
    return {"step": self._step, **self._identity}

  def set_state(self, state: dict) -> None:
    """Goes to the step of `state`; ValueError if it belongs to other batches."""
    keys = sorted({*self._identity, *state} - {"step"})
    unlike = [k for k in keys if state.get(k) != self._identity.get(k)]
    if unlike or not isinstance(state.get("step"), int) or state["step"] < 0:
      found = ", ".join(f"{k}={state.get(k)!r}" for k in unlike or ["step"])
      wanted = ", ".join(f"{k}={self._identity.get(k)!r}" for k in unlike) or "a number"
      raise ValueError(
        f"the saved input position belongs to other data: it has {found}, this run has "
        f"{wanted}. Resume with the same data, batch, seed, sampler and text buckets, "
        "or start a new run folder"
      )
    self._stop()
    self._step = state["step"]

  def start_prefetch(self) -> None:
    """Starts reading, and filling the cache: call it while the first step compiles,
    which takes a core for as long as thousands of pictures take another."""
    if self._inner is None:
      self._inner = self._read(self._step)
      self._inner.start_prefetch()
    in_process = self._read.threads and not self._read.workers  # they have own caches
    if self._filler is None and in_process:
      self._filler = threading.Thread(
        target=self._read.fill_cache, args=(self._step, self._closing), daemon=True
      )
      self._filler.start()

  def close(self) -> None:
    self._stop()
    if self._filler is not None:
      self._closing.set()
      self._filler.join()
    super().close()

  def _stop(self) -> None:
    inner, self._inner = getattr(self, "_inner", None), None
    if inner is not None:
      inner.close()

  def __str__(self) -> str:
    return f"TrainIterator(step={self._step}, {self._identity})"


def train_iterator(
  dataset: Dataset,
  tokenizer: tokenizers.Tokenizer,
  *,
  pipe: str | transforms.Pipe,
  length: int,
  batch: int,
  seed: int,
  steps: int | None = None,
  sampler: str = "random",
  instances: int = 4,
  buckets: Sequence[int] = (),
  short_first: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  threads: int = 2,
  prefetch: int = 4,
  workers: int = 0,
  cache_mb: float = 0,
  views: Views = _NO_VIEWS,
) -> TrainIterator:
  """Batches of one process: rows [p B / P, (p + 1) B / P) of every global batch.

  Args:
    dataset: one training split.
    tokenizer: made by `tokenizer.build`.
    pipe: transforms as a string or a Pipe; needs a resize.
    length: text length L.
    batch: size B of the GLOBAL batch, a multiple of process_count.
    seed: any number >= 0.
    steps: batches in all; None: endless.
    sampler, instances: see `sampler.py`.
    buckets: ascending text lengths, `length` always the last. Every batch is then of
      captions that one of them holds, its text int32 [rows, bucket]: no token is cut,
      only padding. Random sampler only. Every bucket is one more shape to compile.
    short_first: so many first steps are of the shortest bucket that holds a caption.
    process_index, process_count: p and P.
    threads: batches prepared at once in this process; 0: in the caller's thread.
    prefetch: finished batches kept ready (for each worker process, if there are any).
    workers: worker processes, for load_image functions that hold Python's lock; each
      reads with `threads` threads. They are spawned: a script needs the usual
      `if __name__ == "__main__"` guard.
    cache_mb: RAM for pictures after the deterministic head of the pipe, at most
      (picture_cache.py); worker processes share it out, and each keeps its own.
    views: what else a row shows (views.py).

  Raises:
    ValueError, DatasetError, PipeError: if the arguments do not fit each other.
    SynonymsError: views.eda names synonyms that are not there.
  """
  pipe = transforms.build(pipe)
  rows, first = share_rows(pipe, batch, process_index, process_count)
  numbers = dict(seed=seed, threads=threads, workers=workers, cache_mb=cache_mb)
  _check_numbers({**numbers, "text.short_first": short_first})
  _check_buckets(buckets, length, short_first, sampler)
  _check_stream(dataset, buckets)
  if views.region:
    regions.check(dataset)
  if views.attributes:
    prompts.check(dataset, prompts.build(views.attributes))
  viewer = Viewer(views, tokenizer, length, seed, first=len(dataset.identities))
  captions, damage = _captions(dataset, tokenizer, length)
  order, meaning = _order(dataset, captions, sampler, seed, batch, instances)
  if buckets:
    lengths = samplers.bucket_lengths(buckets, length)
    longest = longest_counts(dataset, tokenizer, pipe, captions)
    order = samplers.BucketOrder(seed, longest, lengths, batch, short_first)
    sizes = np.transpose([order.lengths, order.sizes]).tolist()
    meaning = dict(buckets=sizes, short_first=short_first)
  cache = PictureCache(cache_mb / max(1, workers)) if cache_mb else None
  examples = Examples(dataset, tokenizer, pipe, order, seed, cache, captions, viewer)
  read = _Reader(examples, batch, rows, first, steps, threads, prefetch, workers)
  count = len(examples)
  identity = dict(seed=seed, batch=batch, sampler=sampler, examples=count, **meaning)
  report = _report(dataset, captions, damage, viewer.report())
  return TrainIterator(dataset, read, count, steps, report, damage, identity)


def _check_numbers(numbers: Mapping[str, float]) -> None:
  for name, number in numbers.items():
    if number < 0:
      raise ValueError(f"{name} is {number}: it cannot be below 0")


def _captions(dataset, tokenizer, length):
  """(The captions to train on, and the Damage that is known of the others)."""
  damage = Damage(f"{dataset.name}/{dataset.split}", len(dataset.records))
  captions = usable(dataset, tokenizer, length, damage)
  if not len(captions.record):
    lines = [
      f"{dataset.name} {dataset.split} has no captions to train on "
      f"({len(dataset.records):,} pictures)",
      *damage.lines(),
    ]
    raise DatasetError("\n".join(lines))
  return captions, damage


def _order(dataset, captions, sampler, seed, batch, instances):
  """(the Order, what beside its kind says which one it is: for the state)."""
  stream = dataset.stream
  order = samplers.order(
    sampler,
    captions.labels,
    seed,
    batch,
    instances=instances,
    images=captions.record,
    stored=stream is None,
  )
  meaning = dict(instances=instances) if sampler == "identity" else {}
  return order, meaning if stream is None else dict(meaning, shards=stream.digest)


def _report(
  dataset: Dataset, captions: Captions | StreamedCaptions, damage: Damage, views: str
) -> str:
  """How many captions are cut, how many are left out, and what source and views say."""
  report = captions.report()
  if captions.left_out:
    report += (
      f"; {captions.left_out:,} more are empty or no text and are left out "
      f"({len(damage.found.get(CAPTION, ())):,} pictures)"
    )
  told = [note.text for note in dataset.notes] + ([views] if views else [])
  return report + "".join(f"; {text}" for text in told)


def _check_stream(dataset: Dataset, buckets: Sequence[int]) -> None:
  """Raises ValueError for what would need all captions before the first batch."""
  if dataset.stream is not None and buckets:
    raise ValueError(
      f"text.buckets is {tuple(buckets)}, but {dataset.name} is read as it is trained "
      "on, so that how long its captions are is not known before: use text.buckets=()"
    )


def _check_buckets(buckets, length, short_first, sampler) -> None:
  """Raises ValueError where the arguments on buckets do not fit each other."""
  if not buckets and short_first > 0:
    raise ValueError(
      f"text.short_first is {short_first}, but text.buckets is (): it needs buckets to "
      "take the shortest of; give some, for example "
      f"{(max(3, length // 2),)}, or text.short_first=0"
    )
  if buckets and sampler == "identity":
    raise ValueError(
      "text.buckets do not go with the identity sampler: a batch of one bucket seldom "
      "holds enough captions of one person. Use data.sampler=random or text.buckets=()"
    )
  samplers.bucket_lengths(buckets, length)
