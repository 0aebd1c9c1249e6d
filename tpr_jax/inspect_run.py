"""What is in a run's checkpoints, as text: nothing of it is put on a device."""

import collections
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from etils import epath

from tpr_jax import checkpoints as ckpt
from tpr_jax import config as configs
from tpr_jax import run_weights
from tpr_jax.core import storage, text, tree
from tpr_jax.run_folder import RunError

_DEPTH = 2  # parts of a name that a row of the overview stands for


def overview(folder: pathlib.Path) -> str:
  """The run, its checkpoints and what the newest whole one holds.

  Raises:
    RunError: no run, or one without a checkpoint.
  """
  saved = _open(folder)
  config = configs.read_json(folder / "config.json")
  run = configs.read_json(folder / "run.json")
  rows, states, newest = [("step", "score", "MiB", "files")], [], None
  chosen, why = _selected(saved, config)
  scores = saved.scores()
  for step in saved.steps():
    damage = saved.damage(step)
    newest = newest if damage else step
    notes = [f"DAMAGED: {damage}" if damage else "whole"]
    notes += [f"selected: {why}"] if step == chosen else []
    files = _files(saved.folder / str(step))
    score = f"{scores[step]:.2f}" if step in scores else "-"
    size = f"{sum(p.stat().length for p in files) / 2**20:,.1f}"
    rows.append((str(step), score, size, str(len(files))))
    states.append("; ".join(notes))
  lines = [f"{folder}: {config.get('name', 'a run')}, seed {config.get('seed')}"]
  if run:
    lines.append(f"command: {run.get('command', 'unknown')}")
    lines.append(
      f"began {run.get('started')}, finished {run.get('finished', 'not yet')}"
    )
  head, rule, *table = text.aligned(rows, left=0)
  notes = [f"{row}  {state}" for row, state in zip(table, states, strict=True)]
  lines += ["", head, rule, *notes]
  aside = saved.folder.parent / ckpt.ASIDE
  for place in (aside / name for name in storage.names(aside)):
    if place.is_dir():
      lines.append(f"set aside: {place} ({ckpt.seal.problem(place)})")
  if newest is not None:
    lines += ["", *_contents(saved, newest, brief=True)]
  return "\n".join(lines)


def step_text(folder: pathlib.Path, step: int) -> str:
  """Every array of one checkpoint, and what was saved beside them.

  Raises:
    RunError: no run. CheckpointError: no such step, or it is damaged.
  """
  return "\n".join(_contents(_open(folder), step, brief=False))


def _open(folder: pathlib.Path) -> ckpt.Checkpoints:
  place = storage.checkpoints(folder)
  if not place.is_dir():
    raise RunError(f"{folder} has no checkpoints: is it a run's folder?")
  saved = ckpt.Checkpoints(place, read_only=True)
  if not saved.steps():
    raise RunError(f"{place} is empty: nothing was saved yet")
  return saved


def _selected(saved: ckpt.Checkpoints, config: Mapping[str, Any]) -> tuple[int, str]:
  try:
    return run_weights.selected(saved, config.get("train", {}).get("select", "R1"))
  except RunError as error:
    return -1, str(error)


def _files(folder: epath.Path) -> list[epath.Path]:
  found = []
  for path in folder.iterdir():
    found += _files(path) if path.is_dir() else [path]
  return found


def _contents(saved: ckpt.Checkpoints, step: int, *, brief: bool) -> list[str]:
  leaves, meta = tree.flat(saved.state_metadata(step)), saved.meta(step)
  params = {k: v for k, v in leaves.items() if k.startswith("params/")}
  other = {k: v for k, v in leaves.items() if k not in params}
  lines = [
    f"Step {step}: {_total(params.values())} parameters and"
    f" {_total(other.values())} of optimizer and counters."
  ]
  lines += text.aligned(_grouped(params) if brief else _each(leaves))
  for name in ("surroundings", "data"):
    if name in meta:
      pairs = ", ".join(f"{key} {_short(value)}" for key, value in meta[name].items())
      lines.append(f"\n{name}: {pairs}")
  for doubt in meta.get("doubts", ()):
    lines.append(f"not promised to repeat: {doubt}")
  if brief:
    lines.append(f"\nEvery array: --mode=inspect --run=... --step={step}")
  else:
    lines.append("\nconfig: " + json.dumps(meta.get("config", {})))
  return lines


def _size(leaf: Any) -> int:
  return int(np.prod(leaf.shape, dtype=np.int64))


def _total(leaves: Iterable[Any]) -> str:
  leaves = list(leaves)
  size = sum(_size(leaf) * np.dtype(leaf.dtype).itemsize for leaf in leaves)
  return (
    f"{sum(map(_size, leaves)):,} ({size / 2**20:,.1f} MiB in {len(leaves)} arrays)"
  )


def _grouped(params: Mapping[str, Any]) -> list[tuple[str, ...]]:
  found: dict[str, list[Any]] = collections.defaultdict(list)
  for name, leaf in params.items():
    found["/".join(name.split("/")[1 : 1 + _DEPTH])].append(leaf)
  rows = [("parameters", "number", "arrays", "dtype")]
  for name, leaves in found.items():
    dtypes = ", ".join(sorted({str(np.dtype(leaf.dtype)) for leaf in leaves}))
    rows.append((name, f"{sum(map(_size, leaves)):,}", str(len(leaves)), dtypes))
  return rows


def _each(leaves: Mapping[str, Any]) -> list[tuple[str, ...]]:
  rows = [("array", "shape", "dtype")]
  for name, leaf in leaves.items():
    shape = " x ".join(map(str, leaf.shape)) or "scalar"
    rows.append((name, shape, str(np.dtype(leaf.dtype))))
  return rows


def _short(value: Any) -> str:
  return value if isinstance(value, str) else json.dumps(value)
