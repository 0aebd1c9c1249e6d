"""`--mode=build_cross`: a cross-setting test set from any datasets, as UFine3C is.

The folder that is written holds
  dataset/        annotations.json, images/ and README.md: the set
  answers.jsonl   every answer of a model, with what was asked (rewrites only)
  review.jsonl    the answers that a person should look at
  config.json     the config that it was built with
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from tpr_jax import config as configs
from tpr_jax.core import lock as locks
from tpr_jax.curate import ask, card, plan, settings, sort, write
from tpr_jax.curate.answers import Answers
from tpr_jax.curate.checks import Checks
from tpr_jax.curate.problems import CurateError
from tpr_jax.curate.progress import Progress
from tpr_jax.curate.requests import Request, Use, wanted
from tpr_jax.curate.review import Review
from tpr_jax.curate.settings import Rewriter, Settings
from tpr_jax.data import tokenizer

DATASET = "dataset"
# Fields that decide who is in the set; the others may change from run to run.
_FIXED = ("seed", "root", "sources", "images", "size", "quality")


def build_cross(config: ConfigDict, out: pathlib.Path) -> int:
  """Builds the set below `out`; the same call again goes on, and takes up reviews.

  Returns:
    1 if some rewrites had no answer (the same call asks again), else 0.

  Raises:
    CurateError, DatasetError, ImageError, TokenizerError: says what to mend.
    Interrupted: by a signal; what was answered is kept.
  """
  given = settings.read(config)
  with _alone(out):
    _claim(config, out)
    chosen = plan.build_plan(given)
    for one in chosen:
      print(
        f"{one.source.key}: {len(one.numbers):,} of {one.people:,} people,"
        f" {len(one.dataset.records):,} images, {one.captions:,} texts"
      )
    found = _Rewriting(given, chosen, out)() if given.rewrites else None
    failed = found.failed if found else []
    records = write.entries(chosen, found.texts if found else {})
    home = out / DATASET
    _pictures(chosen, home, given)
    built = card.Built(
      settings=given,
      chosen=chosen,
      records=records,
      sorted=found.sorted if found else None,
      served=found.served if found else {},
    )
    write.write_text(home / "README.md", card.card(built))
    write.write_text(home / write.ANNOTATIONS, write.as_json(records))
  _say_where(home, records)
  return int(bool(failed))


class _Rewriting:
  """Everything between the captions of the sources and the texts of the set."""

  def __init__(self, given: Settings, chosen, out: pathlib.Path):
    self._settings, self._chosen, self._out = given, chosen, out
    self.failed: list[tuple[Request, str]] = []
    self.served: dict[str, list[str]] = {}

  def __call__(self) -> "_Rewriting":
    given = self._settings
    requests, uses = wanted(self._chosen, given)
    # Whatever cannot work fails before the first question.
    checks = Checks(tokenizer.build(given.tokenizer), given.text_length)
    review = Review(self._out / "review.jsonl")
    answers = Answers(self._out / "answers.jsonl")
    self._ask(requests, answers)
    self.sorted = sort.sort_answers(
      requests, answers.found, review.found, checks, self._image_of(uses)
    )
    new = review.add(self.sorted.flagged)
    self.texts = sort.rewrites(self._chosen, uses, requests, self.sorted)
    for key, request in requests.items():
      model = answers.found[key].model if key in answers.found else ""
      named = self.served.setdefault(request.rewriter, [])
      if model and model not in named:
        named.append(model)
    self._tell(new)
    return self

  def _ask(self, requests: dict[str, Request], answers: Answers) -> None:
    with ask.signals() as caught:
      for rewriter in self._settings.rewriters:
        own = [r for r in requests.values() if r.rewriter == rewriter.key]
        todo = [request for request in own if request.key not in answers.found]
        if not todo:
          continue
        progress = Progress(
          f"rewrites by {rewriter.model}", len(own), len(own) - len(todo)
        )
        say = ask.seldom(progress.note)
        made = _rewriter(rewriter, say)
        self.failed += ask.ask_all(made, todo, answers.add, progress, caught)

  def _image_of(self, uses: list[Use]):
    records = {one.source.key: one.dataset.records for one in self._chosen}
    first: dict[str, str] = {}
    for use in uses:
      image = records[use.source][use.record].image
      first.setdefault(use.key, f"{use.source}/{image}")
    return first.__getitem__

  def _tell(self, new: int) -> None:
    counts = {fate: self.sorted.count(fate) for fate in sort.FATES}
    told = ", ".join(f"{count:,} {fate}" for fate, count in counts.items() if count)
    print(f"answers: {told}")
    if self.sorted.repeated:
      print(f"  {self.sorted.repeated:,} left out: same words on the same image")
    if self.sorted.flags:
      flags = ", ".join(f"{n:,} {flag}" for flag, n in self.sorted.flags.most_common())
      print(f"  flagged: {flags}")
    if counts["waiting"]:
      print(
        f"  {counts['waiting']:,} wait in {self._out / 'review.jsonl'} ({new:,} new):"
        ' fill in "decision" (accept, reject, or replace and "text") and run the same'
        " command again"
      )
    for request, why in self.failed[:3]:
      print(f"  no answer for {request.caption[:50]!r}: {why}")
    if self.failed:
      print(f"  {len(self.failed):,} without an answer: the same command asks again")


def _rewriter(given: Rewriter, say) -> Any:
  if given.kind == "local":
    from tpr_jax.curate.local import Local  # transformers takes seconds

    return Local(given)
  from tpr_jax.curate.endpoint import Endpoint

  return Endpoint(given, say=say)


def _pictures(chosen, home, given):
  total = sum(len(one.dataset.records) for one in chosen)
  progress = Progress("pictures", total)
  write.write_pictures(chosen, home, given, lambda: progress.step(1))
  progress.end()


@contextlib.contextmanager
def _alone(out: pathlib.Path) -> Iterator[None]:
  """Two builds in one folder would ask everything twice."""
  try:
    with locks.alone(out / ".lock", "build"):
      yield
  except locks.Locked as error:
    raise CurateError(
      f"{out}: another build is at work there; wait for it, or take another --out"
    ) from error


def _claim(config: ConfigDict, out: pathlib.Path) -> None:
  """Notes the config, or refuses a folder with other people in it."""
  path, own = out / "config.json", configs.plain(config)
  there = configs.read_json(path)
  changed = there and configs.differences(_deciding(there), _deciding(own))
  if changed:
    listed = "\n  ".join(changed)
    raise CurateError(
      f"{out} holds another set (there -> asked):\n  {listed}\nGive another folder with"
      " --out=DIR; a copy of answers.jsonl there keeps its answers from being asked"
      " again"
    )
  ours = {".lock", "answers.jsonl", "review.jsonl"}
  strange = sorted(p.name for p in out.iterdir() if p.name not in ours)
  if not there and strange:
    raise CurateError(
      f"{out} holds other files ({', '.join(strange[:3])}); give a new or empty folder"
    )
  configs.write_json(path, own)


def _deciding(plain: dict[str, Any]) -> dict[str, Any]:
  """The fields that decide who is in the set and how their pictures are held."""
  found = {field: plain.get(field) for field in _FIXED}
  sources = (found["sources"] or {}).items()
  notes = ("licence",)  # for the card, which is written anew
  return found | {
    "sources": {
      key: {k: v for k, v in source.items() if k not in notes}
      for key, source in sources
    }
  }


def _say_where(home, records):
  captions = sum(len(record["captions"]) for record in records)
  people = len({record["id"] for record in records})
  counts = f"{people:,} people, {len(records):,} images, {captions:,} texts"
  print(
    f"Written: {home} ({counts})\n"
    "Check it: python -m tpr_jax.main --mode=check"
    f" --config=configs/cfam.py:folder,variant=tiny --config.data.root={home}\n"
    "Ask a run: python -m tpr_jax.main --mode=eval --run=RUN"
    f" --config=configs/cfam.py:NAME,cross={home}"
  )
