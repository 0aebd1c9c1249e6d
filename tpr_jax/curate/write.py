"""The new set as a folder: `annotations.json` in the form of UFine3C, and pictures.

Each record has UFine3C's keys (split, id, file_path, captions, source) and, beside
them, what its source knew: `original` (dataset, image, identity) and `caption_truth`,
which tells for each caption who wrote it.
"""

import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tpr_jax.curate import pictures
from tpr_jax.curate.plan import Chosen
from tpr_jax.curate.settings import Settings

ANNOTATIONS = "annotations.json"
ORIGINAL = "original"
# Keys with a meaning in this layout (or to the loader that reads it): what a source
# says under such a name is kept inside `original`.
_TAKEN = frozenset(
  ("split", "id", "identity", "identity_name", "caption_identity")
  + ("file_path", "image", "img_path", "caption", "captions", "caption_truth")
  + ("source", "original")
)

# (source key, record, caption) -> [(text, model, style), ...]
Rewrites = Mapping[tuple[str, int, int], Sequence[tuple[str, str, str]]]


def entries(chosen: Iterable[Chosen], rewrites: Rewrites) -> list[dict[str, Any]]:
  """The records of the new set, in the order of the sources."""
  found = []
  for one in chosen:
    groups = _twin_groups(one)
    for number, record in enumerate(one.dataset.records):
      captions, truths = _captions(one, number, record, rewrites)
      entry = dict(
        split="test",
        id=one.numbers[record.identity],
        file_path=pictures.file_path(one, record),
        captions=captions,
        source=one.source.key,
        original=_original(one, record),
        caption_truth=truths,
      )
      entry |= {k: v for k, v in record.truth.items() if k not in _TAKEN}
      if "twin_group" in entry:
        entry["twin_group"] = groups.get(entry["twin_group"])
      found.append(entry)
  return found


def _original(one, record):
  """What the source called it."""
  names = _TAKEN - {"caption_truth"}
  truth = {key: value for key, value in record.truth.items() if key in names}
  found = dict(dataset=one.source.name, image=record.image, identity=record.identity)
  return {**found, "truth": truth} if truth else found


def _captions(one, number, record, rewrites):
  """(captions, one truth for each): the originals first, then their rewrites."""
  given = record.truth.get("caption_truth")
  fits = isinstance(given, list | tuple) and len(given) == len(record.captions)
  known = [dict(truth) for truth in given] if fits else [{} for _ in record.captions]
  captions = list(record.captions)
  truths = [
    {**truth, "written_by": ORIGINAL, "rewrite": "none", "of": position}
    for position, truth in enumerate(known)
  ]
  for position in range(len(record.captions)):
    for text, model, style in rewrites.get((one.source.key, number, position), ()):
      captions.append(text)
      # Positions in the original's characters mean nothing in other words.
      rest = {k: v for k, v in known[position].items() if k != "wrong_spans"}
      rest |= dict(written_by=model, rewrite=style, of=position)
      truths.append(rest)
  return captions, truths


def _twin_groups(one):
  """Group of near twins -> its number here, if two of them or more were drawn."""
  members = {}
  for record in one.dataset.records:
    group = record.truth.get("twin_group")
    if group is not None:
      members.setdefault(group, set()).add(one.numbers[record.identity])
  return {group: min(m) for group, m in members.items() if len(m) > 1}


def write_pictures(
  chosen: Iterable[Chosen],
  home: pathlib.Path,
  settings: Settings,
  progress: Callable[[], None],
) -> None:
  """Puts every picture in place; `progress` is called after each of them."""
  for one in chosen:
    for record in one.dataset.records:
      pictures.place(
        one, record, home, settings.images, size=settings.size, quality=settings.quality
      )
      progress()


def write_text(path: pathlib.Path, text: str) -> None:
  """Whole or not at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f".{path.name}.tmp")
  partial.write_text(text, encoding="utf-8")
  os.replace(partial, path)


def as_json(records: Iterable[Mapping[str, Any]]) -> str:
  """One record a line, so that two sets can be compared line by line."""
  lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
  return f"[\n{lines}\n]\n"
