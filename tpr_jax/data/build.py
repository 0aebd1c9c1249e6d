"""Datasets by name: the SOURCES table, options checked by name, validation sets.

A source is a module with `load(root, split, **options) -> Dataset`, imported when it
is asked for, so that a run on files never loads a renderer and no run loads
tensorflow-datasets unless it reads an archive.
"""

import dataclasses
import difflib
import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tpr_jax.data.record import Dataset, DatasetError, SplitError
from tpr_jax.data.sources.annotations import Listed

SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Source:
  """A module with `load`, and the options that its name in the table stands for."""

  module: str
  fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _rendered(name):
  return Source("tpr_jax.data.sources.rendered", {"name": name})


SOURCES: dict[str, Source] = {
  "cuhk_pedes": Source("tpr_jax.data.sources.cuhk_pedes"),
  "icfg_pedes": Source("tpr_jax.data.sources.icfg_pedes"),
  "rstpreid": Source("tpr_jax.data.sources.rstpreid"),
  "ufine6926": Source("tpr_jax.data.sources.ufine6926"),
  "ufine3c": Source("tpr_jax.data.sources.ufine3c"),
  "pedes_json": Source("tpr_jax.data.sources.pedes_json"),
  # To pre-train on; all of each is train.
  "webperson": Source("tpr_jax.data.sources.webperson"),
  "luperson_mllm": Source("tpr_jax.data.sources.luperson_mllm"),
  "mals": Source("tpr_jax.data.sources.mals"),
  "synth_pedes": Source("tpr_jax.data.sources.synth_pedes"),
  "luperson_t": Source("tpr_jax.data.sources.luperson_t"),
  "sda": Source("tpr_jax.data.sources.sda"),
  "folder": Source("tpr_jax.data.sources.folder"),
  "lines": Source("tpr_jax.data.sources.lines"),
  "archive": Source("tpr_jax.data.sources.archive"),
  "shards": Source("tpr_jax.data.sources.shards"),
  "rendered": _rendered("rendered"),
  "rendered_cross": _rendered("rendered_cross"),
  "rendered_synthetic": _rendered("rendered_synthetic"),
  "rendered_target": _rendered("rendered_target"),
}


def dataset(
  name: str,
  root: str | os.PathLike | None,
  split: str,
  options: Mapping[str, Any] | None = None,
) -> Dataset:
  """One split of the source called `name`.

  Args:
    name: a key of SOURCES.
    root: the data root (rendered people need none).
    split: "train", "val" or "test".
    options: keyword arguments of the source's `load`, checked by name.

  Raises:
    DatasetError: unknown name, split or option (each names the nearest known one), or
      the source cannot be used.
  """
  if split not in SPLITS:
    raise _unknown("split", split, SPLITS)
  load, given = _loader(name, options)
  return load(_expanded(root), split, **given)


def all_splits(
  name: str, root: str | os.PathLike | None, options: Mapping[str, Any] | None = None
) -> list[Dataset]:
  """Every split that the source has, in the order train, val, test.

  Raises DatasetError as `dataset` does, except for splits that the source lacks.
  """
  load, given = _loader(name, options)
  found = []
  for split in SPLITS:
    try:
      found.append(load(_expanded(root), split, **given))
    except SplitError:
      continue
  return found


def listed(
  name: str,
  root: str | os.PathLike | None,
  split: str,
  options: Mapping[str, Any] | None = None,
) -> list[Listed]:
  """The JSON files of a split in which an entry is one image with one caption.

  [] for sources of any other form. Arguments and errors as of `dataset`.
  """
  _, given = _loader(name, options)
  find = getattr(importlib.import_module(SOURCES[name].module), "listed", None)
  return find(_expanded(root), split, **given) if find else []


def options_of(name: str) -> tuple[str, ...]:
  """The names of the options that the source takes."""
  load, fixed = _source(name)
  return tuple(option for option in _parameters(load) if option not in fixed)


def hold_out(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
  """Sets a share of the IDENTITIES aside for validation.

  No identity is on both sides, so validation asks what the test asks: people never
  seen. The choice depends on the seed and the set of identities only. Records keep
  the `split` that their source gave them; the second Dataset's split is "val".

  Args:
    dataset: usually a training split.
    share: of the identities, in (0, 1); rounded to whole identities.
    seed: any integer >= 0.

  Returns:
    (what remains, what was set aside), records in the original order.

  Raises:
    DatasetError: either side would be empty, or the records are a stream, of which no
      part can be taken.
  """
  if dataset.stream is not None:
    raise DatasetError(
      f"{dataset.name}/{dataset.split} is read as it is trained on, so that no "
      f"identities can be set aside (a share of {share:g}): validate on a split of its "
      "own (data.val=val) or not at all (data.val= data.val_share=0)"
    )
  identities = dataset.identities
  total = len(identities)
  count = round(share * total)
  if not 0.0 < share < 1.0 or not 0 < count < total:
    least = f"at least {1.0 / total:.4g} and " if total > 1 else ""
    raise DatasetError(
      f"cannot set aside a share of {share} of the {total} identities of "
      f"{dataset.name}/{dataset.split}: that is {count}, and both sides need at least "
      f"one. Expected {least}a share inside (0, 1) of two identities or more"
    )
  order = np.random.default_rng([seed, 0x5EED]).permutation(total)
  held = {identities[index] for index in order[:count]}
  kept = tuple(r for r in dataset.records if r.identity not in held)
  aside = tuple(r for r in dataset.records if r.identity in held)
  return (
    dataclasses.replace(dataset, records=kept),
    dataclasses.replace(dataset, records=aside, split="val"),
  )


def _expanded(root):
  if root and "://" in os.fspath(root):
    raise DatasetError(
      f"data.root={root}: pictures are read from folders, not from object storage."
      " Mount the bucket (gcsfuse, s3fs) or copy it to a local disk: give that folder"
    )
  # Shells leave the ~ of --config.data.root=~/data as it is.
  return os.path.expanduser(root) if root else root


def _source(name) -> tuple[Callable[..., Dataset], Mapping[str, Any]]:
  if name not in SOURCES:
    raise _unknown("dataset", name, SOURCES)
  source = SOURCES[name]
  return importlib.import_module(source.module).load, source.fixed


def _loader(name, options):
  load, fixed = _source(name)
  # A config hands over nested ConfigDicts; sources want plain dictionaries.
  options = {
    option: value.to_dict() if hasattr(value, "to_dict") else value
    for option, value in dict(options or {}).items()
  }
  known = [option for option in _parameters(load) if option not in fixed]
  for option in options:
    if option not in known:
      raise _unknown(f"option of {name}", option, known)
  return load, {**fixed, **options}


def _parameters(load):
  """Names of the keyword arguments of a source's load(root, split, **options)."""
  parameters = list(inspect.signature(load).parameters.values())[2:]
  return [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]


def _unknown(what, name, known):
  near = difflib.get_close_matches(str(name), list(known), 1, cutoff=0.4)
  guess = f"; did you mean {near[0]!r}?" if near else ""
  return DatasetError(
    f"unknown {what} {name!r}{guess} (known: {', '.join(known) or 'none'})"
  )
