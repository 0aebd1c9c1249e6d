"""A training step of CFAM on this machine's CPU in float32, PyTorch eager beside it.

`equal`: every text is padded to the length of the recipe on both sides. `short`: the
captions are rendered people's, as long as those of CUHK-PEDES (five coarse ones to two
medium: 23.6 words on average), and ours are sorted by length (`text.buckets`), while
PyTorch pads all to the length of the recipe, as the field's programs do. A bucket is
used in as many steps as it holds captions (data/sampler.py): our time is the mean over
the buckets, weighed so.
"""

from collections.abc import Iterator

import numpy as np

from tests.benchmarks import sizes, steps, suite
from tests.benchmarks.rows import sides
from tpr_jax.data import build, tokenizer

PEOPLE = dict(identities=300, views=1, granularity=("coarse",) * 5 + ("medium",) * 2)


def captions() -> list[str]:
  """Texts of CUHK-PEDES' length, of 300 rendered people."""
  dataset = build.dataset("rendered", None, "train", PEOPLE)
  return [text for record in dataset.records for text in record.captions]


def rows(options: suite.Options) -> Iterator[suite.Row]:
  """train/equal and train/short."""
  size, batch = options.size, options.batch
  suite.torch_or_none()
  config = sizes.config(size)
  runner = sides.ours(size, batch)
  other = sides.theirs(runner, size)
  full = steps.random_rows(
    batch, config.text.length, config.model.image_size, steps.CLIP
  )
  given = other.on_device(full)
  texts, share = by_length(captions(), sizes.BUCKETS[size], config.text.length, batch)
  parts = {n: runner.on_device(dict(full, text=text)) for n, text in texts.items()}
  programs = {
    length: runner.step if length == config.text.length else runner.compiled(part)
    for length, part in parts.items()
  }
  acts = {"ours": runner.run, "PyTorch": lambda n: other.run(given, n)}
  for length, part in parts.items():
    acts[length] = lambda n, s=programs[length], b=part: runner.run(n, s, b)
  found = sides.timed(acts, options)
  raw = {str(name): seconds.tolist() for name, seconds in found.items()}
  ours, theirs = found["ours"], found["PyTorch"]
  about = f"CFAM {size}, batch {batch}, float32, CPU"
  yield suite.Row(
    "train/equal",
    f"step, {about}, {config.text.length} tokens",
    sides.ms(ours[:, 0]),
    sides.ms(theirs[:, 0]),
    (theirs / ours)[:, 0].tolist(),
    goal=1.1,
    of_processor=(theirs / ours)[:, 1].tolist(),
    raw=raw,
  )
  short = sum(share[length] * found[length] for length in texts)
  yield suite.Row(
    "train/short",
    f"the same, captions of 23.6 words, ours in {len(texts)} lengths",
    sides.ms(short[:, 0]),
    sides.ms(theirs[:, 0]),
    (theirs / short)[:, 0].tolist(),
    goal=1.5,
    of_processor=(theirs / short)[:, 1].tolist(),
    raw=dict(raw, share={str(n): s for n, s in share.items()}),
  )


def by_length(
  texts: list[str], buckets: tuple[int, ...], longest: int, batch: int
) -> tuple[dict[int, np.ndarray], dict[int, float]]:
  """(length -> int32 [batch, length] of its captions, length -> share of the steps)."""
  ids, counts = tokenizer.build("instant").encode(texts, longest)
  lengths = sorted({*buckets, longest})
  place = np.searchsorted(lengths, np.minimum(counts, longest))
  chosen, share = {}, {}
  for number, length in enumerate(lengths):
    members = np.flatnonzero(place == number)
    if len(members):
      chosen[length] = ids[np.resize(members, batch), :length]
      share[length] = len(members) / len(texts)
  return chosen, share
