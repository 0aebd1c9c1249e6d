"""One example of training: a readable picture, augmented, and its caption's tokens.

What the workers of the pipeline hold. The picture is loaded, taken through the
deterministic head of the pipe (kept in RAM if there is room) and through the random
tail with the numbers of (seed, position). A picture that cannot be read is replaced by
another example, drawn from the numbers of the same position.
"""

import contextlib
import threading
from collections.abc import Iterable

import numpy as np

from tpr_jax.data import transforms
from tpr_jax.data.captions import Captions
from tpr_jax.data.damage import BadData
from tpr_jax.data.picture_cache import PictureCache
from tpr_jax.data.record import Dataset, ImageError

PROBLEMS = "problems"  # travels with a batch from the workers to the iterator
_AUGMENT, _REPLACE = 0xA06E17, 0x4E91AC  # streams of random numbers
_TRIES = 8


def load_picture(
  dataset: Dataset, index: int, head: transforms.Pipe, size, cache: PictureCache | None
) -> np.ndarray:
  """Picture of record `index` after the deterministic ops `head`; may raise ImageError.

  Raises TypeError where load_image breaks its contract (uint8 [h, w, 3]).
  """
  picture = cache.get(index) if cache is not None else None
  if picture is None:
    record = dataset.records[index]
    picture = dataset.load_image(record, size)
    shape = getattr(picture, "shape", None)
    if shape is None or picture.dtype != np.uint8 or shape[2:] != (3,):
      raise TypeError(
        f"load_image of {dataset.name} gave {type(picture).__name__} {shape} for "
        f"{record.image}, expected a uint8 array [h, w, 3]"
      )
    example = dict(image=picture, caption="", record=record)
    picture = head(example, None)["image"]  # deterministic ops take no numbers
    if cache is not None:
      cache.put(index, picture)
  return picture


class Examples:
  """Position of training -> one example as a dict of arrays.

  captions: those to train on (captions.usable); an op that changes one has it encoded
  anew. A text is cut to the length that the order gives its position, if it gives one.
  viewer: what else a row shows (views.py).
  """

  def __init__(self, dataset, tokenizer, pipe, order, seed, cache, captions, viewer):
    self._dataset, self._tokenizer, self._viewer = dataset, tokenizer, viewer
    self._head, self._tail = pipe.split()
    self._size, self._order, self._seed = pipe.size, order, seed
    self._cache, self._captions = cache, captions

  def __len__(self) -> int:
    return len(self._captions.record)

  def __call__(self, position: int) -> dict:
    index, read, problems = self._readable(position)
    image, record, caption, text = read
    rng = np.random.default_rng([self._seed, position, _AUGMENT])
    example = dict(image=image, caption=caption, record=record)
    example.update(self._viewer.region(record, image, position))
    example = self._tail(example, rng)
    if example["caption"] != caption:
      length = self._captions.length
      text = self._tokenizer.encode([example["caption"]], length)[0][0]
    shown, label = self._cut(text, position), self._captions.labels[index]
    return {
      "image": example["image"],
      "text": shown,
      **self._viewer(example, text, shown, label, position),
      "ids": np.int32(label),
      "image_id": np.int32(self._captions.record[index]),
      "example": np.int32(index),
      "replaced": np.int32(problems[0][0] if problems else -1),
      PROBLEMS: problems,
    }

  def fill_cache(self, positions: Iterable[int], stop: threading.Event) -> None:
    """Loads the pictures of these positions until the cache is full or `stop` is set.

    What training shows does not change: pictures come from the cache or not, and one
    that cannot be read is met again, replaced and reported there.
    """
    for position in positions:
      if self._cache is None or self._cache.full or stop.is_set():
        return
      at = int(self._captions.record[self._order(position)])
      with contextlib.suppress(ImageError):
        load_picture(self._dataset, at, self._head, self._size, self._cache)

  def _cut(self, text: np.ndarray, position: int) -> np.ndarray:
    """The text without the padding that its bucket spares; never without tokens."""
    length = self._order.text_length(position)
    if length is None or length == len(text):
      return text
    if text[length:].any():  # padding is 0 for every tokenizer (core/types.py)
      raise ValueError(
        f"a caption changed by the pipe has more tokens than its bucket of {length}: "
        "an op that changes captions must list what it makes of them (Op.captions)"
      )
    return text[:length]

  def _readable(self, position: int):
    """(example index, what `_read` gives, problems of the examples that failed)."""
    index, problems, tried, rng = self._order(position), [], [], None
    for _ in range(1 + _TRIES):
      try:
        return index, self._read(index), problems
      except ImageError as error:
        at = int(self._captions.record[index])
        problems.append(problem(self._dataset, at, error))
        tried.append(index)
      if rng is None:
        rng = np.random.default_rng([self._seed, position, _REPLACE])
      index = self._order.stand_in(position, rng, tried)
    names = "; ".join(sorted({reason for *_, reason in problems})[:4])
    length = self._order.text_length(position)
    bucket = f" with texts in the bucket of {length} tokens" if length else ""
    raise BadData(
      f"{len(problems)} pictures in a row of {self._dataset.name} "
      f"{self._dataset.split}{bucket} cannot be read, so this is more than a broken "
      f"file: {names}. Is the disk still there? Look at the data with --mode=check"
    )

  def _read(self, index: int):
    """(picture, record, caption, its tokens) of an example. Raises ImageError."""
    at = int(self._captions.record[index])
    image = load_picture(self._dataset, at, self._head, self._size, self._cache)
    record = self._dataset.records[at]
    return image, record, *self._captions.read(index, record)


def problem(dataset: Dataset, at: int, error: ImageError) -> tuple[int, str, str, str]:
  """(record index, name of the picture, kind, reason): what PROBLEMS holds."""
  name = error.picture
  if name is None:
    try:
      name = dataset.records[at].image
    except ImageError as again:  # of a stream that fails from here on
      name = again.picture
  return at, name, error.kind, str(error)


def longest_counts(dataset, tokenizer, pipe, captions: Captions) -> np.ndarray:
  """int32 [n]: tokens of every caption in the longest form that the pipe gives it."""
  if not pipe.changes_caption:
    return captions.counts
  longest = captions.counts.copy()
  where = zip(captions.record, captions.number, strict=True)
  for i, (record, number) in enumerate(where):
    text = dataset.records[record].captions[number]
    forms = sorted(pipe.captions(text) - {text})
    if forms:
      longest[i] = max(longest[i], tokenizer.encode(forms, 3)[1].max())
  return longest


def collate(examples) -> dict:
  """Examples -> one batch of arrays, with the problems of all rows in one tuple."""
  batch = {
    key: np.stack([example[key] for example in examples])
    for key in examples[0]
    if key != PROBLEMS
  }
  batch[PROBLEMS] = tuple(p for example in examples for p in example[PROBLEMS])
  return batch
