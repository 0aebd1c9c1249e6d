"""What a step of CFAM costs more where blocks are computed again on the way back.

With `model.remat` as `train/equal` without; PyTorch's side computes its blocks again,
too. What it saves is in the rows of `memory`.
"""

from collections.abc import Iterator

from tests.benchmarks import sizes, steps, suite
from tests.benchmarks.rows import sides


def rows(options: suite.Options) -> Iterator[suite.Row]:
  """remat/equal: beside PyTorch's; remat/cost: our own step without it, by with it."""
  size, batch = options.size, options.batch
  suite.torch_or_none()
  config = sizes.config(size)
  plain, again = (sides.ours(size, batch, remat=remat) for remat in (False, True))
  other = sides.theirs(again, size)
  given = other.on_device(
    steps.random_rows(batch, config.text.length, config.model.image_size, steps.CLIP)
  )
  acts = {
    "ours": again.run,
    "PyTorch": lambda n: other.run(given, n),
    "plain": plain.run,
  }
  found = sides.timed(acts, options)
  raw = {name: seconds.tolist() for name, seconds in found.items()}
  about = f"CFAM {size}, batch {batch}, float32, CPU"
  for name, what, beside in (
    ("equal", f"step with model.remat, {about}", "PyTorch"),
    ("cost", "our step without it, by the time with it", "plain"),
  ):
    ratio = found[beside] / found["ours"]
    yield suite.Row(
      f"remat/{name}",
      what,
      sides.ms(found["ours"][:, 0]),
      sides.ms(found[beside][:, 0]),
      ratio[:, 0].tolist(),
      of_processor=ratio[:, 1].tolist(),
      raw=raw,
    )
