"""The benchmarks as APTM and MRA train on them: a JSON file for each split.

Yang et al., arXiv:2306.02898 and arXiv:2507.10195: cuhk_train.json, cuhk_val.json,
cuhk_test.json, and alike icfg_ (no val) and rstp_. Each is a list of {"image": path,
"caption", "image_id": the person, a number or a name}. In train there is a record for
each caption, and an image with two stands there twice; here it is one record. In val
and test there is a record for each image, its caption a list.

The captions of ICFG-PEDES and RSTPReid are cleaned in all splits, as MRA does
(data/caption_rules.py). The originals are read by cuhk_pedes and its like, which clean
where their option rule asks for it.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from tpr_jax.data import caption_rules
from tpr_jax.data.images import FileImages
from tpr_jax.data.record import Dataset, DatasetError, Record, SplitError
from tpr_jax.data.sources import annotations as notes
from tpr_jax.data.sources import folder
from tpr_jax.data.sources.layouts import visible_file

_LOOKED_AT = 20  # records whose pictures tell which folder they are in


class _Set(NamedTuple):
  """source: its name elsewhere; folder: of its pictures; rule: that MRA cleans by."""

  source: str
  folder: str
  rule: str


SETS = {
  "cuhk": _Set("cuhk_pedes", "CUHK-PEDES", "none"),
  "icfg": _Set("icfg_pedes", "ICFG-PEDES", "icfg_rstp"),
  "rstp": _Set("rstpreid", "RSTPReid", "icfg_rstp"),
}


def load(
  root: str | os.PathLike,
  split: str,
  *,
  name: str = "cuhk",
  annotations: str | None = None,
  images: str | None = None,
  rule: str | None = None,
) -> Dataset:
  """One split of a set.

  Args:
    root: the data root.
    split: "train", "val" or "test".
    name: "cuhk", "icfg" or "rstp": what the names of the files begin with.
    annotations: folder below root that holds the JSON files; None: root, or the only
      folder in it that does.
    images: folder below root that the paths in the JSON start from; None: the one of
      those that are in use (such as images/CUHK-PEDES/imgs) that holds the pictures.
    rule: how captions are cleaned, "none" or "icfg_rstp"; None: as MRA does.

  Raises:
    DatasetError: no such set or files, or records that cannot be used.
    SplitError: the set has no such file.
  """
  if name not in SETS:
    raise DatasetError(
      f"pedes_json: the option name is {name!r}, expected {', '.join(SETS)}"
    )
  known = SETS[name]
  rule = known.rule if rule is None else rule
  notes.check_rule("pedes_json", rule)
  path = _file(root, name, split, annotations)
  records = folder.records_of(path, _rows(path), "caption", split)
  load_image = _pictures(root, known.folder, images, records)
  records = [dataclasses.replace(record, source=known.source) for record in records]
  cleaned = tuple(notes.cleaned(record, rule) for record in records)
  return Dataset(known.source, split, cleaned, load_image)


def listed(
  root: str | os.PathLike,
  split: str,
  *,
  name: str = "cuhk",
  annotations: str | None = None,
  images: str | None = None,
  rule: str | None = None,
) -> list[notes.Listed]:
  """The file that `load` reads, entry by entry; [] but for train: lists of captions.

  Raises as `load`.
  """
  del images
  if split != "train":
    return []
  path = _file(root, name, split, annotations)
  rule = SETS[name].rule if rule is None else rule

  def pair(entry: Any) -> tuple[str, str]:
    image = notes.as_path("image", notes.take(entry, "image"))
    (caption,), _ = notes.as_sentences(["caption"], entry)
    return image, caption if rule == "none" else caption_rules.clean(caption, rule)

  return [notes.Listed(path, notes.below(root, path), pair)]


def _rows(path: pathlib.Path) -> list[tuple[str, dict[str, Any]]]:
  """[(where, row with the keys of `folder`)]. Raises DatasetError."""
  rows, problems = [], []
  for number, entry in enumerate(notes.read_json(path)):
    where = f"record {number}"
    try:
      rows.append((where, _row(entry)))
    except notes.Problem as problem:
      problems.append((where, problem))
  notes.raise_problems(path, problems)
  return rows


def _row(entry: Any) -> dict[str, Any]:
  if not isinstance(entry, dict):
    raise notes.Problem(f"found {notes.kind(entry)}, expected an object {{...}}")
  person = notes.take(entry, "image_id")
  if isinstance(person, bool) or not isinstance(person, int | str):
    raise notes.Problem(
      f"key 'image_id': found {notes.kind(person)}, expected a whole number or a name"
    )
  rest = {
    k: v for k, v in entry.items() if k not in ("image_id", *folder.IDENTITY_KEYS)
  }
  return {**rest, "image": notes.take(entry, "image"), "identity": person}


def _file(root, name: str, split: str, chosen: str | None) -> pathlib.Path:
  """The JSON file of a split. Raises DatasetError or SplitError."""
  if root is None or not os.fspath(root) or not pathlib.Path(root).is_dir():
    raise _missing(root, name, f"no folder {root}" if root else "no folder was given")
  root = pathlib.Path(root)
  places = [root, *filter(pathlib.Path.is_dir, root.iterdir())]
  places = [root / chosen] if chosen else places
  there = {}
  for each in notes.SPLITS:
    files = (place / f"{name}_{each}.json" for place in places)
    there[each] = sorted(filter(visible_file, files))
  if not any(there.values()):
    raise _missing(root, name, f"no {name}_{split}.json in {chosen or 'it'}")
  if not there[split]:
    names = ", ".join(each for each, files in there.items() if files)
    raise SplitError(
      f"{name} has no split {split!r}: {root} has {names}; for validation set aside a "
      "share of the training identities: tpr_jax.data.build.hold_out"
    )
  if len(there[split]) > 1:
    found = ", ".join(str(path) for path in there[split])
    raise DatasetError(
      f"pedes_json: there is more than one {name}_{split}.json: {found}. Choose with "
      "the option annotations=FOLDER"
    )
  return there[split][0]


def _pictures(
  root, name: str, chosen: str | None, records: Sequence[Record]
) -> FileImages:
  """From the folder that was chosen, or the first that holds some. DatasetError."""
  first = [record.image for record in records[:_LOOKED_AT]]
  usual = [f"images/{name}/imgs", f"images/{name}", f"{name}/imgs", name]
  for place in [chosen] if chosen is not None else usual:
    there = pathlib.Path(root, place)
    if any((there / image).is_file() for image in first):
      return FileImages(str(there))
  tried = chosen if chosen is not None else ", ".join(usual)
  raise DatasetError(
    f"pedes_json: none of the first pictures, such as {first[0]}, is in {tried} of "
    f"{root}. Say where they are with the option images=FOLDER (below the data root)"
  )


def _missing(root, name: str, reason: str) -> DatasetError:
  root = root or "DATA_ROOT"
  lines = (
    f"pedes_json is not there: {reason}",
    "",
    "Expected on disk:",
    f"  {root}/",
    f"    {name}_train.json         and _val, _test; or in a folder there",
    f"    images/{SETS[name].folder}/         the pictures",
    "",
    "The JSON files come with the code of APTM and MRA (https://github.com/Shuyu-XJTU);"
    " the pictures from the authors of each set.",
  )
  return DatasetError("\n".join(lines))
