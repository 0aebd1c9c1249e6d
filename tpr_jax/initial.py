"""Initial weights: what `config.model.init_from` names, for a run's model and state."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tpr_jax import run_weights
from tpr_jax.convert import irra_heads, towers
from tpr_jax.convert.source import Source
from tpr_jax.core import sharding, tree
from tpr_jax.models import adapters, build
from tpr_jax.models.variants import OF_WEIGHTS


class Initial:
  """Pretrained weights of a run's towers: read when first needed, and only then.

  Args:
    place: `config.model.init_from`: a run's folder, or a published checkpoint
      (convert/files.py says which kinds); "" for none.
    allow: regexes of leaves of the file that may stay unused.
    recorded: what `record` gave when the run began. Evaluation and a resumed run need
      the settings and not the weights, which may be gone by then.
  """

  def __init__(self, place: str, allow: Sequence[str], recorded: Mapping[str, Any]):
    self.place, self._allow = place, tuple(allow)
    self._recorded = dict(recorded) if recorded.get("place") == place else {}
    self._source: Source | None = None
    self.loaded: frozenset[str] = frozenset()  # names of the leaves that `apply` set

  def _read(self) -> Source:
    if self._source is None:
      self._source = run_weights.read(self.place, merge=False)
    return self._source

  def tokenizer(self) -> str:
    """The spec of the weights' own tokenizer (data/tokenizer.py); "" without one."""
    if not self.place:
      return ""
    if self._recorded:
      return self._recorded["tokenizer"]
    return self._read().tokenizer

  def settings(self, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the model that the weights decide: activation, epsilon, pixel values.

    Args:
      fields: the config's model fields; None where the weights decide.

    Raises:
      ValueError: the config gives another value than the weights were trained with, or
        neither says which activation that was.
      ConvertError: the weights cannot be read.
    """
    if not self.place:
      return {}
    found = self._recorded["settings"] if self._recorded else self._read().settings
    if fields["activation"] is None and "activation" not in found:
      raise ValueError(
        f"model.activation: {self.place} holds weights alone and does not say which"
        " activation they were trained with; add --config.model.activation=quick_gelu"
        " (OpenAI's) or =gelu (most of OpenCLIP's own)"
      )
    decided = {}
    for name in OF_WEIGHTS:
      given, theirs = fields[name], found.get(name)
      if None not in (given, theirs) and _plain(given) != _plain(theirs):
        raise ValueError(
          f"model.{name}={given!r}, but the weights of {self.place} were trained with"
          f" {theirs!r}: leave the field out to follow them"
        )
      if theirs is not None:
        decided[name] = theirs
    return decided

  def apply(
    self, params: Any, shardings: Any, fields: Mapping[str, Any], vocab_size: int
  ) -> Any:
    """Parameters with the towers of the weights in their place, each leaf placed.

    IRRA's heads, and a run's own head of masked words, come along where the model has
    them (convert/irra_heads.py), and a run's adapters: merged where it has none.

    Args:
      params: fresh parameters; other heads among them stay.
      shardings: of every leaf of `params`.
      fields: the model's, with those of `settings` among them.
      vocab_size: of the tokenizer.

    Raises:
      ConvertError: the weights do not fit the model; nothing has been loaded.
      AdapterError: nor do its adapters.
    """
    fields = build.settings(fields)
    source, shapes = self._read(), tree.shapes(params)
    weights = adapters.fitted(source.adapters, source.weights, fields["adapters"])
    own = {n: x for n, x in weights.items() if adapters.of_leaf(n) is not None}
    source = dataclasses.replace(
      source, weights={n: x for n, x in weights.items() if n not in own}
    )
    loaded, report = towers.towers(
      source,
      fields,
      vocab_size=vocab_size,
      activation=fields["activation"],
      allow=self._allow,
    )
    heads, anew = {}, []
    if source.layout in ("irra", "tpr_jax"):
      heads, anew = irra_heads.heads(source, shapes)
    used = {irra_heads.file_name(name, source.layout) for name in heads}
    self._recorded = dict(
      place=self.place,
      detail=source.detail,
      tokenizer=self.tokenizer(),
      settings={k: _plain(v) for k, v in report.settings.items()},
      resized=report.resized,
      anew=anew,
      unused=[name for name in report.kept if name not in used],
    )
    self._source = None  # hundreds of megabytes
    found = tree.flat(loaded) | heads | {n: x for n, x in own.items() if n in shapes}
    self.loaded, where = frozenset(found), tree.flat(shardings)
    placed = {name: sharding.put(x, where[name]) for name, x in found.items()}
    return tree.replace(params, placed)

  def record(self) -> dict[str, Any]:
    """For run.json: place, detail (the step of a run), tokenizer, settings, resized
    tables, heads that start anew though the file could have had them, unused leaves."""
    return self._recorded

  def lines(self) -> list[str]:
    """The same, for the terminal."""
    if not self._recorded:
      return []
    unused = self._recorded["unused"]
    shown = f"{', '.join(unused[:3])}{', ...' if len(unused) > 3 else ''}"
    detail = self._recorded["detail"]
    return [
      f"Towers from {self.place}" + (f" ({detail})" if detail else ""),
      *(f"  resized {line}" for line in self._recorded["resized"]),
      *(f"  starts anew: {line}" for line in self._recorded["anew"]),
      *([f"  {len(unused)} leaves of the file are unused: {shown}"] if unused else []),
    ]


def _plain(value: Any) -> Any:
  """As JSON gives it back."""
  return list(value) if isinstance(value, tuple | list) else value
