"""Which rows of a global batch, and so which positions of training, a process reads."""

import dataclasses

from tpr_jax.data import transforms


@dataclasses.dataclass(frozen=True)
class Share:
  """Local row number -> position of training: the rows of one process of several.

  batch: rows of the global batch; rows, first: of this process (`share_rows`).
  """

  batch: int
  rows: int
  first: int
  start: int  # step that local row 0 belongs to

  def __call__(self, row: int) -> int:
    step, place = divmod(row, self.rows)
    return (self.start + step) * self.batch + self.first + place


def share_rows(pipe, batch, index, count) -> tuple[int, int]:
  """(rows of process `index` of `count`, its first row in the global batch).

  Raises:
    PipeError: the pipe (None: there is none) does not fix the size of the pictures.
    ValueError: the batch cannot be shared evenly.
  """
  if pipe is not None and pipe.size is None:
    raise transforms.PipeError(
      f"the pipe {pipe.spec!r} has no resize(height, width): pictures of different "
      "sizes do not make a batch"
    )
  if batch < 1 or count < 1 or batch % count or not 0 <= index < count:
    raise ValueError(
      f"a batch of {batch} cannot be shared by {count} processes (this is number "
      f"{index}, from 0): it must be a multiple of their number"
    )
  return batch // count, index * (batch // count)
