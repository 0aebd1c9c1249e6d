"""A `Source` -> the parameters of our two towers, and parameters -> published names."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tpr_jax.convert import layouts
from tpr_jax.convert.source import ConvertError, Source
from tpr_jax.core import tree
from tpr_jax.models import position
from tpr_jax.models.layers import patches
from tpr_jax.models.variants import OF_WEIGHTS, VARIANTS

_SHOWN = 6  # problems that an error lists; the others are counted
_IMAGE_TABLE, _TEXT_TABLE = "visual/position_embedding", "text/position_embedding"
_VOCABULARY = " (rows are the vocabulary: use the tokenizer of these weights)"
_SIZES = (
  "vision_width",
  "vision_layers",
  "patch",
  "text_width",
  "text_layers",
  "joint_dim",
)


@dataclasses.dataclass
class Report:
  """What a conversion did besides renaming.

  Attributes:
    kept: leaves of the file that the towers do not use and that were allowed (heads).
    resized: "visual/position_embedding: 197 rows (14x14) -> 193 (24x8)".
    dropped: buffers of the file that carry no weights.
    logit_scale: the file's, as it stands there (a logarithm), or None.
    settings: `activation`, `epsilon`, `pixel_mean`, `pixel_std` as far as known: the
      model must have the same.
  """

  kept: list[str] = dataclasses.field(default_factory=list)
  resized: list[str] = dataclasses.field(default_factory=list)
  dropped: list[str] = dataclasses.field(default_factory=list)
  logit_scale: float | None = None
  settings: dict[str, Any] = dataclasses.field(default_factory=dict)


def variant_fields(source: Source) -> dict[str, Any]:
  """The sizes of the towers in a file, by the shapes of its leaves.

  Returns:
    vision_width, vision_layers, vision_heads, patch (h, w), grid (rows, columns) or
    None where the table is of no square and no file tells, text_width, text_layers,
    text_heads, text_length, vocab_size, joint_dim. Heads leave no trace in shapes: they
    are the config's, or else one per 64 channels as in all of CLIP's towers.

  Raises:
    ConvertError: a leaf that tells a size is missing or has another number of axes.
  """

  def shape(ours: str, axes: int) -> tuple[int, ...]:
    (name,) = layouts.file_names(source.layout, ours)
    found = source.weights.get(name)
    if found is None or found.ndim != axes:
      seen = "no such leaf" if found is None else found.shape
      raise ConvertError(
        f"{source.place}: {name}: found {seen}, expected {axes} axes; this is no CLIP"
      )
    return layouts.from_file(source.layout, ours, [found]).shape

  def layers(tower: str) -> int:
    found = (layouts.block_index(source.layout, tower, name) for name in source.weights)
    return 1 + max((index for index in found if index is not None), default=-1)

  high, wide, _, vision_width = shape("visual/patch_embedding/kernel", 4)
  vocab_size, text_width = shape("text/token_embedding", 2)
  return dict(
    vision_width=vision_width,
    vision_layers=layers("visual"),
    vision_heads=source.settings.get("vision_heads", max(vision_width // 64, 1)),
    patch=(high, wide),
    grid=source.settings.get("grid") or _square(shape(_IMAGE_TABLE, 2)[0]),
    text_width=text_width,
    text_layers=layers("text"),
    text_heads=source.settings.get("text_heads", max(text_width // 64, 1)),
    text_length=shape(_TEXT_TABLE, 2)[0],
    vocab_size=vocab_size,
    joint_dim=shape("text/projection/kernel", 2)[1],
  )


def towers(
  source: Source,
  fields: Mapping[str, Any],
  *,
  vocab_size: int,
  activation: str | None = None,
  grid: tuple[int, int] | None = None,
  allow: Sequence[str] = (),
) -> tuple[dict[str, Any], Report]:
  """The parameters of `DualEncoder` without heads, for a model with these fields.

  Args:
    source: what `files.read` returned.
    fields: of the model, as `models.build.settings` returns them. Position tables are
      resized to its image size and text length; all other sizes must be the file's.
    vocab_size: rows of the model's token table; must be the file's.
    activation: what the weights were trained with, for files that do not say; it wins
      over files that do.
    grid: (rows, columns) of the file's image table, where no file tells and it is
      neither of a square nor of the model's own grid.
    allow: regular expressions of leaves that the file may have beyond the towers.

  Returns:
    ({"visual": ..., "text": ...} of float32 arrays, report).

  Raises:
    ConvertError: an unknown activation; or all that is missing, extra or of a wrong
      shape, at once.
  """
  known = {k: source.settings[k] for k in OF_WEIGHTS if k in source.settings}
  if activation is not None:
    known["activation"] = activation
  if "activation" not in known:
    raise ConvertError(
      f"{source.place} holds weights alone and does not say which activation they were"
      " trained with (OpenAI's: quick_gelu; most of OpenCLIP's own: gelu). Pass"
      " activation=, or the folder with the config"
    )
  report = Report(settings=known, logit_scale=source.settings.get("logit_scale"))
  grid = grid or source.settings.get("grid")
  leaves, problems = _gather(source, fields, vocab_size, grid, report)
  problems += _sort_extras(source, fields, allow, report)
  problems += _differing_heads(source, fields)
  if problems:
    raise ConvertError(_summary(source, fields, problems))
  return tree.nested(leaves), report


def to_huggingface(
  params: Mapping[str, Any], fields: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """The towers under the names of `transformers.CLIPModel`; heads are left out.

  Args:
    params: {"visual": ..., "text": ...}; a learnt "logit_scale" goes with them.
    fields: of the model, for the number of blocks.

  Raises:
    ConvertError: a leaf of the towers is missing or has another shape.
  """
  return _export(params, fields, "huggingface")


def to_openai(
  params: Mapping[str, Any], fields: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """As `to_huggingface`, under OpenAI's (and OpenCLIP's) names."""
  return _export(params, fields, "openai")


def _square(rows: int) -> tuple[int, int] | None:
  """The grid of a table with a class token's row, if it is a square."""
  side = round((rows - 1) ** 0.5)
  return (side, side) if side * side == rows - 1 else None


def _wanted_grid(fields: Mapping[str, Any]) -> tuple[int, int]:
  return patches.grid(fields["image_size"], fields["patch"], fields["stride"])


def _gather(
  source: Source,
  fields: Mapping[str, Any],
  vocab_size: int,
  grid: tuple[int, int] | None,
  report: Report,
) -> tuple[dict[str, np.ndarray], list[str]]:
  """(name -> array of ours, problems)."""
  wanted = _wanted_grid(fields)
  shapes = layouts.shapes(fields, vocab_size, 1 + wanted[0] * wanted[1])
  leaves, problems = {}, []
  for ours, shape in shapes.items():
    names = layouts.file_names(source.layout, ours)
    missing = [name for name in names if name not in source.weights]
    if missing:
      problems += [f"{name} is missing" for name in missing]
      continue
    arrays = [source.weights[name] for name in names]
    expected = layouts.file_shape(source.layout, ours, shape)
    # Tables may have any number of rows; they are resized below.
    skip = 1 if ours in (_IMAGE_TABLE, _TEXT_TABLE) else 0
    wrong = [
      f"{name} has shape {found.shape}, expected {expected}"
      + (_VOCABULARY if ours == "text/token_embedding" else "")
      for name, found in zip(names, arrays, strict=True)
      if found.ndim != len(expected) or found.shape[skip:] != expected[skip:]
    ]
    if wrong:
      problems += wrong
      continue
    leaf = layouts.from_file(source.layout, ours, arrays)
    try:
      if ours == _IMAGE_TABLE:
        leaf = _image_table(leaf, wanted, source.layout, grid, report)
      elif ours == _TEXT_TABLE and len(leaf) != fields["text_length"]:
        report.resized.append(f"{ours}: {len(leaf)} rows -> {fields['text_length']}")
        leaf = position.resize_text_table(leaf, fields["text_length"])
    except ConvertError as error:
      problems.append(str(error))
    leaves[ours] = leaf
  return leaves, problems


def _image_table(
  table: np.ndarray,
  wanted: tuple[int, int],
  layout: str,
  grid: tuple[int, int] | None,
  report: Report,
) -> np.ndarray:
  rows = len(table)
  same = rows == 1 + wanted[0] * wanted[1]
  if grid is None:
    # CLIP's own tables are squares; IRRA's have the grid of persons, even where the
    # number of their rows is that of a square as well.
    grid = wanted if same and layout == "irra" else _square(rows)
    grid = wanted if same and grid is None else grid
  if grid is None or rows != 1 + grid[0] * grid[1]:
    raise ConvertError(
      f"{_IMAGE_TABLE} has 1 + {rows - 1} rows, which is no grid"
      f" {grid or 'of a square'} and not the model's {wanted}: pass grid=(rows,"
      " columns) of the file"
    )
  if tuple(grid) == tuple(wanted):
    return table
  resized = position.resize_image_table(table, wanted, old_grid=grid)
  shown = [f"{len(t)}" for t in (table, resized)]
  old, new = (f"{g[0]}x{g[1]}" for g in (grid, wanted))
  report.resized.append(
    f"{_IMAGE_TABLE}: {shown[0]} rows ({old}) -> {shown[1]} ({new})"
  )
  return resized


def _sort_extras(
  source: Source, fields: Mapping[str, Any], allow: Sequence[str], report: Report
) -> list[str]:
  """Leaves that make no tower: buffers and heads to the report; others: problems."""
  used = {
    name
    for ours in layouts.shapes(fields, 1, 1)
    for name in layouts.file_names(source.layout, ours)
  }
  problems, heads = [], source.layout in layouts.TRAINED
  for name in sorted(set(source.weights) - used):
    in_tower = any(
      layouts.block_index(source.layout, tower, name) is not None
      for tower in ("visual", "text")
    )
    if layouts.BUFFERS.search(name):
      report.dropped.append(name)
      if name.endswith("logit_scale"):
        report.logit_scale = float(source.weights[name].reshape(-1)[0])
    elif (heads and not in_tower) or any(re.search(rule, name) for rule in allow):
      report.kept.append(name)
    else:
      problems.append(f"{name} has no place in the model")
  return problems


def _differing_heads(source: Source, fields: Mapping[str, Any]) -> list[str]:
  return [
    f"{name} is {source.settings[name]} in the file's config, {fields[name]} in the"
    " model's"
    for name in ("vision_heads", "text_heads")
    if source.settings.get(name, fields[name]) != fields[name]
  ]


def _summary(source: Source, fields: Mapping[str, Any], problems: list[str]) -> str:
  shown = "; ".join(problems[:_SHOWN])
  more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
  return (
    f"{source.place} does not fit the model ({len(problems)} problems): {shown}{more}."
    f"{_size_hint(source, fields)}"
  )


def _size_hint(source: Source, fields: Mapping[str, Any]) -> str:
  """How the file's sizes differ from the model's, and which variant has them."""
  try:
    found = variant_fields(source)
  except ConvertError:
    return ""
  differing = [name for name in _SIZES if found[name] != fields[name]]
  if not differing:
    return ""
  variant = next(
    (
      name
      for name, numbers in VARIANTS.items()
      if all(found[size] == numbers[size] for size in _SIZES)
    ),
    None,
  )
  kind = f"a ViT-{variant}" if variant else "another size"
  theirs, mine = (
    ", ".join(f"{name} {sizes[name]}" for name in differing)
    for sizes in (found, fields)
  )
  way_out = f"variant={variant}" if variant else "these fields of the model"
  return (
    f" This looks like {kind} ({theirs}); the config asks for {mine}: use {way_out}"
  )


def _export(
  params: Mapping[str, Any], fields: Mapping[str, Any], layout: str
) -> dict[str, np.ndarray]:
  rows, columns = _wanted_grid(fields)
  vocab_size = np.shape(_leaf(params, "text/token_embedding"))[0]
  made = {}
  for ours, shape in layouts.shapes(fields, vocab_size, 1 + rows * columns).items():
    value = np.asarray(_leaf(params, ours), np.float32)
    if value.shape != shape:
      raise ConvertError(
        f"parameter {ours} has shape {value.shape}; the model's fields make it {shape}:"
        " pass the fields that the parameters were trained with"
      )
    made.update(layouts.to_file(layout, ours, value))
  if "logit_scale" in params:
    made["logit_scale"] = np.asarray(params["logit_scale"], np.float32)
  return made


def _leaf(params: Mapping[str, Any], name: str) -> Any:
  at = params
  for key in name.split("/"):
    if key not in at:
      raise ConvertError(
        f"parameters have no {name}; expected two towers: visual and text"
      )
    at = at[key]
  return at
