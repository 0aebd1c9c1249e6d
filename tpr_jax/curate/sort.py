"""Answers into the set, out of it, or in front of a person."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping

from tpr_jax.curate.answers import Answer
from tpr_jax.curate.checks import Checks
from tpr_jax.curate.cleaning import clean, one_line
from tpr_jax.curate.plan import Chosen
from tpr_jax.curate.requests import Request, Use
from tpr_jax.curate.review import Decision, Flagged
from tpr_jax.data import check_text

# What became of an answer, in the order of the card.
FATES = ("clean", "accepted", "replaced", "rejected", "waiting", "unanswered")


@dataclasses.dataclass
class Sorted:
  """What became of every answer.

  Attributes:
    texts: key -> the caption to use.
    fates: key -> one of FATES.
    flagged: the answers with flags, each for its line in the review file.
    flags: flag -> number of answers that have it.
    repeated: rewrites left out because their image has the same words already.
  """

  texts: dict[str, str] = dataclasses.field(default_factory=dict)
  fates: dict[str, str] = dataclasses.field(default_factory=dict)
  flagged: list[Flagged] = dataclasses.field(default_factory=list)
  flags: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  repeated: int = 0

  def count(self, fate: str) -> int:
    return sum(one == fate for one in self.fates.values())


def sort_answers(
  requests: Mapping[str, Request],
  answers: Mapping[str, Answer],
  decisions: Mapping[str, Decision],
  checks: Checks,
  image_of: Callable[[str], str],
) -> Sorted:
  """Checks every answer; a person's decision wins over the checks.

  Args:
    requests, answers, decisions: by key; answers may lack some.
    image_of: key -> an image that the caption belongs to, shown to the person.
  """
  result = Sorted()
  for key, request in requests.items():
    if key not in answers:
      result.fates[key] = "unanswered"
      continue
    answer = answers[key]
    text = clean(answer.text)
    flags = checks.flags(request.caption, text, answer.finish)
    result.flags.update(list(flags))
    if flags:
      result.flagged.append(
        Flagged(
          key=key,
          flags=flags,
          original=request.caption,
          answer=text,
          style=request.style,
          model=request.model,
          image=image_of(key),
        )
      )
    fate, kept = _decide(one_line(text), flags, decisions.get(key, Decision("", "")))
    result.fates[key] = fate
    if kept:
      result.texts[key] = kept
  return result


def _decide(text, flags, said):
  if said.decision == "reject":
    return "rejected", ""
  if said.decision == "replace":
    return "replaced", said.text
  if said.decision == "accept":
    return "accepted", text
  return ("waiting", "") if flags else ("clean", text)


def rewrites(
  chosen: Iterable[Chosen],
  uses: Iterable[Use],
  requests: Mapping[str, Request],
  result: Sorted,
) -> dict[tuple[str, int, int], list[tuple[str, str, str]]]:
  """Texts by (source key, record, caption): (text, who wrote it, style).

  The same words twice on one image would count as two queries: the later one is left
  out, and counted in `result.repeated`.
  """
  records = {one.source.key: one.dataset.records for one in chosen}
  found, seen = {}, {}
  for use in uses:
    text = result.texts.get(use.key)
    if text is None:
      continue
    words = seen.setdefault((use.source, use.record), None)
    if words is None:
      captions = records[use.source][use.record].captions
      words = {tuple(check_text.words(caption)) for caption in captions}
      seen[use.source, use.record] = words
    own = tuple(check_text.words(text))
    if own in words:
      result.repeated += 1
      continue
    words.add(own)
    request = requests[use.key]
    by = "a person" if result.fates[use.key] == "replaced" else request.model
    place = (use.source, use.record, use.caption)
    found.setdefault(place, []).append((text, by, request.style))
  return found
