"""The fields of configs/cross.py, checked before anything is read or asked."""

import dataclasses
import json
import numbers
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from tpr_jax.curate.problems import CurateError
from tpr_jax.curate.prompts import STYLES

IMAGES = ("copy", "link", "reference")
KINDS = ("endpoint", "local")


@dataclasses.dataclass(frozen=True)
class Source:
  """One dataset that people are taken from.

  Attributes:
    key: its name in the new set (the field `source` of each record).
    name, root, split, options: as in `tpr_jax.data.build.dataset`.
    identities: how many people; 0: all of the split.
    licence: a note for the card.
  """

  key: str
  name: str
  root: str
  split: str
  identities: int
  options: Mapping[str, Any]
  licence: str


@dataclasses.dataclass(frozen=True)
class Rewriter:
  """One language model and how it is asked; see configs/cross.py for the fields."""

  key: str
  kind: str
  model: str
  temperature: float
  top_p: float
  max_tokens: int
  seed: int
  extra: Mapping[str, Any]
  base_url: str
  api_key_env: str
  timeout: float
  max_retries: int
  requests_per_minute: float
  concurrency: int
  device: str
  batch: int
  licence: str

  def sampling(self, sample: int) -> dict[str, Any]:
    """Everything beside the words that decides the answer number `sample`."""
    return dict(
      temperature=self.temperature,
      top_p=self.top_p,
      max_tokens=self.max_tokens,
      seed=self.seed,
      extra=dict(self.extra),
      sample=sample,
    )


@dataclasses.dataclass(frozen=True)
class Settings:
  """All of a config, checked."""

  seed: int
  sources: tuple[Source, ...]
  images: str
  size: tuple[int, int]
  quality: int
  rewrites: int
  styles: tuple[str, ...]
  max_words: int
  rewriters: tuple[Rewriter, ...]
  tokenizer: str
  text_length: int


def is_cross(config: ConfigDict) -> bool:
  """Is this a set to build, rather than the config of a run?"""
  return "sources" in config and "rewriters" in config


def read(config: ConfigDict) -> Settings:
  """The settings of a config made by configs/cross.py.

  Raises:
    CurateError: a value that its field cannot have.
  """
  _expect("images", config.images, config.images in IMAGES, "one of " + _list(IMAGES))
  for field, least in (("rewrites", 0), ("max_words", 0), ("seed", 0)):
    _number(field, config[field], least)
  _number("quality", config.quality, 1, 100)
  _number("text.length", config.text.length, 3)
  styles = tuple(config.styles)
  known = bool(styles) and all(style in STYLES for style in styles)
  _expect("styles", styles, known, "one or more of " + _list(STYLES))
  _expect("styles", styles, len(set(styles)) == len(styles), "each style once")
  _expect("sources", "none", len(config.sources) > 0, "at least one")
  settings = Settings(
    seed=config.seed,
    sources=tuple(_source(key, config) for key in config.sources),
    images=config.images,
    size=tuple(config.size),
    quality=config.quality,
    rewrites=config.rewrites,
    styles=styles,
    max_words=config.max_words,
    rewriters=tuple(_rewriter(k, v) for k, v in config.rewriters.items()),
    tokenizer=config.text.tokenizer,
    text_length=config.text.length,
  )
  if settings.rewrites:
    _check_rewriters(settings)
  return settings


def _source(key, config):
  entry = config.sources[key]
  plain = key.replace("-", "_").isidentifier()
  _expect("sources", key, plain, "a name of letters, digits, - and _")
  _number(f"sources.{key}.identities", entry.identities, 0)
  return Source(
    key=key,
    name=entry.name or key,
    root=entry.root or config.root,
    split=entry.split,
    identities=entry.identities,
    options=entry.options.to_dict(),
    licence=entry.licence,
  )


def _rewriter(key, entry):
  fields = entry.to_dict()
  try:
    extra = json.loads(fields["extra"] or "{}")
  except ValueError as error:
    raise CurateError(f"rewriters.{key}.extra is not JSON: {error}") from error
  known = isinstance(extra, dict)
  _expect(f"rewriters.{key}.extra", fields["extra"], known, 'a JSON object, {"a": 1}')
  return Rewriter(key=key, **{**fields, "extra": extra})


def _check_rewriters(settings):
  _expect("rewriters", "none", bool(settings.rewriters), "at least one")
  for rewriter in settings.rewriters:
    at = f"rewriters.{rewriter.key}"
    _expect(f"{at}.kind", rewriter.kind, rewriter.kind in KINDS, _list(KINDS))
    what = "the model's name, as the endpoint knows it (or a folder or hub id: local)"
    _expect(f"{at}.model", rewriter.model, bool(rewriter.model), what)
    for field, least in (
      ("max_tokens", 1),
      ("timeout", 0.001),
      ("max_retries", 0),
      ("requests_per_minute", 0),
      ("concurrency", 1),
      ("batch", 1),
    ):
      _number(f"{at}.{field}", getattr(rewriter, field), least)
    if rewriter.temperature == 0 and settings.rewrites > len(settings.styles):
      raise CurateError(
        f"{at}.temperature is 0, so the same words get the same answer, and"
        f" {settings.rewrites} rewrites are asked for in {len(settings.styles)} styles."
        " Take more styles, fewer rewrites or a higher temperature"
      )
  models = [r.model for r in settings.rewriters]
  for model in set(models):
    same = [str(r.sampling(0)) for r in settings.rewriters if r.model == model]
    if len(set(same)) < len(same):
      raise CurateError(
        f"two rewriters ask {model!r} with the same sampling and would share their"
        " answers; take another model or seed, or a larger --config.rewrites"
      )


def _number(field, value, least, most=None):
  number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  fits = number and value >= least and (most is None or value <= most)
  wanted = f"{least} or more" if most is None else f"{least} to {most}"
  _expect(field, value, fits, wanted)


def _expect(field, value, fits, wanted):
  if not fits:
    raise CurateError(f"--config.{field}: found {value!r}, expected {wanted}")


def _list(names):
  return ", ".join(names)
