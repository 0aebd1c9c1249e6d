"""`--mode=export`: a run's selected checkpoint as a folder that others can load."""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tpr_jax.convert import files, towers
from tpr_jax.convert.source import Source
from tpr_jax.core import tree
from tpr_jax.export import adapters, card, cross, huggingface, openclip, stablehlo
from tpr_jax.export.problems import ExportError
from tpr_jax.loading import load
from tpr_jax.pretrained import Pretrained
from tpr_jax.run_folder import RunError
from tpr_jax.run_weights import is_run, read

FORMATS: dict[str, Callable[[Pretrained, pathlib.Path], dict[str, Any]]] = {
  "huggingface": huggingface.write,
  "openclip": openclip.write,
  "stablehlo": stablehlo.write,
}


def export(
  run: pathlib.Path,
  out: pathlib.Path,
  format: str = "huggingface",
  say: Callable[[str], None] = print,
) -> None:
  """Writes the towers of a run, what they need, and a model card into `out`.

  The folder appears whole or not at all.

  Args:
    run: the run's folder.
    out: a folder that is absent or empty.
    format: one of `FORMATS`, into which adapters are merged, or of
      `adapters.FORMATS`: they alone.
    say: takes each line for the terminal.

  Raises:
    ExportError: `out` holds something, or the format cannot express the model.
    RunError, CheckpointError, ConfigError, TokenizerError: the run lacks something.
  """
  if format not in (*FORMATS, *adapters.FORMATS):
    known = ", ".join((*FORMATS, *adapters.FORMATS))
    raise ExportError(f"format {format!r}: expected one of {known}")
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise ExportError(f"{out} is not an empty folder: name another one with --out=DIR")
  if not is_run(run):
    raise RunError(f"{run} is not a run's folder: it has no config.json and run.json")
  source = read(run)
  write = _cross if "model" in source.settings else _clip
  write = _adapters if format in adapters.FORMATS else write
  say(f"{run}, {source.detail}")
  out.parent.mkdir(parents=True, exist_ok=True)
  made = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
  try:
    lines, text = write(source, run, made, format)
    (made / "README.md").write_text(text, encoding="utf-8")
    made.chmod(0o755)  # mkdtemp makes it private, and safetensors its files
    for file in made.rglob("*"):
      file.chmod(0o755 if file.is_dir() else 0o644)
    os.replace(made, out)  # onto an empty folder, or nothing
  except BaseException:
    shutil.rmtree(made, ignore_errors=True)
    raise
  for line in lines:
    say(f"  {line}")
  say(f"Written: {out} ({format}); how to load it: {out / 'README.md'}")


def _clip(
  source: Source, run: pathlib.Path, folder: pathlib.Path, format: str
) -> tuple[list[str], str]:
  """(lines for the terminal, the model card) of CLIP's towers in `folder`."""
  del source  # `load` reads it with all that belongs to it
  model = load(run)
  notes = FORMATS[format](model, folder)
  _check(model, folder)
  return _lines(model, notes), card.render(model, run, format, notes)


def _cross(
  source: Source, run: pathlib.Path, folder: pathlib.Path, format: str
) -> tuple[list[str], str]:
  """The same of Swin + BERT."""
  if format != "huggingface":
    raise ExportError(
      f"{run} is a run of Swin + BERT, for which there is format 'huggingface' alone;"
      f" found {format!r}"
    )
  lines = cross.write(source, folder)
  fusion = source.settings["model"]["fusion_layer"]
  text = card.render_cross(source, run, cross.CARD, fusion=fusion, ours=cross.OURS)
  return lines, text


def _adapters(
  source: Source, run: pathlib.Path, folder: pathlib.Path, format: str
) -> tuple[list[str], str]:
  """The same of the adapters alone."""
  del source  # of which they are a part no longer
  lines = adapters.write(run, folder, format)
  return lines, adapters.card(run, format, **card.terms(run))


def _check(model: Pretrained, folder: pathlib.Path) -> None:
  """Reads the folder back: every parameter must be the same, bit for bit."""
  found, _ = towers.towers(
    files.read(folder), model.fields, vocab_size=model.tokenizer.vocab_size
  )
  expected = tree.flat(model.params)
  for name, value in tree.flat(found).items():
    if not np.array_equal(value, expected[name]):
      raise ExportError(f"{name} is not what was written: a full disk, or a bug")


def _lines(model: Pretrained, notes: Mapping[str, Any]) -> list[str]:
  lines = [f"{tree.count(model.params):,} parameters, read back bit for bit"]
  if notes.get("side"):
    side = notes["side"]
    lines.append(
      f"position table written as a square of {side} x {side}: transformers needs"
      " interpolate_pos_encoding=True"
    )
  if "difference" in notes:
    lines.append(
      f"largest difference from the model on random input: {notes['difference']:.1e}"
    )
  if notes["tokenizer"] == "none":
    lines.append("the tokenizer has no files to copy; the card names one that is equal")
  return lines
