"""Annotation files of person datasets: reading and checking.

The five published sets differ in names only (a `Layout` each), so their JSON is read
here, once. A record of the JSON becomes a `Record`: `image` is the path below the
set's folder, `identity` and `split` are as written, and every key without a place of
its own goes to `truth`.
"""

import dataclasses
import difflib
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from tpr_jax.data import caption_rules
from tpr_jax.data.images import FileImages
from tpr_jax.data.record import Dataset, DatasetError, Record, SplitError
from tpr_jax.data.sources.layouts import Layout, find_annotations

SPLITS = ("train", "val", "test")
# Word lists that some sets carry beside the captions: derived, and large in memory.
_DERIVED = ("processed_tokens",)


class Problem(ValueError):
  """One record is wrong: key, what was found, what was expected."""


class Listed(NamedTuple):
  """A JSON list of which each entry is one image with one caption.

  A source whose files are such offers `listed(root, split, **options) -> [Listed]`.

  Attributes:
    path: of the file. place: the same below the data root.
    pair: entry -> (image, caption) as the source's records have them; raises Problem
      or ValueError for an entry of which they have none.
  """

  path: pathlib.Path
  place: str
  pair: Callable[[Any], tuple[str, str]]


def below(root: str | os.PathLike, path: pathlib.Path, else_in: str = "") -> str:
  """`path` below a data root; of one elsewhere its name, in the folder `else_in`."""
  try:
    return path.relative_to(root).as_posix()
  except ValueError:
    return pathlib.PurePosixPath(else_in, path.name).as_posix()


def load(
  layout: Layout,
  root: str | os.PathLike,
  split: str,
  *,
  annotations: str | None = None,
  captions: str = "captions",
  rule: str = "none",
) -> Dataset:
  """One split of a published set.

  Args:
    layout: the set's names.
    root: the data root, a folder that holds `layout.folder`.
    split: "train", "val" or "test".
    annotations: which JSON file of the folder to read; needed when several match.
    captions: the JSON key that holds the captions; other keys go to `truth`.
    rule: how captions are cleaned (data/caption_rules.py): "none", or "icfg_rstp", as
      MRA does with those of ICFG-PEDES and RSTPReid.

  Raises:
    DatasetError: the set is not there, its JSON is broken or of another shape, or it
      holds no such split.
  """
  check_rule(layout.name, rule)
  path = find_annotations(layout, root, annotations)
  records, problems = [], []
  unusable = []  # the same, of captions: the record is kept
  for number, entry in enumerate(read_json(path)):
    where = f"record {number}"
    try:
      record = cleaned(_record(layout, entry, captions), rule)
    except Problem as problem:
      problems.append((where, problem))
      continue
    records.append(record)
    unusable += [(where, Problem(reason)) for reason in record.unusable]
  raise_problems(path, problems)
  raise_wrong_captions(path, unusable, records)
  folder = pathlib.Path(root, layout.folder)
  return one_split(layout.name, split, records, FileImages(str(folder)), path)


def check_rule(name: str, rule: str) -> None:
  """Raises DatasetError for an option `rule` that is no rule of caption_rules.py."""
  if rule not in caption_rules.RULES:
    raise DatasetError(
      f"{name}: the option rule is {rule!r}, expected {', '.join(caption_rules.RULES)}"
    )


def cleaned(record: Record, rule: str) -> Record:
  """Its captions as `rule` wants them; those of which nothing is left are unusable."""
  if rule == "none":
    return record
  texts, unusable = [], list(record.unusable)
  for caption in record.captions:
    try:
      texts.append(caption_rules.clean(caption, rule))
    except ValueError as error:
      unusable.append(str(error))
  return dataclasses.replace(record, captions=tuple(texts), unusable=tuple(unusable))


def one_split(
  name: str, split: str, records: Iterable[Record], load_image, path
) -> Dataset:
  """The records of one split as a Dataset; SplitError naming the splits there are."""
  records = tuple(records)
  chosen = tuple(record for record in records if record.split == split)
  if not chosen:
    counts = {s: sum(r.split == s for r in records) for s in SPLITS}
    there = ", ".join(f"{s} ({n:,} images)" for s, n in counts.items() if n) or "none"
    hint = ""
    if split == "val" and counts["train"]:
      hint = (
        "; for validation set aside a share of the training identities: "
        "tpr_jax.data.build.hold_out"
      )
    raise SplitError(f"{name} has no split {split!r}: {path} has {there}{hint}")
  return Dataset(name, split, chosen, load_image)


def read_text(path: pathlib.Path) -> str:
  """A UTF-8 file (with or without byte order mark); DatasetError if it is neither."""
  try:
    return path.read_text(encoding="utf-8-sig")
  except UnicodeDecodeError as error:
    raise DatasetError(
      f"{path}: not UTF-8 text (byte 0x{error.object[error.start]:02x} at position "
      f"{error.start:,}); save the file as UTF-8"
    ) from error
  except OSError as error:
    raise DatasetError(f"{path}: cannot be read: {error}") from error


def read_json(path: pathlib.Path, top: type[list] | type[dict] = list) -> Any:
  """What is at the top of a JSON file, a list of records or an object {image: text}.

  Raises DatasetError with line and column; also where it is the other one, or empty.
  """
  text = read_text(path)
  try:
    entries = json.loads(text)
  except json.JSONDecodeError as error:
    near = text[max(0, error.pos - 30) : error.pos + 30]
    raise DatasetError(
      f"{path}: broken JSON at line {error.lineno}, column {error.colno}: {error.msg} "
      f"(near {near!r}). A download that was cut off looks like this: compare the "
      f"file's size, {len(text):,} characters, with the original's"
    ) from error
  expected = {list: "a list of records [{...}]", dict: 'an object {"image": "text"}'}
  if not isinstance(entries, top):
    raise DatasetError(
      f"{path}: found {kind(entries)} at the top, expected {expected[top]}"
    )
  if not entries:
    noun = "list of records" if top is list else "object"
    raise DatasetError(f"{path}: the {noun} is empty")
  return entries


def raise_wrong_captions(
  path: pathlib.Path, unusable: list[tuple[str, Problem]], records: Iterable[Any]
) -> None:
  """Raises DatasetError where no record (anything with `captions`) of a file has one.

  A few without are bad data, which training counts (data/captions.py); in all of them
  it is another key or another format.
  """
  if not any(record.captions for record in records):
    raise_problems(path, unusable)


def raise_problems(
  path: pathlib.Path,
  problems: list[tuple[str, Problem]],
  shown: int = 3,
  total: int | None = None,
) -> None:
  """Raises one DatasetError for all the bad records of a file, if there are any.

  total: how many there are, where `problems` holds the first of them.
  """
  if not problems:
    return
  first = {}  # each message once: a wrong key is usually wrong in every record
  for where, problem in problems:
    first.setdefault(str(problem), where)
  lines = [f"{path}: {where}: {text}" for text, where in list(first.items())[:shown]]
  total = total or len(problems)
  if total > len(lines):
    lines.append(f"... {total:,} records of this file have such problems")
  raise DatasetError("\n".join(lines))


def _record(layout, entry, captions):
  if not isinstance(entry, dict):
    raise Problem(f"found {kind(entry)}, expected an object {{...}}")
  image = as_path(layout.image_key, take(entry, layout.image_key))
  used = (layout.image_key, "id", "split", captions, *_DERIVED)
  texts, unusable = as_captions(captions, entry)
  return Record(
    image=f"{layout.images}/{image}" if layout.images else image,
    identity=as_identity("id", take(entry, "id")),
    captions=texts,
    split=as_split("split", take(entry, "split")),
    source=layout.name,
    truth={
      **_told_by_name(layout, image),
      **{key: value for key, value in entry.items() if key not in used},
    },
    unusable=unusable,
  )


def _told_by_name(layout: Layout, image: str) -> dict[str, str]:
  """Truth that stands in the file's name alone; {} for a name of another form."""
  name = image.rpartition("/")[2]
  found = re.match(layout.in_name, name) if layout.in_name else None
  return found.groupdict() if found else {}


def take(entry: Mapping[str, Any], key: str) -> Any:
  """entry[key], or a Problem that names the nearest key there is."""
  if key in entry:
    return entry[key]
  near = difflib.get_close_matches(key, map(str, entry), 1)
  guess = f" (did you mean {near[0]!r}?)" if near else ""
  raise Problem(f"no key {key!r}; found the keys {', '.join(map(str, entry))}{guess}")


def as_path(key: str, value: Any) -> str:
  """An image path below the dataset's folder, with forward slashes."""
  if not isinstance(value, str) or not value.strip():
    raise Problem(f"key {key!r}: found {kind(value)}, expected a relative image path")
  path = value.replace("\\", "/")
  parts = [part for part in path.split("/") if part not in ("", ".")]
  if path.startswith("/") or ".." in parts or path[1:3] == ":/" or not parts:
    raise Problem(
      f"key {key!r}: found {value!r}, expected a path below the dataset's folder "
      "(neither absolute nor with ..)"
    )
  return "/".join(parts)


def as_identity(key: str, value: Any) -> int:
  """A whole number, gaps allowed."""
  if isinstance(value, bool) or not isinstance(value, int):
    raise Problem(f"key {key!r}: found {kind(value)}, expected a whole number")
  return value


def as_captions(
  key: str, entry: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """(sentences of entry[key], why others of it, or all, are none).

  Any key but "captions" may also hold a single sentence.
  """
  try:
    value = take(entry, key)
  except Problem as problem:
    return (), (str(problem),)
  if isinstance(value, str) and key != "captions":
    return (value,), ()
  if not isinstance(value, list) or not value:
    return (), (f"key {key!r}: found {kind(value)}, expected a list of sentences",)
  reasons = [
    f"key {key!r}, caption {position}: found {kind(caption)}, expected a sentence"
    for position, caption in enumerate(value)
    if not isinstance(caption, str)
  ]
  return tuple(text for text in value if isinstance(text, str)), tuple(reasons)


def as_sentences(
  keys: Iterable[str], entry: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """(the sentences of entry, one under each key, why others are none)."""
  texts, reasons = [], []
  for key in keys:
    try:
      value = take(entry, key)
    except Problem as problem:
      reasons.append(str(problem))
      continue
    if isinstance(value, str):
      texts.append(value)
    else:
      reasons.append(f"key {key!r}: found {kind(value)}, expected a sentence")
  return tuple(texts), tuple(reasons)


def as_split(key: str, value: Any) -> str:
  """One of SPLITS."""
  if value not in SPLITS:
    raise Problem(f"key {key!r}: found {kind(value)}, expected {', '.join(SPLITS)}")
  return value


def kind(value: Any) -> str:
  """A found value in a few words, for messages."""
  if isinstance(value, (list, dict)):
    noun = "a list" if isinstance(value, list) else "an object"
    return f"{noun} of {len(value)}" if value else f"{noun} that is empty"
  text = json.dumps(value, ensure_ascii=False, default=str)
  text = text if len(text) <= 60 else text[:57] + "..."
  names = {str: "the text", bool: "the truth value", int: "the number"}
  return f"{names.get(type(value), type(value).__name__)} {text}"
