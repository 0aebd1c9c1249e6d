"""What is asked: one request for each caption, model, style and sample."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from tpr_jax.curate import prompts
from tpr_jax.curate.plan import Chosen
from tpr_jax.curate.settings import Rewriter, Settings


@dataclasses.dataclass(frozen=True)
class Request:
  """One question to one model; `key` names it by content (see `key_of`)."""

  key: str
  rewriter: str
  model: str
  style: str
  caption: str
  sampling: Mapping[str, Any]
  messages: tuple[Mapping[str, str], ...]

  @property
  def seed(self) -> int:
    """Of this draw: the same again for the same question, another one for any other."""
    return (max(self.sampling["seed"], 0) + int(self.key[:8], 16)) % 2**31


@dataclasses.dataclass(frozen=True)
class Use:
  """Where an answer goes: the caption `caption` of the record of one source."""

  source: str
  record: int
  caption: int
  key: str


def key_of(
  caption: str, style: str, model: str, sampling: Mapping[str, Any], max_words: int
) -> str:
  """sha256 of all that decides an answer: the same content is never asked twice."""
  content = [prompts.VERSION, caption, style, model, sampling, max_words]
  text = json.dumps(content, ensure_ascii=False, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def wanted(
  chosen: Iterable[Chosen], settings: Settings
) -> tuple[dict[str, Request], list[Use]]:
  """(key -> request, every place that an answer is wanted for), in a fixed order.

  Rewrite number i of a caption takes style i of the list, round and round; a style
  that comes again is another sample. Every rewriter makes all of them. A caption that
  several images share is asked about once.
  """
  requests, uses = {}, []
  for one in chosen:
    for number, record in enumerate(one.dataset.records):
      for position, caption in enumerate(record.captions):
        for rewriter in settings.rewriters:
          for i in range(settings.rewrites):
            request = _request(caption, rewriter, i, settings)
            requests.setdefault(request.key, request)
            uses.append(Use(one.source.key, number, position, request.key))
  return requests, uses


def _request(caption: str, rewriter: Rewriter, i: int, settings: Settings) -> Request:
  sample, position = divmod(i, len(settings.styles))
  style, sampling = settings.styles[position], rewriter.sampling(sample)
  return Request(
    key=key_of(caption, style, rewriter.model, sampling, settings.max_words),
    rewriter=rewriter.key,
    model=rewriter.model,
    style=style,
    caption=caption,
    sampling=sampling,
    messages=tuple(prompts.messages(caption, style, settings.max_words)),
  )
