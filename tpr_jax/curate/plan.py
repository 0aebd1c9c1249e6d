"""Who is in the new set: people drawn from each source, with numbers of their own."""

import dataclasses
import os
import zlib
from collections.abc import Mapping

import numpy as np

from tpr_jax.curate.problems import CurateError
from tpr_jax.curate.settings import Settings, Source
from tpr_jax.data import build
from tpr_jax.data.images import FileImages
from tpr_jax.data.record import Dataset


@dataclasses.dataclass(frozen=True)
class Chosen:
  """The people taken from one source, with all their images.

  Attributes:
    source: the source.
    dataset: its split, with the records of the chosen people alone.
    people: how many the split has.
    numbers: identity in the source -> identity in the new set.
  """

  source: Source
  dataset: Dataset
  people: int
  numbers: Mapping[int, int]

  @property
  def captions(self) -> int:
    return sum(len(record.captions) for record in self.dataset.records)


def build_plan(settings: Settings) -> tuple[Chosen, ...]:
  """Draws the people of every source.

  Who is drawn depends on the seed, the source's key and its identities alone: one more
  source changes nobody of the others. New identities count from 0 through the sources.

  Raises:
    DatasetError: a source cannot be read.
    CurateError: it has fewer people than asked for; two sources hold the same
      pictures; or picture files are missing.
  """
  chosen, first = [], 0
  for source in settings.sources:
    dataset = build.dataset(source.name, source.root, source.split, source.options)
    taken = _draw(source, dataset.identities, settings.seed)
    numbers = {identity: first + i for i, identity in enumerate(taken)}
    records = tuple(r for r in dataset.records if r.identity in numbers)
    own = dataclasses.replace(dataset, records=records)
    chosen.append(Chosen(source, own, len(dataset.identities), numbers))
    first += len(taken)
  _refuse_twice(chosen)
  _refuse_missing(chosen)
  return tuple(chosen)


def _draw(source, identities, seed):
  if source.identities > len(identities):
    raise CurateError(
      f"--config.sources.{source.key}.identities={source.identities}: the split"
      f" {source.split} of {source.name} has {len(identities):,} people (0 takes all)"
    )
  if not source.identities:
    return identities
  key = zlib.crc32(source.key.encode())
  order = np.random.default_rng([seed, key]).permutation(len(identities))
  return sorted(identities[i] for i in order[: source.identities])


def _refuse_twice(chosen):
  """One person under two numbers would be a wrong answer for himself."""
  seen = {}
  for one in chosen:
    for record in one.dataset.records:
      place = _picture(one.dataset, record)
      other = seen.setdefault(place, one.source.key)
      if other != one.source.key:
        raise CurateError(
          f"the sources {other!r} and {one.source.key!r} both hold the picture"
          f" {record.image}: that person would have two identities"
        )


def _picture(dataset, record):
  if isinstance(dataset.load_image, FileImages):
    return os.path.realpath(dataset.load_image.path(record))
  return (
    repr(getattr(dataset.load_image, "__self__", dataset.load_image)),
    record.image,
  )


def _refuse_missing(chosen):
  """Before a language model is asked for hours."""
  missing = []
  for one in chosen:
    if isinstance(one.dataset.load_image, FileImages):
      paths = map(one.dataset.load_image.path, one.dataset.records)
      missing += [path for path in paths if not path.is_file()]
  if missing:
    shown = "\n  ".join(map(str, missing[:5]))
    raise CurateError(
      f"{len(missing):,} pictures of the chosen people are missing:\n  {shown}\n"
      "--mode=check with the source's own config lists all of them"
    )
