"""How cost grows: a step by its batch and by the length of texts, a search by gallery.

Each of four sizes is twice the last. `cost ~ size^p` is fitted by least squares to the
logarithms of the medians; p below 1: something is the same for any size, above 1:
something grows faster than the work. Small towers ("tiny") whatever --size says.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tests.benchmarks import search, suite
from tests.benchmarks.rows import sides
from tpr_jax.search import gallery

BATCHES = (8, 16, 32, 64)
LENGTHS = (40, 80, 160, 320)
GALLERIES = (25_000, 50_000, 100_000, 200_000)
_ROWS, _LENGTH, _TOP = 16, 96, 20


def power(sizes, costs) -> float:
  """p of cost ~ size^p."""
  return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def _row(name, what, sizes, found, unit) -> suite.Row:
  """found: {size: float64 [rounds, 2] seconds}."""
  costs = [1000 * np.median(found[size][:, 0]) for size in sizes]
  each = np.array([found[size][:, 0] for size in sizes])
  shown = ", ".join(f"{s:,}: {c:,.1f}" for s, c in zip(sizes, costs, strict=True))
  return suite.Row(
    f"growth/{name}",
    what,
    f"{shown} ms",
    values=[power(sizes, each[:, i]) for i in range(each.shape[1])],
    unit=f"power of {unit}",
    raw={str(size): found[size].tolist() for size in sizes},
  )


def searches(counts: Sequence[int]) -> dict[int, Callable[[int], None]]:
  """Rows of a gallery -> act(times): searches it so many times by one row."""
  whole = search.Drawn(max(counts), 512)
  query = whole.vectors[0]

  def of(count):
    part = search.Drawn(0, 512)
    part.vectors, part.order = whole.vectors[:count], whole.order[:count]

    def act(times):
      for _ in range(times):
        gallery.best(part.vectors @ query, part.order, _TOP)

    return act

  return {count: of(count) for count in counts}


def rows(options: suite.Options) -> Iterator[suite.Row]:
  """growth/batch, growth/tokens, growth/gallery."""
  runners = {batch: sides.ours("tiny", batch) for batch in BATCHES}
  found = sides.timed({k: r.run for k, r in runners.items()}, options)
  yield _row("batch", f"a step, {_LENGTH} tokens", BATCHES, found, "the batch")
  runners = {n: sides.ours("tiny", _ROWS, length=n) for n in LENGTHS}
  found = sides.timed({k: r.run for k, r in runners.items()}, options)
  yield _row("tokens", f"a step, batch {_ROWS}", LENGTHS, found, "the length")
  del runners
  found = sides.timed(searches(GALLERIES), options)
  what = f"a search by one row of 512, best {_TOP}"
  yield _row("gallery", what, GALLERIES, found, "the gallery")
