"""Rendered people as a source: drawn when asked for, nothing on disk."""

import os
from collections.abc import Sequence

from tpr_jax.data.record import Dataset
from tpr_jax.data.rendered import sets


def load(
  root: str | os.PathLike | None,
  split: str,
  *,
  name: str = "rendered",
  seed: int = 0,
  size: str = "quick",
  granularity: str | Sequence[str] | None = None,
  style: str | Sequence[str] = sets.MIXED,
  word_noise: float = 0.0,
  pair_noise: float = 0.0,
  identities: int | None = None,
  views: int | None = None,
  twins: int | None = None,
  regions: bool = False,
  labels: bool = False,
) -> Dataset:
  """One split of a rendered set; `root` is not used, for there are no files.

  The options are those of `rendered.sets.load`. Raises DatasetError.
  """
  del root  # every source takes one
  return sets.load(
    split,
    name=name,
    seed=seed,
    size=size,
    granularity=granularity,
    style=style,
    word_noise=word_noise,
    pair_noise=pair_noise,
    identities=identities,
    views=views,
    twins=twins,
    regions=regions,
    labels=labels,
  )
