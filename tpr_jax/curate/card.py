"""README.md of a built set: what is in it, where from, and what may be done with it."""

import collections
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tpr_jax.curate import prompts, sort
from tpr_jax.curate.checks import FLAGS
from tpr_jax.curate.plan import Chosen
from tpr_jax.curate.settings import Settings
from tpr_jax.curate.sort import Sorted
from tpr_jax.data import check_text


@dataclasses.dataclass(frozen=True)
class Built:
  """Everything that the card tells."""

  settings: Settings
  chosen: Sequence[Chosen]
  records: Sequence[Mapping[str, Any]]
  sorted: Sorted | None
  served: Mapping[str, Sequence[str]]  # rewriter -> models that its server named


def card(built: Built) -> str:
  """The card, in Markdown."""
  parts = [_head(built), _sources(built), _texts(built)]
  if built.sorted is not None:
    parts += [_models(built), _fates(built)]
  return "\n\n".join([*parts, _licences(built)]) + "\n"


def _head(built):
  images = len(built.records)
  captions = sum(len(record["captions"]) for record in built.records)
  people = len({record["id"] for record in built.records})
  sources = f"{len(built.chosen)} source{'s' if len(built.chosen) > 1 else ''}"
  today = time.strftime("%Y-%m-%d", time.gmtime())
  return f"""# A cross-setting test set

{people:,} people, {images:,} images, {captions:,} texts from {sources}; built on
{today} by `tpr_jax --mode=build_cross` (seed {built.settings.seed}) as UFine3C was
(UFineBench, CVPR 2024). It is a test set alone: train on none of it.

`annotations.json` has UFine3C's keys. `id` counts through all sources; `original` is
what the source called it; `caption_truth` tells for each text who wrote it."""


def _table(head, rows):
  lines = [head, ["---"] * len(head), *rows]
  return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _sources(built):
  rows = []
  for one in built.chosen:
    own = [r for r in built.records if r["source"] == one.source.key]
    texts = sum(len(record["captions"]) for record in own)
    rows.append(
      [
        one.source.key,
        f"{one.source.name}/{one.source.split}",
        f"{len(one.numbers):,} of {one.people:,}",
        f"{len(own):,}",
        f"{one.captions:,}",
        f"{texts - one.captions:,}",
      ]
    )
  head = ["source", "dataset", "people", "images", "its texts", "rewritten"]
  return "## Sources\n\n" + _table(head, rows)


def _texts(built):
  groups = collections.defaultdict(list)
  for record in built.records:
    for text, truth in zip(record["captions"], record["caption_truth"], strict=True):
      groups[truth["written_by"], truth["rewrite"]].append(text)
  rows = []
  for (by, style), texts in groups.items():
    words = check_text.statistics(texts)
    rows.append(
      [
        by,
        "" if style == "none" else style,
        f"{len(texts):,}",
        words["shortest"],
        f"{words['mean']:.1f}",
        words["longest"],
        f"{words['unique']:,}",
      ]
    )
  head = ["written by", "style", "texts", "shortest", "mean", "longest", "unique words"]
  return "## Texts (lengths in words)\n\n" + _table(head, rows)


def _models(built):
  lines = [
    "## Rewriting",
    "",
    f"Prompt version {prompts.VERSION} (`tpr_jax/curate/prompts.py`),"
    f" {built.settings.rewrites} rewrites of each text by each model, styles"
    f" {', '.join(built.settings.styles)}.",
    "",
  ]
  for rewriter in built.settings.rewriters:
    names = [n for n in built.served.get(rewriter.key, ()) if n != rewriter.model]
    drawn = rewriter.sampling(0)
    told = ", ".join(f"{k} {v}" for k, v in drawn.items() if k != "sample" and v != {})
    served = f", served as {', '.join(names)}" if names else ""
    lines.append(f"- `{rewriter.model}` ({rewriter.kind}{served}; {told})")
  return "\n".join(lines)


def _fates(built):
  found = built.sorted
  rows = [[fate, f"{found.count(fate):,}"] for fate in sort.FATES]
  flags = [[f, f"{found.flags[f]:,}", FLAGS[f]] for f in FLAGS if found.flags[f]]
  parts = [
    "## Answers\n\n" + _table(["answers", ""], rows),
    f"Left out as the same words on the same image: {found.repeated:,}. `waiting` and"
    " `unanswered` are not in the set. Programs checked the others; unless the table"
    " says so, no person has read them.",
  ]
  if flags:
    parts.append(_table(["flag", "answers", "meaning"], flags))
  return "\n\n".join(parts)


def _licences(built):
  lines = [
    "## Licences",
    "",
    "Pictures and texts keep the terms of the datasets that they are from, texts that",
    "a model wrote also those of the model; what forbids passing a source on forbids",
    "passing this set on. It shows people who were not asked: for research only.",
    "",
  ]
  for one in built.chosen:
    note = one.source.licence or "no note was given; see its authors' terms"
    lines.append(f"- {one.source.key} ({one.source.name}): {note}")
  if built.sorted is not None:
    for rewriter in built.settings.rewriters:
      note = rewriter.licence or "no note was given; see its terms for outputs"
      lines.append(f"- {rewriter.model}: {note}")
  return "\n".join(lines)
