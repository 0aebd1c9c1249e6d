"""Initial weights of Swin + BERT models: what `config.model.init_*` name.

  init_from              a run of ours, or a file of MRA or APTM (pretrain.pth)
  init_image, init_text  the towers by themselves: a Swin (the authors' file, or a
                         folder or hub id of transformers), a BERT (folder or hub id)

The towers by themselves come on top. Tables of relative positions of another window
are interpolated where `init_interpolate` allows it. Projections of another form or size
than the file's start anew, as those of RSTPReid do in MRA's recipe.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tpr_jax import run_weights
from tpr_jax.convert import bert, files, relative_position, swin
from tpr_jax.convert.source import ConvertError
from tpr_jax.core import sharding, tree
from tpr_jax.models import adapters, build

PROJECTIONS = ("image_projection", "text_projection")
_TABLE = "relative_position_bias"
_FIELDS = ("init_from", "init_image", "init_text")


class CrossInitial:
  """Pretrained weights of a run, read when first needed; as `initial.Initial`.

  Args:
    model: the config's `model`.
    recorded: what `record` gave when the run began. Evaluation and a resumed run need
      no weights, which may be gone by then.
  """

  def __init__(self, model: Mapping[str, Any], recorded: Mapping[str, Any]):
    self._places = {name: model[name] for name in _FIELDS}
    self._interpolate = model["init_interpolate"]
    self.place = ", ".join(filter(None, self._places.values()))
    self._recorded = dict(recorded) if recorded.get("place") == self.place else {}
    self.loaded: frozenset[str] = frozenset()  # names of the leaves that `apply` set

  def tokenizer(self) -> str:
    """The spec of the weights' own tokenizer (data/tokenizer.py); "" without one."""
    if self._recorded:
      return self._recorded["tokenizer"]
    if text := self._places["init_text"]:
      return f"bert:{text}"
    if (place := self._places["init_from"]) and run_weights.is_run(place):
      return run_weights.read(place).tokenizer
    return ""

  def settings(self, fields: Mapping[str, Any]) -> dict[str, Any]:
    """None: nothing of these models is decided by their files."""
    del fields
    return {}

  def apply(
    self, params: Any, shardings: Any, fields: Mapping[str, Any], vocab_size: int
  ) -> Any:
    """Parameters with those of the files in their place, each leaf placed.

    Args:
      params: fresh parameters; what the files lack stays.
      shardings: of every leaf of `params`.
      fields: the model's.

    Raises:
      ConvertError, AdapterError: weights that do not fit the model; nothing has been
        loaded.
    """
    del vocab_size  # tables tell
    fields, shapes = build.settings(fields), tree.shapes(params)
    found, notes = {}, _Notes()
    tokenizer = self.tokenizer()
    if place := self._places["init_from"]:
      run = run_weights.is_run(place)
      read = self._of_run if run else self._of_file
      found |= read(place, shapes, fields, notes)
    if place := self._places["init_image"]:
      found |= self._image(files.weights(place)[0], fields, place, notes)
    if place := self._places["init_text"]:
      found |= self._text(place, shapes, fields, notes)
    self._recorded = dict(
      place=self.place,
      detail=notes.detail,
      tokenizer=tokenizer,
      settings={},
      resized=notes.resized,
      anew=sorted(set(notes.anew) - set(found)),
      unused=notes.unused,
    )
    self.loaded, where = frozenset(found), tree.flat(shardings)
    placed = {name: sharding.put(x, where[name]) for name, x in found.items()}
    return tree.replace(params, placed)

  def _image(self, state, fields, place, notes, prefix: str = "") -> dict[str, Any]:
    """The image tower, under "visual/"."""
    tower = swin.tower_fields(fields)
    official = any(name.startswith(f"{prefix}patch_embed.") for name in state)
    try:
      if official:
        loaded = swin.from_official(
          state, tower, interpolate=self._interpolate, prefix=prefix
        )
      else:
        loaded = swin.from_huggingface(state, tower, interpolate=self._interpolate)
    except ConvertError as error:
      raise ConvertError(f"{place}: {error}") from error
    theirs = swin.windows_of(state, official, prefix)
    if theirs and tuple(theirs) != tuple(tower["windows"]):
      notes.resized.append(
        f"visual: tables of windows {theirs} interpolated to {tower['windows']}"
      )
    return {f"visual/{name}": x for name, x in tree.flat(loaded).items()}

  def _text(self, place, shapes, fields, notes) -> dict[str, Any]:
    """A BERT: the text tower, and its head of masked words where it has one."""
    state, config = files.weights(place)
    theirs = bert.fields(config, place) if config else {}
    for name in ("heads", "epsilon"):  # which no array tells
      if name in theirs and theirs[name] != fields[f"text_{name}"]:
        raise ConvertError(
          f"{place} has {name} {theirs[name]}, the model {fields[f'text_{name}']}: set"
          f" --config.model.text_{name}={theirs[name]}"
        )
    loaded, report = bert.from_huggingface(state, shapes, place=place)
    notes.add(report)
    return tree.flat(loaded)

  def _of_file(self, place, shapes, fields, notes) -> dict[str, Any]:
    """All of a file of MRA or APTM."""
    state, _ = files.weights(place)
    loaded, report = bert.from_mra(state, shapes, anew=PROJECTIONS, place=place)
    notes.add(report)
    image = self._image(state, fields, place, notes, "vision_encoder.")
    return image | tree.flat(loaded)

  def _of_run(self, place, shapes, fields, notes) -> dict[str, Any]:
    """What a run of ours has trained, heads included."""
    source = run_weights.read(place, merge=False)
    notes.detail, found, problems = source.detail, {}, []
    weights = adapters.fitted(source.adapters, source.weights, fields["adapters"])
    anew = {
      part
      for part in PROJECTIONS
      for name, shape in shapes.items()
      if name.startswith(f"{part}/") and np.shape(weights.get(name)) != shape
    }
    for name, shape in shapes.items():
      part, value = name.split("/")[0], weights.get(name)
      fresh = adapters.of_leaf(name) is not None  # on a layer that had none
      if part in anew or (value is None and (fresh or part in ("itm", "words"))):
        notes.anew.append(name)
      elif value is None:
        problems.append(f"{name} is missing")
      elif name.endswith(_TABLE) and value.shape != shape and self._interpolate:
        window = (round(shape[0] ** 0.5) + 1) // 2
        found[name] = relative_position.resize(value, window)
        notes.resized.append(f"{name}: {len(value)} rows -> {shape[0]}")
      elif value.shape != shape:
        problems.append(f"{name} has shape {value.shape}, the model {shape}")
      else:
        found[name] = value
    if problems:
      shown = "; ".join(problems[:4])
      more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
      raise ConvertError(
        f"{place} does not fit the model ({len(problems)} problems): {shown}{more}. Use"
        " the variant, sizes and tokenizer of that run"
        + ("" if self._interpolate else ", or model.init_interpolate=True for windows")
      )
    notes.unused += sorted(set(weights) - set(shapes))
    return found

  def record(self) -> dict[str, Any]:
    """For run.json; as of `initial.Initial`."""
    return self._recorded

  def lines(self) -> list[str]:
    """The same, for the terminal."""
    if not self._recorded:
      return []
    found = self._recorded
    detail = f" ({found['detail']})" if found["detail"] else ""
    parts = sorted({name.split("/")[0] for name in found["anew"]})
    return [
      f"Weights from {self.place}{detail}",
      *(f"  resized {line}" for line in _shortened(found["resized"])),
      *([f"  start anew: {len(found['anew'])} leaves of {', '.join(parts)}"]
        if parts else []),
      *([f"  {len(found['unused'])} leaves of the files are unused"]
        if found["unused"] else []),
    ]  # fmt: skip


class _Notes:
  """What loading changed, left out and left as it was."""

  def __init__(self):
    self.detail, self.resized, self.anew, self.unused = "", [], [], []

  def add(self, report: bert.Report) -> None:
    self.resized += report.resized
    self.anew += report.anew
    self.unused += report.dropped


def _shortened(lines: list[str], most: int = 3) -> list[str]:
  more = len(lines) - most
  return lines if more < 1 else [*lines[:most], f"... and {more} more tables"]
