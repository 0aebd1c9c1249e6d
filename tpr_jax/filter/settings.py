"""The fields of configs/filter.py, checked before anything is read. No JAX here."""

import dataclasses
import difflib
import os
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from tpr_jax import config as configs
from tpr_jax.data import build
from tpr_jax.data.damage import check_limit
from tpr_jax.filter.problems import FilterError

FIELDS = ("data", "pool", "cut", "scorer", "threads", "max_broken")
SCORERS = ("towers", "blip2_itc")
DTYPES = dict(towers=("float32", "bfloat16"), blip2_itc=("float32", "float16"))
_BY = ("k", "quantile", "keep_ratio")
_OF_TOWERS = ("image_size", "text_length", "tokenizer", "activation")
_WIDE = "a whole number, {} or more"


@dataclasses.dataclass(frozen=True)
class Split:
  """What `data.build.dataset` takes."""

  name: str
  root: str
  split: str
  options: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Pool:
  """Which captions are drawn, and which of them do not count against a pair.

  Attributes:
    source: None: the captions of the data itself.
  """

  source: Split | None
  size: int
  seed: int
  replace: bool
  one_caption_per_image: bool
  exclude_self: bool
  exclude_same_id: bool


@dataclasses.dataclass(frozen=True)
class Cut:
  """Which pairs stay: by the field called `by`, one of k, quantile, keep_ratio."""

  by: str
  value: float
  min_pairs_per_id: int


@dataclasses.dataclass(frozen=True)
class Scorer:
  """Which model scores; `load`: of towers, as `loading.load` takes them."""

  kind: str
  place: str
  batch: int
  dtype: str
  load: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Settings:
  """A filter, checked; `config` is the plain config that it was read from."""

  data: Split
  pool: Pool
  cut: Cut
  scorer: Scorer
  threads: int
  max_broken: float
  config: Mapping[str, Any]


def is_filter(config: ConfigDict) -> bool:
  """Is this a filter, rather than the config of a run?"""
  return "cut" in config and "pool" in config


def read(config: ConfigDict) -> Settings:
  """The settings of a config made by configs/filter.py.

  Raises:
    FilterError: a value that its field cannot have; not exactly one of k, quantile and
      keep_ratio; a field that would do nothing.
  """
  lacking = [field for field in FIELDS if field not in config]
  _expect(
    "config", f"no {', '.join(lacking)}", not lacking, "what configs/filter.py has"
  )
  _whole("threads", config.threads, 1)
  try:
    check_limit(config.max_broken)
  except ValueError as error:
    raise FilterError(str(error).replace("data.max_broken", "max_broken")) from error
  data = _split("data", config.data)
  return Settings(
    data=data,
    pool=_pool(config.pool, data),
    cut=cut(config.cut),
    scorer=_scorer(config.scorer),
    threads=config.threads,
    max_broken=config.max_broken,
    config=configs.plain(config),
  )


def _split(at: str, fields: ConfigDict) -> Split:
  _among(f"{at}.name", fields.name, tuple(build.SOURCES))
  _among(f"{at}.split", fields.split, build.SPLITS)
  root = os.path.expanduser(fields.root)
  return Split(fields.name, root, fields.split, configs.plain(fields.options))


def _pool(fields: ConfigDict, data: Split) -> Pool:
  source = _split("pool", fields) if fields.name else None
  if source is not None and not source.root:
    source = dataclasses.replace(source, root=data.root)
  if source is None and (fields.root or len(fields.options)):
    raise FilterError(
      "--config.pool.root or pool.options would do nothing: pool.name is '', the"
      " captions of the data itself; name the pool's dataset"
    )
  if source == data:
    source = None
  _whole("pool.size", fields.size, 1)
  _whole("pool.seed", fields.seed, 0)
  excluded = {}
  for name in ("exclude_self", "exclude_same_id"):
    asked = fields[name]
    if asked and source is not None:
      raise FilterError(
        f"--config.pool.{name}=True: the pool is {source.name}/{source.split}, another"
        f" corpus than {data.name}/{data.split}, so that no caption of it can be"
        " excluded; leave it out"
      )
    excluded[name] = source is None if asked is None else asked
  return Pool(
    source,
    fields.size,
    fields.seed,
    fields.replace,
    fields.one_caption_per_image,
    **excluded,
  )


def cut(fields: Mapping[str, Any]) -> Cut:
  """Raises FilterError, as `read`."""
  given = {name: fields[name] for name in _BY if fields[name] is not None}
  if len(given) != 1:
    found = ", ".join(f"{name}={value}" for name, value in given.items()) or "none"
    raise FilterError(
      f"--config.cut: exactly one of {', '.join(_BY)} says which pairs stay; found"
      f" {found}. For example configs/filter.py:NAME,keep_ratio=0.9 (a preset brings a"
      " k of its own)"
    )
  _whole("cut.min_pairs_per_id", fields["min_pairs_per_id"], 0)
  (by, value) = next(iter(given.items()))
  if by == "k":
    _whole("cut.k", value, 1)
  else:
    _expect(f"cut.{by}", value, 0 < value <= 1, "a share above 0, 1 at most")
  return Cut(by, value, fields["min_pairs_per_id"])


def _scorer(fields: ConfigDict) -> Scorer:
  _among("scorer.kind", fields.kind, SCORERS)
  _among("scorer.dtype", fields.dtype, DTYPES[fields.kind])
  _whole("scorer.batch", fields.batch, 1)
  _expect(
    "scorer.place",
    fields.place,
    bool(fields.place),
    "the model that scores: a run, an export or a published CLIP"
    if fields.kind == "towers"
    else "a folder or hub id, such as Salesforce/blip2-itm-vit-g",
  )
  load = {name: configs.plain(fields[name]) for name in _OF_TOWERS}
  given = [name for name, value in load.items() if value]
  if given and fields.kind != "towers":
    raise FilterError(
      f"--config.scorer.{given[0]}={load[given[0]]!r} would do nothing: it is of"
      f" towers, and scorer.kind is {fields.kind!r}"
    )
  size = load["image_size"]
  fits = len(size) in (0, 2) and all(isinstance(n, int) and n > 0 for n in size)
  _expect("scorer.image_size", size, fits, "(height, width), or () for the model's own")
  _whole("scorer.text_length", load["text_length"], 0)
  return Scorer(fields.kind, fields.place, fields.batch, fields.dtype, load)


def _among(field: str, value: Any, known: tuple[str, ...]) -> None:
  near = difflib.get_close_matches(str(value), known, 1, cutoff=0.4)
  guess = f"; did you mean {near[0]!r}?" if near else ""
  _expect(field, value, value in known, f"one of {', '.join(known)}{guess}")


def _whole(field: str, value: Any, least: int) -> None:
  fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
  _expect(field, value, fits, _WIDE.format(least))


def _expect(field: str, value: Any, fits: bool, wanted: str) -> None:
  if not fits:
    raise FilterError(f"--config.{field}: found {value!r}, expected {wanted}")
