"""Batches of evaluation: every picture and every caption once, in the records' order.

A broken picture is a row that is not valid; every caption is a query, empty or not.
"""

import logging

import grain
import numpy as np

from tpr_jax.data import tokenizer as tokenizers
from tpr_jax.data import transforms
from tpr_jax.data.captions import index as caption_index
from tpr_jax.data.damage import Damage
from tpr_jax.data.examples import PROBLEMS, load_picture, problem
from tpr_jax.data.record import Dataset, ImageError
from tpr_jax.data.share import share_rows

_WARNED = 20  # bad pictures that the log names; all are in the run folder


def caption_report(
  dataset: Dataset, tokenizer: tokenizers.Tokenizer, length: int
) -> str:
  """How many captions of the dataset `length` cuts, as `tokenizer.cut_report` says it.

  Encodes every caption; a `TrainIterator` has its own line already: `captions`.
  """
  texts = [text for record in dataset.records for text in record.captions]
  return tokenizers.cut_report(tokenizer.encode(texts, length)[1], length)


class EvalBatches(grain.DatasetIterator):
  """Batches in the order of the records, the last one padded with invalid rows.

  `len()` is the number of batches. damage: what could not be read, so far.
  """

  def __init__(self, dataset, make, count, threads):
    super().__init__()
    read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    data = grain.MapDataset.range(count).map(make).to_iter_dataset(read)
    self._count, self._inner = count, iter(data)
    self.damage = Damage(f"{dataset.name}/{dataset.split}", len(dataset.records))

  def __len__(self) -> int:
    return self._count

  def __next__(self) -> dict[str, np.ndarray]:
    self._assert_not_closed()
    batch = dict(next(self._inner))
    for _, name, kind, reason in batch.pop(PROBLEMS):
      new = self.damage.add(name, kind, reason)
      if new and len(self.damage) <= _WARNED:
        logging.getLogger(__name__).warning("broken picture left out: %s", reason)
    return batch

  def get_state(self) -> dict:
    return self._inner.get_state()

  def set_state(self, state: dict) -> None:
    self._inner.set_state(state)

  def close(self) -> None:
    if hasattr(self, "_inner"):
      self._inner.close()
    super().close()


def image_batches(
  dataset: Dataset,
  *,
  pipe: str | transforms.Pipe,
  batch: int,
  threads: int = 2,
  process_index: int = 0,
  process_count: int = 1,
) -> EvalBatches:
  """Every picture once: dict(image [rows, H, W, 3], valid bool [rows]).

  Row r of batch s is record s B + p B / P + r of the dataset, B = `batch`, P processes,
  rows = B / P. Rows that are not valid are black: padding of the last batch, and
  pictures that cannot be read, which `damage` lists.

  Raises:
    PipeError: if the pipe draws random numbers or does not fix the size.
  """
  pipe = transforms.build(pipe)
  if not pipe.deterministic:
    raise transforms.PipeError(
      f"the pipe {pipe.spec!r} is random: evaluation needs one like 'resize(384,128)'"
    )
  rows, first = share_rows(pipe, batch, process_index, process_count)

  def make(step: int) -> dict:
    start = step * batch + first
    chosen = range(start, min(start + rows, len(dataset.records)))
    images, valid, problems = None, np.zeros(rows, bool), []
    for row, index in enumerate(chosen):
      try:
        image = load_picture(dataset, index, pipe, pipe.size, None)
      except ImageError as error:
        problems.append(problem(dataset, index, error))
        continue
      if images is None:
        images = np.zeros((rows, *image.shape), image.dtype)
      images[row], valid[row] = image, True
    if images is None:  # nothing readable here: still the shape and type of the others
      blank = dict(image=np.zeros((*pipe.size, 3), np.uint8), caption="", record=None)
      images = np.zeros_like(pipe(blank, None)["image"], shape=(rows, *pipe.size, 3))
    return {"image": images, "valid": valid, PROBLEMS: tuple(problems)}

  return EvalBatches(dataset, make, -(-len(dataset.records) // batch), threads)


def text_batches(
  dataset: Dataset,
  tokenizer: tokenizers.Tokenizer,
  *,
  length: int,
  batch: int,
  process_index: int = 0,
  process_count: int = 1,
) -> EvalBatches:
  """Every caption once, by record and then in the record's order.

  dict(text int32 [rows, L], record int32 [rows], caption int32 [rows] number within
  the record, valid bool [rows]); rows as in `image_batches`. Rows that are not valid
  hold an empty caption and record = caption = -1.
  """
  record, caption = caption_index(dataset)
  rows, first = share_rows(None, batch, process_index, process_count)

  def make(step: int) -> dict:
    start = step * batch + first
    at = np.arange(start, start + rows)
    valid = at < len(record)
    at = at[valid]
    texts = [dataset.records[record[i]].captions[caption[i]] for i in at]
    text, _ = tokenizer.encode(texts + [""] * (rows - len(at)), length)
    where = {"record": record[at], "caption": caption[at]}
    pad = (0, rows - len(at))
    where = {k: np.pad(v, pad, constant_values=-1) for k, v in where.items()}
    return {"text": text, **where, "valid": valid, PROBLEMS: ()}

  return EvalBatches(dataset, make, -(-len(record) // batch), threads=1)
